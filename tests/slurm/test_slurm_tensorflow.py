"""TensorFlow on two nodes: workers that mirror each other, and parameter servers that end when nobody needs them."""

from __future__ import annotations

import json

import pytest

from hpcest.model.folders import RunFolder
from hpcest.onnode import processes
from tests.frameworks.envs import used_by_runs
from tests.frameworks.tf_programs import KERAS_FIT, PARAMETER_SERVERS, QUIET
from tests.slurm.conftest import ClusterSite


def send(cluster: ClusterSite, program: str, *options: str) -> RunFolder:
    given = (*used_by_runs("tensorflow"), *QUIET, "--framework", "tensorflow", "--nodes", "2", "--mem", "2500M")
    return cluster.send(program, *given, *options)


def test_keras_on_two_nodes(cluster: ClusterSite) -> None:
    """Keras' own fit() with MultiWorkerMirroredStrategy: both workers end with the same weights."""
    run = send(cluster, KERAS_FIT, "--env-var", "TF_USE_LEGACY_KERAS=1")
    known = cluster.ended(run)

    logs = [cluster.log(run, rank, ranks=2) for rank in (0, 1)]
    assert known["status"] == "Completed", (known, logs)
    assert logs[0].splitlines()[-1] == logs[1].splitlines()[-1]
    workers, weights = logs[0].splitlines()[-1].split(" workers ")
    assert workers == "2"
    assert json.loads(weights) == pytest.approx([1, 2, 3, 4], abs=0.1)


def test_parameter_servers_on_two_nodes(cluster: ClusterSite) -> None:
    """Three processes have a role and the fourth ends at once; the servers, one of them on another node, end after the chief."""
    run = send(cluster, PARAMETER_SERVERS, "-p", "2", "-O", "parameter_servers=1", "-O", "workers=1", "--", "0", "0")
    known = cluster.ended(run)

    logs = [cluster.log(run, rank, ranks=4) for rank in range(4)]
    assert known["status"] == "Completed", (known, logs)
    assert "on job:ps [1.0, 2.0, 3.0, 4.0]\n" in logs[0]
    assert ["serves as worker 0\n" in logs[1], "serves as ps 0\n" in logs[2]] == [True, True]
    assert "rank 3 has nothing to do" in logs[3]
    assert known["ended"] - float(logs[0].splitlines()[-1].split()[1]) < 10


def test_cancel_leaves_no_servers(cluster: ClusterSite) -> None:
    """Canceled while the chief works: nothing of the run is left on either node."""
    run = send(cluster, PARAMETER_SERVERS, "-p", "2", "-O", "parameter_servers=1", "-O", "workers=1", "--", "0", "300")
    cluster.until(lambda: "on job:ps" in "".join(path.read_text() for path in run.path.glob("user_logs/*_0.txt")), 120)
    cluster.cli("cancel", run.id).ok()

    assert cluster.ended(run)["status"] == "Canceled"
    cluster.until(lambda: not processes.members(run.id))
