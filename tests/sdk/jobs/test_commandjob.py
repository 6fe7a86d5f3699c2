"""What is said in Python comes to the same run spec as what a job file says, and is told by its keyword where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Workspace
from hpcest.errors import ConfigError, SpecError, UnknownNameError
from hpcest.model.spec import DataInput, EnvironmentSpec, RunSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.experiment import Experiment
from hpcest.sdk.jobs.assets import WorkspaceAssets
from hpcest.sdk.jobs.command import CommandJob, command, load_job
from hpcest.sdk.jobs.file import JobFile
from hpcest.sdk.jobs.file import load_job as spec_of_file
from hpcest.sdk.jobs.types import Input, MpiDistribution, Output, PyTorchDistribution, RayDistribution, TensorFlowDistribution

LEAST: dict[str, Any] = {"command": "x"}
SCHEMA = "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json\n"


def same(job: CommandJob, text: str, project: Path, workspace: Workspace) -> RunSpec:
    """The spec of a job in Python, which is that of a job file of Azure ML's with the ``text``."""
    (project / "job.yml").write_text(SCHEMA + text)
    spec = job.compile(workspace)
    assert spec == spec_of_file(project / "job.yml", assets=WorkspaceAssets(workspace.context))
    return spec


def test_everything_said_in_python(project: Path, workspace: Workspace) -> None:
    (project / "data").mkdir()
    (project / "src").mkdir()
    job = command(
        name="first",
        description="what it is",
        tags={"team": "us", "number": 3},
        properties={"p": "q"},
        display_name="first try",
        command="python train.py ${{inputs.data}} $[[--lr ${{inputs.lr}}]] ${{inputs.flag}} ${{outputs.model}}",
        experiment_name="iris",
        environment={"image": "debian:12", "conda_file": {"dependencies": ["numpy"]}},
        environment_variables={"LR": "${{inputs.rate}}", "N": 3},
        distribution=PyTorchDistribution(process_count_per_instance=4),
        compute="azureml:gpu",
        inputs={
            "data": Input(type="uri_folder", path=Path("data"), mode="download"),
            "lr": Input(type="number", optional=True),
            "rate": 0.1,
            "flag": False,
            "zero": Input(type="integer", default=0),
        },
        outputs={"model": Output(type="uri_folder", mode="upload", path="out"), "logs": None},
        instance_count=2,
        timeout=7200,
        code="src",
        cpus=3,
        gpus=4,
        memory="16G",
        procs_per_node=4,
        slurm={"partition": "gpu"},
        launcher="srun",
        signal="USR1@60",
        max_requeues=2,
    )
    spec = same(
        job,
        "name: first\ndescription: what it is\ntags: {team: us, number: 3}\nproperties: {p: q}\ndisplay_name: first try\n"
        "command: python train.py ${{inputs.data}} $[[--lr ${{inputs.lr}}]] ${{inputs.flag}} ${{outputs.model}}\n"
        "experiment_name: iris\nenvironment: {image: 'debian:12', conda_file: {dependencies: [numpy]}}\n"
        "environment_variables: {LR: '${{inputs.rate}}', N: 3}\ndistribution: {type: pytorch, process_count_per_instance: 4}\n"
        "compute: azureml:gpu\ninputs:\n  data: {type: uri_folder, path: data, mode: download}\n  lr: {type: number, optional: true}\n"
        "  rate: 0.1\n  flag: false\n  zero: {type: integer, default: 0}\n"
        "outputs: {model: {type: uri_folder, mode: upload, path: out}, logs: }\n"
        "resources: {instance_count: 2, cpus: 3, gpus: 4, memory: 16G, procs_per_node: 4}\nlimits: {timeout: 7200}\ncode: src\n"
        "slurm: {partition: gpu}\nlauncher: srun\nsignal: USR1@60\nmax_requeues: 2\n",
        project,
        workspace,
    )
    assert spec.command.line == 'python train.py "$AZURE_ML_INPUT_data"  false "$AZURE_ML_OUTPUT_model"'
    assert spec.inputs == {"rate": "0.1", "flag": "false", "zero": "0"}


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        (LEAST, "command: x"),
        ({"script": "train.py", "arguments": ["--lr", 0.1]}, "script: train.py\narguments: [--lr, 0.1]"),
        ({**LEAST, "environment": "host"}, "command: x\nenvironment: host"),
        ({**LEAST, "environment": Environment("e", pip_packages=["numpy"])}, "command: x\nenvironment: {name: e, pip: [numpy]}"),
        ({**LEAST, "environment": Environment("e")}, "command: x\nenvironment: {name: e, kind: auto}"),
        ({**LEAST, "distribution": MpiDistribution()}, "command: x\ndistribution: {type: mpi}"),
        (
            {**LEAST, "distribution": TensorFlowDistribution(worker_count=1)},
            "command: x\ndistribution: {type: tensorflow, worker_count: 1}",
        ),
        (
            {**LEAST, "framework": "rllib", "distribution": RayDistribution()},
            "command: x\nframework: rllib\ndistribution: {type: ray}",
        ),
        ({**LEAST, "distribution": {"type": "PyTorch"}}, "command: x\ndistribution: {type: PyTorch}"),
    ],
)
def test_a_keyword_is_a_key(keywords: dict[str, Any], text: str, project: Path, workspace: Workspace) -> None:
    same(command(**keywords), text, project, workspace)


