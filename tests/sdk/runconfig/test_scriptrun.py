"""A ScriptRunConfig takes what Azure ML's takes, refuses what nobody knows, and becomes one spec that nothing changes later."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Experiment, Mpi, MpiConfiguration, Nccl, PyTorchConfiguration, TensorflowConfiguration, Workspace
from hpcest.errors import SpecError, UnknownNameError
from hpcest.model.spec import Command, DataInput, DataOutput, Distribution, RunSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.data.configs import OutputFileDatasetConfig
from hpcest.sdk.data.dataset import Dataset
from hpcest.sdk.distributed import Distributed
from hpcest.sdk.runconfig.compiling import shell_line
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.scriptrun import ScriptRunConfig, get_run_config_from_script_run
from hpcest.sdk.runconfig.sections import DockerConfiguration, EnvironmentReference


def quiet(line: str) -> None:
    """Nobody reads the progress of a test."""


@pytest.fixture
def source(project: Path) -> Path:
    return project


def spec_of(workspace: Workspace, *words: Any, **keywords: Any) -> RunSpec:
    return ScriptRunConfig(*words, **keywords).to_spec("iris", workspace)


class Named:
    """Data among arguments: what the objects of datasets look like to a program's words."""

    def __init__(self, name: str) -> None:
        self.name = name

    def to_argument(self) -> str:
        return f"$AZURE_ML_INPUT_{self.name}"

    def bind(self, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        data[self.name] = DataInput(("/data",))


class Written(Named):
    """The same for an output."""

    def to_argument(self) -> str:
        return f"$AZURE_ML_OUTPUT_{self.name}"

    def bind(self, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        outputs[self.name] = DataOutput("/out")


def test_the_whole_spec(source: Path, workspace: Workspace) -> None:
    spec = spec_of(
        workspace,
        ".",
        "train.py",
        ["--lr", 0.1, "--rank", "$RANK"],
        compute_target=ComputeTarget(workspace, "local"),
        environment=Environment("e", pip_packages=["numpy"], environment_variables={"A": "env", "B": 1}),
        distributed_job_config=MpiConfiguration(process_count_per_node=2, node_count=3),
        max_run_duration_seconds=60,
        docker_runtime_config=DockerConfiguration(use_docker=False, arguments=["-e", "C=docker", "--env=A=docker", "--ipc=host"]),
        environment_variables={"A": "run"},
        cpus=2,
        gpus=1,
        memory="4G",
        backend_options={"partition": "gpu"},
    )
    assert spec.command == Command("train.py", ("--lr", "0.1", "--rank", "$RANK"))
    assert (spec.compute, spec.framework, spec.source) == ("local", "script", str(source))
    assert (spec.environment.pip, spec.environment.variables) == (("numpy",), {"A": "env", "B": "1"})
    assert spec.environment_variables == {"A": "run", "C": "docker"}
    assert spec.distribution == Distribution("mpi")
    resources = spec.resources
    assert (resources.nodes, resources.procs_per_node, resources.cpus, resources.gpus, resources.memory) == (3, 2, 2, 1, 4096)
    assert (resources.time, spec.options, spec.experiment) == (60, {"partition": "gpu"}, "iris")


def test_nothing_but_a_script_asks_for_nothing(source: Path, workspace: Workspace) -> None:
    assert spec_of(workspace, ".", "train.py") == RunSpec("iris", Command("train.py"), source=str(source))


def test_azures_own_limit_is_no_wish(source: Path, workspace: Workspace) -> None:
    """30 days are what Azure ML gives to each run; a partition would refuse a job that asks for them."""
    assert spec_of(workspace, ".", "train.py", max_run_duration_seconds=2592000).resources.time is None


@pytest.mark.parametrize(
    ("given", "spelt"),
    [("enviroment", "environment"), ("argument", "arguments"), ("compute_taget", "compute_target"), ("runconfig", "run_config")],
)
def test_a_misspelt_keyword_or_attribute_is_refused_with_the_nearest(given: str, spelt: str, source: Path) -> None:
    with pytest.raises(SpecError) as error:
        ScriptRunConfig(".", "train.py", **{given: None})
    assert (error.value.message, error.value.hint) == (f"ScriptRunConfig has no keyword {given!r}", f"did you mean {spelt!r}?")
    with pytest.raises(SpecError) as error:
        setattr(ScriptRunConfig("."), given, None)
    assert error.value.hint == f"did you mean {spelt!r}?"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source_directory": "/none/such"}, "source_directory '/none/such' is not a directory"),
        ({"arguments": "--lr 0.1"}, "arguments must be a list or a dict, not '--lr 0.1'"),
        ({"run_config": 3}, "run_config must be a RunConfiguration, not 3"),
        ({"environment": "numpy"}, "environment must be an Environment, not 'numpy'"),
        ({"compute_target": 3}, "target must be the name of a compute target, not 3"),
        ({"distributed_job_config": "Mpi"}, "distributed_job_config='Mpi' is not a distribution"),
        ({"docker_runtime_config": True}, "docker must be a DockerConfiguration, not True"),
        ({"environment_variables": ["A"]}, "environment_variables must be a dict, not ['A']"),
    ],
)
def test_wrong_values_are_refused_at_once(wrong: dict[str, Any], message: str, source: Path) -> None:
    with pytest.raises(SpecError) as error:
        ScriptRunConfig(**wrong)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "there is neither a script nor a command to run"),
        ({"script": "a.py", "command": "ls"}, "there is both a script and a command to run"),
        ({"command": "ls", "arguments": ["-l"]}, "arguments go with a script; a command takes none"),
        ({"script": "a.py", "cpus": 0}, "cpus must be a whole number from 1 up, not 0"),
        ({"script": "a.py", "max_run_duration_seconds": "1h"}, "max_run_duration_seconds must be a whole number from 1 up, not '1h'"),
        ({"script": "a.py", "backend_options": {"x": object}}, "backend_options must hold texts, numbers, lists and dicts: "),
        ({"script": "a.py", "docker_runtime_config": DockerConfiguration(arguments=["-e"])}, ""),
    ],
)
def test_what_can_not_run_is_refused_when_it_is_submitted(wrong: dict[str, Any], message: str, source: Path, workspace: Workspace) -> None:
    config = ScriptRunConfig(".", **wrong)
    if not message:
        with pytest.warns(OffAzureWarning, match="docker.arguments -e"):
            config.to_spec("iris", workspace)
        return
    with pytest.raises(SpecError) as error:
        config.to_spec("iris", workspace)
    assert error.value.message.startswith(message)


