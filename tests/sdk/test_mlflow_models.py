"""MLflow's artifacts are the run's, and its model registry is hpcest's: what one says of a model the other reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, Model, Run, Workspace
from hpcest.testing import python_with

#: Version → what is installed; as in test_mlflow.py, so that it is there already.
VERSIONS = {"2": "mlflow-skinny==2.22.*", "3": "mlflow-skinny==3.17.2"}
Program = Callable[[str], tuple[Run, Any]]


@pytest.fixture(params=VERSIONS)
def program(request: pytest.FixtureRequest, workspace: Workspace, project: Path) -> Program:
    """``program(code)`` runs a script with MLflow, and returns the run and the JSON that it printed last."""
    python = python_with(f"mlflow{request.param}", (VERSIONS[request.param],))

    def run(code: str) -> tuple[Run, Any]:
        Path("train.py").write_text("import json, os, mlflow\nclient = mlflow.tracking.MlflowClient()\nif True:\n" + code)
        estimator = Estimator(".", command=f"{python} train.py", user_managed=True)
        made = Experiment(workspace, "iris").submit(estimator, say=lambda line: None)
        details = made.wait_for_completion(raise_on_error=False)
        printed = Path(made.folder, "user_logs", "std_log.txt").read_text()
        assert details["status"] == "Completed", printed
        lines = printed.splitlines()
        return made, json.loads(lines[-1]) if lines and lines[-1][:1] in "[{" else printed

    return run


def test_the_paths_of_artifacts_are_those_of_the_run(program: Program, tmp_path: Path) -> None:
    """``outputs/x`` is the run's output, whoever writes it, and so it is read back."""
    code = """
        open("note", "w").write("a note")
        open("outputs/own", "w").write("of the program")
        for name in ("sub", "deep/outputs"):
            os.makedirs("many/outputs/" + name)
        open("many/outputs/sub/x", "w").write("x")
        open("many/y", "w").write("y")
        with mlflow.start_run() as run:
            mlflow.log_artifact("note")
            mlflow.log_artifact("note", "outputs")
            mlflow.log_artifact("note", "outputs/deep")
            mlflow.log_artifact("note", "other/outputs")
            mlflow.log_text("t", "logs/t.txt")
            mlflow.log_dict({"a": 1}, "outputs/d.json")
            mlflow.log_artifacts("many")
            mlflow.log_artifacts("many", "all")
            mlflow.log_artifact("outputs/own", "outputs")
            mlflow.log_artifacts("outputs", "outputs")
        run_id = run.info.run_id
        got = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="outputs/deep/note")
        both = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="")
        print(json.dumps({
            "root": sorted(one.path for one in client.list_artifacts(run_id) if one.is_dir),
            "outputs": sorted(one.path for one in client.list_artifacts(run_id, "outputs")),
            "got": [open(got).read(), open(both + "/note").read(), open(both + "/outputs/own").read()],
            "dict": mlflow.artifacts.load_dict(run.info.artifact_uri + "/outputs/d.json"),
        }))
    """
    run, found = program(code)
    assert found["outputs"] == ["outputs/d.json", "outputs/deep", "outputs/note", "outputs/own", "outputs/sub"]
    assert {"outputs", "logs", "other", "all"} <= set(found["root"])
    assert found["got"] == ["a note", "a note", "of the program"]
    assert found["dict"] == {"a": 1}
    names = set(run.get_file_names())
    assert {"note", "outputs/note", "outputs/deep/note", "other/outputs/note", "logs/t.txt", "y", "all/y"} <= names
    assert {"all/outputs/sub/x", "outputs/sub/x"} <= names
    for name in names - {"system_logs/controller.log"}:  # each of them is where its name says
        run.download_file(name, tmp_path / "got" / name)
    assert (tmp_path / "got/outputs/note").read_text() == "a note"


def test_what_is_said_of_models(program: Program, workspace: Workspace) -> None:
    """Tags, descriptions, stages and aliases: set and read by MLflow, and hpcest reads them, and the other way round."""
    code = """
        from hpcest import Run
        open("outputs/net", "w").write("weights")
        mine = Run.get_context().register_model("net", "outputs/net", tags={"by": "hpcest"})
        with mlflow.start_run() as run:
            client.create_model_version("net", run.info.artifact_uri + "/outputs/net", run.info.run_id, tags={"by": "mlflow"})
        mine.add_tags({"later": "yes"})
        client.set_model_version_tag("net", 2, "quality", "high")
        client.set_model_version_tag("net", 2, "gone", "x")
        client.delete_model_version_tag("net", 2, "gone")
        client.update_model_version("net", 2, "the second")
        client.update_registered_model("net", "all of them")
        client.set_registered_model_tag("net", "team", "lab")
        client.transition_model_version_stage("net", "1", "production")
        client.transition_model_version_stage("net", "2", "Production", archive_existing_versions=True)
        client.set_registered_model_alias("net", "best", 1)
        client.set_registered_model_alias("net", "best", 2)
        client.set_registered_model_alias("net", "old", 1)
        client.delete_registered_model_alias("net", "old")
        model, best = client.get_registered_model("net"), client.get_model_version_by_alias("net", "best")
        one = client.get_model_version("net", "1")
        print(json.dumps({
            "model": [model.description, model.tags, dict(model.aliases), model.creation_timestamp > 0],
            "best": [int(best.version), best.description, best.current_stage, best.aliases, {**best.tags}],
            "one": [one.tags, one.current_stage, one.aliases, one.run_id == os.environ["HPCEST_RUN_ID"]],
            "production": [int(each.version) for each in client.get_latest_versions("net", ["Production"])],
            "found": [int(each.version) for each in client.search_model_versions("name = 'net'")],
            "tagged": [int(each.version) for each in client.search_model_versions("tag.quality = 'high'")],
            "loaded": open(mlflow.artifacts.download_artifacts("models:/net@best") + "/net").read(),
        }))
    """
    run, found = program(code)
    assert found == {
        "model": ["all of them", {"team": "lab"}, {"best": found["model"][2]["best"]}, True],
        "best": [2, "the second", "Production", ["best"], {"by": "mlflow", "quality": "high", "stage": "Production"}],
        "one": [{"by": "hpcest", "later": "yes", "stage": "Archived"}, "Archived", [], True],
        "production": [2],
        "found": [2, 1],
        "tagged": [2],
        "loaded": "weights",
    }
    assert int(found["model"][2]["best"]) == 2
    first, second = Model(workspace, id="net:1"), Model(workspace, id="net:2")
    assert first.tags == {"by": "hpcest", "later": "yes", "stage": "Archived"}
    assert (second.tags["quality"], second.description, second.framework, second.run_id) == ("high", "the second", "mlflow", run.id)
    assert second.lineage["snapshot"] == first.lineage["snapshot"] != ""


