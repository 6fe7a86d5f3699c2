"""What notebooks do with Azure ML's compute targets: one that is not configured is answered with what to configure."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, Workspace
from hpcest.errors import SpecError, UnknownNameError
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import AmlCompute, ComputeTarget, ComputeTargetException, RemoteCompute

SINFO = """#!/bin/sh
case "$*" in
*-N*) printf '%s\\n' 'n1|idle|16|64000|gpu:a100:2' 'n2|alloc*|16|64000|gpu:a100:2' 'n1|idle|16|64000|gpu:a100:2' ;;
*%c*) printf '%s\\n' 'gpu|16|64000|gpu:a100:2|2|1-00:00:00' 'cpu*|8+|32000+|(null)|10|infinite' 'gpu|32|128000|(null)|1|1-00:00:00' ;;
*) printf '%s\\n' 'cpu*|idle|7' 'cpu*|mix-|3' 'gpu|idle|3' ;;
esac
"""


@pytest.fixture
def targets(workspace: Workspace) -> Workspace:
    """A workspace with the targets ``night`` (local) and ``gpu`` (of a Slurm partition), and without Slurm."""
    workspace.folder.config.write_text(
        "compute:\n  night: {backend: local, slots: 3}\n  gpu: {backend: slurm, partition: gpu}\n  any: {backend: slurm}\n"
    )
    return Workspace(workspace.root)


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster with the partitions ``cpu``, the default one, and ``gpu``."""
    _program(tmp_path, monkeypatch, "sinfo", SINFO)


def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def as_notebooks_do(workspace: Workspace, name: str) -> ComputeTarget:
    """The lines that stand in every notebook of Azure ML."""
    try:
        target = ComputeTarget(workspace=workspace, name=name)
    except ComputeTargetException:
        asked = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", vm_priority="lowpriority", max_nodes=4)
        target = ComputeTarget.create(workspace, name, asked)
    target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    return target