def test_changes_count_until_it_is_submitted_and_not_later(source: Path, workspace: Workspace) -> None:
    given, environment = ["--lr", 0.1], Environment("e")
    config = ScriptRunConfig(".", "train.py", given, environment=environment)
    given.append("--late")
    config.arguments += ["--epochs", 5]
    config.script = "other.py"
    config.compute_target = "gpu"
    config.environment_variables["A"] = 1
    config.run_config.environment.environment_variables["B"] = 2
    environment.python.conda_dependencies.add_pip_package("numpy")
    config.max_run_duration_seconds = 60
    config.run_config.node_count = 2
    config.distributed_job_config = Mpi(process_count_per_node=2)
    spec = config.to_spec("iris", workspace)
    config.arguments.append("--later")
    config.environment_variables["A"] = 2
    environment.pip_packages.append("later")
    assert spec.command == Command("other.py", ("--lr", "0.1", "--epochs", "5"))
    assert (spec.compute, spec.environment_variables, spec.environment.variables) == ("gpu", {"A": "1"}, {"B": "2"})
    assert (spec.environment.pip, spec.resources.time) == (("numpy",), 60)
    assert (spec.resources.nodes, spec.resources.procs_per_node) == (2, 2)


def test_the_given_run_configuration_is_used_and_a_copy_changed(source: Path, workspace: Workspace) -> None:
    """Two runs may share one; what a keyword of the one changes does not reach the other."""
    shared = RunConfiguration()
    shared.environment_variables["A"] = "1"
    plain = ScriptRunConfig(".", "train.py", run_config=shared)
    other = ScriptRunConfig(".", "train.py", run_config=shared, compute_target="gpu", environment_variables={"A": "2"})
    assert plain.run_config is shared
    shared.target = "cpu"
    assert [one.to_spec("iris", workspace).compute for one in (plain, other)] == ["cpu", "gpu"]
    assert [one.to_spec("iris", workspace).environment_variables["A"] for one in (plain, other)] == ["1", "2"]
    other.run_config.environment_variables["A"] = "3"
    assert shared.environment_variables == {"A": "1"}


