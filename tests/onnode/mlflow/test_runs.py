"""Run folders as MLflow's calls read and write them, without MLflow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpcest.history import ingest, query
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import run as module
from hpcest.onnode.events import event_files, read_run
from hpcest.onnode.mlflow import runs
from hpcest.onnode.mlflow.runs import Runs, experiment_id
from hpcest.onnode.record import put_json


def made(root: Path, run_id: str, experiment: str = "iris", **spec: Any) -> Path:
    """A run folder that a program is to start in."""
    folder = root / ".hpcest" / "runs" / run_id
    for part in ("events", "outputs", "logs"):
        (folder / part).mkdir(parents=True)
    put_json(folder / "run.json", {"schema": 1, "id": run_id, "kind": "run", "created": 5.0, "spec": {"experiment": experiment, **spec}})
    return folder


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The runs of a workspace, seen by the program of the run ``own``."""
    monkeypatch.setenv("HPCEST_RUN_DIR", str(made(tmp_path, "own")))
    monkeypatch.setattr(module, "_CONTEXTS", {})
    return Runs(str(tmp_path))


def test_the_first_run_that_a_program_asks_for_is_its_own(inside: Runs) -> None:
    assert inside.create("iris", None, {}) == "own"
    other = inside.create("iris", "second", {})
    assert other != "own"
    assert inside.logged(other)["tags"]["mlflow.parentRunId"] == "own"
    assert read_run(inside.runs + "/own")[0].children == [other]


def test_a_nested_run_is_a_child_of_the_one_that_it_names(inside: Runs) -> None:
    outer = inside.create("iris", None, {"mlflow.parentRunId": "own"})
    inner = inside.create("iris", None, {"mlflow.parentRunId": outer})
    assert inside.logged(inner)["tags"]["mlflow.parentRunId"] == outer
    assert inside.create("iris", None, {}) == "own"  # it was not asked for until now


def test_what_is_logged_comes_back(inside: Runs) -> None:
    inside.log("own", [("loss", 0.5, 1000, 0), ("loss", 0.25, 2000, 1), ("nan", math.nan, 3000, 0)], [("lr", "0.1")])
    inside.tag("own", {"kind": "trial", "mlflow.runName": "named", "mlflow.note.content": "why", "mlflow.source.name": "train.py"})
    facts = inside.logged("own")
    assert facts["metrics"][0] == ("loss", 0.25, 2000, 1)
    assert math.isnan(facts["metrics"][1][1])
    assert inside.history("own", "loss") == [("loss", 0.5, 1000, 0), ("loss", 0.25, 2000, 1)]
    assert facts["params"] == {"lr": "0.1"}
    expected = {"kind": "trial", "mlflow.runName": "named", "mlflow.note.content": "why", "mlflow.source.name": "train.py"}
    assert facts["tags"] == expected
    state, metrics = read_run(inside.runs + "/own")
    assert metrics.to_dict()["loss"] == [0.5, 0.25]
    assert {name: value for name, (_, value) in state.tags.items()} == {"kind": "trial"}
    assert list(state.properties) == ["mlflow.source.name"]


def test_the_first_value_of_a_param_stays(inside: Runs) -> None:
    for value in ("1", "2"):
        inside.log("own", [], [("lr", value)])
    assert inside.logged("own")["params"] == {"lr": "1"}


def test_a_point_that_is_said_twice_is_one(inside: Runs) -> None:
    """MLflow 3 logs a metric again for each model that it is of."""
    for _ in range(2):
        inside.log("own", [("acc", 0.5, 1000, 3), ("f1", 0.6, 1000, 3)], [])
    inside.log("own", [("acc", 0.5, 1001, 3)], [])
    assert len(inside.history("own", "acc")) == 2
    assert len(inside.history("own", "f1")) == 1


def test_the_latest_value_of_a_metric_is_that_of_the_largest_step(inside: Runs) -> None:
    inside.log("own", [("loss", 1.0, 2000, 5), ("loss", 2.0, 9000, 4)], [])
    assert inside.logged("own")["metrics"] == [("loss", 1.0, 2000, 5)]


