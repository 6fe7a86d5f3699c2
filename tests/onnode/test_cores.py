"""How many cores a rank is told that it may use."""

from __future__ import annotations

import os

import pytest

from hpcest.onnode import cores

HERE = len(os.sched_getaffinity(0))


def told(beside: int) -> dict[str, str]:
    """Where a rank is that has so many on its node."""
    return {"LOCAL_WORLD_SIZE": str(beside)}


def launch(per: str = "process", procs: int = 1, cpus: int | None = None) -> dict[str, object]:
    """What cores are asked for."""
    return {"per": per, "procs_per_node": procs, "cpus": cpus}


def test_nobody_asked_for_anything() -> None:
    """The ranks of a machine share its cores; the kernel holds a rank alone to them, so it needs no limit."""
    assert cores.variables(launch(), told(1), {}) == {"HPCEST_CPUS": str(HERE), "HPCEST_CPU_LIMIT": ""}
    assert cores.variables(launch(procs=2), told(2), {})["HPCEST_CPUS"] == str(max(1, HERE // 2))
    assert cores.variables(launch(procs=1000), told(1000), {})["HPCEST_CPUS"] == "1"


def test_what_was_asked_for_limits_a_rank_where_the_kernel_does_not() -> None:
    given = cores.variables(launch(cpus=1), told(1), {})

    assert given == {"HPCEST_CPUS": "1", "HPCEST_CPU_LIMIT": "1" if HERE > 1 else ""}


def test_a_rank_that_is_a_node_has_the_cores_of_its_processes() -> None:
    """As torchrun, which starts them itself; and never more than there are."""
    assert cores.variables(launch("node", procs=2, cpus=1), told(1), {})["HPCEST_CPUS"] == str(min(HERE, 2))
    assert cores.variables(launch("node", procs=100, cpus=100), told(1), {})["HPCEST_CPUS"] == str(HERE)


@pytest.mark.parametrize("word", ["", "many", "-1"])
def test_a_word_of_slurm_that_is_no_number(word: str) -> None:
    given = cores.variables(launch(cpus=1), told(1), {"SLURM_STEP_ID": "0", "SLURM_CPUS_PER_TASK": word})

    assert given["HPCEST_CPUS"] == "1"


def test_slurm_says_how_many() -> None:
    """For each task, else for the node, which its tasks share; and only a step's word counts, not the shell's around a run."""
    step = {"SLURM_STEP_ID": "0"}

    assert cores.variables(launch(cpus=2), told(1), {**step, "SLURM_CPUS_PER_TASK": "1"})["HPCEST_CPUS"] == "1"
    assert cores.variables(launch(), told(1), {**step, "SLURM_CPUS_ON_NODE": "1"})["HPCEST_CPUS"] == "1"
    assert cores.variables(launch(), told(4), {**step, "SLURM_CPUS_ON_NODE": "2"})["HPCEST_CPUS"] == "1"
    assert cores.variables(launch(), told(1), {"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "1"})["HPCEST_CPUS"] == str(HERE)
