"""A process killed before each single change that it makes to the disk: the record is true, and every run is run once at most."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
ENDED = {"Completed", "Failed", "Canceled"}

# Kills this process before its Nth change to anything below ROOTS, or its Nth start of another program.
KILLER = """
import os, signal, sys
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def interrupt():
    raise KeyboardInterrupt
def deadly(number, roots, end=die, me=os.getpid()):
    left = [number]
    changes = {"os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.utime", "os.truncate"}
    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if os.getpid() == me and (event == "subprocess.Popen" or ((writes or event in changes) and str(args[0]).startswith(roots))):
            left[0] -= 1
            if not left[0]:
                end()
    sys.addaudithook(hook)
"""
SUBMITTER = KILLER + (
    "import runpy\ndeadly(int(sys.argv[1]), tuple(sys.argv[2].split('|')), globals()[sys.argv[3]])\nsys.argv[1:] = sys.argv[4:]\n"
    "runpy.run_module('hpcest', run_name='__main__', alter_sys=True)\n"
)
# In place of Python: a controller that it starts is killed at the moment that the file CRASH names, if that is there.
PYTHON = (
    KILLER
    + """
crash, real = os.environ["CRASH"], os.environ["PYTHON"]
if "controller" in sys.argv:
    import atexit, runpy
    try:
        with open(crash) as stream:
            number = int(stream.read())
        os.unlink(crash)
        deadly(number, tuple(os.environ["ROOTS"].split("|")))
        atexit.register(lambda: open(crash + ".survived", "w").close())
    except FileNotFoundError:
        pass
    boot = next(at for at, word in enumerate(sys.argv) if word.endswith("boot.py"))
    sys.argv = sys.argv[boot:]
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    os.execv(real, [real, *sys.argv[1:]])
"""
)
WITH_PYTHON = "import runpy, sys\nsys.executable = sys.argv.pop(1)\nrunpy.run_module('hpcest', run_name='__main__', alter_sys=True)\n"


def ticking(path: Path) -> str:
    """A program that leaves its run's id in ``path``."""
    opened = f"os.open({str(path)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)"
    return f"import os; os.write({opened}, (os.environ['HPCEST_RUN_ID'] + ' ').encode())\n"


def roots(site: Site) -> tuple[str, ...]:
    return (str(site.root), os.environ["HPCEST_LOCAL_DIR"])


def test_the_submitter(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    ticks = tmp_path / "ticks"
    site.write(ticking(ticks))
    code, number = -9, 0
    while code == -9:
        number += 1
        assert number < 200
        words = [sys.executable, "-c", SUBMITTER, str(number), "|".join(roots(site)), "die", "submit", "train.py", "--name", str(number)]
        code = subprocess.run(words, cwd=site.source, capture_output=True, timeout=30, check=False).returncode
        site.write(ticking(ticks) + f"# {number}\n")  # so that there is something new to freeze
    wait_until(lambda: {row["status"] for row in site.runs()} <= ENDED)

    rows = site.runs()
    assert code == 0
    assert number > 20
    assert collections.Counter(ticks.read_text().split()) == {row["id"]: 1 for row in rows if row["status"] == "Completed"}
    assert {row["status"] for row in rows} == {"Completed", "Failed"}
    assert {row["reason"] for row in rows} == {"", "LaunchFailed"}
    assert {path.name for path in site.workspace.runs.iterdir() if path.name[0] != "."} == {row["id"] for row in rows}


def test_the_submitter_is_interrupted(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """By Ctrl-C: what is recorded is canceled, also where the queue had it already, and nothing half made is left."""
    ticks = tmp_path / "ticks"
    site.write(ticking(ticks))
    code, number = 1, -1
    while code:
        number += 2
        assert number < 200
        words = [
            sys.executable,
            "-c",
            SUBMITTER,
            str(number),
            "|".join(roots(site)),
            "interrupt",
            "submit",
            "train.py",
            "--name",
            str(number),
        ]
        done = subprocess.run(words, cwd=site.source, capture_output=True, text=True, timeout=30, check=False)
        code = done.returncode
        assert "Traceback" not in done.stderr, done.stderr
        assert (code == 0) == bool(done.stdout)
        site.write(ticking(ticks) + f"# {number}\n")
    wait_until(lambda: {row["status"] for row in site.runs()} <= ENDED)

    rows = site.runs()
    ran = collections.Counter(ticks.read_text().split())
    assert set(ran) >= {row["id"] for row in rows if row["status"] == "Completed"}
    assert set(ran.values()) == {1}
    assert [(row["status"], row["display_name"]) for row in rows if row["status"] == "Failed"] == []
    assert len([row for row in rows if row["status"] == "Canceled"]) > 5
    assert {path.name for path in site.workspace.runs.iterdir()} == {row["id"] for row in rows}
    left = [path.name for path in Path(os.environ["HPCEST_LOCAL_DIR"]).rglob("*") if path.suffix == ".tmp" or path.name[0].isdigit()]
    assert left == []


def test_the_controller(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has its claim it is started again; after that its guardian says what is true."""
    ticks, crash, python = tmp_path / "ticks", tmp_path / "crash", tmp_path / "python"
    for name, value in {"CRASH": str(crash), "PYTHON": sys.executable, "ROOTS": "|".join(roots(site))}.items():
        monkeypatch.setenv(name, value)
    site.write(ticking(ticks))
    python.write_text(f"#!{sys.executable}\n{PYTHON}")
    python.chmod(0o755)
    verdicts: collections.Counter[tuple[str, int]] = collections.Counter()
    while not Path(f"{crash}.survived").exists():
        crash.write_text(str(verdicts.total() + 1))
        assert verdicts.total() < 100
        words = [sys.executable, "-c", WITH_PYTHON, str(python), "submit", "train.py"]
        submitted = subprocess.run(words, cwd=site.source, capture_output=True, text=True, timeout=30, check=True)
        run = site.run(submitted.stdout.strip())
        known = site.ended(run)
        ran = ticks.read_text().split().count(run.id) if ticks.exists() else 0
        assert not crash.exists()
        assert (known["status"], known["reason"]) in (("Completed", ""), ("Failed", "Lost")), known
        verdicts[known["status"], ran] += 1

    assert set(verdicts) == {("Completed", 1), ("Failed", 0), ("Failed", 1)}
    assert verdicts["Completed", 1] > 8
