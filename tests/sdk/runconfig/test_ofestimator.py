"""An estimator's run configuration can be saved, and describes the same run when it is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcest import (
    Environment,
    Estimator,
    FrameworkEstimator,
    Mpi,
    ParameterServer,
    PyTorch,
    PyTorchConfiguration,
    RunConfiguration,
    ScriptRunConfig,
    SKLearn,
    TensorFlow,
    Workspace,
)
from hpcest.errors import SpecError
from hpcest.model.spec import RunSpec
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.sections import ContainerRegistry

SMALL: dict[str, Any] = {"entry_script": "train.py", "compute_target": "local"}


def again(estimator: Estimator, workspace: Workspace) -> RunSpec:
    """The run of what was saved and read."""
    estimator.run_config.save("saved", "it")
    return ScriptRunConfig(".", run_config=RunConfiguration.load("saved", "it")).to_spec("iris", workspace)


@pytest.mark.parametrize(
    "estimator",
    [
        lambda: Estimator(".", **SMALL, script_params={"--lr": 0.1, "--fast": ""}, environment_variables={"A": "1"}, user_managed=True),
        lambda: Estimator(".", command="python train.py && true", cpus=2, gpus=1, memory="2G", max_run_duration_seconds=60),
        lambda: Estimator(
            ".", **SMALL, pip_packages=["six"], conda_packages=["numpy"], channels=["bioconda"], backend_options={"qos": "x"}
        ),
        lambda: Estimator(".", **SMALL, node_count=2, process_count_per_node=2, distributed_training=Mpi()),
        lambda: Estimator(".", **SMALL, node_count=2, distributed_backend="gloo", use_gpu=True),
        lambda: Estimator(".", **SMALL, distributed_training=PyTorchConfiguration("Nccl", 4, 2)),
        lambda: Estimator(".", **SMALL, distributed_training=ParameterServer(2, 1)),
        lambda: Estimator(".", **SMALL, environment_definition=Environment("e", kind="venv", pip_packages=["six"])),
        lambda: Estimator(".", **SMALL, custom_docker_image="lab/tool:1", image_registry_details=ContainerRegistry("r.example")),
    ],
)
def test_what_was_saved_is_the_same_run(estimator: Callable[[], Estimator], project: Path, workspace: Workspace) -> None:
    """Its resources, environment, data and all else."""
    made = estimator()
    assert again(made, workspace) == made.to_spec("iris", workspace)


def test_inputs_are_saved(project: Path, workspace: Workspace) -> None:
    """A path, which is an absolute one in either; the program finds it under the same name."""
    made = Estimator(".", **SMALL, inputs={"table": "train.py"})
    before, after = made.to_spec("iris", workspace), again(made, workspace)
    assert before.inputs == {"table": str(project / "train.py")}
    assert after.data["table"].paths == (str(project / "train.py"),)


def test_the_packages_of_a_framework_are_saved_too(project: Path, workspace: Workspace) -> None:
    """For a run configuration has no version of a framework; those that are named go before them."""
    spec = again(PyTorch(".", **SMALL, framework_version="2.8", pip_packages=["torch==2.8.0", "six"]), workspace)
    assert (spec.framework, spec.framework_version) == ("pytorch", "")
    assert [line for line in spec.environment.pip if line.startswith("torch=")] == ["torch==2.8.0"]
    assert "six" in spec.environment.pip
    assert any(line.startswith("torchvision") for line in spec.environment.pip)
    assert again(SKLearn(".", **SMALL), workspace).environment.pip
    elsewhere = PyTorch(".", **SMALL, custom_docker_image="debian:12")
    assert again(elsewhere, workspace) == replace(elsewhere.to_spec("iris", workspace), framework_version="")
    mpi = again(TensorFlow(".", **SMALL, distributed_training=Mpi(2), user_managed=True), workspace)
    assert (mpi.framework, mpi.distribution and mpi.distribution.kind, mpi.resources.procs_per_node) == ("tensorflow", "mpi", 2)


def test_what_a_run_configuration_can_not_say_is_told_or_refused(project: Path) -> None:
    """Options of a framework, a framework that Azure ML doesn't have, a password."""

    class Other(FrameworkEstimator):
        """A plugin's."""

        framework = "other"

    with pytest.raises(SpecError, match="a run configuration knows no framework 'other'"):
        Other(".", entry_script="train.py").run_config.save("saved", "it")
    assert not Path("saved").exists()
    with pytest.warns(OffAzureWarning, match=r"estimator.run_config: no effect here: launcher \(a run configuration has no place"):
        PyTorch(".", **SMALL, launcher="torchrun", user_managed=True).run_config.save("saved", "it")
    registry = ContainerRegistry("r.example", "me", "s3cret")
    file = Estimator(".", **SMALL, custom_docker_image="a:1", image_registry_details=registry).run_config.save("saved", "it")
    assert "s3cret" not in Path(file).read_text()


def test_it_has_values_of_its_own(project: Path) -> None:
    """What is changed in a copy is not the estimator's."""
    estimator = Estimator(".", **SMALL, environment_variables={"A": "1"}, script_params=["--lr", 1])
    copied = estimator.run_config.copied()
    copied.environment_variables["B"] = "2"
    copied.arguments.append("--fast")
    copied.environment.pip_packages.append("six")
    assert (estimator.environment_variables, estimator.script_params, estimator.pip_packages) == ({"A": "1"}, ["--lr", 1], [])