def test_its_script_counts_before_that_of_its_run_configuration(source: Path, workspace: Workspace) -> None:
    config = RunConfiguration("old.py", ["--old"])
    assert spec_of(workspace, ".", run_config=config).command == Command("old.py", ("--old",))
    assert spec_of(workspace, ".", "new.py", run_config=config).command == Command("new.py", ("--old",))
    assert spec_of(workspace, ".", "new.py", [], config).command == Command("new.py")
    assert spec_of(workspace, ".", command="ls", run_config=config).command == Command(line="ls")


@pytest.mark.parametrize(
    ("asked", "framework", "distribution", "nodes", "processes", "communicator"),
    [
        (MpiConfiguration(2, 3), "script", Distribution("mpi"), 3, 2, "IntelMpi"),
        (PyTorchConfiguration("Nccl", 8, 2), "pytorch", Distribution("pytorch", "nccl"), 2, 4, "Nccl"),
        (PyTorchConfiguration("Gloo", node_count=2), "pytorch", Distribution("pytorch", "gloo"), 2, 1, "Gloo"),
        (TensorflowConfiguration(3, 0), "tensorflow", Distribution("tensorflow"), 3, 1, "ParameterServer"),
        (Nccl(), "pytorch", Distribution("pytorch", "nccl"), 1, 1, "Nccl"),
    ],
)
def test_every_distribution_is_laid_out(
    asked: Distributed,
    framework: str,
    distribution: Distribution,
    nodes: int,
    processes: int,
    communicator: str,
    source: Path,
    workspace: Workspace,
) -> None:
    config = ScriptRunConfig(".", "train.py", distributed_job_config=asked)
    spec = config.to_spec("iris", workspace)
    assert (spec.framework, spec.distribution) == (framework, distribution)
    assert (spec.resources.nodes, spec.resources.procs_per_node) == (nodes, processes)
    assert config.run_config.communicator == communicator


def test_what_was_said_last_of_the_nodes_counts(source: Path, workspace: Workspace) -> None:
    asked = MpiConfiguration(process_count_per_node=2, node_count=2)
    config = ScriptRunConfig(".", "train.py", distributed_job_config=asked)
    config.run_config.node_count = 4
    assert config.to_spec("iris", workspace).resources.nodes == 4
    assert asked.node_count == 2  # it may be another run's too
    config.run_config.mpi = MpiConfiguration(process_count_per_node=1, node_count=3)
    resources = config.to_spec("iris", workspace).resources
    assert (resources.nodes, resources.procs_per_node) == (3, 1)


def test_a_misspelt_attribute_of_a_distribution_is_refused(source: Path, workspace: Workspace) -> None:
    config = RunConfiguration("train.py", communicator="OpenMpi")
    config.mpi.proces_count_per_node = 2  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(SpecError) as error:
        config.to_spec("iris", workspace)
    assert error.value.hint == "did you mean 'process_count_per_node'?"


def test_several_nodes_need_a_word_of_how_they_find_each_other(source: Path, workspace: Workspace) -> None:
    config = ScriptRunConfig(".", "train.py")
    config.run_config.node_count = 2
    with pytest.raises(SpecError, match="node_count is 2, and nothing says how the processes find each other"):
        config.to_spec("iris", workspace)
    config.run_config.node_count = 1
    config.run_config.mpi.process_count_per_node = 2
    with pytest.raises(SpecError, match="mpi asks for 2 processes, and the communicator is None") as error:
        config.to_spec("iris", workspace)
    assert error.value.hint == "set communicator to 'OpenMpi'"


