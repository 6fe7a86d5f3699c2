"""``MLClient`` over real runs: jobs are submitted, found, followed, copied out and changed as in Azure ML's SDK v2."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcest import Run, Workspace
from hpcest.errors import HpcestError, RunFailedError, SpecError, UnknownNameError, UsageError, WorkspaceError
from hpcest.kit.files import write_json
from hpcest.lifecycle.data.outputs import register_outputs
from hpcest.lifecycle.watch import look_at
from hpcest.model.spec import DataInput
from hpcest.onnode import processes
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.jobs.client import MLClient
from hpcest.sdk.jobs.command import command, load_job
from hpcest.sdk.jobs.entities import BuildContext, Data, Environment, Model
from hpcest.sdk.jobs.names import taken
from hpcest.sdk.jobs.submitted import Job
from hpcest.sdk.jobs.types import Input, ListViewType, Output, PyTorchDistribution

MakeRun = Callable[..., Run]
SCRIPT = """\
import os, sys
from pathlib import Path
from hpcest import Run
found = Path(sys.argv[1]).read_text()
Path(sys.argv[2], "model.txt").write_text(found)
Path("outputs", "own.txt").write_text("own")
Run.get_context().log("length", len(found))
print("read", found)
"""


@pytest.fixture
def client(workspace: Workspace) -> MLClient:
    """A client of the workspace."""
    return MLClient(workspace=workspace)


def named(name: str, **spec: Any) -> dict[str, Any]:
    """What a run has in its spec whose job is called ``name``."""
    return {"properties": {"hpcest.job_name": name}, **spec}


def test_a_job_from_its_submission_to_its_files(client: MLClient, project: Path) -> None:
    """With an input and an output of data, a name that is its own from then on, and a job file that gives the same."""
    (project / "read.py").write_text(SCRIPT)
    (project / "x.txt").write_text("four")
    job = command(
        name="first",
        command="python read.py ${{inputs.d}} ${{outputs.m}}",
        code=".",
        environment="host",
        inputs={"d": Input(type="uri_file", path="x.txt", mode="download"), "lr": 0.1},
        outputs={"m": Output()},
        tags={"a": "b"},
        display_name="the first",
        experiment_name="iris",
    )
    made = client.jobs.create_or_update(job)
    assert (made.name, made.display_name, made.experiment_name, made.tags, made.type) == (
        "first",
        "the first",
        "iris",
        {"a": "b"},
        "command",
    )
    client.jobs.stream("first")
    assert (made.status, made.run.get_metrics()) == ("Completed", {"length": 4})
    assert made.inputs == {"lr": "0.1", "d": Input("uri_file", str(project / "x.txt"), "download")}
    assert Path(str(made.outputs["m"].path)).joinpath("model.txt").read_text() == "four"
    assert made.studio_url == made.services["Studio"].endpoint == Path(made.run.folder).as_uri()
    client.jobs.download("first", download_path=project / "all", all=True)
    client.jobs.download(made.id, download_path=project / "one", output_name="m")
    found = {str(path.relative_to(project)) for folder in ("all", "one") for path in (project / folder).rglob("*.txt")}
    assert {"all/artifacts/outputs/own.txt", "all/named-outputs/m/model.txt", "one/named-outputs/m/model.txt"} <= found
    assert not (project / "one" / "artifacts").exists()
    job.dump("job.yml")
    again = load_job("job.yml")
    assert again.compile(client.workspace) == job.compile(client.workspace)
    with pytest.raises(SpecError) as error:
        client.jobs.create_or_update(again)
    assert error.value.message == f"the name 'first' of a job is taken: the run {made.id} has it"


def test_what_submitting_is_told_beside_goes_before_what_the_job_says(client: MLClient, project: Path) -> None:
    job = command(command="true", environment="host", experiment_name="theirs", tags={"a": "b", "c": "d"})
    made = client.create_or_update(job, experiment_name="mine", tags={"a": "x"}, description="why", compute="azureml:local")
    made.run.wait_for_completion()
    assert (made.experiment_name, made.tags, made.description, made.compute) == ("mine", {"a": "x", "c": "d"}, "why", "local")
    assert made.name == made.id == made.run.id


def test_a_job_that_fails_says_so_when_it_is_streamed(client: MLClient, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = client.jobs.create_or_update(command(command="echo shown; exit 3", environment="host"))
    with pytest.raises(RunFailedError, match=f"run {made.id} ended as Failed"):
        client.jobs.stream(made.name)
    assert "shown\n" in capfd.readouterr().out


def test_a_job_that_goes_on(client: MLClient, project: Path) -> None:
    """It can't be downloaded or deleted; it can be canceled."""
    made = client.jobs.create_or_update(command(command="sleep 600", environment="host"))
    with pytest.raises(UsageError, match="has not ended"):
        client.jobs.download(made.name)
    with pytest.raises(UsageError):
        client.jobs.begin_delete(made.name)
    poller = client.jobs.begin_cancel(made.name)
    poller.result(60)
    assert (made.status, poller.done(), poller.status()) == ("Canceled", True, "Succeeded")
    client.jobs.begin_delete(made.name).wait()
    with pytest.raises(UnknownNameError):
        client.jobs.get(made.name)


