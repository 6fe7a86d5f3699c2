"""Slurm itself fails under runs: nothing is lost, nothing runs twice, and no status lies."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcest.onnode.record import get_json
from tests.slurm.conftest import START, verdict

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from tests.slurm.conftest import ClusterSite


def until_open(gate: Path) -> str:
    """A program that waits for a file."""
    return f"while not os.path.exists({str(gate)!r}): time.sleep(0.1)\n"


@pytest.mark.usefixtures("alone")
def test_a_controller_of_slurm_that_is_down(cluster: ClusterSite, tmp_path: Path) -> None:
    """While slurmctld is down runs keep their status, which says how old it is; a submission waits, and goes in once."""
    gate, operator = tmp_path / "gate", cluster.slurm.operator
    running = cluster.send(until_open(gate))
    held = cluster.send("", "-S", "hold")
    cluster.until_started(running)
    job = cluster.job(held)
    operator.stop_ctld()
    late = cluster.start("submit", cluster.write(START, "late.py"), "--env-var", f"STARTS={cluster.started}", stdout=-1, stderr=-1)
    shown = [cluster.show(run) for run in (running, held)]
    cluster.until(lambda: "Slurm can't be asked since" in cluster.show(held)["message"])
    gate.touch()
    ended = cluster.ended(running)
    operator.start_ctld()
    out, err = late.communicate(timeout=90)
    last = cluster.run(out.decode().strip())
    assert late.returncode == 0, err
    cluster.slurm.run("scontrol", "release", job)

    assert [known["status"] for known in shown] == ["Running", "Queued"]
    assert verdict(ended) == ("Completed", "", 0)
    assert [verdict(cluster.ended(run)) for run in (held, last)] == [("Completed", "", 0)] * 2
    assert [cluster.starts(run) for run in (running, held, last)] == [["0.0"]] * 3


@pytest.mark.usefixtures("alone")
def test_a_start_without_slurmctld(cluster: ClusterSite, tmp_path: Path) -> None:
    """A run whose job has started, and whose srun finds no slurmctld, waits for it: it does not fail, and starts once."""
    gate, begun, operator = tmp_path / "gate", tmp_path / "begun", cluster.slurm.operator
    gate.touch()
    cluster.settings(setup=[f"touch '{begun}'; while test -e '{gate}'; do sleep 0.1; done"])
    run = cluster.send("")
    cluster.until(begun.exists)
    operator.stop_ctld()
    gate.unlink()
    cluster.until(lambda: any("Unable to" in log for log in cluster.logs()))
    operator.start_ctld()

    assert verdict(cluster.ended(run)) == ("Completed", "", 0), cluster.logs()
    assert cluster.starts(run) == ["0.0"]


@pytest.mark.usefixtures("alone")
def test_restarts_under_a_run(cluster: ClusterSite, tmp_path: Path) -> None:
    """slurmctld starts anew, and slurmdbd is away: runs go on, end and start as if nothing had been."""
    gate, operator = tmp_path / "gate", cluster.slurm.operator
    run = cluster.send(until_open(gate), "--nodes", "2")
    cluster.until_started(run, "0.0", "0.1")
    operator.stop_dbd()
    operator.restart_ctld()
    assert cluster.show(run)["status"] == "Running"
    other = cluster.send("sys.exit(2)\n")
    removed = cluster.send("time.sleep(300)\n")
    cluster.until_started(removed)
    cluster.slurm.run("scancel", cluster.job(removed))
    gate.touch()
    known = [cluster.ended(one) for one in (run, other, removed)]
    operator.start_dbd()

    assert [verdict(one) for one in known] == [("Completed", "", 0), ("Failed", "UserError", 0), ("Canceled", "", 0)]
    assert [cluster.starts(one) for one in (run, other)] == [["0.0", "0.1"], ["0.0"]]


@pytest.mark.usefixtures("alone")
def test_a_node_that_dies(cluster: ClusterSite) -> None:
    """A run that may starts again on it or elsewhere; one that may not has failed because of its node. So has one with ranks there."""
    first = "if attempt == 0: time.sleep(300)\n"
    again, once = (cluster.send(first, "-S", "nodelist=n3", "--max-requeues", most) for most in ("2", "0"))
    wide = cluster.send(first, "-S", "nodelist=n2,n3", "--nodes", "2", "--max-requeues", "0")
    for run in (again, once):
        cluster.until_started(run)
    cluster.until_started(wide, "0.0", "0.1")
    cluster.slurm.operator.kill_node("n3")
    assert {cluster.show(run)["status"] for run in (again, once)} == {"Running"}
    cluster.slurm.operator.start_node("n3")

    assert verdict(cluster.ended(once)) == ("Failed", "NodeFail", 0)
    assert verdict(cluster.ended(wide)) == ("Failed", "NodeFail", 0)
    assert verdict(cluster.ended(again)) == ("Completed", "", 1)
    assert [cluster.starts(run) for run in (again, once, wide)] == [["0.0", "1.0"], ["0.0"], ["0.0", "0.1"]]


def test_without_accounting(bare_cluster: ClusterSite) -> None:
    """sacct fails here, and every end is known all the same: a good one, a bad one, scancel by hand, a time limit."""
    cluster = bare_cluster
    limit = cluster.send("time.sleep(300)\n", "--time", "1")
    good = cluster.send("print('hello')\n", "--nodes", "2", "--mem", "50M")
    bad = cluster.send("sys.exit(3)\n")
    removed = cluster.send("time.sleep(300)\n")
    cluster.until_started(removed)
    cluster.slurm.run("scancel", cluster.job(removed))

    assert verdict(cluster.ended(good)) == ("Completed", "", 0)
    assert verdict(cluster.ended(bad)) == ("Failed", "UserError", 0)
    assert verdict(cluster.ended(removed)) == ("Canceled", "", 0)
    assert verdict(cluster.ended(limit)) == ("Failed", "TimedOut", 0)
    assert [cluster.starts(run) for run in (good, bad, removed, limit)] == [["0.0", "0.1"], ["0.0"], ["0.0"], ["0.0"]]


FAILED = "sbatch: error: Batch job submission failed:"
SBATCH = {
    "times out after accepting": '{sbatch} "$@" >/dev/null; echo "{failed} Socket timed out" >&2; exit 1',
    "prints a banner": 'echo "Welcome! 42 nodes are free"; {sbatch} "$@"; echo "Have a nice day, see ticket 7"',
    "prints garbage": '{sbatch} "$@" >/dev/null; echo "job accepted \\\\o/"',
    "says it in words": 'echo "Submitted batch job $({sbatch} "$@")"',
    "is busy at first": 'test -e {folder}/tried && exec {sbatch} "$@"; touch {folder}/tried; '
    'echo "{failed} Unable to contact slurm controller (connect failure)" >&2; exit 1',
}  # fmt: skip


@pytest.mark.parametrize("how", SBATCH)
def test_an_odd_sbatch(cluster: ClusterSite, tmp_path: Path, how: str) -> None:
    """Whatever sbatch answers, there is exactly one job, and the run knows it."""
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    words = {"{sbatch}": str(shutil.which("sbatch")), "{folder}": str(tmp_path), "{failed}": FAILED}
    fake.write_text("#!/bin/sh\n" + functools.reduce(lambda text, word: text.replace(word, words[word]), words, SBATCH[how]) + "\n")
    fake.chmod(0o755)
    answer = cluster.send_at_once("", "-S", "hold", env={"PATH": f"{fake.parent}:{os.environ['PATH']}"})
    run = cluster.run(answer.ok().out.strip())
    jobs = cluster.slurm.run("squeue", "-h", "-o", "%i", "-n", name_of(run)).split()

    assert jobs == [cluster.job(run)]
    cluster.slurm.run("scontrol", "release", *jobs)
    assert verdict(cluster.ended(run)) == ("Completed", "", 0)
    assert cluster.starts(run) == ["0.0"]


def name_of(run: RunFolder) -> str:
    """The run's job name."""
    return str(get_json(str(run.launch))["job_name"])