def test_data_among_the_arguments_is_bound(source: Path, workspace: Workspace) -> None:
    spec = spec_of(workspace, ".", "train.py", ["--data", Named("mnist"), "--out", Written("model")])
    assert spec.command.arguments == ("--data", "$AZURE_ML_INPUT_mnist", "--out", "$AZURE_ML_OUTPUT_model")
    assert (spec.data, spec.outputs) == ({"mnist": DataInput(("/data",))}, {"model": DataOutput("/out")})
    spec = spec_of(workspace, ".", "train.py", {"--data": Named("mnist"), "--fast": "", "--none": None})
    assert spec.command.arguments == ("--data", "$AZURE_ML_INPUT_mnist", "--fast", "--none")
    spec = spec_of(workspace, ".", command=["ls", Named("mnist"), "DatasetConsumptionConfig:other"])
    assert spec.command.line == 'ls "$AZURE_ML_INPUT_mnist" "$AZURE_ML_INPUT_other"'


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["python", "train.py", "--lr", "0.1"], "python train.py --lr 0.1"),
        (["python train.py", "--epochs 5", "a b"], "python train.py --epochs 5 'a b'"),
        (["a", "&&", "b c", "|", "d", ">", "out.txt", "2>&1", ";", "e"], "a && b c | d > out.txt 2>&1 ; e"),
        (["echo", "$RANK of $WORLD_SIZE", "it's", 'a "b" $C', ""], """echo "$RANK of $WORLD_SIZE" 'it'"'"'s' "a \\"b\\" $C" ''"""),
        (["bash", "-c", "a && b"], "bash -c 'a && b'"),
        (["awk", "{print $1}"], "awk '{print $1}'"),
    ],
)
def test_a_list_is_a_command_of_words(words: list[str], line: str) -> None:
    assert shell_line(words) == line


