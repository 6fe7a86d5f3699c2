"""Programs that log with the real MLflow, unmodified: what they log is in the run, also where they are killed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, MpiConfiguration, Run, Workspace
from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.onnode.azureml import tracking_uri
from hpcest.testing import python_with

#: Version → what is installed.
VERSIONS = {
    "2": (("mlflow-skinny==2.22.*",),),
    "3": (("mlflow-skinny==3.17.2",),),
}
WaitUntil = Callable[..., None]


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """A Python with an MLflow."""
    return str(python_with(f"mlflow{request.param}", *VERSIONS[request.param]))


@pytest.fixture
def python3() -> str:
    """The Python with the latest MLflow, for what doesn't depend on it."""
    return str(python_with("mlflow3", *VERSIONS["3"]))


def started(workspace: Workspace, code: str, python: str, **keywords: Any) -> Run:
    """A run of a script that holds ``code``, in ``python``."""
    Path("train.py").write_text("if True:\n" + code)
    line = f"{python} train.py"
    return Experiment(workspace, "iris").submit(Estimator(".", command=line, user_managed=True, **keywords), say=lambda line: None)


def outcome(run: Run) -> str:
    """How the run ended, and what it printed where it did not complete."""
    details = run.wait_for_completion(raise_on_error=False)
    printed = Path(run.folder, "user_logs", "std_log.txt")
    return str(details["status"]) if details["status"] == "Completed" else printed.read_text()


def test_what_a_program_logs_is_in_the_run(workspace: Workspace, project: Path, python: str) -> None:
    code = """
        import mlflow
        mlflow.set_experiment("what the script calls it")
        with mlflow.start_run(run_name="named"):
            mlflow.log_param("lr", 0.1)
            mlflow.log_params({"depth": 3})
            for step in range(3):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_metrics({"acc": 0.5})
            mlflow.set_tag("kind", "trial")
            mlflow.log_text("text", "notes/a.txt")
            mlflow.log_artifact("train.py")
            open("outputs/out.txt", "w").close()
    """
    run = started(workspace, code, python)
    assert outcome(run) == "Completed"
    assert run.get_metrics() == {"acc": 0.5, "loss": [1.0, 0.5, 1 / 3]}
    assert run.get_tags() == {"kind": "trial"}
    assert run.display_name == "named"
    assert {"notes/a.txt", "train.py", "outputs/out.txt"} <= set(run.get_file_names())
    row = workspace_row(workspace, run)
    assert (row.params["lr"], row.params["depth"]) == ("0.1", "3")
    assert [child.id for child in run.get_children()] == []


def workspace_row(workspace: Workspace, run: Run) -> Any:
    """What the history has of the run."""
    from hpcest.history import ingest, query

    ingest.refresh(workspace.folder)
    return next(row for row in query.list_runs(workspace.folder, where="params.lr = 0.1") if row.id == run.id)


def test_what_was_logged_is_read_back_by_the_program(workspace: Workspace, project: Path, python: str) -> None:
    """Runs again by their id, nested ones, searches, histories."""
    code = """
        import json, os, pickle, mlflow
        run_id = os.environ["HPCEST_RUN_ID"]
        experiment = mlflow.set_experiment("mine")
        client = mlflow.tracking.MlflowClient()
        with mlflow.start_run() as run:
            mlflow.log_metric("m", 1, step=7)
            mlflow.log_param("p", "x")
            for trial in range(2):
                with mlflow.start_run(nested=True, run_name="trial %d" % trial):
                    mlflow.log_metric("score", trial)
        with mlflow.start_run(run_id=run_id):
            mlflow.log_metric("late", 2)
        again = mlflow.get_run(run_id)
        found = client.search_runs([again.info.experiment_id], "metrics.score > 0")
        print(json.dumps({
            "same": run.info.run_id == run_id,
            "experiment": mlflow.get_experiment(again.info.experiment_id).name,
            "metrics": again.data.metrics, "params": pickle.loads(pickle.dumps(mlflow.get_run(run_id))).data.params,
            "shown": "'late': 2.0" in repr(mlflow.get_run(run_id)),
            "points": [(one.value, one.step) for one in client.get_metric_history(run_id, "m")],
            "found": [(one.info.run_name, one.data.tags["mlflow.parentRunId"] == run_id, one.info.status) for one in found],
        }))
    """
    run = started(workspace, code, python)
    assert outcome(run) == "Completed"
    assert json.loads(Path(run.folder, "user_logs", "std_log.txt").read_text().splitlines()[-1]) == {
        "same": True,
        "experiment": "mine",
        "metrics": {"m": 1.0, "late": 2.0},
        "params": {"p": "x"},
        "shown": True,
        "points": [[1.0, 7]],
        "found": [["trial 1", True, "FINISHED"]],
    }
    assert {child.display_name: child.get_metrics() for child in run.get_children()} == {
        "trial 0": {"score": 0.0},
        "trial 1": {"score": 1.0},
    }