def test_a_name_is_given_back_where_a_job_can_not_be_submitted(client: MLClient, project: Path) -> None:
    with pytest.raises(UnknownNameError, match="compute target 'none' is not known"):
        client.jobs.create_or_update(command(name="mine", command="true", environment="host", compute="none"))
    with taken(client.workspace.folder, "mine"):
        pass


# ---------------------------------------------------------------------- names
def test_a_job_is_found_by_its_name_and_by_its_run(client: MLClient, made_run: MakeRun) -> None:
    """A name that was given on the command line is found too; the newest run has it."""
    older, newer, other = made_run(**named("x'y")), made_run(**named("x'y")), made_run()
    assert newer.id != older.id
    for reference, run in (("x'y", newer), (older.id, older), (other.id[:6], other), ("@latest", other)):
        assert client.jobs.get(reference).id == run.id
    assert client.jobs.get(client.jobs.get("x'y").name).name == "x'y"
    with pytest.raises(UnknownNameError) as error:
        client.jobs.get("none")
    assert error.value.message == "job 'none' is not known"
    wrong: Any = 3
    with pytest.raises(UsageError, match="a job is named by a text, not 3"):
        client.jobs.get(wrong)


def test_a_name_is_taken_while_its_job_is_submitted(client: MLClient) -> None:
    """By a process that lives; one that was killed in the middle leaves the name free."""
    folder = client.workspace.folder
    with taken(folder, "mine"), pytest.raises(SpecError, match="a job of that name is being submitted by process"):
        taken(folder, "mine").__enter__()
    file = folder.home / "jobs" / "mine.json"
    assert file.exists()  # nobody said which run it became
    dead = {**processes.identity(), "pid": 2**22 - 1, "start": 1}
    write_json(file, {"name": "mine", "owner": dead})
    with taken(folder, "mine") as becomes:
        becomes("abc")
    assert json.loads(file.read_text()) == {"name": "mine", "run": "abc"}


def test_of_many_that_want_a_name_at_once_one_gets_it(client: MLClient) -> None:
    def take(_: int) -> bool:
        try:
            with taken(client.workspace.folder, "mine") as becomes:
                becomes("some")
                return True
        except SpecError:
            return False

    (client.workspace.folder.runs / "some").mkdir(parents=True)
    write_json(client.workspace.folder.run("some").header, {"id": "some", "kind": "run", "spec": {"experiment": "e"}})
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(8))) == [False] * 7 + [True]


def test_a_name_of_a_run_in_the_trash_stays_taken(client: MLClient, made_run: MakeRun) -> None:
    run = made_run(**named("mine"))
    with pytest.raises(SpecError, match=f"the run {run.id} has it"):
        taken(client.workspace.folder, "mine").__enter__()
    write_json(client.workspace.folder.home / "jobs" / "mine.json", {"name": "mine", "run": run.id})
    client.jobs.begin_delete("mine")
    with pytest.raises(SpecError, match=f"the run {run.id} in the trash has it"):
        taken(client.workspace.folder, "mine").__enter__()


def test_the_id_of_a_run_is_no_name_for_another_job(client: MLClient, made_run: MakeRun) -> None:
    run = made_run()
    with pytest.raises(SpecError, match=f"the name '{run.id}' of a job is taken"):
        taken(client.workspace.folder, run.id).__enter__()


