"""What is true of runs now: their events, and for the unfinished ones what their backend knows.

A verdict needs evidence: a sentinel or a terminal state of the scheduler. Unknown is never finished.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcest.contracts import Backend, Evidence
from hpcest.errors import BackendError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.journal import append
from hpcest.model.folders import RunFolder
from hpcest.model.status import Reason, Status
from hpcest.onnode import processes
from hpcest.onnode.reading import read_state
from hpcest.onnode.record import get_json
from hpcest.onnode.state import RunState

#: After so many seconds without a heartbeat of an interactive run's process, on another host, there is a doubt.
SILENT_S = 120.0


@dataclass(frozen=True)
class Seen:
    """One run as it is now: ``status`` with reason and sentence, and the ``state`` that its events add up to.

    ``warnings`` are of listeners, where this look was the one that collected the run.
    """

    folder: RunFolder
    status: Status
    reason: Reason
    message: str
    state: RunState
    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it has ended for good."""
        return self.status.finished


@dataclass(frozen=True)
class _Known:
    """What the record says of a run; ``orphaned`` where its submitter is gone and left no job behind."""

    folder: RunFolder
    state: RunState
    header: Mapping[str, Any]
    orphaned: bool = False

    @classmethod
    def of(cls, folder: RunFolder) -> _Known:
        state: RunState = read_state(folder.path)
        if state.finished:
            return cls(folder, state, {})
        header = get_json(str(folder.header)) or {}
        orphaned = state.job is None and processes.alive(header.get("submitter") or {}) is False
        if orphaned:  # what it did last may have come between our two looks
            state = read_state(folder.path)
        return cls(folder, state, header, orphaned and state.job is None)

    @property
    def job(self) -> Mapping[str, Any]:
        """The facts that the backend recorded; empty before it had the run."""
        return self.state.job or {}

    @property
    def kind(self) -> str:
        """``run`` for what was submitted, ``child`` for what a program made."""
        return str(self.header.get("kind", ""))

    @property
    def target(self) -> tuple[str, str]:
        """Its compute target, and the name of its backend where that is recorded."""
        return self.job.get("compute") or self._spec.get("compute", "local"), self.job.get("backend", "")

    @property
    def parent(self) -> str:
        """The run whose program made it; empty for one that was submitted."""
        return str(self._spec.get("parent") or "") if self.kind == "child" else ""

    @property
    def _spec(self) -> Mapping[str, Any]:
        return self.header.get("spec") or {}


def look(context: Context, folders: Iterable[RunFolder]) -> dict[str, Seen]:
    """What is true of each run now. Conclusions that nobody else can record are recorded."""
    known = {folder.id: _Known.of(folder) for folder in folders}
    evidence = _ask(context, [one for one in known.values() if not one.state.finished])
    above = {one.parent for one in known.values() if one.parent}
    parents = look(context, [context.workspace.run(parent) for parent in above]) if above else {}
    return {run_id: _seen(one, evidence.get(run_id) or _of_child(one, parents) or _of_process(one)) for run_id, one in known.items()}


def look_at(context: Context, folder: RunFolder) -> Seen:
    """What is true of one run now."""
    return look(context, [folder])[folder.id]


def _ask(context: Context, runs: Iterable[_Known]) -> dict[str, Evidence]:
    """Ask each backend once for all of its runs."""
    asked: dict[tuple[str, str], dict[str, tuple[RunFolder, Mapping[str, Any]]]] = defaultdict(dict)
    for one in runs:
        if one.kind == "run":
            asked[one.target][one.folder.id] = (one.folder, one.job)
    found: dict[str, Evidence] = {}
    for (compute, name), jobs in asked.items():
        backend = context.backend_of(compute, name)
        if backend is None:
            gone = Evidence(message=f"its backend {name or compute!r} is not installed any more; this is what was known last")
            found.update(dict.fromkeys(jobs, gone))
        else:
            found.update(_looked(backend, jobs))
    return found


def _looked(backend: Backend, jobs: Mapping[str, tuple[RunFolder, Mapping[str, Any]]]) -> Mapping[str, Evidence]:
    """What the backend knows. One that fails knows nothing: a listing must not depend on it."""
    try:
        found = backend.look(jobs)
        for one in found.values():
            if one.facts.get("job"):
                one.facts["job"]["backend"] = backend.name
        return found
    except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
        return dict.fromkeys(jobs, Evidence(message=f"its backend {backend.name!r} can't tell: {error or type(error).__name__}"))


def _of_child(known: _Known, parents: Mapping[str, Seen]) -> Evidence | None:
    """A child that a program made ends with its parent at the latest."""
    above = parents.get(known.parent)
    if above is None or (above.folder.path.exists() and not above.finished):
        return None
    return Evidence(above.status if above.finished else Status.FAILED, message="ended with its parent")


def _of_process(known: _Known) -> Evidence | None:
    """A run that a process logs about itself ends with that process at the latest; only its own host can see that."""
    if known.kind != "interactive" or known.state.finished:
        return None
    alive = processes.alive(known.header.get("submitter") or {})
    if alive is False:
        message = "the process that logged it is gone and did not say how it ended; end such a run by complete(), fail() or 'with'"
        return Evidence(Status.FAILED, Reason.LOST, message)
    try:
        silent = time.time() - os.stat(known.folder.state / "alive").st_mtime
    except OSError:
        return None
    if alive or silent < SILENT_S:
        return None
    host = known.header.get("host")
    return Evidence(Status.NOT_RESPONDING, message=f"{host}, on which it runs, gave no sign for {silent / 60:.0f} min; look there")


