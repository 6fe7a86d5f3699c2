"""``estimator.run_config`` has no values of its own: what is set there is the estimator's, and takes effect at submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest import (
    CondaDependencies,
    Environment,
    Estimator,
    Experiment,
    Gloo,
    Mpi,
    MpiConfiguration,
    PyTorch,
    PyTorchConfiguration,
    Workspace,
)
from hpcest.errors import SpecError
from hpcest.model.spec import Distribution, RunSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.distributed import TensorflowConfiguration
from hpcest.sdk.runconfig.estimatorview import EstimatorRunConfig
from hpcest.sdk.runconfig.sections import DockerConfiguration, HistoryConfiguration


def quiet(line: str) -> None:
    """Nobody reads the progress of a test."""


def view(estimator: Estimator) -> Any:
    """The estimator in the words of a run configuration."""
    return EstimatorRunConfig(estimator)


def spec_of(estimator: Estimator, workspace: Workspace) -> RunSpec:
    return estimator.to_spec("iris", workspace)


def test_what_is_set_is_the_estimators(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(".", entry_script="train.py")
    config = view(estimator)
    config.target = ComputeTarget(workspace, "local")
    config.environment_variables["A"] = 1
    config.node_count = 2
    config.communicator = "IntelMpi"
    config.mpi.process_count_per_node = 3
    config.max_run_duration_seconds = 60
    config.script = "other.py"
    config.arguments = ["--lr", 0.1]
    config.arguments.append("--fast")
    config.auto_prepare_environment = True
    config.framework = "python"
    config.cpus = 2
    spec = spec_of(estimator, workspace)
    assert (spec.compute, spec.environment_variables, spec.distribution) == ("local", {"A": "1"}, Distribution("mpi"))
    resources = spec.resources
    assert (resources.nodes, resources.procs_per_node, resources.time, resources.cpus) == (2, 3, 60, 2)
    assert (spec.command.script, spec.command.arguments) == ("other.py", ("--lr", "0.1", "--fast"))
    assert (config.target, config.communicator, config.framework, config.script) == ("local", "IntelMpi", "Python", "other.py")


def test_what_the_estimator_has_is_seen(project: Path) -> None:
    estimator = PyTorch(".", entry_script="train.py", script_params={"--lr": 0.1, "--fast": ""}, distributed_training=Gloo())
    config = view(estimator)
    assert (config.framework, config.communicator, config.arguments) == ("PyTorch", "Gloo", ("--lr", 0.1, "--fast"))
    assert config.pytorch is estimator.distributed_training
    estimator.node_count = 2
    estimator.compute_target = "gpu"
    assert (config.node_count, config.target, config.mpi.node_count) == (2, "gpu", 2)
    assert (Estimator(".", distributed_backend="mpi").node_count, view(Estimator(".", distributed_backend="mpi")).communicator) == (
        1,
        "IntelMpi",
    )


def test_an_environment_that_is_defined_is_the_one_that_is_changed(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(".", entry_script="train.py", environment_definition=Environment("e"))
    view(estimator).environment.python.conda_dependencies.add_pip_package("numpy")
    view(estimator).environment.docker.base_image = "docker://debian:12"
    spec = spec_of(estimator, workspace).environment
    assert (spec.name, spec.pip, spec.image) == ("e", ("numpy",), "docker://debian:12")
    view(estimator).environment = Environment("f")
    assert spec_of(estimator, workspace).environment.name == "f"


def test_without_one_the_estimators_packages_are_changed(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(".", entry_script="train.py", pip_packages=["numpy"])
    environment = view(estimator).environment
    environment.python.conda_dependencies.add_pip_package("scipy")
    environment.python.conda_dependencies.add_conda_package("python=3.11")
    environment.python.conda_dependencies.add_channel("bioconda")
    environment.docker.enabled = True
    environment.docker.base_image = "docker://debian:12"
    environment.environment_variables["A"] = "1"
    spec = spec_of(estimator, workspace)
    assert (spec.environment.pip, spec.environment.conda) == (("numpy", "scipy"), ("python=3.11",))
    assert (spec.environment.channels, spec.environment.image) == (("bioconda",), "docker://debian:12")
    assert spec.environment_variables == {"A": "1"}
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["pandas"])
    environment.docker.base_image = None
    environment.python.user_managed_dependencies = True
    assert (estimator.pip_packages, estimator.conda_packages, estimator.custom_docker_image) == (["pandas"], [], None)
    assert estimator.user_managed is True


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda env: setattr(env.python, "interpreter_path", "3.11"), "an estimator has no interpreter of its own, such as '3.11'"),
        (lambda env: setattr(env.python, "base_conda_environment", "base"), "an estimator has no prefix of its own, such as 'base'"),
        (lambda env: setattr(env, "piip_packages", []), "estimator.run_config.environment has no keyword 'piip_packages'"),
    ],
)
def test_what_only_an_environment_has_is_refused_not_lost(act: Any, message: str, project: Path) -> None:
    with pytest.raises(SpecError) as error:
        act(view(Estimator(".")).environment)
    assert error.value.message == message
    assert error.value.hint


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("enviroment", 1, "estimator.run_config has no keyword 'enviroment'", "did you mean 'environment'?"),
        ("environment", 1, "environment must be an Environment, not 1", "make one: hpcest.Environment('name')"),
        ("framework", "TensorFlow", "the framework of Estimator can't be changed to TensorFlow", "take the estimator TensorFlow"),
        ("communicator", "smoke", "communicator 'smoke' is not known", "known: "),
        ("mpi", 2, "mpi must be a MpiConfiguration, not 2", "make one"),
        ("pytorch", 2, "2 is not a PyTorchConfiguration", "make one"),
        ("docker", 2, "docker must be a DockerConfiguration, not 2", "make one"),
        ("history", 2, "history must be a HistoryConfiguration, not 2", "make one"),
    ],
)
def test_what_can_not_be_meant_is_refused(name: str, value: Any, message: str, hint: str, project: Path) -> None:
    with pytest.raises(SpecError) as error:
        setattr(view(Estimator(".")), name, value)
    assert error.value.message == message
    assert error.value.hint.startswith(hint)


def test_misspelt_attributes_below_are_refused(project: Path) -> None:
    config = view(Estimator("."))
    for section, name in (("mpi", "proces_count_per_node"), ("docker", "use_dockr"), ("history", "outputcollection")):
        with pytest.raises(SpecError, match=f"no keyword '{name}'"):
            setattr(getattr(config, section), name, 1)
    with pytest.raises(SpecError, match="the estimator is not distributed by a PyTorchConfiguration"):
        config.pytorch.process_count = 2


def test_distributions_are_set_whole_or_in_part(project: Path, workspace: Workspace) -> None:
    estimator = Estimator(".", entry_script="train.py", distributed_training=Mpi(2))
    config = view(estimator)
    config.mpi.process_count_per_node = 3
    assert spec_of(estimator, workspace).resources.procs_per_node == 3
    config.mpi = MpiConfiguration(2, 2)
    config.mpi.node_count = 4
    assert spec_of(estimator, workspace).resources.nodes == 4
    config.pytorch = PyTorchConfiguration("Gloo")
    config.pytorch.process_count = 2
    assert spec_of(estimator, workspace).resources.procs_per_node == 2
    config.tensorflow = TensorflowConfiguration(2, 0)
    assert (config.communicator, config.tensorflow.worker_count) == ("ParameterServer", 2)
    config.communicator = "None"
    assert spec_of(estimator, workspace).distribution is None


def test_what_has_no_effect_is_told_at_once(project: Path, workspace: Workspace) -> None:
    config = view(Estimator(".", entry_script="train.py"))
    with pytest.warns(OffAzureWarning, match=r"amlcompute\.vm_size \(choose a compute target") as caught:
        config.amlcompute.vm_size = "STANDARD_D2"
    assert caught[0].filename == __file__
    with pytest.warns(OffAzureWarning, match=r"^estimator\.run_config\.environment: no effect here: spark\.precache_packages"):
        view(Estimator(".")).environment.spark.precache_packages = False
    with pytest.warns(OffAzureWarning, match=r"name \(the environment of an estimator is not registered\)"):
        view(Estimator(".")).environment.name = "x"
    assert view(Estimator(".")).environment.inferencing_stack_version is None
    with pytest.warns(OffAzureWarning, match="priority"):
        config.priority = 3
    with pytest.warns(OffAzureWarning, match="a run is always recorded"):
        config.history.output_collection = False
    with pytest.warns(OffAzureWarning, match="directories_to_watch 'x'"):
        config.history = HistoryConfiguration(directories_to_watch=["x"])
    with pytest.warns(OffAzureWarning, match="docker.arguments -v /a:/a"):
        config.docker = DockerConfiguration(arguments=["-v", "/a:/a", "-e", "A=1"])
    assert config.environment_variables == {"A": "1"}
    config.docker.arguments = ["-e", "B=2"]
    assert config.environment_variables == {"A": "1", "B": "2"}


def test_it_takes_effect_in_a_run(project: Path, workspace: Workspace) -> None:
    (project / "train.py").write_text("import os\nfrom hpcest import Run\nRun.get_context().log('a', int(os.environ['A']))\n")
    estimator = Estimator(".", entry_script="train.py", environment_variables={"A": 1})
    view(estimator).environment_variables["A"] = 7
    run = Experiment(workspace, "iris").submit(estimator, say=quiet)
    run.wait_for_completion()
    assert run.get_metrics() == {"a": 7}