def test_a_compute_target_may_be_given_as_one(project: Path, workspace: Workspace) -> None:
    job = command(command="x", compute=ComputeTarget(workspace, "local"))
    assert same(job, "command: x\ncompute: local", project, workspace).compute == "local"


def test_a_job_written_to_a_file_is_the_same_job(project: Path, workspace: Workspace) -> None:
    """And so is one that is read from a file, and written again."""
    (project / "data").mkdir()
    job = command(command="x ${{inputs.d}}", inputs={"d": Input(path="data")}, tags={"a": None}, instance_count=2, timeout="1:00:00")
    job.dump(project / "job.yml")
    loaded = load_job(project / "job.yml")
    loaded.dump(project / "again.yml")
    assert loaded.compile(workspace) == load_job("again.yml").compile(workspace) == job.compile(workspace)
    assert (project / "job.yml").read_text() == (project / "again.yml").read_text() == str(job)


def test_everything_may_be_changed_until_it_is_submitted(project: Path, workspace: Workspace) -> None:
    job = command(command="x ${{inputs.lr}}", inputs={"lr": 1}, tags={"a": "b"})
    job.inputs.lr, job.tags["c"], job.compute = 2, "d", "night"
    job.set_limits(timeout=60)
    job.set_resources(instance_count=3)
    job.resources.memory = "1G"
    spec = job.compile(workspace)
    assert (spec.command.line, spec.tags, spec.compute) == ("x 2", {"a": "b", "c": "d"}, "night")
    assert (spec.resources.time, spec.resources.nodes, spec.resources.memory) == (60, 3, 1024)
    with pytest.raises(AttributeError, match="there is no 'lrr' here, but lr"):
        _ = job.inputs.lrr


def test_a_job_with_other_values_is_another_job(project: Path, workspace: Workspace) -> None:
    job = command(name="one", command="x ${{inputs.lr}}", inputs={"lr": 1})
    other = job(lr=5)
    other.tags["a"] = "b"
    assert (job.compile(workspace).command.line, other.compile(workspace).command.line) == ("x 1", "x 5")
    assert (job.name, other.name, job.tags) == ("one", None, {})
    with pytest.raises(UnknownNameError) as error:
        job(rl=1)
    assert error.value.hint == "known: lr"


def test_a_job_of_a_file_may_be_changed(project: Path, workspace: Workspace) -> None:
    (project / "inner" / "data").mkdir(parents=True)
    (project / "inner" / "job.yml").write_text(
        "command: x ${{inputs.lr}}\nname: first\ninputs: {lr: 0.10, d: {path: data}}\nresources: {instance_count: 2}\n"
    )
    job = load_job("inner/job.yml", params_override=[{"inputs.lr": 3}, {"compute": "gpu"}])
    assert (job.name, job.inputs.d, job.inputs.lr) == ("first", Input(path="data"), 3)
    job.inputs.d.mode = "download"
    spec = job.compile(workspace)
    assert (spec.command.line, spec.compute, spec.resources.nodes) == ("x 3", "gpu", 2)
    assert spec.data == {"d": DataInput((str(project / "inner" / "data"),), mode="download")}
    assert load_job("inner/job.yml", relative_origin=project / "inner").compile(workspace).source == str(project / "inner")


def test_what_is_wrong_in_a_file_is_told_with_its_line(project: Path, workspace: Workspace) -> None:
    (project / "job.yml").write_text("command: x\ninputs:\n  d:\n    paht: 1\n")
    with pytest.raises(ConfigError, match=r"job.yml:4: key in inputs.d 'paht' is not known"):
        load_job("job.yml")
    (project / "job.yml").write_text("")
    with pytest.raises(ConfigError, match=r"job.yml:1: the job has neither 'command' nor 'script'"):
        load_job("job.yml").compile(workspace)
    (project / "job.yml").write_text("command: x ${{inputs.y}}\n")
    job = load_job("job.yml")
    with pytest.raises(ConfigError, match=r"job.yml:1: \$\{\{inputs.y\}\} is not known"):
        job.compile(workspace)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"command": "x ${{inputs.y}}"}, "command(): command: ${{inputs.y}} is not known"),
        ({"command": "x", "environment_variables": {"A": "${{x}}"}}, "command(): environment_variables.A: ${{x}} is not known"),
        ({"command": "x", "inputs": {"d": Input(path="none")}}, "command(): inputs.d: there is no file or folder '{project}/none'"),
        ({"command": "x", "inputs": {"d": Input(path="azureml:x:1")}}, "command(): inputs.d: 'azureml:x:1' is kept on Azure, and not here"),
        ({"command": "x", "code": "https://github.com/a/b"}, "command(): code: code can't be fetched from git: 'https://github.com/a/b'"),
        ({"command": "x", "environment": "azureml:e:1"}, "command(): environment: 'azureml:e:1' is kept on Azure"),
        ({}, "command(): the job has neither 'command' nor 'script'"),
        ({"command": "x", "name": "a/b"}, "command(): name: a job can't be called 'a/b'"),
        ({"command": "x", "distribution": RayDistribution()}, "command(): distribution.type: Ray is started by a framework that knows it"),
        ({"command": "x", "timeout": "soon"}, "command(): limits.timeout: time 'soon' can't be read"),
        ({"command": "x", "distribution": 3}, "command(): distribution: distribution must be a mapping with some of the keys"),
    ],
)
def test_what_is_wrong_is_told_with_its_keyword(keywords: dict[str, Any], message: str, project: Path, workspace: Workspace) -> None:
    with pytest.raises(ConfigError) as error:
        command(**keywords).compile(workspace)
    assert error.value.message.startswith(message.replace("{project}", str(project)))


