"""Runs that start again: before their time limit, by hand, and not more often than they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.slurm.conftest import verdict

if TYPE_CHECKING:
    from tests.slurm.conftest import ClusterSite

CHECKPOINT = """\
state = f'outputs/{rank}'
got = open(state).read() if os.path.exists(state) else ''
def save(*_):
    open(state, 'a').write(f'{attempt}')
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
print('goes on from', got or 'nothing', flush=True)
if attempt < LAST: time.sleep(300)
"""


def test_time_limits(cluster: ClusterSite) -> None:
    """With requeue every rank gets its signal, writes a checkpoint and finds it again; max_requeues is the end of it.

    Without requeue the signal is a warning, and a run that doesn't heed it has TimedOut. All at once, since
    Slurm's shortest time limit is a minute.
    """
    early = ["--time", "1", "--nodes", "2", "--signal", "USR1@35"]  # an attempt has 25 seconds, also on a busy machine
    again = cluster.send(CHECKPOINT.replace("LAST", "1"), *early, "--max-requeues", "3")
    told = cluster.send(CHECKPOINT.replace("LAST", "9"), *early, "--max-requeues", "0")
    limit = cluster.send("time.sleep(300)\n", "--time", "1", "--nodes", "2", "--max-requeues", "0")
    shown = cluster.ended(again)

    assert verdict(shown) == ("Completed", "", 1), (shown, cluster.logs())
    assert cluster.starts(again) == ["0.0", "0.1", "1.0", "1.1"]
    assert [cluster.log(again, rank, 1, ranks=2) for rank in (0, 1)] == ["goes on from 0\n"] * 2
    assert [cluster.log(again, rank, ranks=2) for rank in (0, 1)] == ["goes on from nothing\n"] * 2
    assert verdict(cluster.ended(told)) == ("Failed", "TimedOut", 0)
    assert (cluster.starts(told), [(told.path / "outputs" / rank).read_text() for rank in "01"]) == (["0.0", "0.1"], ["0", "0"])
    assert verdict(cluster.ended(limit)) == ("Failed", "TimedOut", 0)
    assert cluster.starts(limit) == ["0.0", "0.1"]


def test_checkpoints_without_cgroups(bare_cluster: ClusterSite) -> None:
    """Where Slurm follows processes by their parents the signal reaches each rank's program all the same, and it alone."""
    program = "import subprocess\nchild = subprocess.Popen(['sleep', '300'])\n" + CHECKPOINT.replace("LAST", "1")
    early = ["--time", "1", "--nodes", "2", "--signal", "USR1@35", "--max-requeues", "1"]
    run = bare_cluster.send(program.replace("sys.exit(0)", "print(child.poll(), flush=True); child.kill(); sys.exit(0)"), *early)

    assert verdict(bare_cluster.ended(run)) == ("Completed", "", 1), bare_cluster.logs()
    assert bare_cluster.starts(run) == ["0.0", "0.1", "1.0", "1.1"]
    assert [bare_cluster.log(run, rank, ranks=2) for rank in (0, 1)] == ["goes on from nothing\nNone\n"] * 2
    assert [bare_cluster.log(run, rank, 1, ranks=2) for rank in (0, 1)] == ["goes on from 0\n"] * 2


def test_requeue_by_hand(cluster: ClusterSite) -> None:
    """'scontrol requeue' makes the next attempt of the same run; one more than max_requeues does not start the program."""
    run = cluster.send("time.sleep(300)\n", "--max-requeues", "1")
    cluster.until_started(run)
    cluster.slurm.run("scontrol", "requeue", cluster.job(run))
    cluster.until_started(run, "1.0")
    assert (cluster.show(run)["status"], cluster.show(run)["attempt"]) == ("Running", 1)
    cluster.slurm.run("scontrol", "requeue", cluster.job(run))
    known = cluster.ended(run)

    assert known["status"] == "Failed", known
    assert "max_requeues=1" in known["message"]
    assert cluster.starts(run) == ["0.0", "1.0"]


def test_the_wait_after_a_requeue(bare_cluster: ClusterSite) -> None:
    """Where Slurm would let a job wait for two minutes it starts within seconds, and not so soon that slurmd refuses it."""
    run = bare_cluster.send("if attempt < 2: time.sleep(300)\n", "--max-requeues", "3")

    def requeue_when_begun(start: str) -> None:
        bare_cluster.until(lambda: bare_cluster.show(run) and start in bare_cluster.starts(run))  # looking is what hastens it
        bare_cluster.slurm.run("scontrol", "requeue", bare_cluster.job(run))

    requeue_when_begun("0.0")
    requeue_when_begun("1.0")

    assert verdict(bare_cluster.ended(run)) == ("Completed", "", 2)
    assert bare_cluster.starts(run) == ["0.0", "1.0", "2.0"]


def test_canceling_a_second_attempt(cluster: ClusterSite) -> None:
    """'hpcest cancel' while the job waits to start again ends it for good."""
    run = cluster.send("time.sleep(300)\n", "--max-requeues", "5")
    cluster.until_started(run)
    cluster.slurm.run("scontrol", "requeuehold", cluster.job(run))
    cluster.until(lambda: "PENDING" in cluster.slurm.run("squeue", "-h", "-o", "%T", "-j", cluster.job(run)))
    cluster.until(lambda: cluster.show(run)["status"] == "Queued")
    cluster.cli("cancel", run.id).ok()

    assert cluster.ended(run)["status"] == "Canceled"
    assert cluster.starts(run) == ["0.0"]
