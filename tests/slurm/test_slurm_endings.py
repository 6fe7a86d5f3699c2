"""How runs on a real Slurm end, and what is said of it: the true status and reason, soon, and nothing is left running."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from hpcest.model.folders import RunFolder
from hpcest.onnode.record import get_json
from tests.slurm.conftest import verdict

if TYPE_CHECKING:
    from tests.slurm.conftest import ClusterSite

HANG = "time.sleep(300)\n"
READY = "print('ready', flush=True)\n"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def processes_of(run: RunFolder) -> list[str]:
    """The pids of the run's processes, on whatever node: all nodes of the test cluster share one list of processes."""
    mark, found = b"HPCEST_RUN_ID=" + run.id.encode(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                found += [pid] if mark in environ.read().split(b"\0") else []
        except OSError:
            pass
    return found


def test_a_rank_that_fails_while_others_hang(cluster: ClusterSite) -> None:
    """The others are ended at once, and the verdict names the one that failed, with its code."""
    run = cluster.send("if rank == 2: time.sleep(1); sys.exit(1)\n" + HANG, "--nodes", "2", "-p", "2")
    cluster.until_started(run, "0.0", "0.1", "0.2", "0.3")
    began = time.monotonic()
    known = cluster.ended(run)

    assert (verdict(known), known["exit_code"]) == (("Failed", "UserError", 0), 1)
    assert "rank 2" in known["message"]
    assert time.monotonic() - began < 60
    assert cluster.starts(run) == ["0.0", "0.1", "0.2", "0.3"]
    assert processes_of(run) == []


def test_canceling_a_pending_run(cluster: ClusterSite) -> None:
    """It leaves the queue, and never starts."""
    run = cluster.send(HANG, "-S", "hold")
    assert cluster.show(run)["status"] == "Queued"
    began = time.monotonic()
    cluster.cli("cancel", run.id).ok()

    assert verdict(cluster.ended(run)) == ("Canceled", "", 0)
    assert time.monotonic() - began < 60
    assert cluster.slurm.run("squeue", "-h", "-j", cluster.job(run), check=False) == ""
    assert cluster.starts(run) == []


def test_canceling_a_running_run(cluster: ClusterSite) -> None:
    """Each rank gets TERM and has time for its last words."""
    tidy = "def end(*_):\n    print('bye', flush=True)\n    sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\n" + READY + HANG
    run = cluster.send(tidy, "--nodes", "2")
    cluster.until(lambda: len([*run.user_logs.glob("*")]) == 2 and all("ready" in path.read_text() for path in run.user_logs.glob("*")))
    cluster.cli("cancel", run.id).ok()

    assert verdict(cluster.ended(run)) == ("Canceled", "", 0)
    assert [cluster.log(run, rank, ranks=2).split() for rank in (0, 1)] == [["ready", "bye"]] * 2
    assert processes_of(run) == []


def test_a_program_that_ignores_term(cluster: ClusterSite) -> None:
    """After its grace it is killed."""
    run = cluster.send(DEAF + READY + HANG)
    cluster.until(lambda: run.rank_log(0).exists() and "ready" in cluster.log(run))
    began = time.monotonic()
    cluster.cli("cancel", run.id).ok()

    assert verdict(cluster.ended(run)) == ("Canceled", "", 0)
    assert 3 <= time.monotonic() - began < 60
    assert processes_of(run) == []


def test_scancel_by_hand(cluster: ClusterSite) -> None:
    """Whoever ends the job with Slurm's own command has canceled the run: gentle, deaf, or still waiting."""
    gentle, deaf = cluster.send(HANG, "--nodes", "2"), cluster.send(DEAF + READY + HANG)
    waiting = cluster.send(HANG, "-S", "hold")
    cluster.until_started(gentle, "0.0", "0.1")
    cluster.until(lambda: deaf.rank_log(0).exists() and "ready" in cluster.log(deaf))
    cluster.slurm.run("scancel", *(cluster.job(run) for run in (gentle, deaf, waiting)))

    assert [verdict(cluster.ended(run)) for run in (gentle, deaf, waiting)] == [("Canceled", "", 0)] * 3
    assert (cluster.starts(deaf), cluster.starts(waiting)) == (["0.0"], [])
    assert processes_of(gentle) == processes_of(deaf) == []


def test_too_much_memory(cluster: ClusterSite) -> None:
    """The kernel kills the program, and the run says why."""
    run = cluster.send("if rank == 1: hog = bytearray(400 << 20)\n" + HANG, "--mem", "100M", "--nodes", "2")
    known = cluster.ended(run)

    assert verdict(known) == ("Failed", "OutOfMemory", 0), (known, cluster.logs())
    assert "--mem" in known["message"] + cluster.cli("explain", run.id).ok().out
    assert cluster.starts(run) == ["0.0", "0.1"]


def test_a_killed_controller(cluster: ClusterSite) -> None:
    """SIGKILL to the controller: Slurm ends what it leaves, and the run has failed; it isn't Completed, nor running for ever."""
    run = cluster.send(HANG)
    cluster.until_started(run)
    claim = get_json(str(run.claim(0)))
    os.kill(claim["pid"], signal.SIGKILL)
    known = cluster.ended(run)

    assert verdict(known) == ("Failed", "Signaled", 0), known
    assert cluster.starts(run) == ["0.0"]
    assert processes_of(run) == []


def test_preemption(cluster: ClusterSite) -> None:
    """What is pushed out starts again in the same run if it may; else it says that it was preempted."""
    node = "n4"
    wait = "if attempt == 0: time.sleep(300)\n"
    small = ["-S", "partition=preempt", "-S", f"nodelist={node}", "--cpus", "2"]
    again, once = (cluster.send(wait, *small, "--max-requeues", most) for most in ("1", "0"))
    for run in (again, once):
        cluster.until_started(run)
    urgent = cluster.send("time.sleep(1)\n", "-S", "partition=urgent", "-S", f"nodelist={node}", "--cpus", "8")

    assert verdict(cluster.ended(urgent)) == ("Completed", "", 0)
    assert verdict(cluster.ended(once)) == ("Failed", "Preempted", 0)
    assert verdict(cluster.ended(again)) == ("Completed", "", 1), cluster.logs()
    assert (cluster.starts(again), cluster.starts(once)) == (["0.0", "1.0"], ["0.0"])
