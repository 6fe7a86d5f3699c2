"""The check of what ranks are promised: it passes where all is well, and names what is not."""

from __future__ import annotations

import json

import pytest

from hpcest.onnode.contract import check
from tests.lifecycle.conftest import Site

GOOD = {
    "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0", "HPCEST_NODE_COUNT": "2",
    "HPCEST_CPUS": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "1", "HPCEST_PEERS": "n1:1,n1:2,n2:3,n2:4", "TF_CONFIG": "{}",
    "HPCEST_RUN_ID": "r", "HPCEST_ATTEMPT": "0", "HPCEST_OUTPUT_DIR": "/o", "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "AZ_BATCHAI_TASK_INDEX": "1", "AZ_BATCHAI_MPI_MASTER_NODE": "n1",
    "AZUREML_CR_NODE_RANK": "0", "AZUREML_RUN_ID": "r", "AZUREML_OUTPUT_DIRECTORY": "/o",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, ""),
        ({"RANK": ""}, "RANK is not set"),
        ({"RANK": "one"}, "RANK=one is no number"),
        ({"RANK": "4", "OMPI_COMM_WORLD_RANK": "4"}, "RANK=4 is not below 4"),
        ({"AZUREML_RUN_ID": "q"}, "AZUREML_RUN_ID=q, and HPCEST_RUN_ID=r"),
        ({"LOCAL_WORLD_SIZE": "1"}, "LOCAL_RANK=1 is not below 1"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2, and WORLD_SIZE=4"),
        ({"HPCEST_PEERS": "n1:1"}, "HPCEST_PEERS names 1 ranks, and there are 4"),
        ({"HPCEST_CPUS": "4000"}, "HPCEST_CPUS=4000, and the kernel allows"),
    ],
)
def test_what_a_rank_finds(change: dict[str, str], problem: str) -> None:
    found = check({**GOOD, **change})
    assert (found == []) if not problem else found[0].startswith(problem)


def test_ranks_of_this_machine(site: Site) -> None:
    """Four of them, on what counts as two nodes."""
    found = json.loads(site.cli("doctor", "--distributed", "--env", "host", "--json").ok().out)
    assert (found["ok"], found["problems"], found["compute"]) == (True, [], "local")
    assert [(one["rank"], one["problems"]) for one in found["ranks"]] == [(0, []), (1, []), (2, []), (3, [])]
    assert [one["variables"]["NODE_RANK"] for one in found["ranks"]] == ["0", "0", "1", "1"]
    assert json.loads(found["ranks"][2]["variables"]["TF_CONFIG"])["task"] == {"type": "worker", "index": 2}


def test_a_promise_that_is_not_kept(site: Site) -> None:
    """Here because the environment's own variables win."""
    (site.root / "env.yaml").write_text("kind: host\nvariables: {WORLD_SIZE: '7'}\n")
    said = site.cli("doctor", "--distributed", "-n", "1", "--env", site.root / "env.yaml")
    assert said.code == 1
    assert "OMPI_COMM_WORLD_SIZE=2, and WORLD_SIZE=7" in said.out
    assert "HPCEST_PEERS names 2 ranks, and there are 7" in said.out
    assert "the log: hpcest logs " in said.err


def test_a_run_that_fails(site: Site) -> None:
    """What became of it is the answer."""
    (site.root / "env.yaml").write_text("kind: host\nvariables: {HPCEST_MEETING_TIMEOUT: '0'}\n")
    said = site.cli("doctor", "--distributed", "-n", "1", "--env", site.root / "env.yaml")
    assert said.code == 1
    assert "bad: " in said.err
    assert "did not meet" in said.err
