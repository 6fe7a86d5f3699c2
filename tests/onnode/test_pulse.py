"""The sign of life beside a rank: it beats, ends with the rank, is nobody's child, and ends ranks that were left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.onnode import processes

RANK = """\
import os, sys
from hpcest.onnode import pulse
pulse.BEAT_S, pulse._GRACE_S = 0.05, 0.5
pulse.start({folder!r}, 0)
os.execvp({argv}[0], {argv})
"""
Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def until() -> Until:
    """Wait until something holds."""

    def wait(holds: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < end, "waited 10 s in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder."""
    (tmp_path / "state").mkdir()
    return tmp_path


def started(folder: Path, *argv: str) -> subprocess.Popen[bytes]:
    """A rank that becomes ``argv``; all that comes of it carries a mark."""
    code = RANK.format(folder=str(folder), argv=list(argv))
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "HPCEST_RUN_ID": folder.name}, stdout=subprocess.PIPE)


def mark_of(folder: Path) -> Path:
    return folder / "state" / f"pulse.0.{socket.gethostname()}"


def test_it_beats_and_ends_with_the_rank(folder: Path, until: Until) -> None:
    with started(folder, "sleep", "60") as rank:
        until(mark_of(folder).exists)
        before = mark_of(folder).stat().st_mtime_ns
        until(lambda: mark_of(folder).stat().st_mtime_ns > before)
        until(lambda: len(processes.members(folder.name)) == 2)
        rank.kill()
    until(lambda: not processes.members(folder.name))


def test_a_program_that_waits_for_its_children_has_none(folder: Path) -> None:
    code = "import os\ntry: os.wait()\nexcept ChildProcessError: print('none')"
    with started(folder, sys.executable, "-c", code) as rank:
        assert rank.communicate(timeout=20)[0] == b"none\n"


def test_it_holds_no_output_of_the_rank(folder: Path) -> None:
    """Whoever reads the rank's output sees its end at once."""
    with started(folder, "sh", "-c", "exec >&-; sleep 60") as rank:
        assert rank.stdout is not None
        assert rank.stdout.read() == b""
        rank.kill()


@pytest.mark.parametrize(
    ("program", "ending"),
    [("exec sleep 60", signal.SIGTERM), ("trap '' TERM; while :; do sleep 0.1; done", signal.SIGKILL)],
)
def test_a_rank_that_was_left_behind(folder: Path, until: Until, program: str, ending: signal.Signals) -> None:
    """The run goes on elsewhere: this rank gets TERM, and KILL if it doesn't listen."""
    with started(folder, "sh", "-c", program) as rank:
        until(mark_of(folder).exists)
        (folder / "state" / "claim.0.json").write_text("{}")
        time.sleep(0.3)
        assert rank.poll() is None
        (folder / "state" / "claim.1.json").write_text("{}")
        assert rank.wait(timeout=10) == -ending
    until(lambda: not processes.members(folder.name))


def test_where_the_file_system_is_gone_the_rank_goes_on(folder: Path) -> None:
    (folder / "state").rmdir()
    with started(folder, "sh", "-c", "sleep 0.5; echo still here") as rank:
        assert rank.communicate(timeout=20)[0] == b"still here\n"
