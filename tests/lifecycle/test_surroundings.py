"""The machine around a run: full disks, odd umasks, missing variables, terminals that go away."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
HELLO = "print('hello')\n"
WRITES = (
    "import os\nos.mkdir('outputs/more')\nopen('outputs/more/a', 'w').write('a')\nfrom hpcest import Run\nRun.get_context().log('x', 1)\n"
)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of everything in ``folder``, links left out."""
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")] if not path.is_symlink()}


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_nothing_is_open_that_the_umask_closes(site: Site, tmp_path: Path, umask: int) -> None:
    root = tmp_path / "closed"
    before = ["sh", "-c", f'umask {umask:03o} && exec "$@"', "sh"]
    site.cli("init", root, before=before).ok()
    site.write(WRITES)
    run = site.cli("-w", root, "submit", "train.py", "--tag", "a=b", before=before).ok().out.strip()
    site.cli("-w", root, "wait", run, before=before).ok()
    site.cli("-w", root, "runs", before=before).ok()
    site.cli("-w", root, "tag", run, "c=d", before=before).ok()

    assert {path: oct(mode) for path, mode in modes(root).items() if mode & umask} == {}


def test_a_group_may_work_together(site: Site, tmp_path: Path) -> None:
    """With umask 002 the group can write what it must to share a workspace."""
    root = tmp_path / "shared"
    before = ["sh", "-c", 'umask 002 && exec "$@"', "sh"]
    site.cli("init", root, before=before).ok()
    site.write(WRITES)
    run = site.cli("-w", root, "submit", "train.py", before=before).ok().out.strip()
    site.cli("-w", root, "wait", run, before=before).ok()
    site.cli("-w", root, "runs", before=before).ok()

    closed = {path for path, mode in modes(root / ".hpcest").items() if os.path.isdir(path) and mode & 0o070 != 0o070}
    assert closed == set()


def test_the_umask_of_a_run_is_that_of_its_submitter(site: Site, wait_until: Wait) -> None:
    """Also where another run's end, with another umask, is what starts it."""
    site.configure("compute: {local: {slots: 1}}\n")
    gate = site.root / "gate"
    first = site.submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n")
    site.write(WRITES)
    answer = site.cli("submit", "train.py", before=["sh", "-c", 'umask 077 && exec "$@"', "sh"]).ok()
    second = site.run(answer.out.strip())
    gate.touch()
    site.wait(first, second).ok()

    found = modes(second.path)
    by_others = {path for path in found if path.endswith("/collected") or "/watch-" in path}
    assert {path: oct(mode) for path, mode in found.items() if mode & 0o077 and path not in by_others} == {}


@pytest.mark.parametrize(
    "env",
    [
        {"HOME": None},
        {"USER": None, "LOGNAME": None},
        {"HOME": "/no/such/home"},
        {"HOME": ""},
        {"PATH": None},
        {"TMPDIR": "/no/such/folder"},
        {"TERM": None},
    ],
)
def test_variables_that_are_missing(site: Site, env: dict[str, str | None]) -> None:
    site.write(HELLO)
    run = site.run(site.cli("submit", "train.py", env=env).ok().out.strip())

    site.cli("wait", run.id, env=env).ok()
    assert run.id in site.cli("runs", env=env).ok().out
    assert site.cli("logs", run.id, env=env).ok().out == "hello\n"


NAMELESS = """
import pwd, runpy, sys
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
runpy.run_module("hpcest", run_name="__main__", alter_sys=True)
"""


def test_a_user_without_a_name(site: Site) -> None:
    """As in a container that was started with some uid: no name, no home."""
    site.write(HELLO)
    nobody = {"HOME": None, "USER": None, "LOGNAME": None, "LNAME": None, "USERNAME": None}

    def cli(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {key: value for key, value in os.environ.items() if key not in nobody}
        return subprocess.run(
            [sys.executable, "-c", NAMELESS, *words], cwd=site.source, env=environ, capture_output=True, text=True, check=True
        )

    run = cli("submit", "train.py", "--source", ".").stdout.strip()
    cli("wait", run)
    assert run in cli("runs").stdout
    assert json.loads(cli("show", "--json", run).stdout)["user"] == str(os.getuid())
    assert cli("-w", str(site.root), "doctor").returncode == 0
