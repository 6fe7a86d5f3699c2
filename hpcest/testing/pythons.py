"""Pythons with real packages for tests: made once on a machine by uv, and used by all tests that need one."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pwd
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcest.environments.requirements import Options
from hpcest.environments.sources import gather
from hpcest.kit.process import run

_TIMEOUT_S = 900.0


def python_with(name: str, *steps: Sequence[str]) -> Path:
    """The Python of an environment; each of ``steps`` is what one ``uv pip install`` gets, such as ``("torch==2.9.*", "numpy")``.

    It is made when it is first asked for, below $HPCEST_TEST_ENVS or ~/.cache/hpcest-tests/envs, with the Python of the tests;
    HPCEST_TEST_NAME_PYTHON names another one that has all of it. The test is skipped where it can't be made, and fails in CI.
    """
    named = os.environ.get(f"HPCEST_TEST_{name.upper()}_PYTHON")
    python, why = (Path(named), "") if named else _made(name, tuple(map(tuple, steps)))
    if why:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no Python with {name} can be made: {why}")
    return python


@functools.cache
def _made(name: str, steps: tuple[tuple[str, ...], ...]) -> tuple[Path, str]:
    """The Python, and why there is none; asked for once in each process."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)  # tests have homes of their own
    place = Path(os.environ.get("HPCEST_TEST_ENVS") or home / ".cache" / "hpcest-tests" / "envs")
    facts = repr((steps, sys.version_info[:2], os.uname().machine))
    folder = place / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes of the tests wait for the one that makes it
            there = run([python, "-c", ""]).ok  # the Python that it was made of may have gone
            return python, "" if there else _make(folder, steps, home)
    except OSError as error:
        return python, str(error)


def _make(folder: Path, steps: tuple[tuple[str, ...], ...], home: Path) -> str:
    """Make it beside its place and rename it; returns what went wrong."""
    beside = folder.with_name(f"{folder.name}.tmp")
    for old in (folder, beside):
        shutil.rmtree(old, ignore_errors=True)
    near = Path(sys.executable).with_name("uv")
    uv = str(near) if near.exists() else shutil.which("uv") or "uv"
    # The user's settings of pip are uv's as well, such as links to wheels that lie on the machine.
    env = {**gather(Options()).variables({**os.environ, "HOME": str(home)}), "UV_HTTP_TIMEOUT": "180"}
    install = [uv, "pip", "install", "--quiet", "--python", str(beside / "bin" / "python")]
    for argv in [[uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(beside)], *([*install, *one] for one in steps)]:
        done = run(argv, env=env, timeout=_TIMEOUT_S)
        if not done.ok:
            shutil.rmtree(beside, ignore_errors=True)
            return f"'{' '.join(argv[:3])}' ended with {done.code}: {done.err.strip()[-500:]}"
    beside.rename(folder)
    return ""
