"""A Python with a real Ray, made once for all tests and sessions."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("ray[default,rllib]==2.60.*", "gymnasium", "torch==2.13.*")


@pytest.fixture(scope="session")
def python_with_ray() -> str:
    """The interpreter: HPCEST_TEST_RAY_PYTHON, or that of an environment in the cache, which is made where there is none."""
    named = os.environ.get("HPCEST_TEST_RAY_PYTHON")
    if named:
        return named
    cache = Path(os.environ.get("HPCEST_TEST_ENVS") or Path.home() / ".cache" / "hpcest-tests")
    python, done = cache / "ray-2.60" / "bin" / "python", cache / "ray-2.60" / "done"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "ray-2.60.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                _make(python)
                done.touch()
    except (OSError, subprocess.SubprocessError) as error:
        why = f"no environment with Ray can be made in {cache}: {error}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return str(python)


def _make(python: Path) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        raise FileNotFoundError("uv is neither beside this Python nor on PATH")
    for words in (
        ["venv", "--clear", "--python", sys.executable, str(python.parents[1])],
        ["pip", "install", "--python", str(python), *PACKAGES],
    ):
        subprocess.run(
            [uv, *words], env={"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1", **os.environ}, check=True, capture_output=True, timeout=1200
        )
