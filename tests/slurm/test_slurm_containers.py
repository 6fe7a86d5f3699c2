"""Runs in images on the cluster: MPI across hosts, packages in a layer, exit codes, signals and another attempt."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.slurm.conftest import CONFIGURATION, START, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.fixtures import Apptainer
    from tests.slurm.conftest import ClusterSite

EXCHANGE = """\
import socket
from mpi4py import MPI

world = MPI.COMM_WORLD
message, answer = bytearray(b'x' * (4 << 20)), bytearray(4 << 20)
for shift in (1, 2):
    world.Sendrecv(message, (world.rank + shift) % world.size, recvbuf=answer, source=(world.rank - shift) % world.size)
    assert answer == message
print(socket.gethostname(), os.path.exists('/opt/hpcest/env'), world.allreduce(world.rank), flush=True)
"""


@pytest.fixture
def boxed(cluster: ClusterSite, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClusterSite:
    """The cluster's workspace with an image that has Python, Open MPI and mpi4py as the base of environments."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cluster.configure(f"{CONFIGURATION}environment: {{kind: apptainer, image: '{apptainer.mpi}'}}\n")
    return cluster


def test_mpi_in_an_image_on_four_hosts(boxed: ClusterSite, apptainer: Apptainer) -> None:
    """Eight ranks meet, two on each host, and exchange large messages; nothing had to be said of MPI."""
    run = boxed.send(EXCHANGE, "--image", str(apptainer.mpi), "--nodes", "4", "--procs-per-node", "2", "--mem", "600M")
    assert verdict(boxed.ended(run)) == ("Completed", "", 0), boxed.logs()
    assert [boxed.log(run, rank, ranks=8).split() for rank in range(8)] == [[f"n{1 + rank // 2}", "False", "28"] for rank in range(8)]


def test_mpi_with_packages_in_a_layer(boxed: ClusterSite) -> None:
    """mpi4py from an index finds the MPI of the base."""
    run = boxed.send(
        EXCHANGE + "import mpi4py; print(mpi4py.__file__)\n", "--pip", "mpi4py", "--nodes", "2", "--procs-per-node", "2", "--mem", "600M"
    )
    assert verdict(boxed.ended(run)) == ("Completed", "", 0), boxed.logs()
    for rank in range(4):
        host, has_layer, total, where = boxed.log(run, rank, ranks=4).split()
        assert (host, has_layer, total) == (f"n{1 + rank // 2}", "True", "6")
        assert where.startswith("/opt/hpcest/env/lib/")


def test_an_exit_code(boxed: ClusterSite) -> None:
    run = boxed.send("sys.exit(7)\n", "--pip", "six")
    known = boxed.ended(run)
    assert (*verdict(known), known["exit_code"]) == ("Failed", "UserError", 0, 7)


def test_a_checkpoint_before_the_time_limit(boxed: ClusterSite) -> None:
    """The signal reaches the programs in the containers alone, and the next attempt finds what they wrote."""
    program = """\
state = f'outputs/{rank}'
if attempt: sys.exit(print('goes on from', open(state).read(), flush=True))
def save(*_):
    open(state, 'w').write('here')
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
time.sleep(300)
"""
    options = ("--pip", "six", "--nodes", "2", "--time", "1", "--signal", "USR1@35", "--max-requeues", "1")
    run = boxed.send(program, *options)
    assert verdict(boxed.ended(run)) == ("Completed", "", 1), boxed.logs()
    assert boxed.starts(run) == ["0.0", "0.1", "1.0", "1.1"]
    assert [boxed.log(run, rank, 1, ranks=2) for rank in (0, 1)] == ["goes on from here\n"] * 2


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_checkpoint_in_the_first_second(boxed: ClusterSite, nodes: int) -> None:
    """A signal that comes before the programs in the containers can handle it waits for them, and reaches each once."""
    program = """\
state = f'outputs/{rank}'
if attempt: sys.exit(print('goes on from', open(state).read(), flush=True))
def save(*_):
    open(state, 'a').write('here')
    time.sleep(0.5)
    sys.exit(0)
while not os.path.exists(os.path.join(os.environ['STARTS'], 'imported')): time.sleep(0.02)
signal.signal(signal.SIGUSR1, save)
time.sleep(300)
"""
    run = boxed.send(program, "--pip", "six", "--nodes", str(nodes), "--max-requeues", "1")
    boxed.until_started(run)
    boxed.slurm.run("scancel", "--batch", "--signal=USR2", boxed.job(run))  # as Slurm's warning, for the controller
    boxed.until(lambda: any('"signal"' in path.read_text() for path in run.events.glob("controller*.jsonl")))
    time.sleep(0.5)
    (boxed.started / "imported").touch()
    assert verdict(boxed.ended(run)) == ("Completed", "", 1), boxed.logs()
    assert [boxed.log(run, rank, 1, ranks=nodes) for rank in range(nodes)] == ["goes on from here\n"] * nodes


def test_canceling(boxed: ClusterSite) -> None:
    """TERM reaches the program, which may end in its own way."""
    program = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('told', flush=True)))\nprint('ready', flush=True)\ntime.sleep(300)\n"
    run = boxed.send(program, "--pip", "six")
    boxed.until_started(run)
    boxed.until(lambda: "ready" in boxed.log(run))
    boxed.cli("cancel", run.id).ok()
    assert boxed.ended(run)["status"] == "Canceled"
    assert boxed.log(run).split() == ["ready", "told"]


def test_it_is_built_in_a_job(boxed: ClusterSite, apptainer: Apptainer) -> None:
    """Where login nodes must not build, a job on a compute node does, and the run that needs it comes after.

    The test cluster's nodes reach no index, so what is built is made by a step alone.
    """
    big = "  big: {backend: slurm, cpus: 2, memory: 1000M, time: 10, poll: 0.2}\n"
    boxed.configure(f"{CONFIGURATION}{big}environment: {{kind: apptainer, image: '{apptainer.debian}', build_on: big}}\n")
    boxed.write(START + "print(open('/opt/hpcest/env/made').read(), end='')\n", "train.py")
    job = boxed.write("script: train.py\nenvironment: {steps: ['hostname > /opt/hpcest/env/made']}\n", "job.yaml")
    said = boxed.cli("submit", job, "--env-var", f"STARTS={boxed.started}").ok()
    run = boxed.run(said.out.strip())

    assert verdict(boxed.ended(run)) == ("Completed", "", 0)
    assert boxed.log(run) in {"n1\n", "n2\n", "n3\n", "n4\n"}
    assert "squash: " in said.err
    assert {row["compute"] for row in boxed.runs()} == {"cpu", "big"}


def test_eight_processes_on_four_hosts_build_once(boxed: ClusterSite) -> None:
    """They want the same new environment at the same moment: one builds it, the others wait, and all get it."""
    job = boxed.write("script: train.py\nenvironment: {steps: ['sleep 2; echo made > /opt/hpcest/env/word']}\n", "job.yaml")
    srun = ["srun", "--nodes=4", "--ntasks=8", "--cpus-per-task=1", "--mem=800M", "--chdir", str(boxed.workspace.root)]
    done = subprocess.run([*srun, *boxed.argv("env", "build", job)], capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    (key,) = set(done.stdout.split())
    assert done.stdout.split() == [key] * 8
    assert done.stderr.count("squash: ") == 1, done.stderr
    assert done.stderr.count("waiting for ") >= 1
    assert [path.name for path in (boxed.workspace.environments / "v1" / "images").iterdir()] == [key]
