"""MLflow in a container on two nodes: what its calls log, keep and register is in the run and in the workspace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.slurm.conftest import CONFIGURATION, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.fixtures import Apptainer
    from tests.slurm.conftest import ClusterSite

TRAIN = """
import mlflow
from hpcest import Run
assert not hasattr(Run, 'submit_child')  # no hpcest but what travels
client = mlflow.tracking.MlflowClient()
with mlflow.start_run(run_name='boxed') as started:
    mlflow.log_param(f'rank{rank}', os.path.exists('/opt/hpcest/env'))
    for step in range(3):
        mlflow.log_metric(f'loss {rank}', 1 / (step + 1), step=step)
    if rank == 0:
        mlflow.set_tag('kind', 'trial')
        mlflow.log_dict({'a': 1}, 'conf/d.json')
        mlflow.log_text('weights', 'outputs/net/weights')
        with mlflow.start_run(nested=True, run_name='inner'):
            mlflow.log_metric('score', 1)
        client.create_registered_model('net')
        client.create_model_version('net', started.info.artifact_uri + '/outputs/net', started.info.run_id)
        client.set_model_version_tag('net', '1', 'quality', 'high')
        Run.get_context().register_model('other', 'outputs/net').add_tags({'by': 'hpcest'})
"""


@pytest.fixture
def boxed(cluster: ClusterSite, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSite:
    """The cluster's workspace, with environments on a small image that has Python alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cluster.configure(f"{CONFIGURATION}environment: {{kind: apptainer, image: '{apptainer.debian}'}}\n")
    return cluster


def test_mlflow_in_a_container_on_two_nodes(boxed: ClusterSite) -> None:
    package = "mlflow-skinny==2.22.*"
    assert boxed.start("env", "build", "--pip", package).wait(300) == 0  # forty packages are downloaded
    run = boxed.send(TRAIN, "--pip", package, "--nodes", "2", "--mem", "600M")
    known = boxed.ended(run)
    assert verdict(known) == ("Completed", "", 0), boxed.told_of(run)
    assert (known["display_name"], known["tags"], known["environment"]["kind"]) == ("boxed", {"kind": "trial"}, "apptainer")
    assert known["metrics"] == {f"loss {rank}": [1.0, 0.5, 1 / 3] for rank in (0, 1)}
    assert known["params"] == {"rank0": "True", "rank1": "True"}
    assert {"conf/d.json", "outputs/net/weights"} <= set(known["artifacts"])
    assert len(known["children"]) == 1
    assert (run.outputs / "net" / "weights").read_text() == "weights"
    (row,) = boxed.runs("--where", "params.rank0 = 'True'")
    assert row["id"] == run.id
    models = {model["id"]: model for model in json.loads(boxed.cli("models", "list", "--json").ok().out)}
    assert {name: (model["run_id"], model["tags"]) for name, model in models.items()} == {
        "net:1": (run.id, {"quality": "high"}),
        "other:1": (run.id, {"by": "hpcest"}),
    }
    assert "git" not in boxed.log(run, ranks=2)  # there is none in the image, which needs no word
