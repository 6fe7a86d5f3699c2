"""A run configuration is saved in Azure ML's format and read from it; what is wrong in a file has its line."""

from __future__ import annotations

import os
import tempfile
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import dictionaries, lists, text

from hpcest import CondaDependencies, Environment, PyTorchConfiguration, Workspace
from hpcest.errors import ConfigError, HpcestError, SpecError, UnknownNameError
from hpcest.kit.yamlfile import load
from hpcest.model.spec import Command
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.distributed import Distributed
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.reading import snake
from hpcest.sdk.runconfig.sections import DockerConfiguration, EnvironmentReference
from hpcest.sdk.runconfig.writing import camel
from hpcest.sdk.sections import ContainerRegistry

#: A file with all of what Azure ML's SDK writes, as far as its defaults are known, and a few values of a user's.
WRITTEN = """\
# The script to run.
script: train.py
arguments:
- --lr
- 0.10
target: cpu-cluster
framework: python
communicator: None
autoPrepareEnvironment: true
maxRunDurationSeconds:
nodeCount: 1
priority:
environment:
  name: conda-env
  version:
  environmentVariables:
    EXAMPLE_ENV_VAR: EXAMPLE_VALUE
  python:
    userManagedDependencies: false
    interpreterPath: python
    condaDependenciesFile: .azureml/conda_dependencies.yml
    baseCondaEnvironment:
  docker:
    enabled: false
    baseImage: mcr.microsoft.com/azureml/base:intelmpi2018.3-ubuntu16.04
    baseDockerfile:
    sharedVolumes: true
    gpuSupport: false
    shmSize: 2g
    arguments: []
    baseImageRegistry:
      address:
      username:
      password:
    platform: {os: Linux, architecture: amd64}
  spark:
    repositories: []
    packages: []
    precachePackages: true
  databricks:
    mavenLibraries: []
  r:
  inferencingStackVersion:
history:
  outputCollection: true
  snapshotProject: true
  directoriesToWatch:
  - logs
spark:
  configuration:
    spark.app.name: Azure ML Experiment
    spark.yarn.maxAppAttempts: 1
docker:
  useDocker: false
  sharedVolumes: true
  arguments: []
  shmSize: 2g
hdi:
  yarnDeployMode: cluster
tensorflow:
  workerCount: 1
  parameterServerCount: 1
mpi:
  processCountPerNode: 1
  nodeCount: 1
pytorch:
  communicationBackend: nccl
  processCount:
  nodeCount: 1
paralleltask:
  maxRetriesPerWorker: 0
  workerCountPerNode: 1
  terminalExitCodes:
dataReferences: {}
data: {}
datacaches: []
outputData: {}
sourceDirectoryDataStore:
amlcompute:
  vmSize:
  vmPriority:
  retainCluster: false
  name:
  clusterMaxNodeCount:
kubernetescompute:
  instanceType:
credentialPassthrough: false
command: ''
environmentVariables:
  A: '1'
applicationEndpoints: {}
"""
CONDA = "name: project\nchannels: [conda-forge]\ndependencies:\n- python=3.10\n- pip: [numpy]\n"


@pytest.fixture
def written(project: Path) -> Path:
    """A project with ``.azureml/train.runconfig``."""
    (project / ".azureml").mkdir()
    (project / ".azureml" / "train.runconfig").write_text(WRITTEN)
    (project / ".azureml" / "conda_dependencies.yml").write_text(CONDA)
    return project


def loaded(project: Path, text: str) -> RunConfiguration:
    """A run configuration that holds ``text``, read back."""
    (project / "one.runconfig").write_text(text)
    return RunConfiguration.load(project / "one.runconfig")