def test_a_submitter_that_is_killed(cluster: ClusterSite, tmp_path: Path) -> None:
    """It dies after sbatch has accepted the job, before it could write that down: the job is found by its name."""
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null; touch {tmp_path}/accepted; kill -9 $PPID\n')
    fake.chmod(0o755)
    gate = tmp_path / "gate"
    answer = cluster.send_at_once(until_open(gate), env={"PATH": f"{fake.parent}:{os.environ['PATH']}"})
    assert answer.code == -9
    (row,) = cluster.runs()
    run = cluster.run(row["id"])
    cluster.until_started(run)

    assert cluster.show(run)["status"] == "Running"
    gate.touch()
    assert verdict(cluster.ended(run)) == ("Completed", "", 0)
    assert cluster.starts(run) == ["0.0"]


def test_a_recycled_job_id(cluster: ClusterSite) -> None:
    """Another job of that id and another name says nothing of the run, and is not ended with it."""
    run = cluster.send("", "-S", "hold")
    stranger = cluster.slurm.run("sbatch", "--parsable", "-J", "stranger", "-o", "/dev/null", "--mem=10M", "--wrap", "sleep 60").strip()
    own = cluster.job(run)
    for path in (run.path / "events").glob("*.jsonl"):
        path.write_text(path.read_text().replace(f'"id":"{own}"', f'"id":"{stranger}"').replace(f'"id": "{own}"', f'"id": "{stranger}"'))
    assert cluster.job(run) == stranger
    cluster.until(lambda: "RUNNING" in cluster.slurm.run("squeue", "-h", "-o", "%T", "-j", stranger))

    assert cluster.show(run)["status"] != "Running"
    cluster.cli("cancel", run.id)
    assert "RUNNING" in cluster.slurm.run("squeue", "-h", "-o", "%T", "-j", stranger)
    cluster.slurm.run("scancel", stranger, own)
    assert cluster.starts(run) == []
