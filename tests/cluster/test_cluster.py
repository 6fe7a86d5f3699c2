"""The test clusters are what the other tests take them for: several hosts, MPI between them, accounting, limits and faults."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import locks
from tests.cluster.commands import ClusterError
from tests.cluster.fixtures import Slurm
from tests.cluster.operator_client import Operator
from tests.cluster.shape import Cluster

ALLREDUCE = r"""
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
    int rank, sum, length;
    char host[MPI_MAX_PROCESSOR_NAME];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Get_processor_name(host, &length);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("%s %d\n", host, sum);
    return MPI_Finalize();
}
"""


def submit(slurm: Slurm, tmp_path: Path, command: str, *options: str) -> str:
    """The id of a batch job that runs a shell command."""
    return slurm.run("sbatch", "--parsable", f"--output={tmp_path}/%j.out", *options, "--wrap", command).strip()


def state(slurm: Slurm, job: str) -> str:
    """A job's state as slurmctld knows it."""
    return slurm.run("squeue", "-h", "-t", "all", "-o", "%T", "-j", job, check=False).strip()


def test_every_node_is_a_host_of_its_own(slurm: Slurm) -> None:
    assert sorted(slurm.run("srun", "-N4", "hostname").split()) == ["n1", "n2", "n3", "n4"]


def test_the_nodes_know_each_others_names(slurm: Slurm) -> None:
    assert slurm.run("srun", "-w", "n2", "getent", "hosts", "n3").split() == ["10.77.0.13", "n3"]


def test_srun_offers_what_mpi_libraries_need(slurm: Slurm) -> None:
    done = subprocess.run(["srun", "--mpi=list"], capture_output=True, text=True, check=True)
    assert {"pmix", "pmi2", "none"} <= set((done.stdout + done.stderr).split())


def test_mpi_ranks_on_two_nodes_reduce(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "reduce.c").write_text(ALLREDUCE)
    subprocess.run(["mpicc", "-o", tmp_path / "reduce", tmp_path / "reduce.c"], check=True)
    lines = slurm.run("srun", "-N2", "-n4", "--ntasks-per-node=2", "--mpi=pmix", str(tmp_path / "reduce")).splitlines()
    assert len(lines) == 4
    assert {line.split()[1] for line in lines} == {"6"}
    assert len({line.split()[0] for line in lines}) == 2