# ---------------------------------------------------------------------- listings and changes
def test_listing_and_archiving(client: MLClient, made_run: MakeRun) -> None:
    first, second, third = made_run(**named("a")), made_run(**named("b")), made_run()
    made_run(parent=second.id)
    assert [job.id for job in client.jobs.list()] == [third.id, second.id, first.id]
    assert [job.id for job in client.jobs.list(max_results=1)] == [third.id]
    assert len([*client.jobs.list(parent_job_name="b")]) == 1
    client.jobs.archive("b")
    assert client.jobs.get("b").tags == {}
    assert [job.name for job in client.jobs.list()] == [third.id, "a"]
    assert [job.name for job in client.jobs.list(list_view_type=ListViewType.ARCHIVED_ONLY)] == ["b"]
    assert len([*client.jobs.list(list_view_type="All")]) == 3
    client.jobs.restore("b")
    assert len([*client.jobs.list()]) == 3
    with pytest.raises(UsageError) as error:
        client.jobs.list(list_view_type="SOME")
    assert error.value.hint == "known: ACTIVE_ONLY, ARCHIVED_ONLY, ALL"


def test_changing_a_job(client: MLClient, made_run: MakeRun) -> None:
    made_run(**named("a"), tags={"old": "1", "kept": "2"})
    job = client.jobs.update("a", display_name="new", description="why", tags={"more": 3}, properties={"p": 1})
    assert (job.display_name, job.description, job.tags, job.properties["p"]) == ("new", "why", {"old": "1", "kept": "2", "more": "3"}, "1")
    del job.tags["old"]
    job.display_name = "newer"
    changed = client.jobs.create_or_update(job, tags={"last": ""})
    found = client.jobs.get("a")
    assert (found.display_name, found.tags) == (changed.display_name, changed.tags) == ("newer", {"kept": "2", "more": "3", "last": ""})
    with pytest.raises(SpecError, match="its compute target and experiment stay"):
        client.jobs.create_or_update(job, compute="other")


def test_how_a_job_prints(client: MLClient, made_run: MakeRun) -> None:
    run = made_run(**named("a<b"))
    job = client.jobs.get("a<b")
    assert repr(job) == "Job(name='a<b', status='Completed', experiment_name='iris')"
    assert str(job) == (
        f"name: a<b\nexperiment_name: iris\nstatus: Completed\ncompute: local\ncommand: train.py\nstudio_url: {Path(run.folder).as_uri()}"
    )
    assert "<td>a&lt;b</td><td>command</td><td>Completed</td>" in job._repr_html_()
    assert (job.creation_context.created_by, job.inputs, job.outputs) == ("me", {}, {})


def test_checking_a_job(client: MLClient, project: Path) -> None:
    assert client.jobs.validate(command(script="train.py", environment="host")).passed
    for job, errors in (
        (command(command="${{x}}"), {"command": "${{x}} is not known"}),
        (command(command="x", compute="none"), {"job": "compute target 'none' is not known"}),
        (command(script="none.py"), {"job": f"entry script 'none.py' is not in {project}"}),
    ):
        result = client.jobs.validate(job)
        assert (result.passed, result.error_messages) == (False, errors)
        with pytest.raises(HpcestError):
            client.jobs.validate(job, raise_on_failure=True)


def test_what_only_a_cloud_has_is_refused_by_its_name(client: MLClient, made_run: MakeRun) -> None:
    run = made_run()
    with pytest.warns(OffAzureWarning, match=f"jobs.show_services: no effect here: services .*'hpcest show {run.id}' names the nodes"):
        assert client.jobs.show_services(run.id) == {}
    with pytest.raises(AttributeError, match="MLClient has no 'online_endpoints' here: hpcest does not deploy models"):
        _ = client.online_endpoints
    with pytest.raises(AttributeError, match="MLClient has no 'job', but jobs, data"):
        _ = client.job
    with pytest.raises(SpecError, match="hpcest provisions no machines"):
        client.compute.begin_create_or_update("x")
    with pytest.raises(SpecError, match="can't take 3"):
        client.create_or_update(3)
    wrong: Any = "job.yml"
    with pytest.raises(SpecError, match=r"'job\.yml' is no job that can be submitted"):
        client.jobs.create_or_update(wrong)


def test_outputs_that_are_not_there_are_told(client: MLClient, made_run: MakeRun, project: Path) -> None:
    run = made_run(outputs={"m": {}})
    with pytest.raises(UnknownNameError) as error:
        client.jobs.download(run.id, output_name="n")
    assert error.value.hint == "known: m"
    client.jobs.download(run.id, download_path=project / "got", all=True)  # it was never written
    assert not (project / "got" / "named-outputs").exists()


