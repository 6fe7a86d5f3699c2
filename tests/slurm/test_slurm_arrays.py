"""Many runs submitted together: job arrays, each task of which is an ordinary run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm.conftest import verdict

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from tests.slurm.conftest import ClusterSite


def send_array(cluster: ClusterSite, program: str, array: str, *options: str) -> list[RunFolder]:
    """The runs of an array."""
    return [cluster.run(line) for line in cluster.send_at_once(program, "--array", array, *options).ok().out.split()]


def test_500_runs_at_once(cluster: ClusterSite) -> None:
    """One job array; each run has its own index, and what was canceled never starts."""
    runs = send_array(cluster, "", "0-499", "-S", "hold", "--mem", "10M")
    jobs = cluster.slurm.run("squeue", "-h", "-o", "%i %K", "--me", "-n", name_of(cluster, runs[0])).splitlines()
    rows = {row["id"]: row for row in cluster.runs()}

    assert len(runs) == len({run.id for run in runs}) == len(rows) == 500
    assert len(jobs) == 1, jobs
    assert "0-499" in jobs[0]
    assert {row["status"] for row in rows.values()} == {"Queued"}
    kept = (0, 250, 499)
    cluster.cli("cancel", *(run.id for number, run in enumerate(runs) if number not in kept)).ok()
    array = cluster.job(runs[0]).partition("_")[0]
    for number in kept:
        cluster.slurm.run("scontrol", "release", f"{array}_{number}")
    assert [verdict(cluster.ended(runs[number])) for number in kept] == [("Completed", "", 0)] * 3
    cluster.until(lambda: {row["status"] for row in cluster.runs()} == {"Completed", "Canceled"})
    assert sorted(path.name for path in cluster.started.iterdir()) == sorted(runs[number].id for number in kept)
    assert [cluster.show(runs[number])["spec"]["environment_variables"]["HPCEST_ARRAY_INDEX"] for number in kept] == ["0", "250", "499"]


def name_of(cluster: ClusterSite, run: RunFolder) -> str:
    """The job name of a run."""
    return str(cluster.show(run)["job"]["name"])


def test_indexes_and_one_failure(cluster: ClusterSite) -> None:
    """Each task sees its own index; one that fails is one failed run."""
    runs = send_array(cluster, "print(os.environ['HPCEST_ARRAY_INDEX'])\nsys.exit(os.environ['HPCEST_ARRAY_INDEX'] == '7')\n", "3,5-9:2")
    known = [cluster.ended(run) for run in runs]

    assert [cluster.log(run).strip() for run in runs] == ["3", "5", "7", "9"]
    assert [one["exit_code"] for one in known] == [0, 0, 1, 0]
    assert [one["status"] for one in known] == ["Completed", "Completed", "Failed", "Completed"]
    assert [cluster.starts(run) for run in runs] == [["0.0"]] * 4
    assert len({cluster.job(run).partition("_")[0] for run in runs}) == 1


def test_canceling_one_task(cluster: ClusterSite) -> None:
    """The others go on; and the last task alone, whose plain job id is the array's own, takes no other with it."""
    runs = send_array(cluster, "time.sleep(300)\n", "0-2")
    for run in runs:
        cluster.until_started(run)
    for gone in (2, 1):
        cluster.cli("cancel", runs[gone].id).ok()
        assert verdict(cluster.ended(runs[gone])) == ("Canceled", "", 0)
        assert [cluster.show(run)["status"] for run in runs[:gone]] == ["Running"] * gone
    cluster.cli("cancel", runs[0].id).ok()
    assert verdict(cluster.ended(runs[0])) == ("Canceled", "", 0)


def test_requeue_of_one_task(cluster: ClusterSite) -> None:
    """It starts again alone."""
    runs = send_array(
        cluster, "if attempt == 0: time.sleep(300 if os.environ['HPCEST_ARRAY_INDEX'] == '1' else 12)\n", "0-1", "--max-requeues", "2"
    )
    for run in runs:
        cluster.until_started(run)
    cluster.slurm.run("scontrol", "requeue", cluster.job(runs[1]))

    assert verdict(cluster.ended(runs[1])) == ("Completed", "", 1)
    assert verdict(cluster.ended(runs[0])) == ("Completed", "", 0)
    assert [cluster.starts(run) for run in runs] == [["0.0"], ["0.0", "1.0"]]


def test_a_concurrency_limit(cluster: ClusterSite) -> None:
    """No more tasks run at once than were allowed."""
    busy = cluster.root / "busy"
    busy.mkdir()
    program = (
        f"os.chdir({str(busy)!r})\nmine = str(os.getpid())\nopen(mine, 'w').close()\nprint(len(os.listdir('.')))\n"
        "time.sleep(0.5)\nos.unlink(mine)\n"
    )
    runs = send_array(cluster, program, "0-4%2")
    known = [cluster.ended(run) for run in runs]

    assert [one["status"] for one in known] == ["Completed"] * 5
    counts = [int(cluster.log(run)) for run in runs]
    assert max(counts) <= 2, counts
    assert cluster.starts(runs[4]) == ["0.0"]


def test_a_small_limit_on_arrays(cluster: ClusterSite, tmp_path: Path) -> None:
    """More runs than MaxArraySize become several arrays; each run still has its own index."""
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n{shutil.which("scontrol")} "$@" | sed "s/^MaxArraySize .*/MaxArraySize = 3/"\n')
    fake.chmod(0o755)
    path = {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    said = cluster.send_at_once("print(os.environ['HPCEST_ARRAY_INDEX'])\n", "--array", "0-6", env=path).ok().out
    runs = [cluster.run(line) for line in said.split()]

    assert [verdict(cluster.ended(run)) for run in runs] == [("Completed", "", 0)] * 7
    assert [cluster.log(run).strip() for run in runs] == [*"0123456"]
    jobs = [cluster.job(run).split("_") for run in runs]
    assert [number for _, number in jobs] == ["0", "1", "2", "0", "1", "2", "0"]
    assert len({job for job, _ in jobs}) == 3
    assert [cluster.starts(run) for run in runs] == [["0.0"]] * 7
