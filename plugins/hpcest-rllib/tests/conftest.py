"""A Python with a real Ray, made once for all tests and sessions."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
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
    uv = shutil.which("uv")
    if not uv:
        raise FileNotFoundError("uv is not on PATH")
    for words in (["venv", "--clear", "--python", "3.11", str(python.parents[1])], ["pip", "install", "--python", str(python), *PACKAGES]):
        subprocess.run([uv, *words], check=True, capture_output=True, timeout=1200)
