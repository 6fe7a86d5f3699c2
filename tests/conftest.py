"""What every test has: a home, caches and a queue of its own, and a way to make workspaces and runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.fixtures import alone, apptainer, bare_slurm, slurm

#: The fixtures; those of the real Slurm and Apptainer come from tests/cluster.
__all__ = ["alone", "apptainer", "bare_slurm", "own_home", "slurm", "wait_until"]


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's configuration, caches, workspace or run reaches a test."""
    home = tmp_path_factory.mktemp("home")
    for name in [*os.environ]:
        if name.startswith(("HPCEST_", "AZUREML_", "XDG_", "SLURM_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HPCEST_SITE_CONFIG", str(home / "site.yaml"))
    monkeypatch.setenv("HPCEST_CACHE_DIR", str(home / "cache"))
    local = home / "local"
    local.mkdir(mode=0o700)
    monkeypatch.setenv("HPCEST_LOCAL_DIR", str(local))
    return home


WaitUntil = Callable[..., None]


@pytest.fixture
def wait_until() -> WaitUntil:
    """``wait_until(condition)`` returns when it holds, and fails the test after 30 seconds."""

    def wait(condition: Callable[[], object], what: str = "", seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s in vain for {what or condition}"
            time.sleep(0.02)

    return wait
