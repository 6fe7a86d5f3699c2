"""An estimator takes what Azure ML's takes, refuses what nobody knows, and becomes one spec that nothing changes later."""

from __future__ import annotations

import copy
import inspect
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Estimator, Experiment, PyTorch, Run, TensorFlow, Workspace
from hpcest.errors import ConfigError, HpcestError, SpecError, UnknownNameError
from hpcest.kit.codec import encode
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.distributed import PyTorchConfiguration
from hpcest.sdk.sections import ContainerRegistry
from hpcest.sdk.values import arguments

MakeRun = Callable[..., Run]

#: Every keyword of Azure ML's estimators, with a value that it could have there.
COMMON: dict[str, Any] = {
    "compute_target": "local",
    "vm_size": "STANDARD_D2_V2",
    "vm_priority": "lowpriority",
    "entry_script": "train.py",
    "script_params": {"--lr": 0.1},
    "node_count": 2,
    "process_count_per_node": 2,
    "distributed_backend": "mpi",
    "distributed_training": PyTorchConfiguration("Nccl"),
    "use_gpu": True,
    "use_docker": True,
    "custom_docker_base_image": "python:3.11",
    "custom_docker_image": "python:3.11",
    "image_registry_details": ContainerRegistry("registry.example"),
    "user_managed": True,
    "conda_packages": ["numpy"],
    "pip_packages": ["numpy"],
    "conda_dependencies_file_path": "env.yml",
    "pip_requirements_file_path": "requirements.txt",
    "conda_dependencies_file": "env.yml",
    "pip_requirements_file": "requirements.txt",
    "environment_variables": {"A": "1"},
    "environment_definition": Environment("e"),
    "inputs": {"data": "/data"},
    "source_directory_data_store": "default",
    "shm_size": "2g",
    "resume_from": "abcd1234",
    "max_run_duration_seconds": 60,
}
OURS = {"command", "cpus", "gpus", "memory", "backend_options", "channels"}
WITHOUT_EFFECT = {"vm_size", "vm_priority", "use_docker", "source_directory_data_store", "shm_size"}


@pytest.mark.parametrize("name", COMMON)
def test_every_keyword_of_azure_ml_is_taken(name: str, project: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Estimator(project, **{name: COMMON[name]})
    assert [one.category for one in caught] == [OffAzureWarning] * (name in WITHOUT_EFFECT)


def test_what_has_no_effect_is_said_once_for_all_keywords_where_they_stand(project: Path) -> None:
    with pytest.warns(OffAzureWarning) as caught:
        Estimator(project, vm_size="D2", use_docker=True, shm_size=None, vm_priority=None, entry_script="train.py")
    assert [str(one.message) for one in caught] == [
        "Estimator: no effect here: vm_size (choose a compute target, or ask for cpus, gpus and memory); "
        "use_docker (choose an environment by its kind)"
    ]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ({"entry_scrpt": "a.py"}, "Estimator has no keyword 'entry_scrpt'", "did you mean 'entry_script'?"),
        ({"vm_sise": "x"}, "Estimator has no keyword 'vm_sise'", "did you mean 'vm_size'?"),
        (
            {"pip_requirement_file_path": "x"},
            "Estimator has no keyword 'pip_requirement_file_path'",
            "did you mean 'pip_requirements_file_path'?",
        ),
        ({"zzz": 1}, "Estimator has no keyword 'zzz'", "see help(Estimator)"),
        (
            {"pip_requirements_file": "a", "pip_requirements_file_path": "b"},
            "Estimator: pip_requirements_file_path and pip_requirements_file mean the same",
            "give pip_requirements_file alone",
        ),
        ({"source_directory": "/none/such"}, "source_directory '/none/such' is not a directory", "give the folder that holds the script"),
    ],
)
def test_wrong_keywords_are_refused_at_once(wrong: dict[str, Any], message: str, hint: str, project: Path) -> None:
    with pytest.raises(SpecError) as error:
        Estimator(**wrong)
    assert (error.value.message, error.value.hint) == (message, hint)


def test_arguments_without_a_keyword_are_refused_with_the_keyword(project: Path) -> None:
    """Azure ML's take only the source directory so, and the script is what people forget to name."""
    misused: Any = Estimator
    with pytest.raises(SpecError) as error:
        misused(".", "train.py", "gpu")
    assert error.value.message == "Estimator takes only source_directory without a keyword, not 'train.py', 'gpu' as well"
    assert error.value.hint == "name the others, such as entry_script='train.py'"


def test_a_misspelt_attribute_is_refused(project: Path) -> None:
    estimator: Any = Estimator(project, entry_script="train.py")
    with pytest.raises(SpecError, match="no keyword 'nodecount'") as error:
        estimator.nodecount = 4
    assert error.value.hint == "did you mean 'node_count'?"


