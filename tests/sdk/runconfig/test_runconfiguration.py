"""A run configuration is changed freely until it is submitted; what is misspelt is refused, and what it names becomes a run spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest import CondaDependencies, MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration, Workspace
from hpcest.errors import SpecError
from hpcest.model.spec import Command, DataInput, DataOutput, Distribution
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.data import Data, DataLocation, DataPath, DataReferenceConfiguration, OutputData, RunDataset, Uri
from hpcest.sdk.runconfig.sections import DockerConfiguration, HistoryConfiguration


def test_attributes_are_checked_when_they_are_set(project: Path, workspace: Workspace) -> None:
    config = RunConfiguration("train.py", ["--lr", 0.1], "python", "openmpi", CondaDependencies.create(pip_packages=["numpy"]))
    config.target = ComputeTarget(workspace, "local")
    config.framework = "pytorch"
    config.environment.python.conda_dependencies.add_conda_package("scipy")
    config.auto_prepare_environment = False
    config.prepare_environment = True
    assert (config.target, config.framework, config.communicator) == ("local", "PyTorch", "OpenMpi")
    spec = config.to_spec("iris", workspace)
    assert (spec.environment.pip, spec.environment.conda, spec.source) == (("numpy",), ("scipy",), str(project))
    assert (spec.command, spec.distribution) == (Command("train.py", ("--lr", "0.1")), Distribution("mpi"))


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("enviroment", 1, "RunConfiguration has no keyword 'enviroment'", "did you mean 'environment'?"),
        ("nodecount", 2, "RunConfiguration has no keyword 'nodecount'", "did you mean 'node_count'?"),
        ("_told", 2, "RunConfiguration has no keyword '_told'", "see help(RunConfiguration)"),
        ("framework", "pytorchh", "framework 'pytorchh' is not known", "did you mean 'PyTorch'?"),
        ("framework", "x", "framework 'x' is not known", "known: Python, PySpark, CNTK, TensorFlow, PyTorch"),
        ("communicator", "OpenMPY", "communicator 'OpenMPY' is not known", "did you mean 'OpenMpi'?"),
        ("node_count", 0, "node_count must be a whole number from 1 up, not 0", ""),
        ("node_count", True, "node_count must be a whole number from 1 up, not True", ""),
        ("mpi", 2, "mpi must be a MpiConfiguration, not 2", "make one: hpcest.MpiConfiguration()"),
        ("history", {}, "history must be a HistoryConfiguration, not {}", "make one: hpcest.HistoryConfiguration()"),
        ("arguments", "--lr 1", "arguments must be a list or a dict, not '--lr 1'", "such as ['--lr', 0.1]"),
        ("data", [1], "data must be a dict, not [1]", "such as data={'name': 'value'}"),
    ],
)
def test_what_can_not_be_meant_is_refused_at_once(name: str, value: Any, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as error:
        setattr(RunConfiguration(), name, value)
    assert (error.value.message, error.value.hint) == (message, hint)


@pytest.mark.parametrize("section", [DockerConfiguration, HistoryConfiguration, Data, OutputData, DataReferenceConfiguration])
def test_sections_refuse_misspelt_attributes_and_keywords(section: type[Any]) -> None:
    name = next(iter(section.DEFAULTS))
    with pytest.raises(SpecError) as error:
        section(**{f"{name}x": 1})
    assert error.value.hint == f"did you mean {name!r}?"
    with pytest.raises(SpecError) as error:
        setattr(section(), f"{name}x", 1)
    assert error.value.message == f"{section.__name__} has no keyword {name + 'x'!r}"


def test_a_misspelt_keyword_is_refused() -> None:
    with pytest.raises(SpecError) as error:
        RunConfiguration(comunicator="OpenMpi")
    assert error.value.hint == "did you mean 'communicator'?"


def test_sections_of_two_run_configurations_are_their_own() -> None:
    one, other = RunConfiguration(), RunConfiguration()
    one.docker.arguments.append("-v")
    one.history.directories_to_watch.append("x")
    one.environment_variables["A"] = "1"
    one.amlcompute.vm_size = "D2"
    one.spark.configuration["a"] = 1
    assert (other.docker.arguments, other.history.directories_to_watch, other.environment_variables) == ([], ["logs"], {})
    assert (other.amlcompute.vm_size, "a" in other.spark.configuration) == (None, False)


@pytest.mark.parametrize("framework", ["PySpark", "CNTK"])
def test_frameworks_that_are_not_there_are_refused_with_what_to_do_instead(framework: str, project: Path, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match=f"the framework {framework} is not there") as error:
        RunConfiguration("train.py", framework=framework).to_spec("iris", workspace)
    assert error.value.hint.endswith(": framework = 'Python'")


def test_a_framework_can_not_be_distributed_by_anothers_means(project: Path, workspace: Workspace) -> None:
    config = RunConfiguration("train.py", framework="TensorFlow", communicator="Nccl")
    with pytest.raises(SpecError, match="the framework TensorFlow can't be distributed by PyTorchConfiguration, which is for pytorch"):
        config.to_spec("iris", workspace)


@pytest.mark.parametrize(
    ("communicator", "section", "framework", "distribution", "layout"),
    [
        ("OpenMpi", {"mpi": MpiConfiguration(2, 3)}, "script", Distribution("mpi"), (3, 2)),
        ("Gloo", {"pytorch": PyTorchConfiguration(process_count=4, node_count=2)}, "pytorch", Distribution("pytorch", "gloo"), (2, 2)),
        ("ParameterServer", {"tensorflow": TensorflowConfiguration(2, 1)}, "tensorflow", Distribution("tensorflow"), (2, 2)),
    ],
)
def test_a_communicator_with_its_section_distributes(
    communicator: str,
    section: dict[str, Any],
    framework: str,
    distribution: Distribution,
    layout: tuple[int, int],
    project: Path,
    workspace: Workspace,
) -> None:
    config = RunConfiguration("train.py", communicator=communicator)
    for name, value in section.items():
        setattr(config, name, value)
    spec = config.to_spec("iris", workspace)
    assert (spec.framework, spec.distribution) == (framework, distribution)
    assert (spec.resources.nodes, spec.resources.procs_per_node) == layout


# ---------------------------------------------------------------------- data
def test_data_in_azures_words_is_data_of_the_run(project: Path, workspace: Workspace) -> None:
    (project / "here.csv").write_text("1\n")
    config = RunConfiguration("train.py", ["--in", "DatasetConsumptionConfig:a", "--out", "DatasetOutputConfig:o"])
    config.data = {
        "a": Data(DataLocation(RunDataset(None, "mnist", "3")), mechanism="download", path_on_compute="/tmp/a"),
        "b": Data(data_location=DataLocation(data_path=DataPath(datastore_name="lake", relative_path="x/y z")), mechanism="Mount"),
        "c": Data(data_location=DataLocation(uri=Uri(path="here.csv"))),
        "d": Data(data_location=DataLocation(uri=Uri(path="here.csv")), environment_variable_name="e"),
        "f": "here.csv",
        "g": DataInput(("/g",)),
    }
    options = {"registrationOptions": {"name": "made", "tags": {"k": 1}}, "uploadOptions": {"overwrite": True}}
    config.output_data = {"o": OutputData(mechanism="upload", additional_options=options), "p": DataOutput("/p")}
    config.data_references = {
        "old": DataReferenceConfiguration(datastore_name="lake", mode="download", path_on_datastore="/old"),
        "new": DataReferenceConfiguration(datastore_name="lake", mode="upload", path_on_datastore="new", overwrite=True),
    }
    spec = config.to_spec("iris", workspace)
    here = str(project / "here.csv")
    assert spec.data == {
        "a": DataInput(mode="download", target="/tmp/a", dataset="mnist", version=3),
        "b": DataInput(("azureml://datastores/lake/paths/x/y%20z",), mode="mount"),
        "c": DataInput((here,), type="uri_file", mode="direct"),
        "d": DataInput((here,), type="uri_file", mode="direct"),
        "e": DataInput((here,), type="uri_file", mode="direct"),
        "g": DataInput(("/g",)),
        "old": DataInput(("azureml://datastores/lake/paths/old",), mode="download"),
    }
    assert spec.outputs == {
        "o": DataOutput(mode="upload", overwrite=True, dataset="made", tags={"k": "1"}),
        "p": DataOutput("/p"),
        "new": DataOutput("azureml://datastores/lake/paths/new", mode="upload", overwrite=True),
    }
    assert spec.inputs == {"f": here}
    assert spec.command.arguments == ("--in", "$AZURE_ML_INPUT_a", "--out", "$AZURE_ML_OUTPUT_o")
    assert RunConfiguration.load(config.save(project, "all")).to_spec("iris", workspace) == _with_file(spec, here)


def _with_file(spec: Any, here: str) -> Any:
    """A path that was named without its kind is data when it is read back: the file has no other way to say it."""
    from dataclasses import replace

    told = DataInput((here,), type="uri_file", mode="direct")
    return replace(spec, inputs={}, data={**spec.data, "f": told, "g": DataInput(("/g",))})


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("data", Data(data_location={"dataset": {"id": "ed4b"}}), "data['x'] names the dataset ed4b, which is kept on Azure"),
        ("data", Data(), "data['x'] names data that is kept on Azure"),
        ("data", Data(data_location=DataLocation(uri=Uri(path="https://h/x"))), "'https://h/x' can't be read from here"),
        ("data", Data(mechanism="fax", data_location=None), "data['x'] can't be had by 'fax'"),
        ("data", 3, "data['x'] is 3, which names no data"),
        ("output_data", "/x", "output_data['x'] is '/x', which names no data"),
        ("data_references", DataReferenceConfiguration(), "data_references['x'] names no datastore"),
    ],
)
def test_data_that_can_not_be_had_is_refused_by_name(section: str, value: Any, message: str, project: Path, workspace: Workspace) -> None:
    config = RunConfiguration("train.py")
    setattr(config, section, {"x": value})
    with pytest.raises(SpecError) as error:
        config.to_spec("iris", workspace)
    assert error.value.message == message
    assert error.value.hint
