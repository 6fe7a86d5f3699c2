"""Letting requeued jobs start soon: Slurm makes them wait for a credential's lifetime, two minutes unless a site changed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.kit import process

#: slurmd kills a job ("Job credential revoked", and it is lost) that starts in the second in which its last attempt's
#: credential was revoked, so there must be some seconds in between. Both are moments of slurmctld's clock.
SOON = "now+5"
_WORTH_IT_S = 15.0
_asked_for: set[tuple[str, str, int]] = set()  # the starts of jobs that this process has asked for


def hasten(jobs: Mapping[str, Mapping[str, Any]], now: float, env: Mapping[str, str], *, cluster: str = "") -> None:
    """Ask Slurm once for an early start of those that wait for nothing else: by id, the facts of their evidence."""
    where = [f"--cluster={cluster}"] if cluster else []
    for job, facts in jobs.items():
        start = (cluster, job, int(facts.get("restarts") or 0))
        if start not in _asked_for and _waits_in_vain(facts, now):
            _asked_for.add(start)
            process.run(["scontrol", *where, "update", f"jobid={job}", f"starttime={SOON}"], env=env, timeout=10)


def _waits_in_vain(facts: Mapping[str, Any], now: float) -> bool:
    requeued = facts.get("slurm_reason") == "BeginTime" and facts.get("state") == "PENDING" and bool(facts.get("restarts"))
    return requeued and float(facts.get("start") or 0.0) - now > _WORTH_IT_S