def test_the_whole_spec(project: Path, workspace: Workspace) -> None:
    (project / "requirements.txt").write_text("beta\n-r more.txt\n")
    (project / "more.txt").write_text("gamma  # why\n")
    (project / "data").mkdir()
    estimator = Estimator(
        ".",
        compute_target=ComputeTarget(workspace, "local"),
        entry_script=Path("train.py"),
        script_params={"--lr": 0.1, "--fast": "", "--none": None, "--zero": 0},
        node_count=2,
        process_count_per_node=4,
        distributed_backend="nccl",
        use_gpu=True,
        cpus=3,
        memory="16G",
        pip_packages=["alpha"],
        pip_requirements_file="requirements.txt",
        environment_variables={"THREADS": 2},
        inputs={"data": "data", "far": Path("/far/../data"), "link": "https://host/x"},
        max_run_duration_seconds=3600,
        backend_options={"partition": "gpu"},
    )
    assert estimator.to_spec("iris", workspace) == RunSpec(
        experiment="iris",
        command=Command("train.py", ("--lr", "0.1", "--fast", "--none", "--zero", "0")),
        compute="local",
        source=str(project),
        environment=EnvironmentSpec(pip=("alpha", "beta", "gamma")),
        environment_variables={"THREADS": "2"},
        resources=Resources(nodes=2, procs_per_node=4, cpus=3, gpus=4, memory=16 * 1024, time=3600),
        distribution=Distribution("pytorch", "nccl"),
        framework="pytorch",
        inputs={"data": str(project / "data"), "far": "/data", "link": "https://host/x"},
        options={"partition": "gpu"},
    )


def test_nothing_that_is_changed_later_changes_the_spec(project: Path, workspace: Workspace) -> None:
    environment = Environment("e", pip_packages=["a"], environment_variables={"A": "1"})
    estimator = Estimator(
        project, entry_script="train.py", script_params={"--lr": 1}, inputs={"x": "1"}, environment_definition=environment,
        environment_variables={"B": "1"}, backend_options={"list": [1, {"deep": [2]}]},
    )  # fmt: skip
    spec = estimator.to_spec("iris", workspace)
    before = copy.deepcopy(encode(spec))
    estimator.script_params["--lr"] = 2
    estimator.inputs["x"] = "2"
    estimator.environment_variables.clear()
    estimator.backend_options["list"][1]["deep"].append(3)
    environment.pip_packages.append("b")
    environment.environment_variables["A"] = "2"
    estimator.node_count = 9
    estimator.distributed_backend = "mpi"
    assert encode(spec) == before
    after = estimator.to_spec("iris", workspace)
    assert after.command.arguments == ("--lr", "2")
    assert after.environment == EnvironmentSpec(name="e", pip=("a", "b"), variables={"A": "2"})
    assert (after.resources.nodes, after.inputs, after.environment_variables) == (9, {"x": "2"}, {})
    assert after.options == {"list": [1, {"deep": [2, 3]}]}


def test_lists_and_dicts_are_the_estimators_own(project: Path) -> None:
    """Two estimators made of the same settings don't change each other, and none needs a list before adding to it."""
    params: dict[str, Any] = {"--layers": [1]}
    packages = ["a"]
    one, two = (Estimator(project, script_params=params, pip_packages=packages) for _ in range(2))
    one.script_params["--layers"].append(2)
    one.pip_packages.append("b")
    assert (params, packages, two.script_params, two.pip_packages) == ({"--layers": [1]}, ["a"], {"--layers": [1]}, ["a"])
    bare = Estimator(project)
    bare.pip_packages.append("a")
    bare.script_params["--lr"] = 1
    bare.inputs["x"] = "y"
    assert Estimator(project).pip_packages == []