def test_jobs_see_their_gpus(slurm: Slurm) -> None:
    assert slurm.run("srun", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES").strip() == "0,1"


def test_jobs_find_their_own_cluster(slurm: Slurm, tmp_path: Path) -> None:
    """Also where they are given an empty environment."""
    job = submit(slurm, tmp_path, "printenv SLURM_CONF; squeue --noheader --format=%A", "--export=NIL", "--wait")
    conf, *jobs = (tmp_path / f"{job}.out").read_text().split()
    assert conf == str(slurm.conf)
    assert job in jobs


def test_accounting_knows_what_ended(slurm: Slurm, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    job = slurm.run("sbatch", "--parsable", "--output=/dev/null", "--wrap", "exit 7").strip()
    wait_until(lambda: slurm.run("sacct", "-nPX", "-j", job, "-o", "state,exitcode").strip() == "FAILED|7:0", "sacct")


def test_without_accounting_sacct_fails_and_jobs_run(bare_slurm: Slurm) -> None:
    assert sorted(bare_slurm.run("srun", "-N2", "hostname").split()) == ["b1", "b2"]
    done = subprocess.run(["sacct"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "accounting storage is disabled" in done.stderr


def test_too_much_memory_is_out_of_memory(slurm: Slurm, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    job = submit(slurm, tmp_path, f"{sys.executable} -c 'bytearray(300 << 20)'", "--mem=60")
    wait_until(lambda: state(slurm, job) == "OUT_OF_MEMORY", "the kernel to kill the job")


def test_a_limit_on_submitted_jobs_is_enforced(slurm: Slurm, alone: None, tmp_path: Path) -> None:
    """Alone: two of these at once would take each other's places."""
    tight = ("sleep 60", "--qos=tight", "--hold", "--job-name=tight-limit-test")
    try:
        for _ in range(2):
            submit(slurm, tmp_path, *tight)
        with pytest.raises(AssertionError, match="QOSMaxSubmitJobPerUserLimit"):
            submit(slurm, tmp_path, *tight)
    finally:
        slurm.run("scancel", "--name=tight-limit-test")


def test_an_array_larger_than_the_cluster_allows_is_refused(slurm: Slurm, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Invalid job array specification"):
        submit(slurm, tmp_path, "true", "--array=1-1001", "--hold")


@pytest.mark.slow
def test_an_urgent_job_pushes_out_a_preemptible_one(slurm: Slurm, alone: None, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """The victim waits in the queue, starts again, and knows that it does."""
    victim = submit(
        slurm, tmp_path, "echo start $SLURM_RESTART_COUNT; sleep 3600", "-p", "preempt", "-w", "n4", "--exclusive", "--open-mode=append"
    )
    wait_until(lambda: state(slurm, victim) == "RUNNING", "the victim")
    submit(slurm, tmp_path, "sleep 1", "-p", "urgent", "-w", "n4", "--wait")
    output = tmp_path / f"{victim}.out"
    wait_until(lambda: "start 1" in output.read_text(), "the victim's second start", 60)
    slurm.run("scancel", victim)


@pytest.mark.slow
def test_a_node_that_lost_its_power_comes_back(slurm: Slurm, alone: None, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """Its processes are gone at once, and its job starts anew elsewhere or there."""
    marker = f"{3600 + os.getpid() / 1e7:.7f}"
    job = submit(slurm, tmp_path, f"sleep {marker}", "-w", "n3")
    running = f"sleep {marker}"
    wait_until(lambda: running in slurm.run("ps", "-eo", "args"), "the job")
    slurm.operator.kill_node("n3")
    assert not slurm.operator.status()["n3"]
    assert not any(line == running for line in slurm.run("ps", "-eo", "args").splitlines())
    slurm.operator.start_node("n3")
    wait_until(lambda: state(slurm, job) != "RUNNING", "slurmctld to notice")
    assert slurm.run("srun", "-w", "n3", "hostname").strip() == "n3"
    slurm.run("scancel", job)


@pytest.mark.slow
def test_jobs_outlive_the_controller(slurm: Slurm, alone: None, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "sleep 3600")
    slurm.operator.stop_ctld()
    assert subprocess.run(["squeue"], capture_output=True, check=False, timeout=60).returncode
    slurm.operator.start_ctld()
    assert state(slurm, job) in ("RUNNING", "PENDING")
    slurm.run("scancel", job)


def test_accounting_can_be_away(slurm: Slurm, alone: None) -> None:
    slurm.operator.stop_dbd()
    assert subprocess.run(["sacct"], capture_output=True, check=False, timeout=60).returncode
    slurm.operator.start_dbd()
    slurm.run("sacct")


def test_what_a_test_breaks_is_mended(bare_slurm: Slurm, alone: None) -> None:
    bare_slurm.operator.kill_node("b2")
    bare_slurm.operator.stop_ctld()
    begin = time.monotonic()
    bare_slurm.operator.restore()
    bare_slurm.operator.restore()
    assert sorted(bare_slurm.run("srun", "-N2", "hostname").split()) == ["b1", "b2"]
    assert time.monotonic() - begin < 60


def test_the_operator_takes_orders_from_a_list_only(slurm: Slurm) -> None:
    with pytest.raises(ClusterError, match="is not CLUSTER VERB"):
        slurm.operator.kill_node("n1;reboot")
    with pytest.raises(ClusterError, match="is not CLUSTER VERB"):
        Operator("other").stop_ctld()


@pytest.fixture
def fake(tmp_path: Path) -> Cluster:
    """A cluster that is nothing but its locks."""

    class Folder(Cluster):
        @property
        def folder(self) -> Path:
            return tmp_path

    cluster = Folder("fake", "f", 1, "10.79.0", "none", 1, accounting=False, proctrack="linuxproc")
    locks.make(cluster)
    return cluster


def test_many_share_a_cluster(fake: Cluster) -> None:
    with locks.hold(fake, alone=False), locks.hold(fake, alone=False, seconds=0):
        pass


def test_alone_is_alone_and_nobody_waits_forever(fake: Cluster) -> None:
    with locks.hold(fake, alone=True), pytest.raises(ClusterError, match="still in use"), locks.hold(fake, alone=False, seconds=0.1):
        pass
    with locks.hold(fake, alone=False), pytest.raises(ClusterError, match="still in use"), locks.hold(fake, alone=True, seconds=0.1):
        pass
    with locks.hold(fake, alone=True, seconds=0):
        pass


def test_who_waits_to_be_alone_is_not_starved(fake: Cluster) -> None:
    """Others keep coming in, and never is there a moment without any of them."""
    stop = threading.Event()

    def use_in_turn(offset: float) -> None:
        time.sleep(offset)
        while not stop.is_set():
            with locks.hold(fake, alone=False, seconds=20):
                time.sleep(0.2)

    users = [threading.Thread(target=use_in_turn, args=(number * 0.05,)) for number in range(4)]
    for user in users:
        user.start()
    time.sleep(0.3)
    with locks.hold(fake, alone=True, seconds=10):
        stop.set()
    for user in users:
        user.join()
