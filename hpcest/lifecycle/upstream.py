"""Runs that have to end before another may start."""

from __future__ import annotations

from typing import Any

from hpcest.contracts import Backend
from hpcest.errors import SpecError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.watch import Seen, look
from hpcest.model.spec import RunSpec, Upstream
from hpcest.model.status import Status

#: Condition → whether a run that ended with this status meets it.
CONDITIONS = {
    "ok": lambda status: status is Status.COMPLETED,
    "any": lambda status: True,
    "failed": lambda status: status is not Status.COMPLETED,
}


def jobs_before(context: Context, spec: RunSpec, backend: Backend) -> list[dict[str, Any]]:
    """What the scheduler has to wait for: run, condition and job id of each upstream run that has not ended.

    Raises SpecError for one that can't be waited for, or ended so that its condition will never hold.
    """
    if not spec.after:
        return []
    folders = {one.run: context.workspace.run(one.run) for one in spec.after}
    for run_id, folder in folders.items():
        if not folder.header.is_file():
            raise SpecError(f"there is no run {run_id!r} to come after", hint="give its whole id: see 'hpcest runs'")
    seen = look(context, folders.values())
    return [job for one in spec.after if (job := _job(one, seen[one.run], backend))]


def _job(one: Upstream, seen: Seen, backend: Backend) -> dict[str, Any] | None:
    if one.condition not in CONDITIONS:
        raise SpecError(f"after {one.run}: condition {one.condition!r} is not known", hint=f"allowed: {', '.join(CONDITIONS)}")
    if seen.finished:
        if CONDITIONS[one.condition](seen.status):
            return None
        raise SpecError(f"run {one.run} ended as {seen.status}, so a run that waits for it ({one.condition}) would never start")
    job = seen.state.job or {}
    if not backend.orders or job.get("backend") != backend.name or not job.get("id"):
        raise SpecError(
            f"a run on {backend.name!r} can't wait for run {one.run}, which is {seen.status} on {job.get('backend') or 'no backend yet'}",
            hint=f"wait for it first: hpcest wait {one.run}",
        )
    return {"run": one.run, "condition": one.condition, "id": str(job["id"])}