def test_the_controller_says_how_the_own_run_ends_and_the_program_of_others(inside: Runs) -> None:
    inside.create("iris", None, {})
    child = inside.create("iris", None, {})
    inside.end("own", "FAILED")
    inside.end(child, "FAILED")
    assert inside.info("own")["status"] == inside.info(child)["status"] == "FAILED"
    assert read_run(inside.runs + "/own")[0].status == "NotStarted"
    assert read_run(f"{inside.runs}/{child}")[0].status == "Failed"


def test_everything_goes_to_this_process_own_file(inside: Runs) -> None:
    """So no two ranks ever write to one file."""
    inside.log("own", [("loss", 0.5, 1000, 0)], [("lr", "0.1")])
    inside.tag("own", {"a": "b"})
    module.Run.get_context().log("x", 1)
    (path,) = event_files(inside.runs + "/own")
    assert [json.loads(line)["e"] for line in Path(path).read_text().splitlines()] == ["metric", "param", "tag", "metric"]


def test_the_experiment_is_what_the_program_calls_it(inside: Runs) -> None:
    """``set_experiment('mine')`` must not keep a script from finding its runs again."""
    assert experiment_id("iris") == "iris"
    mine = inside.experiment("my experiment")
    assert mine is not None
    assert inside.create(mine, None, {}) == "own"
    child = inside.create(mine, None, {})
    assert inside.info("own")["experiment"] == inside.info(child)["experiment"] == mine
    assert sorted(inside.of_experiments({mine})) == sorted(["own", child])
    assert inside.called(mine) == "my experiment"


@pytest.mark.parametrize("name", ["a b", "é", "x" * 65, "-a", "", "a/b"])
def test_any_name_of_an_experiment_has_an_id_that_mlflow_takes(name: str) -> None:
    assert runs._EXPERIMENT_ID.match(experiment_id(name))


@pytest.mark.parametrize("run_id", ["none", "../own", "", "own/"])
def test_what_is_no_run_is_none(inside: Runs, run_id: str) -> None:
    assert inside.run(run_id) is None


def test_outside_of_a_run_a_new_one_is_made_and_past_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCEST_RUN_DIR", raising=False)
    made(tmp_path, "past", display_name="old")
    runs = Runs(str(tmp_path))
    assert runs.own is None
    assert runs.experiment("none such") is None
    assert runs.names() == ["iris"]
    assert runs.info("past")["name"] == "old"
    created = runs.create(runs.create_experiment("new"), "mine", {"a": "b"})
    runs.end(created, "FINISHED")
    facts = {**runs.info(created), **runs.logged(created)}
    assert (facts["status"], facts["experiment"], facts["name"], facts["tags"]["a"]) == ("FINISHED", "new", "mine", "b")


def test_params_are_in_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those of the command line, which are what was asked for; also after the index was built anew."""
    folder = made(tmp_path, "own", command={"script": "train.py", "arguments": ["--lr", "0.1"]})
    monkeypatch.setenv("HPCEST_RUN_DIR", str(folder))
    monkeypatch.setattr(module, "_CONTEXTS", {})
    runs, workspace = Runs(str(tmp_path)), WorkspaceFolder(tmp_path)
    ingest.refresh(workspace)
    runs.log("own", [], [("depth", "3"), ("lr", "9")])
    ingest.refresh(workspace)
    expected = {"lr": "0.1", "depth": "3"}
    assert query.list_runs(workspace)[0].params == expected
    ingest.reindex(workspace)
    assert query.list_runs(workspace, where="params.depth = 3")[0].params == expected


def test_to_know_its_own_run_a_rank_reads_no_events(inside: Runs) -> None:
    """A thousand ranks ask at once, and each would read the files of all."""
    inside.create("iris", "mine", {"a": "b"})
    Path(inside.runs, "own", "events").rename(Path(inside.runs, "own", "away"))
    info = inside.info("own")
    assert (info["name"], info["status"], info["end"]) == ("mine", "RUNNING", None)