def test_models_without_versions_copies_and_removal(program: Program, workspace: Workspace) -> None:
    """A model may be there before its versions, in every process; what is deleted is gone, and numbers are not given again."""
    code = """
        from mlflow.exceptions import MlflowException
        def refused(action, *given):
            try:
                return action(*given)
            except MlflowException as error:
                return str(error)
        client.create_registered_model("first", {"a": "b"}, "to come")
        with mlflow.start_run() as run:
            mlflow.log_text("x", "m/x")
        uri = run.info.artifact_uri + "/m"
        there = client.get_registered_model("first")
        client.create_model_version("first", uri, run.info.run_id)
        copied = client.copy_model_version("models:/first/1", "second")
        again = refused(client.create_registered_model, "second")
        client.delete_model_version("first", "1")
        numbers = [int(client.create_model_version("first", uri).version)]
        client.delete_registered_model("first")
        numbers.append(int(client.create_model_version("first", uri).version)) if client.create_registered_model("first") else None
        print(json.dumps({
            "there": [there.description, there.tags, list(there.latest_versions)],
            "copied": [copied.name, int(copied.version), copied.run_id == run.info.run_id],
            "numbers": numbers,
            "again": again,
            "anew": client.get_registered_model("first").tags,
            "names": [model.name for model in client.search_registered_models(order_by=["name DESC"])],
            "refused": [
                refused(client.rename_registered_model, "second", "third"),
                refused(client.transition_model_version_stage, "second", "1", "Good"),
                refused(client.get_model_version_by_alias, "second", "nobody"),
                refused(client.set_model_version_tag, "second", "9", "a", "b"),
                refused(client.get_registered_model, "none"),
                refused(client.create_registered_model, "a:b"),
                refused(client.create_model_version, "second", run.info.artifact_uri.replace(run.info.run_id, "gone") + "/m"),
                refused(client.create_model_version, "second", run.info.artifact_uri + "/nothing"),
                refused(mlflow.artifacts.load_text, run.info.artifact_uri.replace(run.info.run_id, "gone") + "/m"),
            ],
        }))
    """
    _, found = program(code)
    assert found.pop("again").endswith("Registered Model (name=second) already exists.")
    wanted = (
        "a model is not renamed here",
        "there is no stage 'Good'",
        "alias nobody not found",
        "version=9) not found",
        "name=none",
        "can't be",
        "there is no such file",
        "there is no such file",
        "there is no run at",
    )
    for text, message in zip(wanted, found.pop("refused"), strict=True):
        assert text in message
    assert found == {
        "there": ["to come", {"a": "b"}, []],
        "copied": ["second", 1, True],
        "numbers": [2, 3],
        "anew": {},
        "names": ["second", "first"],
    }
    assert [model.id for model in Model.list(workspace)] == ["first:3", "second:1"]


def test_a_program_that_logs_a_model_finds_it(workspace: Workspace, project: Path) -> None:
    """``search_logged_models``, and ``runs:/…`` of what is no model is refused as MLflow refuses it."""
    python = python_with("mlflow3", (VERSIONS["3"],))
    Path("train.py").write_text(
        """
import mlflow
mlflow.log_text("x", "plain/x")
made = mlflow.initialize_logged_model(name="net", tags={"a": "b"})
other = mlflow.initialize_logged_model(name="other")
found = mlflow.search_logged_models(filter_string="name = 'net'", output_format="list")
print([one.model_id for one in found] == [made.model_id], len(mlflow.search_logged_models(output_format="list")))
for words in ({"filter_string": "metrics.acc > 1"}, {"order_by": [{"field_name": "metrics.acc"}]}):
    try:
        mlflow.search_logged_models(**words)
    except mlflow.exceptions.MlflowException as error:
        print(error)
try:
    mlflow.register_model("runs:/%s/plain" % mlflow.active_run().info.run_id, "plain")
except mlflow.exceptions.MlflowException as error:
    print(error)
"""
    )
    run = Experiment(workspace, "iris").submit(Estimator(".", command=f"{python} train.py", user_managed=True), say=lambda line: None)
    run.wait_for_completion(raise_on_error=False)
    printed = Path(run.folder, "user_logs", "std_log.txt").read_text()
    assert "True 2" in printed
    assert printed.count("look for it by mlflow.search_runs()") == 2
    assert "Unable to find a logged_model with artifact_path plain" in printed