# ---------------------------------------------------------------------- what is registered
def test_data(client: MLClient, project: Path) -> None:
    (project / "data").mkdir()
    (project / "data" / "x").write_text("1")
    first = client.data.create_or_update(Data(name="mnist", path="data", description="digits", tags={"a": 1}))
    assert (first.name, first.version, first.path, first.description, first.tags) == (
        "mnist",
        "1",
        str(project / "data"),
        "digits",
        {"a": "1"},
    )
    assert client.create_or_update(Data(name="mnist", path=project / "data")).version == "1"
    (project / "data" / "y").write_text("2")
    assert client.data.create_or_update(Data(name="mnist", path="data")).id == "azureml:mnist:2"
    assert [one.version for one in client.data.list("mnist")] == ["2", "1"]
    assert [one.name for one in client.data.list()] == ["mnist"]
    assert client.data.get("mnist", label="latest").version == "2"
    spec = command(command="x", inputs={"d": Input(path=first.id)}).compile(client.workspace)
    assert (spec.data["d"].dataset, spec.data["d"].version) == ("mnist", 1)
    with pytest.raises(UnknownNameError):
        client.data.get("none")
    with pytest.raises(SpecError, match="data needs a name"):
        client.data.create_or_update(Data(path="data"))


def test_a_model_of_a_job(client: MLClient, made_run: MakeRun, project: Path) -> None:
    """It knows the run that it came from, and is an input of another job by its name."""
    run = made_run(**named("a"), files={"outputs/m/w": "1"}, outputs={"m": {}})
    for path in ("azureml://jobs/a/outputs/artifacts/paths/outputs/m/", "azureml://jobs/a/outputs/m", f"runs:/{run.id}/outputs/m"):
        model = client.models.create_or_update(Model(name="iris", path=path))
        assert (model.run_id, (model.path / "w").read_text()) == (run.id, "1")
    assert [one.version for one in client.models.list("iris")] == [3, 2, 1]
    assert client.models.get("iris", label="latest").version == 3
    assert Path(client.models.download("iris", 1, download_path=project / "got"), "w").read_text() == "1"
    spec = command(command="x", inputs={"m": Input(type="custom_model", path="azureml:iris@latest")}).compile(client.workspace)
    assert spec.data["m"] == DataInput((str(model.path),))
    with pytest.raises(UnknownNameError, match="output of job 'a' 'n' is not known"):
        client.models.create_or_update(Model(name="iris", path="azureml://jobs/a/outputs/n"))
    with pytest.raises(SpecError, match="leads out of the job 'a'"):
        client.models.create_or_update(Model(name="iris", path="azureml://jobs/a/outputs/artifacts/paths/../../x"))


