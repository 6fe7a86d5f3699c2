"""What ``hpcest doctor`` concludes from what it is told of a place: without a cluster."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpcest.backends.slurm.doctor import PATIENCE_S, findings, mount_of
from hpcest.backends.slurm.options import SlurmOptions


def test_the_longest_mount_point_is_the_one(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nserver:/x /home nfs4 rw 0 0\nfs /home/big\\040data lustre rw 0 0\nodd\n")
    assert mount_of(Path("/home/big data/me"), mounts) == ("/home/big data", "lustre")
    assert mount_of(Path("/home/bigger"), mounts) == ("/home", "nfs4")
    assert mount_of(Path("/homes"), mounts) == ("/", "ext4")
    assert mount_of(Path("/homes"), tmp_path / "none") == ("", "")


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ((check, state, found, remedy),) = findings(SlurmOptions(), tmp_path)
    assert (check, state, found) == ("", "bad", "sbatch is not found")
    assert "login node" in remedy


def test_a_slurm_that_hangs_costs_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 60\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    began = time.monotonic()
    ((_, state, found, _),) = findings(SlurmOptions(), tmp_path)
    assert time.monotonic() - began < PATIENCE_S + 3
    assert (state, "does not answer" in found) == ("bad", True)
