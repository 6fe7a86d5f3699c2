"""Why a run is where it is, in a sentence, with the remedy and the end of its log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.lifecycle.follow import log_paths
from hpcest.lifecycle.watch import Seen
from hpcest.model.status import Reason, Status
from hpcest.onnode.record import get_json

_WHY = {
    Status.NOT_STARTED: "it was described, and not handed over yet",
    Status.PREPARING: "its environment is being made, by the process that submitted it",
    Status.QUEUED: "it waits for its turn",
    Status.RUNNING: "its program runs",
    Status.FINALIZING: "its program has ended, and its folder is being tidied up",
    Status.COMPLETED: "its program ended with exit code 0",
    Status.CANCEL_REQUESTED: "it was told to end, and has its grace period to do so",
    Status.CANCELED: "it was canceled",
}
_NEXT = {
    Reason.USER_ERROR: "read the log's end; after a change in the source, submit it anew",
    Reason.SIGNALED: "ask for more memory, or find out who sends the signal",
    Reason.OUT_OF_MEMORY: "ask for more memory: --mem",
    Reason.TIMED_OUT: "ask for more time: --time, or write checkpoints and resume",
    Reason.BUILD_FAILED: "read the build log in system_logs/environment.log: hpcest artifacts get RUN system_logs/environment.log",
    Reason.LAUNCH_FAILED: "mend what the message names, then: hpcest rerun RUN",
    Reason.LOST: "hpcest rerun RUN",
    Reason.NODE_FAIL: "hpcest rerun RUN; with --max-requeues N a run starts again by itself",
    Reason.PREEMPTED: "hpcest rerun RUN; with --max-requeues N a run starts again by itself",
    Reason.UPSTREAM_FAILED: "mend the run that this one comes after, then: hpcest rerun RUN",
}
LINES = 15


def explain(seen: Seen) -> dict[str, Any]:
    """``why`` (a sentence), ``next`` (what to do, or empty) and ``log`` (the last lines, where they may tell)."""
    why = seen.message or _WHY.get(seen.status, "")
    failed = seen.status in (Status.FAILED, Status.NOT_RESPONDING)
    itself = (get_json(str(seen.folder.header)) or {}).get("kind") == "interactive"  # nobody can submit that again
    return {
        "why": why,
        "next": _NEXT.get(seen.reason, "").replace("RUN", seen.folder.id) if failed and not itself else "",
        "log": last_lines(seen) if failed and seen.reason in (Reason.USER_ERROR, Reason.SIGNALED, Reason.TIMED_OUT) else [],
    }


def idle(usage: Mapping[str, Any]) -> str:
    """A better request, in a sentence, where most of what a run asked for lay idle; empty where it did not, or nobody knows."""
    from hpcest.backends.slurm.usage import idle_hint

    return idle_hint(usage)


def last_lines(seen: Seen, count: int = LINES) -> list[str]:
    """The last lines of the log of the first rank that failed, else of the first rank."""
    outcome = get_json(str(seen.folder.sentinel(seen.state.attempt))) or {}
    logs = log_paths(seen.folder)
    if not logs:
        return []
    paths = logs.get(outcome.get("rank") or 0) or next(iter(logs.values()))
    try:
        with open(paths[-1], "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 20000))
            return stream.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []
