"""The plugin keeps hpcest's contract, and what it refuses and starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hpcest import Workspace
from hpcest.errors import SpecError
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.plan import Activation
from hpcest.model.spec import Command, Distribution, Resources, RunSpec
from hpcest.testing import FrameworkContract

from hpcest_rllib import Ray, ReinforcementLearningEstimator, RLlib, WorkerConfiguration, ray_node
from hpcest_rllib import framework as rllib

TRAIN = """\
import ray

ray.init()
print(ray.get(ray.remote(lambda: "trained").remote()))
"""
SPEC = RunSpec("contract", Command("train.py", ("--lr", "$RANK")), framework="rllib")


def with_options(**options: Any) -> RunSpec:
    return replace(SPEC, framework_options=options)


class TestContract(FrameworkContract):
    """What hpcest expects of every framework."""

    framework = rllib.RLlib
    estimator = RLlib
    several = True
    ranks = (2, 1)
    patience = 180.0
    files: ClassVar[Mapping[str, str]] = {"train.py": TRAIN}
    broken: ClassVar[Mapping[str, str]] = {"train.py": TRAIN + "raise SystemExit(3)\n"}

    @pytest.fixture
    def interpreter(self, python_with_ray: str) -> str:
        """One with Ray."""
        return python_with_ray

    def refused(self) -> Mapping[str, RunSpec]:
        """What no cluster could be made of."""
        return {
            "two ranks on a node": replace(SPEC, resources=Resources(procs_per_node=2)),
            "ranks that meet by MPI": replace(SPEC, distribution=Distribution("mpi")),
            "no time": with_options(coordination_timeout=0),
            "fewer than no cores": with_options(head_cpus=-1),
            "an object store of no size": with_options(object_store_memory="much"),
            "a port of one's own": with_options(ray_arguments=["--port=6379"]),
        }


def settings_of(**options: Any) -> dict[str, Any]:
    """What the helper is told."""
    program = rllib.RLlib(rllib.RLlibOptions(**options)).program(SPEC, Activation("python"))
    told: dict[str, Any] = json.loads(program.argv[3])
    return told


def test_the_program_stands_behind_the_helper() -> None:
    """Its words are those of a script, and are expanded as such."""
    spec = replace(SPEC, resources=Resources(nodes=3, gpus=2))
    program = rllib.RLlib().program(spec, Activation("/env/python"))
    assert program.argv[:2] == ("/env/python", "-c")
    assert program.argv[4:] == ("/env/python", "train.py", "--lr", "$RANK")
    assert program.expand
    assert (program.per, program.meets, program.roles, program.servers) == ("node", True, {"head": 1, "worker": 2}, ("worker",))
    assert json.loads(program.argv[3])["gpus"] == 2


def test_a_command_line_is_left_to_its_shell() -> None:
    assert not rllib.RLlib().program(replace(SPEC, command=Command(line="echo $HOME")), Activation("python")).expand


@pytest.mark.parametrize(("text", "size"), [("2g", 2 << 30), ("512M", 512 << 20), ("1GiB", 1 << 30), ("1000", 1000), ("", 0)])
def test_sizes_are_as_docker_reads_them(text: str, size: int) -> None:
    assert settings_of(object_store_memory=text)["object_store_memory"] == size


def test_the_nodes_wait_for_each_other_as_long_as_the_option_says() -> None:
    program = rllib.RLlib(rllib.RLlibOptions(coordination_timeout=7)).program(SPEC, Activation("python"))
    assert program.variables["HPCEST_MEETING_TIMEOUT"] == "7"


# ---------------------------------------------------------------------- the helper
def test_the_helper_runs_under_python_3_8() -> None:
    """Its syntax, at least."""
    import ast

    ast.parse(Path(ray_node.__file__).read_text(), feature_version=(3, 8))


def test_a_module_of_the_source_directory_can_not_replace_one_of_the_helper(tmp_path: Path) -> None:
    """The program's folder may have a json.py."""
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "ray_node.py").write_text("import json, socket\nprint('helper', json.dumps(1))\n")
    for name in ("json", "socket", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    argv = [sys.executable, *rllib.RLlib().program(SPEC, Activation("python")).argv[1:]]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"HPCEST_HELPERS": str(tmp_path / "helpers")}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("helper 1\n", "")