def test_a_file_of_azure_ml_is_read(written: Path, workspace: Workspace) -> None:
    with pytest.warns(OffAzureWarning) as caught:
        config = RunConfiguration.load(written, "train")
    file = written / ".azureml" / "train.runconfig"
    told = f"{file}: no effect here: environment.docker.baseImage in line 25 (Azure ML's own image is used where docker says enabled: true)"
    assert [(str(one.message), one.filename) for one in caught] == [(told, __file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec = config.to_spec("iris", workspace)
    assert (spec.command, spec.compute, spec.framework) == (Command("train.py", ("--lr", "0.10")), "cpu-cluster", "script")
    assert spec.environment.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    environment = spec.environment
    assert (environment.name, environment.conda, environment.pip) == ("conda-env", ("python=3.10",), ("numpy",))
    assert (environment.channels, environment.image, environment.kind) == (("conda-forge",), "", "auto")
    assert (spec.environment_variables, spec.resources.nodes, spec.resources.time) == ({"A": "1"}, 1, None)


def test_what_was_read_is_written_and_read_again(written: Path, workspace: Workspace) -> None:
    """Also what only a cloud can use; it is told once for each reading, and not at submission."""
    text = WRITTEN.replace("vmSize:", "vmSize: D2").replace("\npriority:", "\npriority: 5").replace("enabled: false", "enabled: true")
    (written / ".azureml" / "train.runconfig").write_text(text)
    with pytest.warns(OffAzureWarning) as caught:
        config = RunConfiguration.load(written, "train")
    file = written / ".azureml" / "train.runconfig"
    assert [str(one.message) for one in caught] == [
        f"{file}: no effect here: amlcompute in line 79 (choose a compute target, or ask for cpus, gpus and memory); "
        "priority in line 12 (choose a compute target whose queue has the priority you want)"
    ]
    assert config.save() == str(file)
    with pytest.warns(OffAzureWarning):
        again = RunConfiguration.load(written, "train.runconfig")
    assert (again.amlcompute.vm_size, again.__dict__["priority"]) == ("D2", 5)
    assert again.to_spec("iris", workspace) == config.to_spec("iris", workspace)
    assert again.to_spec("iris", workspace).environment.image.startswith("mcr.microsoft.com/azureml/base")


def test_all_that_is_set_is_kept_in_a_file(project: Path, workspace: Workspace) -> None:
    environment = Environment(
        "own",
        kind="apptainer",
        interpreter="3.11",
        pip_packages=["numpy", "--pre"],
        conda_packages=["scipy"],
        channels=["bioconda"],
        image="docker://debian:12",
        steps=["true"],
        layout="flat",
        environment_variables={"A": "no"},
    )
    config = RunConfiguration("train.py", {"--lr": 0.1, "--fast": ""}, "PyTorch", "Gloo")
    config.pytorch = PyTorchConfiguration("Gloo", 4, 2)
    config.environment = environment
    config.environment_variables = {"B": "2:00:00", "C": "é\n'"}
    config.max_run_duration_seconds = 3600
    config.docker = DockerConfiguration(arguments=["-e", "D=1"])
    config.cpus, config.gpus, config.memory, config.backend_options = 2, 1, "4G", {"partition": "gpu"}
    again = RunConfiguration.load(project, config.save(project, "all") and "all")
    assert again.to_spec("iris", workspace) == config.to_spec("iris", workspace)
    assert again.history == config.history
    assert again.docker == config.docker


@settings(max_examples=60, deadline=None)
@example(words=["\x85", "a\u2028b\r\n", " x "], variables={"0": "1e5"})
@given(words=lists(text(), max_size=4), variables=dictionaries(text(min_size=1), text(), max_size=3))
def test_texts_come_back_letter_by_letter(words: list[str], variables: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfiguration("train.py", words)
        config.environment_variables = variables
        again = RunConfiguration.load(config.save(folder, "any"))
        assert (again.arguments, again.environment_variables) == (words, variables)


def test_what_no_file_can_hold_is_refused(project: Path) -> None:
    """Python's way to keep a byte that is no text; and numbers of other kinds are written as their texts."""
    with pytest.raises(SpecError) as error:
        RunConfiguration("train.py", ["\udc80"]).save(project, "x")
    assert (error.value.hint, (project / ".azureml" / "x").exists()) == ("a file holds UTF-8 text", False)
    words = ["1e5", "0x1F", "no", "~", 1e5, 1e22, float("inf"), Fraction(1, 3), Path("a b"), True, None]
    again = RunConfiguration.load(RunConfiguration("train.py", words).save(project, "x"))
    assert list(map(str, again.arguments)) == list(map(str, words))
    assert again.arguments[:4] == words[:4]


def test_a_distribution_that_azure_ml_does_not_know_is_refused(project: Path) -> None:
    """It would be lost."""

    class Ring(Distributed):
        """A plugin's."""

        kind = "ring"

    config = RunConfiguration("train.py")
    config.distribute(Ring())
    with pytest.raises(SpecError, match="a run configuration's file has no communicator for Ring"):
        config.save(project, "x")
    assert not (project / ".azureml" / "x").exists()


@pytest.mark.parametrize("kind", ["auto", "apptainer"])
def test_a_registry_comes_back_without_its_password(kind: str, project: Path) -> None:
    """Which stands nowhere in the file, also where Azure ML's keys can't say all of an environment."""
    config = RunConfiguration("train.py")
    config.environment = Environment("e", image="lab/tool:1", kind=kind)
    config.environment.registry = ContainerRegistry("r.io", "me", "s3cret")
    file = Path(config.save(project, "x"))
    again = RunConfiguration.load(file).environment
    assert (again.registry, again.to_spec().image) == (ContainerRegistry("r.io", "me"), "docker://r.io/lab/tool:1")
    assert "s3cret" not in file.read_text()
    file.write_text(file.read_text().replace("password: null", "password: theirs"))
    if kind == "auto":
        assert RunConfiguration.load(file).environment.to_spec().image == "docker://me:theirs@r.io/lab/tool:1"


@pytest.mark.parametrize(
    "environment",
    [
        Environment(""),
        Environment("e", image="docker://debian:12"),
        Environment.from_existing_conda_environment("e", "base"),
        Environment("e", interpreter="/usr/bin/python3"),
        Environment("e", modules=["gcc"], kind="modules"),
        EnvironmentReference("registered", 3),
        EnvironmentReference("registered"),
    ],
    ids=lambda one: repr(one)[:40],
)
def test_every_environment_comes_back(environment: Any, project: Path) -> None:
    config = RunConfiguration("train.py")
    config.environment = environment
    again = RunConfiguration.load(config.save(project, "one")).environment
    if isinstance(environment, EnvironmentReference):
        assert again == environment
    else:
        assert isinstance(again, Environment)
        assert again.to_spec() == environment.to_spec()


def test_an_environment_that_is_not_ours_to_manage_comes_back(project: Path) -> None:
    config = RunConfiguration("train.py", conda_dependencies=CondaDependencies.create(pip_packages=["numpy"]))
    config.environment.python.user_managed_dependencies = True
    again = RunConfiguration.load(config.save(project, "one")).environment
    assert isinstance(again, Environment)
    assert (again.user_managed, again.to_spec().kind, again.to_spec().pip) == (True, "host", ())


def test_packages_may_stand_in_a_file_of_their_own(project: Path, workspace: Workspace) -> None:
    config = RunConfiguration("train.py", conda_dependencies=CondaDependencies.create(pip_packages=["numpy"]))
    file = config.save(project, "one", separate_environment_yaml=True)
    assert (Path(file), (project / ".azureml" / "environment.yml").exists()) == (project / ".azureml" / "one", True)
    assert load(Path(file)).part("environment.python.condaDependenciesFile") == ".azureml/environment.yml"
    os.chdir("/")
    assert RunConfiguration.load(project, "one").environment.to_spec().pip == ("numpy",)
    (project / ".azureml" / "environment.yml").unlink()
    with pytest.raises(ConfigError, match=r"one:[0-9]+: there is no file .*environment\.yml'"):
        RunConfiguration.load(project, "one")


def test_where_files_lie(project: Path) -> None:
    """``.azureml`` before ``aml_config`` before the folder itself, with or without the extension; and files by their path."""
    config = RunConfiguration("a.py")
    assert config.save() == ".azureml/local.runconfig"
    assert config.save(name="x") == ".azureml/x"
    assert config.save("sub/my.yml") == "sub/my.yml"
    assert config.save("new folder", "y.runconfig") == "new folder/.azureml/y.runconfig"
    assert RunConfiguration.load(".", "x.runconfig").script == "a.py"
    for folder in ("aml_config", "."):
        RunConfiguration(f"{Path(folder).name}.py").save(Path(folder) / "z.runconfig")
    assert RunConfiguration.load(".", "z").script == "aml_config.py"
    assert RunConfiguration.load(project / "new folder").script == "a.py"  # the only one there
    RunConfiguration.delete(".", "z")
    assert RunConfiguration.load(".", "z").script == ".py"
    RunConfiguration.delete("sub/my.yml")
    for name, known in (("zz", "z"), (None, "name one of local, z")):
        with pytest.raises(UnknownNameError) as error:
            RunConfiguration.load(".", name)
        assert known in error.value.hint
    with pytest.raises(UnknownNameError):
        RunConfiguration.delete("sub/my.yml")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "..", "", "a\0b"])
def test_a_name_never_leaves_its_folder(name: str, project: Path) -> None:
    for act in (lambda: RunConfiguration("a.py").save(project, name or "."), lambda: RunConfiguration.load(project, name)):
        with pytest.raises(SpecError, match="can't be the name of a run configuration"):
            act()


def test_a_folder_that_can_not_be_written_is_said(project: Path) -> None:
    (project / "file").write_text("")
    with pytest.raises(HpcestError, match=r"the run configuration can't be saved in file/\.azureml/x: "):
        RunConfiguration("a.py").save("file", "x")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("script: a.py\nnodecount: 2\n", "2: key 'nodecount' is not known", "did you mean 'nodeCount'?"),
        ("script: a.py\nenviroment:\n  name: x\n", "2: key 'enviroment' is not known", "did you mean 'environment'?"),
        (
            "environment:\n  python:\n    userManagedDependancies: true\n",
            "3: key in environment.python 'userManagedDependancies' is not known",
            "did you mean 'userManagedDependencies'?",
        ),
        ("mpi:\n  processCount: 2\n", "2: key in mpi 'processCount' is not known", "did you mean 'processCountPerNode'?"),
        ("script: a.py\nnodeCount: two\n", "2: nodeCount must be a whole number, not 'two'", ""),
        ("framework: pytorchh\n", "1: framework 'pytorchh' is not known", "did you mean 'PyTorch'?"),
        ("script: a.py\n\nnodeCount: 0\n", "3: node_count must be a whole number from 1 up, not 0", ""),
        ("arguments: --lr\n", "1: arguments must be a list or a dict, not '--lr'", "such as ['--lr', 0.1]"),
        ("", "1: the file is empty", "RunConfiguration().save(path, name) writes one"),
        ("- a\n", "1: the value must be a mapping", ""),
        ("environment: {docker: {buildContext: {location: x}}}\n", "1: a build context is kept on Azure", "give a baseDockerfile"),
        ("environment: {docker: {baseDockerfile: none}}\n", "1: there is no Dockerfile 'none'", "give its path, or its text"),
        ("environment: {hpcest: {knd: x}}\n", "1: key 'knd' is not known", "did you mean 'kind'?"),
        ("environment: {python: {condaDependencies: 3}}\n", "1: ", ""),
        ("data: {x: {dataLocatoin: {}}}\n", "1: key in data.x 'dataLocatoin' is not known", "did you mean 'dataLocation'?"),
    ],
)
def test_what_is_wrong_in_a_file_has_its_line(text: str, message: str, hint: str, project: Path) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(project, text)
    assert error.value.message.startswith(f"{project}/one.runconfig:{message}")
    assert error.value.hint.startswith(hint)


