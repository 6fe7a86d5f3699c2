"""PyTorch on several nodes of a cluster: gradients, torchrun's restarts, and who is named when it fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcest.onnode.events import read_run
from tests.frameworks.envs import framework_env
from tests.frameworks.test_pytorch import FAILS, GRADIENTS
from tests.slurm.conftest import verdict

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from tests.slurm.conftest import ClusterSite

#: The hosts of the test cluster have no names for addresses, and torch asks for them.
OPTIONS = ("--framework", "pytorch", "--nodes", "2", "--mem", "2500M", "--env-var", "RES_OPTIONS=timeout:1 attempts:1")
LOOP = """\
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
while True:
    if rank == 1:
        {fail}
    dist.all_reduce(torch.ones(1))
"""


@pytest.fixture
def torch(cluster: ClusterSite) -> ClusterSite:
    """The cluster, with PyTorch in the environment of every run."""
    text = cluster.workspace.config.read_text()
    cluster.configure(f"{text}environment: {{kind: host, interpreter: {framework_env('torch')}}}\n")
    return cluster


def explained(site: ClusterSite, run: RunFolder) -> str:
    return site.cli("explain", run.id).out


def test_gradients_of_two_nodes(torch: ClusterSite) -> None:
    """Four processes on two nodes have the gradients of the whole batch."""
    run = torch.send(GRADIENTS, *OPTIONS, "-p", "2")

    assert verdict(torch.ended(run)) == ("Completed", "", 0), explained(torch, run)
    metrics = read_run(run.path)[1].to_dict()
    assert sorted(metrics["rank"]) == [0, 1, 2, 3]
    assert max(metrics["difference"]) < 1e-4
    assert [f"rank {rank} of 4" in torch.log(run, rank, ranks=4) for rank in range(4)] == [True] * 4


@pytest.mark.parametrize(
    ("fail", "message", "shown"),
    [
        # After the traceback torch may abort while it tears itself down.
        (
            "raise ValueError('this one began it')",
            ("rank 1 exited with code 1", "rank 1 was ended by SIGABRT"),
            "ValueError: this one began it",
        ),
        ("os.kill(os.getpid(), signal.SIGKILL)", ("rank 1 was killed (SIGKILL)",), ""),
    ],
)
def test_the_rank_that_began_it(torch: ClusterSite, fail: str, message: tuple[str, ...], shown: str) -> None:
    """It is on the second of two nodes, and rank 0 fails a moment later, in the collective that it has left."""
    run = torch.send(LOOP.format(fail=fail), *OPTIONS)
    known = torch.ended(run)

    assert known["status"] == "Failed"
    assert known["message"].startswith(message)
    assert shown in explained(torch, run)


def test_torchrun_on_two_nodes(torch: ClusterSite) -> None:
    """One process fails once: those of both nodes start again, from the checkpoint."""
    run = torch.send(FAILS, *OPTIONS, "-O", "launcher=torchrun", "-O", "max_restarts=2", "--", "once")

    assert verdict(torch.ended(run)) == ("Completed", "", 0), explained(torch, run)
    assert read_run(run.path)[1].to_dict()["step"] == [0, 1, 2, 3, 4, 5]
    for rank in range(2):
        assert torch.log(run, rank, ranks=2).count("[default0]:starts at step 4") == 1
        assert torch.log(run, rank, ranks=2).count("[default0]:done") == 1


def test_a_rank_that_never_comes(cluster: ClusterSite, tmp_path: Path) -> None:
    """The others wait for it as long as they may, and then the run has failed, naming it and its node."""
    prolog = tmp_path / "prolog"
    prolog.write_text('#!/bin/sh\nif [ "$SLURM_PROCID" = 1 ]; then sleep 60; fi\n')
    os.chmod(prolog, 0o755)
    cluster.settings(setup=[f"export SLURM_TASK_PROLOG='{prolog}'"])
    run = cluster.send("", "--framework", "pytorch", "--nodes", "2", "-S", "nodelist=n2,n3", "--env-var", "HPCEST_MEETING_TIMEOUT=2")
    known = cluster.ended(run)

    assert verdict(known) == ("Failed", "LaunchFailed", 0)
    assert known["message"] == "the ranks did not meet: no word within 2 s from rank 1 (node n3)"
    assert cluster.starts(run) == []