def test_ranks_log_to_one_run_and_one_is_killed(workspace: Workspace, project: Path, python3: str) -> None:
    code = """
        import os, signal, mlflow
        rank = os.environ["RANK"]
        mlflow.start_run()
        mlflow.log_param("of " + rank, rank)
        for step in range(200):
            mlflow.log_metric("loss " + rank, step, step=step)
        open("outputs/" + rank, "w").close()
        while len(os.listdir("outputs")) < 3:
            pass
        if rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    run = started(workspace, code, python3, distributed_training=MpiConfiguration(process_count_per_node=3))
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"
    assert run.get_metrics() == {f"loss {rank}": [float(step) for step in range(200)] for rank in range(3)}


def test_metrics_are_there_while_the_program_runs(workspace: Workspace, project: Path, python3: str, wait_until: WaitUntil) -> None:
    code = """
        import mlflow, os, time
        mlflow.log_metric("loss", 0.5)
        while not os.path.exists("outputs/go"):
            time.sleep(0.05)
    """
    run = started(workspace, code, python3)
    wait_until(lambda: run.get_metrics() == {"loss": 0.5})
    assert run.get_status() == "Running"
    Path(run.folder, "outputs", "go").touch()
    assert outcome(run) == "Completed"


def test_a_program_that_names_its_own_tracking_store_keeps_it(workspace: Workspace, project: Path, python: str) -> None:
    """MLFLOW_RUN_ID would have MLflow look for our run there."""
    code = """
        import os
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        assert os.environ["MLFLOW_RUN_ID"] == os.environ["HPCEST_RUN_ID"]
        import mlflow
        mlflow.set_tracking_uri("file:outputs/own")
        mlflow.set_experiment("own")
        with mlflow.start_run():
            mlflow.log_metric("m", 1)
    """
    run = started(workspace, code, python)
    assert outcome(run) == "Completed"
    assert run.get_metrics() == {}
    assert any(name.endswith("metrics/m") for name in run.get_file_names())


MODEL = """
        import mlflow, mlflow.pyfunc
        class Twice(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return [2 * one for one in model_input]
        with mlflow.start_run() as run:
            name = {"name": "twice"} if mlflow.__version__ >= "3" else {"artifact_path": "twice"}
            for _ in range(2):
                made = mlflow.pyfunc.log_model(python_model=Twice(), pip_requirements=[], registered_model_name="doubling", **name)
            for uri in (made.model_uri, "runs:/%s/twice" % run.info.run_id, "models:/doubling/1"):
                print(mlflow.pyfunc.load_model(uri).unwrap_python_model().predict(None, [1, 2]))
"""


def test_models_are_artifacts_of_the_run_and_registered(workspace: Workspace, project: Path) -> None:
    python = str(python_with("mlflow3-models", ("mlflow-skinny==3.17.2", "pandas")))
    run = started(workspace, MODEL, python)
    assert outcome(run) == "Completed"
    printed = Path(run.folder, "user_logs", "std_log.txt").read_text()
    assert printed.count("[2, 4]\n") == 3
    assert "twice/MLmodel" in run.get_file_names()
    assert [(model.name, model.version, model.run_id) for model in workspace_models(workspace)] == [
        ("doubling", 2, run.id),
        ("doubling", 1, run.id),
    ]
    assert all((model.path / "MLmodel").is_file() for model in workspace_models(workspace))
    assert run.register_model("mine", "twice").path.joinpath("MLmodel").is_file()


def workspace_models(workspace: Workspace) -> list[Any]:
    from hpcest import Model

    return Model.list(workspace, name="doubling")


def test_runs_are_read_from_outside(workspace: Workspace, project: Path, python3: str) -> None:
    """With the workspace's tracking URI, where hpcest is installed; here its travelling part stands for that."""
    run = started(workspace, "    import mlflow\n    mlflow.log_metric('m', 3)\n", python3)
    assert outcome(run) == "Completed"
    code = """if True:
        import sys, mlflow
        mlflow.set_experiment("iris")
        runs = mlflow.search_runs(output_format="list")
        print([(one.info.run_id, one.info.status, one.data.metrics) for one in runs])
        with mlflow.start_run(run_name="by hand") as mine:
            mlflow.log_metric("x", 1)
        print(mine.info.run_id)
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HPCEST", "MLFLOW"))}
    env.update({"PYTHONPATH": str(travelling_runtime(workspace.folder)), "MLFLOW_TRACKING_URI": tracking_uri(workspace.root)})
    done = subprocess.run([python3, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    listed, by_hand = done.stdout.splitlines()
    assert listed == str([(run.id, "FINISHED", {"m": 3.0})])
    made = Run.get(workspace, by_hand)
    assert (made.experiment.name, made.display_name, made.get_metrics()) == ("iris", "by hand", {"x": 1.0})


def test_what_has_no_counterpart_is_said_and_stops_nothing(workspace: Workspace, project: Path, python3: str) -> None:
    code = """
        import mlflow
        client = mlflow.tracking.MlflowClient()
        with mlflow.start_run():
            mlflow.log_param("lr", 1)
            mlflow.log_param("lr", 2)
            mlflow.set_experiment_tag("a", "b")
        for mistake in (lambda: client.delete_run(mlflow.last_active_run().info.run_id), lambda: client.get_run("none")):
            try:
                mistake()
            except mlflow.exceptions.MlflowException as error:
                print("refused:", error)
    """
    run = started(workspace, code, python3)
    assert outcome(run) == "Completed"
    printed = Path(run.folder, "user_logs", "std_log.txt").read_text()
    assert "experiments have no tags here" in printed
    assert printed.count("refused:") == 2


def test_it_costs_a_program_without_mlflow_nothing(workspace: Workspace, project: Path) -> None:
    """No file of MLflow's part is imported, and no folder is made."""
    code = """
        import sys
        from hpcest import Run
        Run.get_context().log("x", 1)
        print([name for name in sys.modules if "mlflow" in name])
    """
    run = started(workspace, code, "python3")
    assert outcome(run) == "Completed"
    assert Path(run.folder, "user_logs", "std_log.txt").read_text() == "[]\n"
    assert not Path(run.folder, "artifacts").exists()
