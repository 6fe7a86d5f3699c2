"""The hosts that Slurm names for several."""

from __future__ import annotations

import pytest

from hpcest.onnode.nodelist import host_names
from hpcest.onnode.slurmjob import SlurmJob


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("", []),
        ("login", ["login"]),
        ("n[3-5,9],m1", ["n3", "n4", "n5", "n9", "m1"]),
        ("n[08-10]-ib", ["n08-ib", "n09-ib", "n10-ib"]),
        ("r[1-2]c[7,9]", ["r1c7", "r1c9", "r2c7", "r2c9"]),
        ("gpu-a,gpu-b", ["gpu-a", "gpu-b"]),
    ],
)
def test_host_names(written: str, names: list[str]) -> None:
    """In their order, with their zeros; the first is where rank 0 runs, unless that is this very node."""
    assert host_names(written) == names
    told = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": written}
    assert SlurmJob(told).first_host() == (names or [""])[0]
    assert SlurmJob({**told, "SLURMD_NODENAME": (names or [""])[0]}).first_host() == ""