def test_a_copy_is_an_estimator_of_its_own(project: Path, workspace: Workspace) -> None:
    first = Estimator(project, entry_script="train.py", pip_packages=["a"])
    second = copy.deepcopy(first)
    second.pip_packages.append("b")
    second.cpus = 2
    assert first.to_spec("x", workspace).environment.pip == ("a",)
    assert second.to_spec("x", workspace).environment.pip == ("a", "b")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (None, ()),
        ({"--a": 1, "--flag": "", "--f": 0.5}, ("--a", "1", "--flag", "--f", "0.5")),
        ({"--on": True, "--path": Path("/x")}, ("--on", "True", "--path", "/x")),
        (["--a", 1, "", "x y"], ("--a", "1", "", "x y")),
        (("--rank", "$RANK"), ("--rank", "$RANK")),
    ],
)
def test_script_parameters_as_arguments(params: Any, words: tuple[str, ...]) -> None:
    assert arguments(params) == words


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({}, "an estimator needs either entry_script or command"),
        ({"entry_script": "a.py", "command": "python a.py"}, "an estimator needs either entry_script or command"),
        ({"command": "python a.py", "script_params": {"--a": 1}}, "script_params go with an entry_script; a command takes none"),
        ({"entry_script": "a.py", "script_params": "--a 1"}, "script_params must be a dict or a list, not '--a 1'"),
        ({"entry_script": "a.py", "script_params": {"--a", "1"}}, "script_params must be a dict or a list"),
        ({"entry_script": "a.py", "node_count": "2"}, "node_count must be a whole number from 1 up, not '2'"),
        ({"entry_script": "a.py", "process_count_per_node": 0}, "process_count_per_node must be a whole number from 1 up, not 0"),
        ({"entry_script": "a.py", "node_count": True}, "node_count must be a whole number from 1 up, not True"),
        ({"entry_script": "a.py", "node_count": 2}, "Estimator: 2 nodes with 1 processes each, and nothing says how they find each other"),
        ({"entry_script": "a.py", "distributed_training": "mpi"}, "distributed_training='mpi' is not a distribution"),
        ({"entry_script": "a.py", "gpus": -1}, "gpus must be a whole number from 0 up, not -1"),
        ({"entry_script": "a.py", "max_run_duration_seconds": "1h"}, "max_run_duration_seconds must be a whole number from 1 up, not '1h'"),
        ({"entry_script": "a.py", "memory": "lots"}, "memory 'lots' can't be read"),
        ({"entry_script": "a.py", "compute_target": 3}, "compute_target must be the name of a compute target, not 3"),
        ({"entry_script": "a.py", "pip_packages": "numpy"}, "pip_packages must be a list of texts, not 'numpy'"),
        ({"entry_script": "a.py", "conda_packages": "numpy"}, "conda_packages must be a list of texts, not 'numpy'"),
        ({"entry_script": "a.py", "inputs": ["data"]}, "inputs must be a dict, not ['data']"),
        ({"entry_script": "a.py", "environment_variables": ["A=1"]}, "environment_variables must be a dict, not ['A=1']"),
        ({"entry_script": "a.py", "backend_options": {"x": object}}, "backend_options must hold texts, numbers, lists and dicts"),
        ({"entry_script": "a.py", "environment_definition": "sklearn"}, "environment_definition must be an Environment, not 'sklearn'"),
        (
            {"entry_script": "a.py", "environment_definition": Environment("e"), "pip_packages": ["x"]},
            "environment_definition and pip_packages exclude each other",
        ),
        ({"entry_script": "a.py", "distributed_backend": "mpy"}, "distributed_backend 'mpy' is not known"),
        ({"entry_script": "a.py", "pip_requirements_file": "none.txt"}, "the requirements file 'none.txt' can't be read"),
        ({"entry_script": "a.py", "conda_dependencies_file": "none.yml"}, "none.yml: can't be read"),
    ],
)
def test_what_can_not_work_is_refused_with_the_name_and_the_value(
    keywords: dict[str, Any], message: str, project: Path, workspace: Workspace
) -> None:
    with pytest.raises(HpcestError) as error:
        Estimator(project, **keywords).to_spec("iris", workspace)
    assert error.value.message.startswith(message)
    assert isinstance(error.value, (SpecError, ConfigError))