def test_files_of_the_first_versions_are_read(project: Path, workspace: Workspace) -> None:
    """They had two workers for TensorFlow in every file, sections for computes that are gone, and Docker's arguments elsewhere."""
    text = """\
script: train.py
framework: Python
prepareEnvironment: true
environment:
  docker: {enabled: true, baseImage: continuumio/miniconda3:4.4.10, arguments: [-e, A=1]}
batchai: {nodeCount: 1}
tensorflow: {workerCount: 2, parameterServerCount: 1}
containerInstance: {cpuCores: 1, memoryGb: 4, region: }
"""
    with pytest.warns(OffAzureWarning, match=r"batchai in line 6 \(choose .*; containerInstance in line 8 \(choose a compute target"):
        config = loaded(project, text)
    spec = config.to_spec("iris", workspace)
    assert (spec.environment.image, spec.environment_variables, spec.distribution) == ("continuumio/miniconda3:4.4.10", {"A": "1"}, None)
    assert config.container_instance.memory_gb == 4


def test_json_is_read_too(project: Path) -> None:
    """Editors wrote run configurations so."""
    config = loaded(
        project,
        """{
            "script": "train.py", "arguments": [], "framework": "Python", "communicator": "None", "maxRunDurationSeconds": null,
            "environment": {
                "python": {"interpreterPath": "python", "userManagedDependencies": false,
                           "condaDependencies": {"dependencies": ["python=3.6.2", {"pip": ["numpy"]}]}},
                "docker": {"baseImage": "mcr.microsoft.com/azureml/base:0.2.4", "enabled": true, "gpuSupport": true}
            }
        }""",
    )
    assert isinstance(config.environment, Environment)
    spec = config.environment.to_spec()
    assert (spec.conda, spec.pip, spec.image) == (("python=3.6.2",), ("numpy",), "mcr.microsoft.com/azureml/base:0.2.4")


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("communicator: OpenMpi\nnodeCount: 2\nmpi: {processCountPerNode: 2}\n", 2),
        ("communicator: IntelMpi\nmpi: {processCountPerNode: 2, nodeCount: 3}\n", 3),
        ("communicator: Nccl\nframework: PyTorch\nnodeCount: 2\npytorch: {communicationBackend: nccl, processCount: 4, nodeCount: 2}\n", 2),
    ],
)
def test_nodes_may_be_counted_in_either_place(text: str, nodes: int, project: Path, workspace: Workspace) -> None:
    resources = loaded(project, f"script: a.py\n{text}").to_spec("iris", workspace).resources
    assert (resources.nodes, resources.procs_per_node) == (nodes, 2)