def test_environments(client: MLClient, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM debian:12\n")
    made = client.environments.create_or_update(Environment(name="lab", image="debian:12", conda_file={"dependencies": ["numpy"]}))
    assert (made.name, made.version, made.image, made.conda_packages) == ("lab", 1, "debian:12", ["numpy"])
    built = client.create_or_update(Environment(name="lab", build=BuildContext(path=".")))
    assert (built.version, built.image) == (2, str(project / "Dockerfile"))
    assert [one.version for one in client.environments.list("lab")] == [2, 1]
    assert client.environments.get("lab", version="1").image == "debian:12"
    spec = command(command="x", environment=Environment(image="debian:12")).compile(client.workspace)
    assert spec.environment.image == "debian:12"
    with pytest.raises(SpecError, match="an Environment needs an image, a build or a conda_file"):
        command(command="x", environment=Environment(name="lab")).compile(client.workspace)


def test_datastores(client: MLClient, project: Path) -> None:
    assert {one.name for one in client.datastores.list()} >= {"workspaceblobstore"}
    assert client.datastores.get_default() == client.datastores.get("workspaceblobstore")
    with pytest.raises(SpecError) as error:
        client.datastores.create_or_update(Data(name="store", path="x"))
    assert error.value.hint == "give a folder its name: Datastore.register(workspace, 'store', FOLDER)"


def test_compute_targets(client: MLClient) -> None:
    assert [target.name for target in client.compute.list()] == ["local"]
    assert client.compute.get("local").type == "local"
    assert [*client.compute.list(compute_type="slurm")] == []


def test_the_workspace_of_a_client(client: MLClient) -> None:
    """Programs ask it for MLflow's address."""
    (found,) = client.workspaces.list()
    assert found == client.workspaces.get() == client.workspaces.get(client.workspace_name)
    assert found.id.split("/")[2] == ""
    assert (found.name, found.mlflow_tracking_uri) == ("lab", client.workspace.get_mlflow_tracking_uri())
    assert (client.subscription_id, client.resource_group_name, found.resource_group) == ("", "", "")
    with pytest.raises(UnknownNameError, match="workspace 'other' is not known"):
        client.workspaces.get("other")
    with pytest.raises(SpecError, match="a workspace is a directory"):
        client.workspaces.begin_create(object())


# ---------------------------------------------------------------------- opening one
def test_the_client_of_a_workspace(workspace: Workspace, project: Path) -> None:
    with pytest.warns(OffAzureWarning, match="MLClient: no effect here: credential"):
        client = MLClient(object(), "sub", "group", "lab", path=workspace.root)
    assert (client.workspace_name, client.workspace.root) == ("lab", workspace.root)
    workspace.write_config(project)
    assert MLClient.from_config().workspace.root == MLClient.from_config(path=project).workspace.root == workspace.root
    workspace.write_config(project, "other.json")
    assert MLClient.from_config(path=project, file_name="other.json").workspace.root == workspace.root
    with pytest.raises(WorkspaceError, match="is called 'lab', not 'other'"):
        MLClient(workspace_name="other")
    with pytest.raises(SpecError, match="has no keyword 'workspce'"):
        MLClient(workspce="x")


def test_what_a_job_was_asked_for(client: MLClient, made_run: MakeRun) -> None:
    run = made_run(
        source="/src",
        environment={"kind": "host"},
        environment_variables={"A": "b"},
        distribution={"kind": "pytorch"},
        resources={"nodes": 2, "procs_per_node": 4, "gpus": 1, "time": 60},
    )
    job = client.jobs.get(run.id)
    assert (job.code, job.environment, job.environment_variables) == ("/src", "host", {"A": "b"})
    assert (job.distribution, job.limits.timeout) == (PyTorchDistribution(4), 60)
    asked = job.resources
    assert (asked.instance_count, asked.procs_per_node, asked.cpus, asked.gpus, asked.memory) == (2, 4, None, 1, None)
    plain = client.jobs.get(made_run().id)
    assert (plain.distribution, plain.limits.timeout, plain.resources.instance_count) == (None, None, 1)


def test_a_model_among_the_outputs_is_registered_when_its_job_completed(client: MLClient, project: Path, tmp_path: Path) -> None:
    """Once, with the run that it comes from, wherever it was written; not that of a job that failed, nor one that is empty."""
    outputs = {
        "m": Output(type="mlflow_model", name="iris", description="of irises"),
        "far": Output(type="custom_model", name="far", path=tmp_path / "far", mode="upload"),
        "none": Output(type="custom_model", name="none"),
    }
    line = "echo w > ${{outputs.m}}/weights; mkdir ${{outputs.far}}/in; echo w > ${{outputs.far}}/in/weights"
    job = command(command=line, environment="host", outputs=outputs)
    made = client.jobs.create_or_update(job)
    client.jobs.stream(made.name)
    assert client.jobs.get(made.name).properties["hpcest.output.m"] == "iris:1"
    model = client.models.get("iris")
    assert (model.run_id, model.description, Path(model.path, "weights").read_text()) == (made.id, "of irises", "w\n")
    assert Path(client.models.get("far").path, "in", "weights").read_text() == "w\n"
    assert (made.outputs["m"].type, made.outputs["m"]["name"]) == ("custom_model", "iris")
    context = client.workspace.context
    again = register_outputs(context, look_at(context, context.workspace.run(made.id)))
    assert again == [f"run {made.id}: output 'none' was not registered: nothing was written to {made.run.folder}/outputs/none"]
    with pytest.raises(KeyError):
        _ = made.outputs["m"]["nme"]
    failing = client.jobs.create_or_update(command(command=f"{line}; exit 1", environment="host", outputs=outputs))
    with pytest.raises(RunFailedError):
        client.jobs.stream(failing.name)
    job.inputs["again"] = 1
    client.jobs.stream(client.jobs.create_or_update(job).name)
    assert sorted((model.name, model.version) for model in client.models.list("iris")) == [("iris", 1), ("iris", 2)]
    assert {model.name for model in client.models.list()} == {"iris", "far"}


def test_the_name_of_a_model_is_checked_before_its_job_is_submitted(client: MLClient, project: Path) -> None:
    job = command(command="true", environment="host", outputs={"m": Output(type="custom_model", name="a:b")})
    with pytest.raises(SpecError, match="'a:b' can't be the name of a model"):
        client.jobs.create_or_update(job)


def test_a_job_knows_nothing_that_others_change(client: MLClient, made_run: MakeRun) -> None:
    """Its words are what they were when it was fetched; its status is what it is now."""
    run = made_run()
    job = Job(run)
    client.jobs.update(run.id, display_name="new")
    assert (job.display_name, client.jobs.get(run.id).display_name) == ("", "new")
