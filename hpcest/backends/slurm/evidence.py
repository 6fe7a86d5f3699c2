"""What is true of a run: the claims and sentinels in its folder first, then Slurm's word. Unknown is never the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcest.backends.slurm import reasons
from hpcest.backends.slurm.case import SILENT_S, Case, read
from hpcest.backends.slurm.polling import Answer
from hpcest.backends.slurm.queries import JobView
from hpcest.backends.slurm.site import Site
from hpcest.backends.slurm.states import End, meaning
from hpcest.contracts import Evidence
from hpcest.kit.lease import span
from hpcest.model.folders import RunFolder
from hpcest.model.status import Reason, Status
from hpcest.onnode import processes

#: A network file system may show the sentinel so much later than Slurm shows the end.
LATE_S, LATE_COMPLETED_S = 20.0, 60.0
#: What is missing everywhere is not concluded to be lost before that.
LOST_S = 300.0
#: The same where there is an accounting that can't be asked: it may come back, and know.
UNACCOUNTED_LOST_S = 3600.0
#: After KillWait a job that Slurm requeues is back in the queue within this time.
REQUEUE_S = 30.0


def evidence(folder: RunFolder, job: Mapping[str, Any], answer: Answer, site: Site, now: float) -> Evidence:
    """What is known of a run at ``now``. Changes nothing, asks nobody; reads the run's state folder.

    ``job`` are the facts that ``submit`` returned. Where it could not record them, the job is found by its name: the one in
    the launch manifest, or ``name`` (and the number ``task`` of an array) in ``job``. ``facts["job"]`` then has what is to
    be recorded; ``facts["hopeless"]`` is true for a job that waits for what can't come any more.
    """
    case = read(folder, Case(job, None, answer, site, now))
    case = replace(case, view=_of_this_attempt(_own(case.job, answer), case.attempt))
    found = _verdict(case)
    if answer.problem and case.view is not None and not (found.status and found.status.finished):
        found = replace(found, message="; ".join(filter(None, [found.message, _unasked(case).message])))
    facts = _facts(case)
    if not job.get("id") and case.view is not None:
        facts["job"] = {"id": case.view.id, "name": case.view.name, "submitted": case.view.submitted}
    return replace(found, attempt=found.attempt or max(case.attempt, 0), facts={**facts, **found.facts})


def proof(folder: RunFolder) -> Evidence | None:
    """How a run ended, by the final word of its newest attempt's controller; None without one. Asks nobody."""
    case = read(folder, Case({"id": "?"}, None, Answer(), Site(), 0.0))
    return Evidence.from_sentinel(case.sentinel) if case.sentinel is not None and _is_final(case.sentinel) else None


def _is_final(sentinel: Mapping[str, Any]) -> bool:
    """Whether the controller knew how the run ended, and nothing is to come."""
    return bool(sentinel.get("final", True)) and not sentinel.get("requeue")


def _own(job: Mapping[str, Any], answer: Answer) -> JobView | None:
    """The run's own job, by id and name, or by its name alone where the id was never recorded."""
    name = str(job.get("name") or "")
    if job.get("id"):
        return answer.of(str(job["id"]), name)
    if not name:
        return None
    task = job.get("task")
    same = [view for view in answer.named(name) if task is None or view.id.endswith(f"_{task}")]
    return max(same, key=lambda view: (view.submitted or 0.0, view.id)) if same else None


def _of_this_attempt(view: JobView | None, attempt: int) -> JobView | None:
    """``view``, unless it is from before the run's newest attempt began."""
    old = view is not None and view.source == "squeue" and view.restarts is not None and view.restarts < attempt
    return None if old else view


def _verdict(case: Case) -> Evidence:
    sentinel, view = case.sentinel, case.view
    if sentinel is not None and _is_final(sentinel):
        return _refined(Evidence.from_sentinel(sentinel), view)
    if case.job.get("attached"):
        return _of_attached(case)
    if view is None:
        return _of_missing(case)
    end = meaning(view.state).end
    if end is not End.NO:
        return _of_end(case, view, end)
    return _of_living(case, view)


