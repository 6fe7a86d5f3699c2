"""Data on the real cluster: copies on each node of a job for as long as it lasts, whatever ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.slurm.conftest import verdict

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from tests.slurm.conftest import ClusterSite

SHOW = "path = os.environ['AZURE_ML_INPUT_d']; print(rank, path, sorted(os.listdir(path)), flush=True)\n"


@pytest.fixture
def scratch(cluster: ClusterSite) -> Path:
    """Where copies go, with a dataset ``d`` registered."""
    data, scratch = cluster.root.parent / "da ta", cluster.root.parent / "scratch"
    for folder in (data, scratch):
        folder.mkdir()
    for name in ("a", "b"):
        (data / name).write_text(name)
    cluster.cli("data", "register", "d", data).ok()
    return scratch


def send(cluster: ClusterSite, scratch: Path, program: str, *options: str) -> RunFolder:
    """A run on two nodes with the dataset as its input, which each of them copies."""
    copied = ("--input", "d=azureml:d:1,download", "--env-var", f"HPCEST_SCRATCH={scratch}")
    return cluster.send(program, "-n", "2", "--distribution", "mpi", *copied, *options)


def test_both_nodes_find_their_copy_and_none_is_left(cluster: ClusterSite, scratch: Path) -> None:
    run = send(cluster, scratch, SHOW)
    assert verdict(cluster.ended(run)) == ("Completed", "", 0)
    logs = [(run.user_logs / f"std_log_{rank}.txt").read_text() for rank in range(2)]
    assert [log.split(" ", 1)[1] for log in logs] == [f"{scratch}/hpcest-{scratch.stat().st_uid}/{run.id}.a0/d ['a', 'b']\n"] * 2
    assert list(scratch.iterdir()) == []
    facts = json.loads(run.header.read_text())["spec"]["data"]["d"]
    assert (facts["dataset"], facts["version"], facts["files"], facts["digest"][:7]) == ("d", 1, 2, "sha256:")


@pytest.mark.parametrize("how", ["cancel", "scancel"])
def test_copies_go_with_a_run_that_is_ended(cluster: ClusterSite, scratch: Path, how: str) -> None:
    """Asked for by hpcest, and by Slurm alone."""
    run = send(cluster, scratch, SHOW + "time.sleep(100)\n")
    cluster.until_started(run, "0.0", "0.1")
    assert list(scratch.glob("*/*.a0/d/a"))
    if how == "cancel":
        cluster.cli("cancel", run.id).ok()
    else:
        cluster.slurm.run("scancel", cluster.job(run))
    cluster.until(lambda: not list(scratch.iterdir()))
    cluster.until(lambda: cluster.job(run) not in cluster.slurm.run("squeue", "-h", "-o", "%i"))


def test_copies_of_a_run_that_was_killed_at_once_go_with_the_next_one_on_its_nodes(cluster: ClusterSite, scratch: Path) -> None:
    """With the batch script Slurm kills srun, which may have Slurm kill what removes copies before it has."""
    run = send(cluster, scratch, SHOW + "time.sleep(100)\n")
    cluster.until_started(run, "0.0", "0.1")
    job = cluster.job(run)
    nodes = cluster.slurm.run("squeue", "-h", "-o", "%N", "-j", job).strip()
    cluster.slurm.run("scancel", "--batch", "--signal=KILL", job)
    cluster.until(lambda: job not in cluster.slurm.run("squeue", "-h", "-o", "%i"))
    again = send(cluster, scratch, SHOW, "-S", f"nodelist={nodes}")
    assert verdict(cluster.ended(again)) == ("Completed", "", 0)
    assert list(scratch.iterdir()) == []


def test_scratch_that_is_not_there_is_said_and_nothing_starts(cluster: ClusterSite, scratch: Path) -> None:
    run = send(cluster, scratch / "nowhere", SHOW)
    known = cluster.ended(run)
    assert (known["status"], known["reason"]) == ("Failed", "LaunchFailed")
    assert f"there is no room for copies in {scratch}/nowhere on" in known["message"]
    assert cluster.starts(run) == []