def test_a_notebook_finds_its_target(targets: Workspace, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = as_notebooks_do(targets, "night")
    assert (target.name, target.type, target.provisioning_state) == ("night", "local", "Succeeded")
    assert capsys.readouterr().err == "compute target night: nothing is provisioned, it can be submitted to\n"
    run = Experiment(targets, "iris").submit(Estimator(".", compute_target=target, entry_script="train.py"), say=lambda line: None)
    assert run.wait_for_completion()["target"] == "night"


def test_create_and_attach_return_what_is_configured(targets: Workspace) -> None:
    for make in (ComputeTarget.create, ComputeTarget.attach, AmlCompute.create):
        assert make(targets, "gpu", AmlCompute.provisioning_configuration("STANDARD_D2")).serialize() == {
            "name": "gpu",
            "type": "slurm",
            "partition": "gpu",
        }
    in_azures_words = ComputeTarget.attach(workspace=targets, name="gpu", attach_configuration=None)
    assert in_azures_words.serialize() == ComputeTarget.create(targets, "gpu", provisioning_configuration=None).serialize()
    in_their_places = AmlCompute.provisioning_configuration("STANDARD_D2", "lowpriority", 1, 4, 600)
    assert in_their_places.asked == {
        "vm_size": "STANDARD_D2", "vm_priority": "lowpriority", "min_nodes": 1, "max_nodes": 4, "idle_seconds_before_scaledown": 600
    }  # fmt: skip
    assert isinstance(AmlCompute(targets, "gpu"), ComputeTarget)
    assert [target.name for target in ComputeTarget.list(targets)] == ["local", "night", "gpu", "any"]
    assert ComputeTarget.deserialize(targets, {"name": "gpu", "type": "slurm"}).name == "gpu"


@pytest.mark.usefixtures("sinfo")
def test_another_one_is_answered_with_what_to_configure(targets: Workspace) -> None:
    with pytest.raises(ComputeTargetException, match="compute target 'gpu-cluster' is not configured, and hpcest provisions none") as error:
        as_notebooks_do(targets, "gpu-cluster")
    assert isinstance(error.value, UnknownNameError)
    assert error.value.hint.splitlines() == [
        f"name one of local, night, gpu, any, or add to {targets.folder.config}:",
        "compute:",
        "  gpu-cluster:",
        "    backend: slurm",
        "    partition: cpu   # one of cpu, gpu",
        "    # gres: gpu:1   # if STANDARD_NC6 meant a GPU; a run asks for its cores, GPUs and memory itself",
        "    # qos: …        # for vm_priority 'lowpriority'",
        "    # max_nodes = 4: nothing to configure, a run takes the nodes that it asks for",
    ]


@pytest.mark.usefixtures("sinfo")
def test_the_lines_of_the_answer_work(targets: Workspace) -> None:
    with pytest.raises(ComputeTargetException) as error:
        ComputeTarget.create(targets, "new", AmlCompute.provisioning_configuration("V100", max_nodes=2))
    targets.folder.config.write_text(error.value.hint.partition("\n")[2] + "\n")
    assert ComputeTarget(Workspace(targets.root), "new").serialize() == {"name": "new", "type": "slurm", "partition": "cpu"}


@pytest.mark.usefixtures("no_slurm")
def test_where_there_is_no_slurm(targets: Workspace) -> None:
    with pytest.raises(ComputeTargetException) as error:
        ComputeTarget.create(targets, "new")
    assert "backend: slurm   # or local, for this machine" in error.value.hint
    assert (ComputeTarget(targets, "gpu").list_nodes(), AmlCompute.supported_vmsizes(targets), AmlCompute.list_quotas(targets)) == (
        [],
        [],
        [],
    )
    assert ComputeTarget(targets, "gpu").get_status().current_node_count == 0


def test_a_wrong_name_is_answered_with_the_nearest(targets: Workspace) -> None:
    with pytest.raises(ComputeTargetException, match="compute target 'nihgt' is not known") as error:
        ComputeTarget(targets, "nihgt")
    assert error.value.hint == "did you mean 'night'?"


@pytest.mark.usefixtures("sinfo")
def test_nodes_and_their_states(targets: Workspace) -> None:
    gpu = AmlCompute(targets, "gpu")
    assert gpu.list_nodes() == [
        {"nodeId": "n1", "nodeState": "idle", "cpus": 16, "memoryMb": 64000, "gres": "gpu:a100:2"},
        {"nodeId": "n2", "nodeState": "alloc", "cpus": 16, "memoryMb": 64000, "gres": "gpu:a100:2"},
    ]
    status = gpu.get_status()
    assert (status.node_state_counts, status.provisioning_state, gpu.status) == ({"idle": 1, "alloc": 1}, "Succeeded", status)
    assert status.serialize()["currentNodeCount"] == 2
    (here,) = ComputeTarget(targets, "night").list_nodes()
    assert here["nodeId"] == os.uname().nodename
    assert AmlCompute.supported_vmsizes(targets) == [
        {"name": "cpu", "vCPUs": 8, "memoryGB": 31.2, "gres": "", "nodes": 10, "time": "infinite"},
        {"name": "gpu", "vCPUs": 16, "memoryGB": 62.5, "gres": "gpu:a100:2", "nodes": 3, "time": "1-00:00:00"},
    ]
    assert AmlCompute.list_usages(targets) == [{"name": "cpu", "currentValue": 3, "limit": 10, "unit": "nodes"}]
    assert len(AmlCompute.list_usages(targets, show_all=True)) == 2


def test_limits_of_the_accounting(targets: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, monkeypatch, "sacctmgr", "#!/bin/sh\necho 'phys|gpu|normal|cpu=64||10||'\n")
    (limits,) = AmlCompute.list_quotas(targets)
    assert limits == {"account": "phys", "partition": "gpu", "qos": "normal", "limits": {"GrpTRES": "cpu=64", "MaxJobs": "10"}}


def test_a_slurm_that_fails_is_none(targets: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, monkeypatch, "sinfo", "#!/bin/sh\necho 'a|b'\necho 'slurm_load_partitions: Unable to contact' >&2\nexit 1\n")
    assert (AmlCompute(targets, "gpu").list_nodes(), AmlCompute.supported_vmsizes(targets)) == ([], [])


def test_a_target_of_slurm_is_what_programs_ask_for(targets: Workspace) -> None:
    """``type(target) is AmlCompute`` decides in notebooks whether one is made."""
    kinds = {name: type(target) for name, target in targets.compute_targets.items()}
    assert (kinds["local"], kinds["gpu"]) == (ComputeTarget, AmlCompute)
    assert type(ComputeTarget(targets, "gpu")) is AmlCompute
    assert type(AmlCompute(targets, "local")) is AmlCompute
    assert type(copy.deepcopy(targets.compute_targets["gpu"])) is AmlCompute
    with pytest.raises(ComputeTargetException):
        ComputeTarget(targets, "nobody's")


def test_changes_are_made_in_the_configuration(targets: Workspace) -> None:
    night = AmlCompute(targets, "night")
    for change, words in ((night.delete, "deleted"), (night.detach, "detached")):
        with pytest.raises(ComputeTargetException, match=f"compute target 'night' can't be {words} from a program") as error:
            change()
        assert error.value.hint == f"edit compute.night in {targets.folder.config}:2"
    with pytest.warns(OffAzureWarning, match=r"ComputeTarget\.update: no effect here: max_nodes \(a target is as large as its partition\)"):
        night.update(max_nodes=2)
    with pytest.raises(SpecError, match="reaches no machine by ssh"):
        RemoteCompute.attach_configuration(address="host", ssh_port=22)


def test_a_keyword_that_nobody_knows(targets: Workspace) -> None:
    configuration: Any = AmlCompute.provisioning_configuration
    with pytest.raises(SpecError, match="has no keyword 'max_node'") as error:
        configuration(vm_size="x", max_node=4)
    assert error.value.hint == "did you mean 'max_nodes'?"


def test_the_default_target(targets: Workspace) -> None:
    assert targets.get_default_compute_target("GPU").name == "local"
    with targets.folder.config.open("a") as config:
        config.write("default_compute: night\n")
    assert Workspace(targets.root).get_default_compute_target().name == "night"
