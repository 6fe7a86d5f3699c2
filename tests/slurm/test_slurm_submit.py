"""Runs that go to a real Slurm: from submission to the record, on one node and on several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.onnode.record import get_json
from tests.slurm.conftest import START, verdict

if TYPE_CHECKING:
    from tests.slurm.conftest import ClusterSite


def test_a_multi_node_run(cluster: ClusterSite) -> None:
    """Each rank starts once, on its node, with a log of its own; metrics, outputs and usage are recorded."""
    run = cluster.send(
        "from hpcest import Run\nimport socket\nprint('rank', rank, 'of', os.environ['WORLD_SIZE'], 'on', os.environ['SLURMD_NODENAME'])\n"
        "Run.get_context().log('loss', 0.5)\nif rank == 0: open('outputs/model', 'w').write('weights')\n",
        "--nodes", "2", "-p", "2",
    )  # fmt: skip
    known = cluster.ended(run)

    assert verdict(known) == ("Completed", "", 0), (known, cluster.logs())
    assert cluster.starts(run) == ["0.0", "0.1", "0.2", "0.3"]
    said = [cluster.log(run, rank, ranks=4).split() for rank in range(4)]
    assert [line[:4] for line in said] == [["rank", str(rank), "of", "4"] for rank in range(4)]
    assert said[0][5] == said[1][5] != said[2][5] == said[3][5]
    assert 0.5 in (known["metrics"]["loss"] if isinstance(known["metrics"]["loss"], list) else [known["metrics"]["loss"]])
    assert (run.path / "outputs" / "model").read_text() == "weights"
    assert known["created"] <= known["queued"] <= known["started"] <= known["ended"]
    assert known["usage"]["elapsed_s"] > 0


def test_a_failing_program(cluster: ClusterSite) -> None:
    """Its exit code is the run's, and what 'hpcest wait' returns."""
    run = cluster.send("sys.exit(7)\n")
    known = cluster.ended(run)

    assert (verdict(known), known["exit_code"]) == (("Failed", "UserError", 0), 7)
    assert cluster.cli("wait", run.id).code == 7
    assert cluster.starts(run) == ["0.0"]


def test_a_permanent_refusal(cluster: ClusterSite) -> None:
    """sbatch's own words are shown at once, and the run says that it never started."""
    answer = cluster.send_at_once("", "-S", "partition=nowhere")

    assert "invalid partition specified: nowhere" in answer.refusal
    (row,) = cluster.runs()
    assert (row["status"], row["reason"]) == ("Failed", "LaunchFailed")
    assert "nowhere" in cluster.show(cluster.run(row["id"]))["message"]


def test_an_option_of_sbatch(cluster: ClusterSite) -> None:
    """-S reaches Slurm, and the script of record is what was submitted; nothing is there that nobody asked for."""
    run = cluster.send("", "-S", "comment=from a test", "-S", "hold")
    shown = cluster.slurm.run("scontrol", "show", "job", "-o", cluster.job(run))
    cluster.cli("cancel", run.id).ok()

    assert "Comment=from a test" in shown
    assert "JobState=PENDING" in shown
    script = run.script.read_text()
    assert "--comment='from a test'" in script or '--comment="from a test"' in script
    assert "wckey" not in script
    assert verdict(cluster.ended(run)) == ("Canceled", "", 0)
    assert cluster.starts(run) == []


def test_asking_before(cluster: ClusterSite) -> None:
    """--check has Slurm judge the job; nothing is recorded or queued."""
    assert "to start at" in cluster.send_at_once("", "--check").ok().out
    assert "nowhere" in cluster.send_at_once("", "--check", "-S", "partition=nowhere").err
    assert cluster.runs() == []


def test_a_second_job_of_the_name(cluster: ClusterSite) -> None:
    """Somebody submits the script of record again: the run is not run twice, and its verdict stays."""
    run = cluster.send("")
    cluster.ended(run)
    again = cluster.slurm.run("sbatch", "--parsable", "--wait", str(run.script), check=False).strip()

    assert again.isdigit()
    assert cluster.starts(run) == ["0.0"]
    assert verdict(cluster.show(run)) == ("Completed", "", 0)
    assert cluster.job(run) != again


def test_a_limit_on_jobs(cluster: ClusterSite, tmp_path: Path) -> None:
    """While the QOS takes no more jobs submission waits and says so; then the job goes in, once."""
    gate = tmp_path / "gate"
    waiting = f"while not os.path.exists({str(gate)!r}): time.sleep(0.1)\n"
    held = [cluster.send(waiting, "-S", "qos=tight") for _ in range(2)]
    for run in held:
        cluster.until_started(run)
    script = cluster.write(START)
    with open(tmp_path / "said", "wb") as said:
        third = cluster.start(
            "submit", script, "--env-var", f"STARTS={cluster.started}", "-S", "qos=tight",
            stdout=said, stderr=said,
        )  # fmt: skip
    cluster.until(lambda: "QOSMaxSubmitJobPerUserLimit" in (tmp_path / "said").read_text())
    assert third.poll() is None
    gate.touch()
    assert third.wait(60) == 0
    (last,) = (cluster.run(row["id"]) for row in cluster.runs() if row["id"] not in [run.id for run in held])

    assert verdict(cluster.ended(last)) == ("Completed", "", 0)
    assert cluster.starts(last) == ["0.0"]


def test_from_inside_a_job(cluster: ClusterSite) -> None:
    """A job that is submitted from within another one gets what it asks for, not what the other has."""
    inner = "print(os.environ['SLURM_CPUS_PER_TASK'], os.environ['SLURM_NTASKS'], len(os.environ['SLURM_JOB_NODELIST'].split(',')))\n"
    script = cluster.write(START + inner, "inner.py")
    options = ["--cpus", "2", "--env-var", f"STARTS={cluster.started}"]
    (cluster.source / "outer.sh").write_text('#!/bin/sh\nexec "$@"\n')
    out = cluster.root / "outer.log"
    cluster.slurm.run(
        "sbatch", "--wait", "-n3", "-c4", "-o", str(out).replace("%", "%%"), "--chdir", str(cluster.source),
        str(cluster.source / "outer.sh"), *cluster.argv("submit", script, *options),
    )  # fmt: skip
    (row,) = cluster.runs()
    run = cluster.run(row["id"])

    assert verdict(cluster.ended(run)) == ("Completed", "", 0), out.read_text()
    assert cluster.log(run).split() == ["2", "1", "1"]


def test_after_another_run(cluster: ClusterSite, tmp_path: Path) -> None:
    """A run waits for the end of another: for a good one, for any, or for a bad one."""
    gate = tmp_path / "gate"
    first = cluster.send(f"while not os.path.exists({str(gate)!r}): time.sleep(0.1)\nsys.exit(3)\n")
    never, any_end, failed = (cluster.send("", "--after", f"{first.id}{condition}") for condition in ("", ":any", ":failed"))
    cluster.until_started(first)
    assert [cluster.show(run)["status"] for run in (never, any_end, failed)] == ["Queued"] * 3
    gate.touch()

    assert verdict(cluster.ended(any_end)) == ("Completed", "", 0)
    assert verdict(cluster.ended(failed)) == ("Completed", "", 0)
    assert verdict(cluster.ended(never)) == ("Failed", "UpstreamFailed", 0)
    assert cluster.starts(never) == []
    assert cluster.slurm.run("squeue", "-h", "-o", "%i", "-n", get_json(str(never.launch))["job_name"]).strip() == ""
    assert os.path.getmtime(cluster.started / failed.id) >= os.path.getmtime(gate)