def _refined(found: Evidence, view: JobView | None) -> Evidence:
    """What the controller saw is the truth; where Slurm has a cause that it can't see, the sentence names it."""
    if view is None or found.status is Status.COMPLETED or view.state not in ("OUT_OF_MEMORY", "TIMEOUT", "NODE_FAIL", "PREEMPTED"):
        return found
    if found.reason is meaning(view.state).reason:
        return found
    return replace(found, message=f"{found.message or 'it failed'} (Slurm says {view.state})")


# ------------------------------------------------------------------ the job is in the queue


def _of_living(case: Case, view: JobView) -> Evidence:
    status = meaning(view.state).status
    over = case.sentinel is not None and (view.restarts or 0) <= case.attempt  # Slurm hasn't started another one
    if status is Status.QUEUED:
        return _queued(case, view)
    if status is None:
        known = Status.RUNNING if case.beating else None
        return Evidence(known, message=f"Slurm says {view.state or 'nothing'}, which this version of hpcest doesn't know")
    if over and case.sentinel is not None:
        again = bool(case.sentinel.get("requeue"))
        message = "is being put back into the queue" if again else f"has ended on {view.nodes}; Slurm has not said why yet"
        return Evidence(Status.QUEUED if again else Status.FINALIZING, message=message, attempt=case.attempt + again)
    if status is Status.FINALIZING and (view.restarts or 0) > case.attempt >= 0:
        return Evidence(Status.QUEUED, message="is being put back into the queue", attempt=case.next)
    if status is Status.FINALIZING:
        return Evidence(status, message=f"Slurm is tidying up after it on {view.nodes}")
    if case.claim is None or case.attempt < (view.restarts or 0):
        return _starting(case, view)
    return _running(case)


def _queued(case: Case, view: JobView) -> Evidence:
    if view.reason == "DependencyNeverSatisfied":
        message = f"job {view.id} {reasons.pending(view, case.site)}"
        return Evidence(Status.FAILED, Reason.UPSTREAM_FAILED, message, facts={"hopeless": True})
    if case.beating and case.beat > case.answer.asked:  # it has started since
        return _running(case)
    if view.state == "CONFIGURING":
        return Evidence(Status.QUEUED, message=f"its nodes {view.nodes} are being prepared".replace("  ", " "), attempt=case.next)
    return Evidence(Status.QUEUED, message=reasons.pending(view, case.site), attempt=case.next)


def _starting(case: Case, view: JobView) -> Evidence:
    """Slurm has started the job; its controller hasn't said so."""
    waited = case.now - (view.start or case.now)
    if waited <= SILENT_S:
        return Evidence(Status.QUEUED, message=f"is being started on {view.nodes}", attempt=case.next)
    message = f"Slurm started it on {view.nodes} {span(waited)} ago, but its controller has given no sign; see its controller log"
    return Evidence(Status.NOT_RESPONDING, message=message, attempt=case.next)


def _running(case: Case) -> Evidence:
    host = (case.claim or {}).get("host") or (case.view.nodes if case.view else "")
    if case.silent <= SILENT_S:
        return Evidence(Status.RUNNING, message=_pause(case.view) or _cut_off(case))
    if case.view is not None and case.view.state in ("SUSPENDED", "STOPPED"):
        return Evidence(Status.RUNNING, message=_pause(case.view))
    message = f"{host}, on which it runs, gave no sign for {span(case.silent)}, and Slurm has not noticed yet; see: sinfo -N -n {host}"
    return Evidence(Status.NOT_RESPONDING, message=message)


def _cut_off(case: Case) -> str:
    """Nodes that give no sign while the controller does: Slurm takes minutes to notice, and their ranks may be gone."""
    quiet = sorted(node for node, seen in case.pulses.items() if case.now - seen > SILENT_S)
    if not quiet:
        return ""
    silent = span(case.now - max(case.pulses[node] for node in quiet))
    return f"{', '.join(quiet)} gave no sign for {silent}, and Slurm has not noticed; see: sinfo -N -n {','.join(quiet)}"


def _pause(view: JobView | None) -> str:
    return "is suspended by Slurm, and goes on later" if view is not None and view.state in ("SUSPENDED", "STOPPED") else ""