def test_unknown_keywords_and_attributes_are_refused_with_the_nearest(project: Path, workspace: Workspace) -> None:
    asked: Any = command
    with pytest.raises(SpecError) as error:
        asked(comand="x")
    assert (error.value.message, error.value.hint) == ("command has no keyword 'comand'", "did you mean 'command'?")
    job: Any = command(command="x")
    with pytest.raises(SpecError) as error:
        job.enviroment = "host"
    assert error.value.hint == "did you mean 'environment'?"
    with pytest.raises(SpecError, match="takes keywords alone, not 'x'"):
        asked("x")
    with pytest.raises(SpecError, match="hpcest has no sweeps yet"):
        job.sweep(primary_metric="loss")
    with pytest.raises(SpecError, match=r"inputs\.d can't be <object"):
        command(command="x", inputs={"d": object()}).compile(workspace)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Input(type="uri_fil"), "Input can't have the type 'uri_fil'"),
        (lambda: Input(mode="upload"), "Input can't have the mode 'upload'"),
        (lambda: Output(mode="download"), "Output can't have the mode 'download'"),
        (lambda: Output(type="number"), "Output can't have the type 'number'"),
    ],
)
def test_inputs_and_outputs_are_checked_when_they_are_made(made: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        made()
    assert error.value.message == message
    assert error.value.hint.startswith("known: ")


def test_what_only_azure_has_is_warned_of(project: Path, workspace: Workspace) -> None:
    job = command(command="x", identity={"type": "user_identity"}, shm_size="2g", job_tier="Spot", is_deterministic=False)
    with pytest.warns(OffAzureWarning) as caught:
        job.compile(workspace)
    told = sorted(str(one.message).split(" has no effect")[0] for one in caught)
    assert told == [
        "command(): identity",
        "command(): queue_settings",
        "command(): resources.shm_size",
    ]
    assert {one.filename for one in caught} == {__file__}


def test_a_job_without_code_runs_in_an_empty_folder(project: Path, workspace: Workspace) -> None:
    """A script has to be somewhere; and a file beside hpcest's own job files is there."""
    (project / "a.py").touch()
    with pytest.warns(OffAzureWarning, match=r"command\(\): command: 'a.py' will not be there: the job has no code; write code: \. to"):
        source = Path(command(command="python a.py").compile(workspace).source)
    assert (source.is_relative_to(workspace.folder.home), [path.name for path in source.iterdir()]) == (True, [".no-code"])
    assert command(script="a.py").compile(workspace).source == str(project)
    assert command(command="python a.py", code=".").compile(workspace).source == str(project)
    (project / "own.yml").write_text("command: python a.py\n")
    (project / "azures.yml").write_text(f"{SCHEMA}command: echo x\n")
    assets = WorkspaceAssets(workspace.context)
    assert [spec_of_file(project / name, assets=assets).source for name in ("own.yml", "azures.yml")] == [str(project), str(source)]
    assert [load_job(name).compile(workspace).source for name in ("own.yml", "azures.yml")] == [str(project), str(source)]


def test_an_experiment_takes_a_job(project: Path, workspace: Workspace) -> None:
    spec = Experiment(workspace, "mine")._spec(command(command="x", experiment_name="theirs"), {"a": "b"})
    assert (spec.experiment, spec.tags) == ("mine", {"a": "b"})


def test_a_registered_environment_by_its_name(project: Path, workspace: Workspace) -> None:
    Environment("lab", pip_packages=["numpy"]).register(workspace)
    for name in ("lab", "lab:1", "azureml:lab:1", "lab@latest", "azureml:lab@latest"):
        assert command(command="x", environment=name).compile(workspace).environment == EnvironmentSpec(name="lab", pip=("numpy",))
    with pytest.raises(ConfigError) as error:
        command(command="x", environment="azureml:lab:7").compile(workspace)
    assert error.value.message == "command(): environment: version of environment 'lab' '7' is not known"
    assert error.value.hint == "known here: 1, latest; versions are counted here: azureml:lab@latest is the newest"


def test_every_key_of_a_job_file_is_an_attribute(project: Path) -> None:
    assert set(JobFile.__dataclass_fields__) <= set(dir(command(command="x")))
