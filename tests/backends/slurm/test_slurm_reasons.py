"""Each reason for which a job waits becomes a sentence for people, with the remedy, the estimate and Slurm's own word."""

from __future__ import annotations

import time

import pytest

from hpcest.backends.slurm.queries import JobView
from hpcest.backends.slurm.reasons import pending
from hpcest.backends.slurm.site import Site

SITE = Site(version=(22, 5, 8))


def waits(reason: str, start: float | None = None) -> JobView:
    return JobView("7", "train.abc", "PENDING", reason, start)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "higher priority"),
        ("Resources", "is next"),
        ("None", "waits"),
        ("", "waits"),
        ("JobHeldUser", "scontrol release 7"),
        ("launch_failed_requeued_held", "scontrol release 7"),
        ("JobHeldAdmin", "administrator"),
        ("QOSMaxSubmitJobPerUserLimit", "jobs that may be in the queue"),
        ("QOSMaxJobsPerUserLimit", "jobs that may run at once"),
        ("QOSMaxCpuPerUserLimit", "cores"),
        ("QOSMaxGRESPerUser", "GPUs"),
        ("QOSGrpNodeLimit", "together with others"),
        ("QOSMaxWallDurationPerJobLimit", "time"),
        ("QOSMinGRES", "less than"),
        ("AssocGrpCPUMinutesLimit", "used up"),
        ("AssocGrpMemLimit", "memory"),
        ("AssocMaxJobsLimit", "its account"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-4]", "n[1-4]"),
        ("ReqNodeNotAvail,_UnavailableNodes:n3", "n3"),
        ("PartitionTimeLimit", "--time"),
        ("PartitionNodeLimit", "--nodes"),
        ("BadConstraints", "--constraint"),
        ("JobArrayTaskLimit", "array"),
        ("Reservation", "scontrol show reservation"),
        ("Licenses", "licence"),
        ("BeginTime", "may not start yet"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_each_pending_reason_has_a_sentence_and_slurms_word(reason: str, words: str) -> None:
    said = pending(waits(reason), SITE)
    assert words in said
    assert reason in said or reason in ("", "None")


def test_an_estimate_is_told_where_there_is_one() -> None:
    soon = time.time() + 3600
    said = pending(waits("Priority", soon), SITE)
    assert said.endswith("; Slurm expects it to start at " + time.strftime("%H:%M", time.localtime(soon)))
    assert "expects" not in pending(waits("Priority", time.time() - 5), SITE)
    assert time.strftime("%Y-%m-%d ", time.localtime(soon + 864000)) in pending(waits("", soon + 864000), SITE)