# ------------------------------------------------------------------ the job has ended


def _of_end(case: Case, view: JobView, end: End) -> Evidence:
    """Slurm says that the job has ended, and the controller left no final word."""
    since = case.now - (view.end or max(case.alive, view.start or 0.0))
    again = case.sentinel is not None and not _is_final(case.sentinel)  # also where its controller could not find out why it ended
    if (end is End.MAYBE or again) and view.source == "squeue" and since <= case.site.kill_wait + REQUEUE_S:
        return Evidence(message=f"Slurm says {view.state}; it may put the job back into the queue")
    if case.beating and case.beat > max(case.answer.asked, view.end or 0.0):
        return _running(case)  # another attempt has begun since Slurm was asked
    if case.sentinel is None:
        late = LATE_COMPLETED_S if view.state == "COMPLETED" else LATE_S if _has_begun(case, view) else 0.0
        if since <= late:
            return Evidence(Status.FINALIZING, message=f"Slurm says {view.state}; the run's own record of its end is awaited")
    return _by_slurm(case, view)


def _has_begun(case: Case, view: JobView) -> bool:
    """Whether there may be a record to wait for. A job that leaves the queue unstarted has its end as its start."""
    unstarted = view.state == "CANCELLED" and view.start == view.end
    return case.claim is not None or (view.start is not None and not unstarted)


def _by_slurm(case: Case, view: JobView) -> Evidence:
    says = meaning(view.state)
    reason, message = reasons.ended(view)
    if case.sentinel is not None and view.state in ("COMPLETED", "FAILED"):  # the job ended by its controller, which knows more
        own = Evidence.from_sentinel(case.sentinel)
        if own.status is None or not own.status.finished or (own.status is Status.COMPLETED and view.state == "FAILED"):
            own = replace(own, status=Status.FAILED)
        return replace(own, reason=own.reason or reason, message=own.message or message)
    code = view.exit.partition(":")[0]
    exit_code = int(code) if code.isdigit() and view.exit.endswith(":0") and view.state in ("COMPLETED", "FAILED") else None
    if view.state == "COMPLETED":
        if exit_code:
            return Evidence(Status.FAILED, Reason.USER_ERROR, f"Slurm says COMPLETED, with exit code {exit_code}", exit_code=exit_code)
        message = "only Slurm says that it completed: the record of its end is missing from the run folder"
    return Evidence(says.status, reason, message, exit_code=exit_code)


def _of_attached(case: Case) -> Evidence:
    """A run inside a job that isn't ours: how that job ended says nothing of the run."""
    claim, view = case.claim, case.view
    if case.sentinel is not None:
        return _of_attached_end(case, case.sentinel)
    if claim and processes.alive(claim) is False:
        return Evidence(Status.FAILED, Reason.LOST, "its controller is gone and left no verdict: it was killed; run it again")
    if view is not None and meaning(view.state).end is End.NO:
        return _running(case) if claim is not None else Evidence(message=f"in job {case.id}, which is {view.state}")
    if case.beating:
        return _running(case)
    if view is None and (case.answer.problem or not _forgotten(case)):
        return _unasked(case) if case.answer.problem else Evidence(message=f"Slurm doesn't list job {case.id}, in which it runs")
    if view is not None and case.now - max(view.end or 0.0, case.alive) <= LATE_COMPLETED_S:
        return Evidence(message=f"job {case.id}, in which it ran, has ended; the run's own record of its end is awaited")
    how = f" ({view.state})" if view is not None else ""
    return Evidence(Status.FAILED, Reason.LOST, f"job {case.id}, in which it ran, has ended{how} before it; run it again in another")


def _of_attached_end(case: Case, sentinel: Mapping[str, Any]) -> Evidence:
    """Its controller was told to end and could not know whether the job starts again."""
    view = case.view
    if sentinel.get("requeue") and (view is None or meaning(view.state).end is not End.YES):
        return Evidence(
            Status.QUEUED, message=f"job {case.id}, in which it runs, is being put back into the queue", attempt=case.attempt + 1
        )
    if view is not None and meaning(view.state).end is End.NO:
        return _of_living(case, view)
    if view is not None and meaning(view.state).end is End.YES:
        return _by_slurm(case, view)
    if case.answer.problem or not _forgotten(case):
        return Evidence(message=f"has ended with job {case.id}; Slurm has not said why yet")
    return replace(Evidence.from_sentinel(sentinel), status=Status.FAILED)