def test_what_has_no_effect_is_told_once_where_it_is_submitted(source: Path, workspace: Workspace) -> None:
    config = ScriptRunConfig(
        ".", "train.py", docker_runtime_config=DockerConfiguration(True, arguments=["-v", "/data:/data", "--gpus", "all"])
    )
    config.run_config.amlcompute.vm_size = "STANDARD_D2_V2"
    config.run_config.history.directories_to_watch = ["logs", "./outputs", "my"]
    config.run_config.history.snapshot_project = False
    with pytest.warns(OffAzureWarning) as caught:
        config.to_spec("iris", workspace)
    assert [(str(one.message), one.filename) for one in caught] == [
        (
            "run configuration: no effect here: amlcompute (choose a compute target, or ask for cpus, gpus and memory); "
            "history.snapshot_project (a run is always recorded); history.directories_to_watch 'my' "
            "(what a program leaves in its working directory stays in the run folder, below work/); docker.arguments -v /data:/data "
            "(environment: {binds: […]} in the configuration says what containers see); docker.use_docker "
            "(a kind of environment decides: Environment('name', kind='apptainer'), or name an image)",
            __file__,
        )
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config.to_spec("iris", workspace)


def test_a_registered_environment_is_looked_up_when_it_is_submitted(source: Path, workspace: Workspace) -> None:
    config = ScriptRunConfig(".", "train.py", environment=EnvironmentReference("science"))
    with pytest.raises(UnknownNameError, match="science"):
        config.to_spec("iris", workspace)
    Environment("science", pip_packages=["numpy"]).register(workspace)
    assert config.to_spec("iris", workspace).environment.pip == ("numpy",)


def test_a_run_configuration_of_it_can_be_saved(source: Path, workspace: Workspace) -> None:
    config = ScriptRunConfig(".", "train.py", ["--lr", 0.1], environment_variables={"A": 1})
    made = get_run_config_from_script_run(config)
    file = made.save(".", "train")
    assert RunConfiguration.load(file).to_spec("iris", workspace) == config.to_spec("iris", workspace)
    assert config.run_config.script is None


# ---------------------------------------------------------------------- real runs
def result_of(experiment: Experiment, config: ScriptRunConfig | RunConfiguration) -> dict[str, Any]:
    """What the program wrote to outputs/seen.json."""
    run = experiment.submit(config, say=quiet)
    run.wait_for_completion()
    run.download_file("outputs/seen.json", "seen.json")
    seen: dict[str, Any] = json.loads(Path("seen.json").read_text())
    return {**seen, "id": run.id}


SEEN = """
import json, os, sys
rank = os.environ.get("RANK")
if rank in (None, "0"):
    seen = {"args": sys.argv[1:], "A": os.environ.get("A"), "size": os.environ.get("WORLD_SIZE")}
    resumed = os.environ.get("HPCEST_RESUME_FROM")
    seen["resumed"] = resumed and sorted(os.listdir(resumed))
    with open("outputs/seen.json", "w") as file:
        json.dump(seen, file)
"""


def test_a_script_runs_with_its_arguments_and_processes(source: Path, workspace: Workspace) -> None:
    (source / "train.py").write_text(SEEN)
    config = ScriptRunConfig(".", "train.py", ["--lr", 0.1, "--rank", "$RANK", "a b"], distributed_job_config=MpiConfiguration(2))
    config.run_config.environment_variables = {"A": "é 1"}
    seen = result_of(Experiment(workspace, "iris"), config)
    assert (seen["args"], seen["A"], seen["size"]) == (["--lr", "0.1", "--rank", "0", "a b"], "é 1", "2")


def test_a_command_runs_in_the_shell_and_can_resume_from_a_run(source: Path, workspace: Workspace) -> None:
    (source / "train.py").write_text(SEEN)
    experiment = Experiment(workspace, "iris")
    config = ScriptRunConfig(".", command=["export", "A=x", "&&", "python3", "train.py", "$RANK and $HOME it's", "--n", 3])
    first = result_of(experiment, config)
    assert first["args"][1:] == ["--n", "3"]
    assert first["args"][0].startswith("0 and /")
    assert first["args"][0].endswith(" it's")
    config.resume_from = first["id"]
    config.environment_variables["A"] = "y"
    again = result_of(experiment, config)
    assert (again["A"], again["resumed"]) == ("x", ["seen.json"])


def test_a_dataset_is_read_and_an_output_written(source: Path, workspace: Workspace) -> None:
    (source / "some data").mkdir()
    (source / "some data" / "a.csv").write_text("1\n")
    code = "import os, sys\nassert os.listdir(sys.argv[2]) == ['a.csv']\nopen(sys.argv[4] + '/b', 'w').write('2')\n"
    (source / "train.py").write_text(code)
    dataset = Dataset.File.from_files(str(source / "some data"))
    words = ["--in", dataset.as_named_input("numbers").as_mount(), "--out", OutputFileDatasetConfig("made")]
    config = ScriptRunConfig(".", "train.py", words)
    run = Experiment(workspace, "iris").submit(config, say=quiet)
    assert run.wait_for_completion()["status"] == "Completed"
    assert "outputs/made/b" in run.get_file_names()
    again = RunConfiguration.load(get_run_config_from_script_run(config).save(".", "train"))
    assert again.arguments == ["--in", "DatasetConsumptionConfig:numbers", "--out", "DatasetOutputConfig:made"]
    assert Experiment(workspace, "iris").submit(again, say=quiet).wait_for_completion()["status"] == "Completed"
    command = ScriptRunConfig(".", command=["python3", "train.py", *words])
    assert Experiment(workspace, "iris").submit(command, say=quiet).wait_for_completion()["status"] == "Completed"


def test_a_loaded_run_configuration_runs_by_itself(source: Path, workspace: Workspace) -> None:
    (source / "train.py").write_text(SEEN)
    (source / ".azureml").mkdir()
    (source / ".azureml" / "local.runconfig").write_text(
        "script: train.py\narguments: [--lr, 0.10]\ntarget: local\nenvironmentVariables: {A: from the file}\n"
        "communicator: OpenMpi\nmpi: {processCountPerNode: 2}\nenvironment: {python: {userManagedDependencies: true}}\n"
    )
    seen = result_of(Experiment(workspace, "iris"), RunConfiguration.load(".", "local"))
    assert (seen["args"], seen["A"], seen["size"]) == (["--lr", "0.10"], "from the file", "2")
