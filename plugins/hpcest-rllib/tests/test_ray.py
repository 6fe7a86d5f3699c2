"""Real Ray clusters on this machine: training, failures, several at once, and what is left of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hpcest.lifecycle import watch
from hpcest.model.folders import RunFolder
from hpcest.model.spec import Command, EnvironmentSpec, Resources, RunSpec
from hpcest.testing import Bench, Contract

pytestmark = pytest.mark.slow

TRAIN = """\
import ray
from ray.rllib.algorithms.ppo import PPOConfig

from hpcest import Run

ray.init()
config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=1)
algorithm = config.training(train_batch_size=400, minibatch_size=128, num_epochs=2).build_algo()
for _ in range(2):
    Run.get_context().log("return", algorithm.train()["env_runners"]["episode_return_mean"])
print("on", *sorted(node["NodeManagerAddress"] for node in ray.nodes()), "with", int(ray.cluster_resources()["CPU"]), "cores")
"""
WHERE = """\
import os, time
import ray

ray.init()

@ray.remote(num_cpus=1)
def where():
    time.sleep(2)
    return ray.util.get_node_ip_address(), os.environ.get("RANK")

print(sorted(ray.get([where.remote() for _ in range(2)])), os.environ["RANK"])
"""
WAIT = "import os, time, ray\nray.init()\nprint('up', flush=True)\ntime.sleep(300)\n"
#: Keeps the Ray of every node but the first from starting.
STALL = "import sys, time\nif any(word.startswith('--address=') for word in sys.orig_argv): time.sleep(600)\n"


class Cluster:
    """A bench whose runs use Ray."""

    def __init__(self, bench: Bench, python: str) -> None:
        self.bench, self.environment = bench, EnvironmentSpec("host", interpreter=python)

    def spec(self, program: str, *, nodes: int = 1, name: str = "train.py", **options: Any) -> RunSpec:
        """A run of ``program`` on so many nodes, each with one core."""
        self.bench.write({name: program})
        resources = Resources(nodes=nodes, cpus=1)
        return RunSpec(
            "ray", Command(name), framework="rllib", framework_options=options, resources=resources, environment=self.environment
        )

    def log(self, run: RunFolder, rank: int = 0, ranks: int = 1) -> str:
        """What the rank has printed so far."""
        path = run.rank_log(rank, 0, ranks=ranks)
        return path.read_text() if path.exists() else ""


class TestRay(Contract):
    """On one machine, where every node has a loopback address of its own."""

    patience = 240.0
    plugin = "hpcest_rllib.framework"

    def _config(self) -> str:
        return "compute: {local: {backend: local, slots: 2}}\n"

    @pytest.fixture
    def cluster(self, bench: Bench, python_with_ray: str) -> Iterator[Cluster]:
        yield Cluster(bench, python_with_ray)
        bench.until(lambda: not processes_of(bench.runs()), 10.0)  # the controller ends a little later than the run
        assert processes_of(bench.runs()) == []

    def test_two_nodes_work_for_one_program(self, cluster: Cluster) -> None:
        """Ray's processes have no rank of the run's; the program has one."""
        ended = cluster.bench.run(cluster.spec(WHERE, nodes=2), self.patience)
        assert ended.status == "Completed", ended
        assert "[('127.0.0.2', None), ('127.0.0.3', None)] 0" in ended.output

    def test_a_program_that_fails(self, cluster: Cluster) -> None:
        """Its code is the run's, all nodes are ended, and Ray's logs are kept."""
        ended = cluster.bench.run(cluster.spec("import ray\nray.init()\nraise SystemExit(7)\n", nodes=2), self.patience)
        assert (ended.status, ended.seen.state.exit_code) == ("Failed", 7), ended
        assert list((ended.folder.path / "logs" / "ray-0.a0").glob("gcs_server*"))

    def test_what_ray_does_not_take_is_told(self, cluster: Cluster) -> None:
        ended = cluster.bench.run(cluster.spec(WAIT, ray_arguments=["--no-such-argument"]), self.patience)
        assert ended.status == "Failed"
        assert "before all nodes were there" in ended.output
        assert "No such option" in ended.output

    def test_a_node_that_never_comes(self, cluster: Cluster, tmp_path: Path) -> None:
        """It is named when the time is up."""
        (tmp_path / "sitecustomize.py").write_text(STALL)
        spec = replace(cluster.spec(WAIT, nodes=2, coordination_timeout=30), environment_variables={"PYTHONPATH": str(tmp_path)})
        ended = cluster.bench.run(spec, self.patience)
        assert (ended.status, ended.seen.state.exit_code) == ("Failed", os.EX_TEMPFAIL), ended
        assert "no Ray cluster within 30 s: not in it: 127.0.0.3:" in ended.output

    def test_two_at_once_and_one_is_canceled(self, cluster: Cluster) -> None:
        """The other goes on, and of the canceled one nothing is left."""
        first = cluster.bench.submit(cluster.spec(WAIT, name="wait.py", dashboard=True)).folder
        second = cluster.bench.submit(cluster.spec(WHERE.replace("range(2)", "range(1)"))).folder
        assert cluster.bench.until(lambda: "up" in cluster.log(first), self.patience), cluster.log(first)
        address = cluster.log(first).split("http://")[1].split(" ")[0]
        token = first.path / "state" / "ray-token.0"
        assert token.stat().st_mode & 0o777 == 0o600
        assert (asked(address, ""), asked(address, token.read_text())) == (401, 200)
        watch.cancel(cluster.bench.context, first)
        assert cluster.bench.end_of(first, 60.0).status == "Canceled"
        assert not token.exists()
        assert cluster.bench.end_of(second, self.patience).status == "Completed"


class TestRayOnACluster(Contract):
    """On two hosts of the Slurm cluster that SLURM_CONF names, whose hosts see the folder for temporary files."""

    patience = 240.0
    plugin = "hpcest_rllib.framework"
    needs = "sbatch"

    def _config(self) -> str:
        return "default_compute: hosts\ncompute: {hosts: {backend: slurm, memory: 3G, time: 8}}\n"

    def test_ppo_learns_on_two_hosts(self, bench: Bench, python_with_ray: str) -> None:
        """Each has an address that the other can reach."""
        self._able()
        if "SLURM_CONF" not in os.environ:
            pytest.skip("SLURM_CONF names no cluster")
        spec = replace(Cluster(bench, python_with_ray).spec(TRAIN, nodes=2), compute="hosts")
        ended = bench.run(spec, self.patience)
        assert ended.status == "Completed", ended
        found = re.search(r"on ([\d.]+) ([\d.]+) with 2 cores", ended.output)
        assert found, ended.output
        assert not any(address.startswith("127.") for address in found.groups())
        assert all(value > 5 for value in ended.metrics["return"])


def asked(address: str, token: str) -> int:
    """The status with which the dashboard answers."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    end = time.monotonic() + 30
    while True:
        try:
            with urlopen(Request(f"http://{address}/api/version", headers={"Authorization": f"Bearer {token}"} if token else {})) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:  # it holds the connection
                return error.code
        except OSError:
            assert time.monotonic() < end, "no dashboard answers"
            time.sleep(0.5)


def processes_of(runs: list[str]) -> list[str]:
    """Command lines of processes that belong to one of the runs."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            marks = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if any(f"HPCEST_RUN_ID={run}".encode() in marks for run in runs):
            found.append(line)
    return found
