"""What the machine says of a run, as evidence: a verdict only where something proves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.contracts import Evidence
from hpcest.model.status import Reason, Status


def of(host: str, found: Mapping[str, Any], *, submitted: bool, shared: bool) -> Evidence:
    """The evidence in ``found``; ``submitted`` is whether the record has a job."""
    if not found["visible"]:
        if not submitted and not shared:
            return Evidence(Status.NOT_STARTED)
        return Evidence(message=f"its folder can't be seen on {host}: a file system that is not mounted?")
    if found["sentinel"]:
        return Evidence.from_sentinel(found["sentinel"])
    if found["claim"]:
        return _of_claim(host, found)
    return _of_waiting(host, found, submitted=submitted)


def _of_waiting(host: str, found: Mapping[str, Any], *, submitted: bool) -> Evidence:
    """Of a run that no controller has claimed."""
    mark = found["mark"] or {}
    if mark.get("canceled"):
        return Evidence(Status.CANCELED, message="canceled while it waited")
    if found["ahead"] is not None:
        before = f", {found['ahead']} before it" if found["ahead"] else ""
        return Evidence(Status.QUEUED, message=f"waits for a free slot on {host}{before}")
    if found["starting"]:
        return Evidence(Status.QUEUED, message="is being started")
    if mark:
        said = mark.get("error") or found["said"] or "it said nothing"
        return Evidence(Status.FAILED, Reason.LAUNCH_FAILED, f"its controller ended on {host} before it began: {said}")
    if not submitted:
        return Evidence(Status.NOT_STARTED)
    return Evidence(Status.FAILED, Reason.LOST, f"{host} does not have it any more and it never started; 'hpcest rerun' starts it")


def _of_claim(host: str, found: Mapping[str, Any]) -> Evidence:
    claim = found["claim"]
    facts = {"host": claim.get("host"), "pid": claim.get("pid")}
    if found["alive"]:
        return Evidence(Status.RUNNING, facts=facts)
    if found["alive"] is None:
        return Evidence(message=f"runs on {claim.get('host')}, and {host} is another machine now: only that one can tell", facts=facts)
    if found["restarted"]:
        message = f"{host} was restarted while it ran; 'hpcest rerun' starts it again"
        return Evidence(Status.FAILED, Reason.NODE_FAIL, message, facts=facts)
    message = f"its controller on {host} is gone and left no verdict: it was killed; 'hpcest rerun' starts it again"
    return Evidence(Status.FAILED, Reason.LOST, message, facts=facts)