def test_a_python_without_ray_is_named() -> None:
    """No node waits for the others then."""
    done = subprocess.run([sys.executable, "-S", ray_node.__file__, "{}", "true"], capture_output=True, text=True, check=False)
    assert done.returncode == os.EX_CONFIG
    assert f"this Python has no Ray: {sys.executable}" in done.stdout


def test_nodes_on_one_machine_have_addresses_of_their_own() -> None:
    assert ray_node.addresses([("127.0.0.1", 1), ("127.0.0.1", 2)], 1) == ["127.0.0.2", "127.0.0.3"]


def test_a_folder_whose_name_is_too_long_for_sockets_is_not_taken(tmp_path: Path) -> None:
    assert ray_node.short_folder(str(tmp_path / ("long" * 20))) == "/tmp"
    assert ray_node.short_folder(None) == "/tmp"
    assert ray_node.short_folder("/dev/shm") == "/dev/shm"


def test_the_token_is_the_users_own(tmp_path: Path) -> None:
    ray_node.write_token(str(tmp_path / "token"))
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "token").read_text()) == 48


def test_a_free_port_is_free() -> None:
    port = ray_node.free_port()
    assert not ray_node.listens("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert ray_node.listens("127.0.0.1", port)


# ---------------------------------------------------------------------- estimators
@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace; the plugin is installed, or found as if it were."""
    (tmp_path / "train.py").write_text("")
    monkeypatch.setenv("HPCEST_SITE_CONFIG", str(tmp_path / "site.yaml"))
    monkeypatch.chdir(tmp_path)
    return Workspace(create_workspace(tmp_path / "ws"))


def described(workspace: Workspace, kind: type[RLlib] = RLlib, **keywords: Any) -> RunSpec:
    return kind(".", entry_script="train.py", user_managed=True, **keywords).to_spec("contract", workspace)


def test_nodes_need_nothing_that_says_how_they_meet(workspace: Workspace) -> None:
    spec = described(workspace, node_count=4, dashboard=True)
    assert (spec.resources.nodes, spec.distribution, spec.framework_options) == (4, None, {"dashboard": True})


def test_workers_are_beside_the_head(workspace: Workspace) -> None:
    spec = described(workspace, worker_configuration=WorkerConfiguration(3, shm_size="4g"))
    assert (spec.resources.nodes, spec.framework_options) == (4, {"object_store_memory": "4g"})


def test_azure_mls_words(workspace: Workspace) -> None:
    spec = described(
        workspace,
        ReinforcementLearningEstimator,
        rl_framework=Ray(framework_arguments=["--verbose"]),
        cluster_coordination_timeout_seconds=60,
        shm_size="1g",
        worker_configuration=WorkerConfiguration(1, shm_size="2g"),
    )
    assert spec.resources.nodes == 2
    assert spec.framework_options == {"ray_arguments": ["--verbose"], "coordination_timeout": 60, "object_store_memory": "1g"}


@pytest.mark.parametrize(
    "keywords",
    [
        {"worker_configuration": WorkerConfiguration(1, compute_target="other")},
        {"worker_configuration": WorkerConfiguration(1, pip_packages=["numpy"])},
        {"worker_configuration": WorkerConfiguration(1, use_gpu=True)},
        {"worker_configuration": WorkerConfiguration(-1)},
        {"worker_configuration": WorkerConfiguration(1), "node_count": 3},
        {"node_count": 0},
        {"node_count": "2"},
        {"nodes": 2},
    ],
    ids=str,
)
def test_what_falls_short_is_refused(workspace: Workspace, keywords: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        described(workspace, **keywords)


def test_no_import_of_the_estimators_costs_a_command(tmp_path: Path) -> None:
    """hpcest imports the framework alone."""
    code = "import sys, hpcest_rllib.framework; print([name for name in sys.modules if 'sdk' in name or name == 'hpcest_rllib.estimator'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(ray_node.__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
