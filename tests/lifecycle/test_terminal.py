"""The terminal in front of a run: it may be closed, interrupted, or be a pipe that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
GATED = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists({gate!r}): time.sleep(0.02)\nprint('down')\n"

TAKE = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command in a pseudo-terminal of its own."""

    def __init__(self, site: Site, *words: str) -> None:
        self.master, slave = os.openpty()
        argv = [sys.executable, "-c", TAKE, *site.argv(*words)]
        self.process = subprocess.Popen(argv, cwd=site.source, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        """Read what it prints until ``text`` is among it."""
        end = time.monotonic() + 30
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            try:
                self.seen += os.read(self.master, 4096)
            except OSError:  # its other end was closed
                assert text in self.seen, self.seen

    def type(self, keys: bytes) -> None:
        """What the user types; b"\\x03" is Ctrl-C."""
        os.write(self.master, keys)

    def end(self) -> int:
        """Read the rest, and return its code; -N after signal N."""
        try:
            while data := os.read(self.master, 4096):
                self.seen += data
        except OSError:
            pass
        return self.close()

    def close(self) -> int:
        """As when a window is closed, or a connection breaks; the command's code."""
        os.close(self.master)
        return self.process.wait(30)


def test_a_terminal_that_is_closed(site: Site, tmp_path: Path) -> None:
    """Whoever followed is gone; the run goes on."""
    gate = tmp_path / "gate"
    site.write(GATED.format(gate=str(gate)))
    terminal = Terminal(site, "submit", "-f", "train.py")
    terminal.read_until(b"up\r\n")
    assert terminal.close() != 0
    (row,) = site.runs()
    assert row["status"] == "Running"
    gate.touch()

    assert site.ended(site.run(row["id"]))["status"] == "Completed"
    assert site.cli("logs", row["id"]).ok().out == "up\ndown\n"


def test_ctrl_c_while_following(site: Site, tmp_path: Path) -> None:
    """It detaches, and says how to come back; coming back returns the run's code."""
    gate = tmp_path / "gate"
    site.write(GATED.format(gate=str(gate)) + "raise SystemExit(5)\n")
    terminal = Terminal(site, "submit", "-f", "train.py")
    terminal.read_until(b"up\r\n")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    (row,) = site.runs()
    assert f"hpcest logs -f {row['id']}".encode() in terminal.seen
    assert f"hpcest cancel {row['id']}".encode() in terminal.seen
    assert row["status"] == "Running"
    again = Terminal(site, "logs", "-f", row["id"])
    again.read_until(b"up\r\n")
    gate.touch()

    assert again.end() == 5
    assert b"down" in again.seen


def test_ctrl_c_while_waiting(site: Site, tmp_path: Path) -> None:
    """The wait ends, the run doesn't."""
    gate = tmp_path / "gate"
    run = site.submit(GATED.format(gate=str(gate)))
    terminal = Terminal(site, "wait", run.id)
    time.sleep(0.5)
    terminal.type(b"\x03")
    assert terminal.end() != 0
    assert b"Traceback" not in terminal.seen
    gate.touch()

    assert site.ended(run)["status"] == "Completed"


BACKEND = """
import os, time
def prepare_metadata_for_build_wheel(directory, settings=None):
    open({here!r} + "/building", "w").close()
    time.sleep(60)
def build_wheel(directory, settings=None, metadata_directory=None):
    prepare_metadata_for_build_wheel(directory)
"""


def slow_package(folder: Path) -> Path:
    """The source of a package whose building takes a minute, and shows when it has begun."""
    source = folder / "slow"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "slow"\nversion = "1"\n'
    )
    (source / "backend.py").write_text(BACKEND.format(here=str(folder)))
    return source


def test_ctrl_c_while_an_environment_is_built(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """The run is canceled, and nothing half built is left, nor anybody who builds."""
    source = slow_package(tmp_path)
    site.write("print('never')\n")
    terminal = Terminal(site, "submit", "train.py", "--pip", f"slow @ file://{source}", "--env", "venv")
    wait_until((tmp_path / "building").exists)
    assert [row["status"] for row in site.runs()] == ["Preparing"]
    terminal.type(b"\x03")
    assert terminal.end() != 0

    assert b"Traceback" not in terminal.seen
    (row,) = site.runs()
    assert (row["status"], row["message"]) == ("Canceled", "interrupted while it was prepared")
    assert list(site.workspace.environments.glob("*/*/image.json")) == []
    assert b"never" not in terminal.seen
    wait_until(lambda: not [pid for pid in filter(str.isdigit, os.listdir("/proc")) if str(source) in command_of(pid)])


def command_of(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_a_submitter_that_hangs_up_while_it_builds(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """Nobody prepares the run any more: whoever looks next says so."""
    site.write("print('never')\n")
    terminal = Terminal(site, "submit", "train.py", "--pip", f"slow @ file://{slow_package(tmp_path)}", "--env", "venv")
    wait_until((tmp_path / "building").exists)
    terminal.close()

    (row,) = site.runs()
    assert (row["status"], row["reason"]) == ("Failed", "LaunchFailed")
    assert "hpcest rerun" in row["message"]


def test_a_reader_that_has_seen_enough(site: Site) -> None:
    """``| head -1``, for everything that prints."""
    run = site.submit("for n in range(200000): print(n)\n")
    site.wait(run).ok()
    for words in (["logs", run.id], ["show", run.id], ["show", "--json", run.id], ["runs", "--json"], ["logs", "-f", run.id], ["--help"]):
        script = 'exec 3>&1; { "$@"; echo "code $?" >&3; } | head -c 1 >/dev/null'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *site.argv(*words)], cwd=site.source, capture_output=True, text=True, timeout=30, check=False
        )
        assert "Traceback" not in done.stderr, (words, done.stderr)
        assert "Exception" not in done.stderr, (words, done.stderr)
        assert done.stdout.startswith("code "), words


def test_streams_that_are_closed(site: Site) -> None:
    """As by cron or a careless daemon: neither input, output nor errors."""
    site.write("print('hello')\n")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *site.argv("submit", "train.py")], cwd=site.source, timeout=30, check=False
    )

    (row,) = site.runs()
    assert site.ended(site.run(row["id"]))["status"] == "Completed", done
    assert site.cli("logs", row["id"]).ok().out == "hello\n"


def test_a_hangup_is_not_passed_on(site: Site, tmp_path: Path) -> None:
    """Signals to the session of the submitter reach neither controller nor program."""
    gate = tmp_path / "gate"
    site.write(GATED.format(gate=str(gate)))
    process = site.start("submit", "-f", "train.py", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
    gate.touch()

    (row,) = site.runs()
    assert site.ended(site.run(row["id"]))["status"] == "Completed"