def test_nodes_counted_differently_are_refused(project: Path, workspace: Workspace) -> None:
    config = loaded(project, "script: a.py\ncommunicator: OpenMpi\nnodeCount: 2\nmpi: {nodeCount: 3}\n")
    with pytest.raises(SpecError, match="asks for nodes=3, and the run for 2"):
        config.to_spec("iris", workspace)


def test_the_limit_that_azure_ml_gives_to_all_is_not_asked_for(project: Path) -> None:
    assert loaded(project, "script: a.py\nmaxRunDurationSeconds: 2592000\n").max_run_duration_seconds is None
    assert loaded(project, "script: a.py\nmaxRunDurationSeconds: 60\n").max_run_duration_seconds == 60


def test_paths_count_from_the_project(project: Path) -> None:
    (project / "Dockerfile").write_text("FROM debian:12\n")
    (project / "my.sif").write_text("")
    (project / "d.csv").write_text("1\n")
    os.chdir("/")
    environment = loaded(project, "environment: {docker: {baseDockerfile: Dockerfile}}\n").environment
    assert environment.to_spec().image == str(project / "Dockerfile")
    environment = loaded(project, "environment: {docker: {baseImage: my.sif}}\n").environment
    assert environment.to_spec().image == str(project / "my.sif")
    data = loaded(project, "data: {d: {dataLocation: {uri: {path: d.csv}}, mechanism: direct}}\n").data["d"]
    assert data.to_input("d", Path("/")).paths == (str(project / "d.csv"),)


@pytest.mark.parametrize("name", ["node_count", "max_run_duration_seconds", "amlcompute", "datastore_name", "output_data"])
def test_names_and_keys_are_each_others_spelling(name: str) -> None:
    assert snake(camel(name)) == name
