"""What programs that were written for Azure ML find in their environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest.onnode import azureml, rank
from hpcest.onnode.record import put_json


def environment(tmp_path: Path, base: dict[str, str] | None = None, **launch: Any) -> dict[str, str]:
    """The environment of the last rank of two nodes with two each."""
    folder = tmp_path / "ws" / ".hpcest" / "runs" / "abc"
    given: dict[str, Any] = {"run": "abc", "folder": str(folder), "workspace": str(tmp_path / "ws"), "experiment": "iris", "runtime": "/r"}
    given.update({"nodes": 2, "procs_per_node": 2, **launch})
    told = {**rank.rank_variables(given, 3), "HPCEST_PEERS": "n1:1,n1:2,n2:3,n2:4"}
    found: dict[str, str] = rank.environment(given, 0, told, {"MASTER_ADDR": "n1", "MASTER_PORT": "77", **(base or {})})
    return found


def test_a_rank_has_the_names_of_azure_ml(tmp_path: Path) -> None:
    folder = f"{tmp_path}/ws/.hpcest/runs/abc"
    found = environment(tmp_path)
    assert {name: value for name, value in found.items() if name.startswith("AZ")} == {
        "AZUREML_RUN_ID": "abc",
        "AZUREML_EXPERIMENT_ID": "iris",
        "AZUREML_ARM_PROJECT_NAME": "iris",
        "AZUREML_ARM_WORKSPACE_NAME": "ws",
        "AZUREML_OUTPUT_DIRECTORY": f"{folder}/outputs",
        "AZUREML_LOGDIRECTORY_PATH": f"{folder}/logs",
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": f"{folder}/work",
        "AZUREML_CR_NODE_RANK": "1",
        "AZUREML_PROCESS_NAME": "rank_3",
        "AZ_BATCHAI_TASK_INDEX": "3",
        "AZ_BATCH_HOST_LIST": "n1,n2",
        "AZ_BATCH_MASTER_NODE": "n1:77",
        "AZ_BATCHAI_MPI_MASTER_NODE": "n1",
        "AZ_BATCHAI_PYTORCH_INIT_METHOD": "tcp://n1:77",
    }


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("n1", "n1"), ("n[1-2]", "n1,n2"), ("n[1,3-4],m07", "n1,n3,n4,m07"), ("a[08-10]b[1-2],c", "a08b1,a08b2,a09b1,a09b2,a10b1,a10b2,c"),
        ("", "n1"),
    ],
)  # fmt: skip
def test_an_mpi_run_knows_its_hosts_too(tmp_path: Path, listed: str, hosts: str) -> None:
    """Where nobody has told the ranks of each other, as mpirun and srun start them."""
    given: dict[str, Any] = {
        "run": "abc",
        "folder": str(tmp_path),
        "workspace": str(tmp_path),
        "runtime": "/r",
        "nodes": 2,
        "procs_per_node": 1,
    }
    base = {"MASTER_ADDR": "n1", "MASTER_PORT": "77", "SLURM_JOB_NODELIST": listed}
    assert rank.environment(given, 0, rank.rank_variables(given, 1), base)["AZ_BATCH_HOST_LIST"] == hosts


def test_the_workspace_is_called_what_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "ws" / ".hpcest").mkdir(parents=True)
    put_json(tmp_path / "ws" / ".hpcest" / "workspace.json", {"name": "lab"})
    assert environment(tmp_path)["AZUREML_ARM_WORKSPACE_NAME"] == "lab"


def test_mlflow_is_told_of_the_run(tmp_path: Path) -> None:
    found = environment(tmp_path)
    uri = f"hpcest://{tmp_path}/ws"
    assert {name: value for name, value in found.items() if name.startswith("MLFLOW")} == {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_RUN_ID": "abc",
        "MLFLOW_EXPERIMENT_NAME": "iris",
    }


def test_a_path_with_odd_letters_is_a_uri() -> None:
    assert azureml.tracking_uri("/w s/é#1") == "hpcest:///w%20s/%C3%A9%231"


@pytest.mark.parametrize("way", ["inherited", "set for the run"])
def test_a_tracking_uri_of_the_users_is_left_alone(tmp_path: Path, way: str) -> None:
    own = {"MLFLOW_TRACKING_URI": "http://tracking:5000"}
    found = environment(tmp_path, own) if way == "inherited" else environment(tmp_path, variables=own)
    assert {name: value for name, value in found.items() if name.startswith("MLFLOW")} == own


def test_the_uri_of_an_outer_run_is_not_the_users(tmp_path: Path) -> None:
    """A run that was submitted by a run's program belongs to its own workspace."""
    found = environment(tmp_path, {"MLFLOW_TRACKING_URI": "hpcest:///elsewhere", "AZUREML_RUN_ID": "outer"})
    assert (found["MLFLOW_TRACKING_URI"], found["AZUREML_RUN_ID"]) == (f"hpcest://{tmp_path}/ws", "abc")


def test_what_a_run_sets_itself_wins(tmp_path: Path) -> None:
    found = environment(tmp_path, variables={"AZUREML_RUN_ID": "mine", "MLFLOW_EXPERIMENT_NAME": "mine"})
    assert (found["AZUREML_RUN_ID"], found["MLFLOW_EXPERIMENT_NAME"], found["MLFLOW_RUN_ID"]) == ("mine", "mine", "abc")