def _seen(known: _Known, evidence: Evidence | None) -> Seen:
    folder, state = known.folder, known.state
    status, reason, message = Status(state.status), Reason(state.reason), state.message
    if state.finished or evidence is None:
        return Seen(folder, status, reason, message, state, {})
    if evidence.facts.get("job") and not known.job:
        _adopt(known, evidence.facts["job"])
    verdict = evidence if evidence.status is not None and evidence.status.finished else _of_orphan(known, evidence)
    if verdict is not None:
        state = _conclude(folder, state, verdict)
        return _seen(_Known(folder, state, {}), None) if state.finished else _as(folder, state, verdict)
    if evidence.status is Status.NOT_RESPONDING:
        status = evidence.status
    elif evidence.status not in (None, Status.NOT_STARTED) and status in (Status.NOT_STARTED, Status.PREPARING, Status.QUEUED):
        status = evidence.status or status
    elif evidence.status is Status.QUEUED and evidence.attempt > state.attempt:
        status = evidence.status  # its scheduler starts it again, and nothing of the last attempt could say so
    return Seen(folder, status, reason, evidence.message or message, state, dict(evidence.facts))


def _adopt(known: _Known, job: Mapping[str, Any]) -> None:
    """Record the job that the backend found: whoever submitted it could not."""
    with contextlib.suppress(OSError):
        append(known.folder, "watch", {"e": "job", "compute": known.target[0], **job})


def _of_orphan(known: _Known, evidence: Evidence) -> Evidence | None:
    """The verdict on a run that nobody prepares any more. Its plan is written before a backend has it."""
    if not known.orphaned or (known.folder.launch.exists() and evidence.status is not Status.NOT_STARTED):
        return None
    if known.folder.cancel.exists():
        return Evidence(Status.CANCELED, message="canceled while it was prepared")
    message = "the process that submitted it ended before the run was handed over; 'hpcest rerun' submits it again"
    return Evidence(Status.FAILED, Reason.LAUNCH_FAILED, message)


def _as(folder: RunFolder, state: RunState, evidence: Evidence) -> Seen:
    """The verdict could not be written (a read-only disk, say): it is true all the same."""
    assert evidence.status is not None
    return Seen(folder, evidence.status, evidence.reason, evidence.message, state, evidence.facts)


def _conclude(folder: RunFolder, state: RunState, evidence: Evidence) -> RunState:
    """Write the verdict into the run's events, unless its controller has done so meanwhile."""
    fresh: RunState = read_state(folder.path)
    if fresh.finished:
        return fresh
    assert evidence.status is not None
    verdict = {
        "e": "status",
        "v": evidence.status.value,
        "by": "watch",
        "a": evidence.attempt or state.attempt,
        "r": evidence.reason.value or None,
        "m": evidence.message or None,
        "rc": evidence.exit_code,
    }
    with contextlib.suppress(OSError):  # another user's run, or a full disk: see _as
        append(folder, "watch", verdict)
    concluded: RunState = read_state(folder.path)
    return concluded


def cancel(context: Context, folder: RunFolder) -> Seen:
    """Ask for the end of a run; a finished one is left as it is. Raises BackendError."""
    seen, problems = cancel_all(context, [folder])
    if problems:
        raise problems[0]
    return seen[folder.id]


def cancel_all(context: Context, folders: Iterable[RunFolder]) -> tuple[dict[str, Seen], list[BackendError]]:
    """Ask for the end of runs, each backend once for all of its own; finished ones are left as they are.

    Returns what is true of the runs then, and what went wrong: runs that could not be told are as they were before.
    """
    seen = look(context, folders)
    asked: dict[tuple[str, str] | None, list[_Known]] = defaultdict(list)
    for known in (_Known.of(one.folder) for one in seen.values() if not one.finished):
        if known.state.finished:  # meanwhile
            seen[known.folder.id] = _seen(known, None)
        else:
            asked[known.target if known.kind == "run" else None].append(known)
    problems = []
    for target, runs in asked.items():
        try:
            seen |= _tell(context, target, runs)
        except BackendError as error:
            problems.append(error)
    return seen, problems


def _tell(context: Context, target: tuple[str, str] | None, runs: list[_Known]) -> dict[str, Seen]:
    """Have the runs of one compute target end; without one they are children, which nobody else can tell."""
    backend = context.backend_of(*target) if target else None
    if target and backend is None:
        raise BackendError(
            f"run {runs[0].folder.id} can't be told to end: its backend {target[1] or target[0]!r} is not installed any more",
            hint="install its plugin again, or end the job by the means of its scheduler",
        )
    for known in runs:
        request = {"e": "status", "v": "CancelRequested", "by": "user", "a": known.state.attempt, "who": os.environ.get("USER")}
        with contextlib.suppress(OSError):  # a full disk is a good reason to cancel; whether it can be done the backend knows
            append(known.folder, "user", request)
            if backend is not None:
                known.folder.cancel.touch()  # for whoever still prepares it
    if backend is None:
        return {known.folder.id: _seen(known, Evidence(Status.CANCELED, message="canceled on request")) for known in runs}
    found = backend.cancel_all({known.folder.id: (known.folder, known.job) for known in runs})
    return {known.folder.id: _seen(_Known.of(known.folder), found.get(known.folder.id)) for known in runs}
