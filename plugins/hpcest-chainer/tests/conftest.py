"""A Python with a real Chainer and mpi4py, made once for all tests and sessions."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BEFORE = ("numpy<1.24", "setuptools<60", "wheel", "mpi4py")


@pytest.fixture(scope="session")
def python_with_chainer() -> str:
    """The interpreter: HPCEST_TEST_CHAINER_PYTHON, or that of an environment in the cache, which is made where there is none."""
    named = os.environ.get("HPCEST_TEST_CHAINER_PYTHON")
    cache = Path(os.environ.get("HPCEST_TEST_ENVS") or Path.home() / ".cache" / "hpcest-tests")
    python, done = cache / "chainer-7.8.1" / "bin" / "python", cache / "chainer-7.8.1" / "done"
    try:
        if shutil.which("mpirun") is None:
            raise FileNotFoundError("no mpirun is on PATH")
        if named:
            return named
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "chainer-7.8.1.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                _make(python)
                done.touch()
    except (OSError, subprocess.SubprocessError) as error:
        why = f"no environment with Chainer and MPI can be had: {error}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return str(python)


def _make(python: Path) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        raise FileNotFoundError("uv is neither beside this Python nor on PATH")
    install = ["pip", "install", "--python", str(python)]
    folder = str(python.parents[1])
    for words in (
        ["venv", "--clear", "--python", sys.executable, folder],
        [*install, *BEFORE],
        [*install, "--no-build-isolation", "chainer==7.8.1"],
    ):
        subprocess.run(
            [uv, *words], env={"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", **os.environ}, check=True, capture_output=True, timeout=1200
        )