# ------------------------------------------------------------------ Slurm doesn't know the job, or can't be asked


def _of_missing(case: Case) -> Evidence:
    if case.answer.problem:
        return _unasked(case)
    if case.beating:
        return _running(case)
    if not case.job.get("id"):
        return _of_unrecorded(case)
    if case.answer.asked <= case.alive:
        status = Status.QUEUED if case.attempt < 0 or (case.sentinel or {}).get("requeue") else None
        return Evidence(status, message=f"Slurm has job {case.id}, and was not asked about it yet", attempt=case.next)
    if "_" in case.id and case.attempt < 0 and case.canceled is not None and case.answer.asked > case.canceled:
        return Evidence(Status.CANCELED, message="canceled before it started")  # Slurm keeps nothing of such a task
    if not _forgotten(case):
        return Evidence(message=f"Slurm doesn't list job {case.id} (yet, or any more); asked again before anything is concluded")
    return _of_forgotten(case)


def _of_forgotten(case: Case) -> Evidence:
    """Slurm has had no trace of the job for longer than it keeps one."""
    if "_" in case.id and case.attempt < 0 and case.site.accounting and not case.answer.unaccounted:
        # The accounting has a row for every task that ever started, and none for one that scancel took out before.
        return Evidence(Status.CANCELED, message="taken out of the queue before it started, with scancel it seems")
    what = "it left no verdict" if case.attempt >= 0 else "it never started"
    message = f"Slurm doesn't know job {case.id} any more, and {what}; 'hpcest rerun' starts it again"
    if case.sentinel is not None:  # ended from outside, and nobody can say any more by what
        own = Evidence.from_sentinel(case.sentinel)
        return replace(own, status=Status.FAILED, reason=own.reason or Reason.LOST, message=own.message or message)
    return Evidence(Status.FAILED, Reason.LOST, message)


def _of_unrecorded(case: Case) -> Evidence:
    """No job was recorded, and none has the run's name: its submitter is still at it, or died."""
    if case.attempt >= 0:  # so it was submitted, and has started
        lost = "its job is not known to Slurm any more, and it left no verdict; 'hpcest rerun' starts it again"
        return Evidence(Status.FAILED, Reason.LOST, lost) if _forgotten(case) else Evidence(message="its job is not listed by Slurm")
    if (case.planned is None and not case.job.get("name")) or (case.job.get("name") and _forgotten(case)):
        return Evidence(Status.NOT_STARTED)
    return Evidence(message="it is being handed over to Slurm")


def _forgotten(case: Case) -> bool:
    """Whether a job that Slurm doesn't list has been gone for so long that it can't come back."""
    silent = bool(case.answer.unaccounted) and not case.site.accounting_type.endswith("/none")
    return case.answer.asked - case.alive > max(case.site.min_job_age, UNACCOUNTED_LOST_S if silent else LOST_S)


def _unasked(case: Case) -> Evidence:
    age = f"since {span(case.now - case.answer.asked)}" if case.answer.asked else "now"
    message = f"Slurm can't be asked {age}: {case.answer.problem}"
    if case.beating:
        return Evidence(Status.RUNNING, message=message)
    return Evidence(message=message)


def _facts(case: Case) -> dict[str, Any]:
    """For ``hpcest show``: what Slurm said, in its own words."""
    found: dict[str, Any] = {}
    if case.view is not None:
        view = case.view
        given = {"state": view.state, "slurm_reason": view.reason, "nodes": view.nodes, "start": view.start, "restarts": view.restarts}
        found = {key: value for key, value in given.items() if value not in ("", None)}
    if case.answer.asked:
        found["asked"] = case.answer.asked
    if case.claim:
        found["host"] = case.claim.get("host")
    return found