def test_gpus_and_distributions(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(project, entry_script="train.py", process_count_per_node=4, use_gpu=True, distributed_backend="mpi")
    assert estimator.to_spec("x", workspace).resources.gpus == 4
    estimator.gpus = 1
    assert estimator.to_spec("x", workspace).resources.gpus == 1
    estimator.gpus, estimator.use_gpu = None, False
    assert estimator.to_spec("x", workspace).resources.gpus is None
    for backend, expected in {"mpi": ("mpi", ""), "ps": ("tensorflow", ""), "gloo": ("pytorch", "gloo")}.items():
        estimator.distributed_backend = backend
        assert estimator.to_spec("x", workspace).distribution == Distribution(*expected)


def test_environments_of_all_kinds(project: Path, workspace: Workspace) -> None:
    (project / "env.yml").write_text(
        "name: lab\nchannels: [bioconda, conda-forge]\nvariables: {A: b}\n"
        "dependencies:\n- python=3.11\n- numpy=2\n- cctools  # [osx]\n- pip: [scipy, -r more.txt]\n"
    )
    (project / "more.txt").write_text("pandas\n")

    def made(**keywords: Any) -> EnvironmentSpec:
        return Estimator(project, entry_script="train.py", **keywords).to_spec("x", workspace).environment

    channels = ("bioconda", "conda-forge")
    both = EnvironmentSpec(
        name="lab", conda=("zlib", "python=3.11", "numpy=2"), pip=("scipy", "pandas"), channels=channels, variables={"A": "b"}
    )
    assert made(conda_packages=["zlib"], conda_dependencies_file="env.yml") == both
    assert made(conda_packages=["zlib"], conda_dependencies_file_path=str(project / "env.yml")) == both
    assert made(user_managed=True) == EnvironmentSpec(kind="host")
    assert made(user_managed=True, custom_docker_image="ubuntu:24.04") == EnvironmentSpec(image="ubuntu:24.04")
    assert made(custom_docker_base_image="ubuntu:24.04") == EnvironmentSpec(image="ubuntu:24.04")
    assert made(environment_definition=Environment("e", kind="venv", interpreter="3.11")) == EnvironmentSpec("venv", "e", "3.11")


def test_packages_the_way_azure_ml_adds_them(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(project, entry_script="train.py", pip_packages=("a",))
    estimator.conda_dependencies.add_pip_package("b")
    estimator.conda_dependencies.add_pip_package("b")
    estimator.conda_dependencies.add_conda_package("c")
    estimator.conda_dependencies.remove_pip_package("a")
    estimator.conda_dependencies.remove_conda_package("not there")
    assert (estimator.conda_dependencies.pip_packages, estimator.conda_dependencies.conda_packages) == (["b"], ["c"])
    assert estimator.to_spec("x", workspace).environment == EnvironmentSpec(pip=("b",), conda=("c",))


def test_resuming_needs_a_run_that_is_there(project: Path, workspace: Workspace, made_run: MakeRun) -> None:
    before = made_run()
    estimator = Estimator(project, entry_script="train.py", resume_from=before)
    assert estimator.to_spec("x", workspace).resume_from == before.id
    estimator.resume_from = before.id[:5]
    assert estimator.to_spec("x", workspace).resume_from == before.id
    for nobody in ("zzzzzzzz", "../../outside"):
        estimator.resume_from = nobody
        with pytest.raises(UnknownNameError, match="is not known"):
            estimator.to_spec("x", workspace)


def test_a_relative_source_is_the_one_at_submission(project: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "src").mkdir()
    estimator = Estimator("src", entry_script="train.py")
    assert estimator.to_spec("x", workspace).source == os.path.join(project, "src")


@pytest.mark.parametrize("nonsense", [3, "train.py", Estimator, object(), None])
def test_only_what_describes_a_run_can_be_submitted(nonsense: Any, workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="can't be submitted") as error:
        Experiment(workspace, "iris").submit(nonsense)
    assert "submit an Estimator" in error.value.hint


def test_channels_are_the_estimators(project: Path, workspace: Workspace) -> None:
    """Where they are added to its conda dependencies too, before those of a file, and not beside an environment."""
    estimator = Estimator(".", entry_script="train.py", conda_packages=["samtools"], channels=["bioconda"])
    estimator.conda_dependencies.add_channel("conda-forge")
    (project / "env.yml").write_text("channels: [lab]\ndependencies: [numpy]\n")
    estimator.conda_dependencies_file = "env.yml"
    assert estimator.to_spec("iris", workspace).environment.channels == ("bioconda", "conda-forge", "lab")
    estimator.environment_definition = Environment("e")
    estimator.conda_packages, estimator.conda_dependencies_file = [], None
    with pytest.raises(SpecError, match="environment_definition and channels exclude each other"):
        estimator.to_spec("iris", workspace)


def test_an_image_of_a_registry_with_a_login(project: Path, workspace: Workspace) -> None:
    """The login reaches what fetches the image."""
    registry = ContainerRegistry("r.example", "me", "word")
    estimator = Estimator(".", entry_script="train.py", custom_docker_image="lab/tool:1", image_registry_details=registry)
    assert estimator.to_spec("iris", workspace).environment.image == "docker://me:word@r.example/lab/tool:1"
    estimator.run_config.environment.docker.base_image_registry.address = "other.example"
    assert estimator.to_spec("iris", workspace).environment.image == "docker://me:word@other.example/lab/tool:1"


def test_help_shows_every_keyword_of_an_estimator_of_a_framework() -> None:
    """Its own, those that the framework gets, and those of all estimators; ``DEFAULT_VERSION`` is one of its versions."""
    shown = inspect.signature(TensorFlow).parameters
    assert set(inspect.signature(Estimator).parameters) | {"framework_version", "worker_count", "parameter_server_count"} == set(shown)
    assert [*shown][:2] == ["source_directory", "misplaced"]
    assert {"launcher", "max_restarts"} <= set(inspect.signature(PyTorch).parameters)
    assert PyTorch.DEFAULT_VERSION in PyTorch.get_supported_versions()
    assert PyTorch(".").DEFAULT_VERSION == PyTorch.DEFAULT_VERSION != TensorFlow.DEFAULT_VERSION
