"""Environments with the real frameworks: made once on a machine by uv, and used by all tests that need one."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import pwd
import shutil
import sys
from pathlib import Path

import pytest

from hpcest.environments.requirements import Options
from hpcest.environments.sources import gather
from hpcest.kit.process import run

#: The packages of each environment. Each framework has one of its own, so that their versions don't fight.
REQUIREMENTS = {
    "torch": ("torch==2.13.0", "numpy"),
    "tensorflow": ("tensorflow-cpu==2.21.*",),
    "sklearn": ("scikit-learn", "joblib", "pandas", "threadpoolctl"),
}
#: What is installed without what it asks for: Keras 2 asks for the package tensorflow, which is tensorflow-cpu three times over.
ALONE = {"tensorflow": ("tf-keras==2.21.*",)}
#: Where CI runs an environment must be made; elsewhere tests that need one that can't be made are skipped.
REQUIRED = bool(os.environ.get("CI"))
#: Tests have a home of their own; these are for all of them.
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
TIMEOUT_S = 900.0


def framework_env(name: str) -> Path:
    """The Python of the environment ``name``, a key of REQUIREMENTS; the nodes of the test cluster have it too.

    It is made when it is first asked for, below $HPCEST_TEST_ENVS or ~/.cache/hpcest-tests/envs: 1 to 15 s where uv has
    the packages in its cache, else as long as it takes to download up to 300 MB. The test is skipped where it can't be
    made, and fails in CI.
    """
    python, why = _made(name)
    if why:
        (pytest.fail if REQUIRED else pytest.skip)(f"no environment with {' '.join(REQUIREMENTS[name])}: {why}")
    return python


@functools.cache
def _made(name: str) -> tuple[Path, str]:
    """The Python, and why there is none; asked for once in each process."""
    place = Path(os.environ.get("HPCEST_TEST_ENVS") or HOME / ".cache" / "hpcest-tests" / "envs")
    facts = repr((REQUIREMENTS[name], ALONE.get(name), sys.version_info[:2], os.uname().machine))
    folder = place / f"{name}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the other processes of the tests wait for the one that makes it
            return python, "" if _works(python) else _make(folder, name)
    except OSError as error:
        return python, str(error)


def _works(python: Path) -> bool:
    """Whether it is there, and the Python that it was made of is too."""
    return run([python, "-c", ""]).ok


def _make(folder: Path, name: str) -> str:
    """Make it beside its place and rename it; returns what went wrong."""
    beside = folder.with_name(f"{folder.name}.tmp")
    for old in (folder, beside):
        shutil.rmtree(old, ignore_errors=True)
    uv = _uv()
    # The user's settings of pip are uv's as well, such as links to wheels that lie on the machine.
    env = {**gather(Options()).variables({**os.environ, "HOME": str(HOME)}), "UV_HTTP_TIMEOUT": "180"}
    install = [uv, "pip", "install", "--quiet", "--python", str(beside / "bin" / "python")]
    steps = [[uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(beside)], [*install, *REQUIREMENTS[name]]]
    for argv in [*steps, *([[*install, "--no-deps", *ALONE[name]]] if name in ALONE else [])]:
        done = run(argv, env=env, timeout=TIMEOUT_S)
        if not done.ok:
            shutil.rmtree(beside, ignore_errors=True)
            return f"'{' '.join(argv[:3])}' ended with {done.code}: {done.err.strip()[-500:]}"
    beside.rename(folder)
    return ""


def _uv() -> str:
    """The uv beside the running Python, else the one on PATH; naming it is uv's own answer where there is none."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def used_by_runs(name: str) -> list[str]:
    """The options of ``hpcest submit`` for a run in the environment ``name``, whatever version its job file would install."""
    prefix = framework_env(name).parents[1]
    settings = ("environment.kind=existing", f"environment.prefix={prefix}", 'framework_version=""')
    return [word for setting in settings for word in ("--set", setting)]
