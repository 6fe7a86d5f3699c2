"""Runs inside batch scripts of the user's own: ``hpcest exec`` and ``hpcest script``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm.conftest import START, verdict

if TYPE_CHECKING:
    from tests.slurm.conftest import ClusterSite


def batch(cluster: ClusterSite, *lines: str) -> Path:
    """A batch script in the source directory; {hpcest} in it is the command, its output goes to job.log."""
    log = str(cluster.root / "job.log").replace("%", "%%")
    head = [
        "#!/bin/bash",
        f"#SBATCH --output={shlex.quote(log)}",
        "#SBATCH --mem=200M",
        f"export STARTS={shlex.quote(str(cluster.started))}",
    ]
    script = cluster.source / "job.sh"
    text = "\n".join([*head, *lines]).replace("{hpcest}", shlex.join(cluster.argv())) + "\n"
    script.write_text("\n".join(sorted(text.split("\n"), key=lambda line: not line.startswith("#"))))
    return script


def sbatch(cluster: ClusterSite, script: Path, *options: str, check: bool = True) -> str:
    """The id of the job, which has ended."""
    words = ("sbatch", "--parsable", "--wait", "--chdir", str(cluster.source), *options, str(script))
    return cluster.slurm.run(*words, check=check).strip()


def test_the_exit_code(cluster: ClusterSite) -> None:
    """That of the program is the command's; the run is recorded as failed, and the job is not touched."""
    cluster.write(START + "print('hello')\nsys.exit(4)\n")
    job = sbatch(cluster, batch(cluster, "{hpcest} exec -- python3 train.py", "echo code $?"))
    (row,) = cluster.runs()
    run = cluster.run(row["id"])
    known = cluster.show(run)

    said = (cluster.root / "job.log").read_text()
    assert "hello\n" in said
    assert "code 4\n" in said
    assert (verdict(known), known["exit_code"], known["job"]["id"]) == (("Failed", "UserError", 0), 4, job)
    assert cluster.log(run) == "hello\n"
    assert cluster.starts(run) == ["0.0"]


def test_two_nodes(cluster: ClusterSite) -> None:
    """All of the allocation is used, as one srun would."""
    cluster.write(START + "print(rank, os.environ['SLURMD_NODENAME'], flush=True)\n")
    sbatch(cluster, batch(cluster, "#SBATCH --nodes=2 --ntasks-per-node=2", "{hpcest} exec -- python3 train.py"))
    (row,) = cluster.runs()
    run = cluster.run(row["id"])

    assert verdict(cluster.show(run)) == ("Completed", "", 0), (cluster.root / "job.log").read_text()
    assert cluster.starts(run) == ["0.0", "0.1", "0.2", "0.3"]
    assert len({cluster.log(run, rank, ranks=4).split()[1] for rank in range(4)}) == 2


def test_two_commands_in_one_job(cluster: ClusterSite) -> None:
    """Each is a run of its own."""
    cluster.write(START)
    sbatch(cluster, batch(cluster, "{hpcest} exec --name one -- python3 train.py && {hpcest} exec --name two -- python3 train.py"))
    rows = cluster.runs()

    assert sorted(cluster.show(cluster.run(row["id"]))["display_name"] for row in rows) == ["one", "two"]
    assert [row["status"] for row in rows] == ["Completed"] * 2
    assert [cluster.starts(cluster.run(row["id"])) for row in rows] == [["0.0"]] * 2


def test_requeue(cluster: ClusterSite) -> None:
    """A job that Slurm starts again goes on with attempt 1 of the same run."""
    cluster.write(START + "print('attempt', attempt, flush=True)\nif attempt == 0: time.sleep(300)\n")
    script = batch(cluster, "#SBATCH --requeue --open-mode=append", "{hpcest} exec -- python3 train.py")
    job = cluster.slurm.run("sbatch", "--parsable", "--chdir", str(cluster.source), str(script)).strip()
    cluster.until(lambda: any("0.0" in path.read_text() for path in cluster.started.iterdir()))
    (row,) = cluster.runs()
    run = cluster.run(row["id"])
    cluster.slurm.run("scontrol", "requeue", job)
    known = cluster.ended(run)

    assert verdict(known) == ("Completed", "", 1), (known, (cluster.root / "job.log").read_text())
    assert len(cluster.runs()) == 1
    assert cluster.starts(run) == ["0.0", "1.0"]
    assert cluster.log(run, attempt=1) == "attempt 1\n"


def test_canceling_leaves_the_job_alone(cluster: ClusterSite) -> None:
    """'hpcest cancel' of the run ends the program; the user's script goes on."""
    cluster.write(START + "time.sleep(300)\n")
    script = batch(cluster, "{hpcest} exec -- python3 train.py; echo after")
    job = cluster.slurm.run("sbatch", "--parsable", "--chdir", str(cluster.source), str(script)).strip()
    cluster.until(lambda: any("0.0" in path.read_text() for path in cluster.started.iterdir()))
    (row,) = cluster.runs()
    run = cluster.run(row["id"])
    cluster.cli("cancel", run.id).ok()

    assert cluster.ended(run)["status"] == "Canceled"
    cluster.until(lambda: "after" in (cluster.root / "job.log").read_text())
    cluster.until(lambda: "COMPLETED" in cluster.slurm.run("scontrol", "show", "job", "-o", job))


def test_a_printed_script(cluster: ClusterSite) -> None:
    """'hpcest script' prints what sbatch takes; submitted, it is a recorded run of the source as it was."""
    script = cluster.write(START + "print('as it was')\n")
    text = cluster.cli("script", script, "--nodes", "2", "--name", "printed", "--env-var", f"STARTS={cluster.started}").ok().out
    script.write_text("raise SystemExit('changed')\n")
    (cluster.source / "job.sbatch").write_text(text)
    sbatch(cluster, cluster.source / "job.sbatch")
    (row,) = cluster.runs()
    run = cluster.run(row["id"])

    assert verdict(cluster.show(run)) == ("Completed", "", 0)
    assert cluster.show(run)["display_name"] == "printed"
    assert [cluster.log(run, rank, ranks=2) for rank in (0, 1)] == ["as it was\n"] * 2
    assert cluster.starts(run) == ["0.0", "0.1"]
