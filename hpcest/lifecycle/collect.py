"""What is done once when a run has ended: tidy up after a killed controller, register what it made, tell the listeners.

Nothing is copied: outputs and logs were written where they stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcest.model.folders import RunFolder

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

#: Collecting takes moments, listeners aside.
PATIENCE_S = 60.0


def collect(context: Context, seen: Seen) -> list[str]:
    """Collect a finished run; every later call for the same run does nothing. Returns warnings of listeners."""
    return collect_all(context, [seen])


def collect_all(context: Context, runs: Iterable[Seen]) -> list[str]:
    """Collect those of the runs that are finished, with one question to each backend for what they have used."""
    ended = [seen for seen in runs if seen.finished and not seen.state.collected]
    firsts = []
    for seen in ended:
        with contextlib.suppress(OSError):  # before anything else, so that no crash leaves them
            (seen.folder.state / "secrets.json").unlink(missing_ok=True)
        if _first(seen.folder):
            _tidy(seen.folder)
            firsts.append(seen)
    account(context, firsts)
    news, changed = {seen.folder.id for seen in firsts}, []
    for seen in ended:
        first = seen.folder.id in news
        if first or _was_interrupted(seen.folder):
            changed += _register(context, seen)
            _note(seen.folder)
        if first:
            before = "Running" if seen.state.started else "Queued"
            changed += context.plugins.notify("hpcest_status_changed", run=seen.folder, before=before, after=seen.status.value)
            changed += context.plugins.notify("hpcest_after_collect", run=seen.folder)
    return changed


def account(context: Context, ended: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    """What runs that have ended used, by their own record and their backends' accounts: run id → facts of a ``usage`` event.

    A backend is asked only for what the record lacks, and what it says is recorded. Accounts come late: what has no
    CPU time yet is asked for again next time. Nothing depends on them, so whatever goes wrong here is passed over.
    """
    used = {seen.folder.id: {key: value for key, value in seen.state.usage.items() if key != "t"} for seen in ended}
    asked: dict[tuple[str, str], dict[str, Seen]] = defaultdict(dict)
    for seen in ended:
        job = seen.state.job or {}
        if job.get("id") and not _accounted(used[seen.folder.id]):
            asked[job.get("compute") or "local", job.get("backend") or ""][seen.folder.id] = seen
    for target, runs in asked.items():
        try:
            backend = context.backend_of(*target)
            found = backend.usage({run_id: seen.state.job or {} for run_id, seen in runs.items()}) if backend else {}
        except Exception:  # noqa: BLE001, S112  # a stranger's code may raise anything
            continue
        for run_id, facts in found.items():
            if run_id in runs and facts.get("cpu_s"):
                used[run_id] = {**facts, **used[run_id], "a": runs[run_id].state.attempt}
                _record(runs[run_id].folder, used[run_id])
    return used


def _accounted(usage: Mapping[str, Any]) -> bool:
    """Whether the record has all that accounts can tell."""
    return bool(usage.get("cpu_s")) and "cores" in usage


def _record(folder: RunFolder, usage: Mapping[str, Any]) -> None:
    from hpcest.lifecycle.journal import append

    with contextlib.suppress(OSError):
        append(folder, "watch", {"e": "usage", **usage})


def _first(folder: RunFolder) -> bool:
    try:
        os.close(os.open(folder.state / "collected", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        return True
    except OSError:  # collected by another process, or a disk that can't be written: then there is nothing to tidy
        return False


def _was_interrupted(folder: RunFolder) -> bool:
    """Whether whoever collected it was killed before it could say so."""
    try:
        return time.time() - os.stat(folder.state / "collected").st_mtime > PATIENCE_S
    except OSError:
        return False


def _register(context: Context, seen: Seen) -> list[str]:
    """What the run made that is to be found by name. Most listings come across no run that has just ended."""
    from hpcest.lifecycle.data.outputs import register_outputs
    from hpcest.lifecycle.models import register_models

    with _at_work(seen.folder):
        return register_outputs(context, seen) + register_models(context, seen)


@contextlib.contextmanager
def _at_work(folder: RunFolder) -> Iterator[None]:
    """Have others know, while a large model is copied, say, that who collects it has not been killed."""
    over = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.utime(folder.state / "collected")
            if over.wait(PATIENCE_S / 6):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _note(folder: RunFolder) -> None:
    from hpcest.lifecycle.journal import append

    with contextlib.suppress(OSError):
        append(folder, "watch", {"e": "collected"})


def _tidy(folder: RunFolder) -> None:
    if not folder.work.is_dir():
        return
    from hpcest.onnode import workdir

    with contextlib.suppress(OSError, ValueError, KeyError):
        snapshot = json.loads(folder.launch.read_text())["snapshot"]
        workdir.tidy(snapshot["manifest"], str(folder.work), snapshot["stamp"])


def refresh(context: Context) -> list[str]:
    """Bring the history up to date: look at every unfinished run, collect what has ended, index it all.

    Returns warnings to show. Cheap when nothing has changed: the index alone is asked then.
    """
    from hpcest.history import ingest, query

    ingest.refresh(context.workspace)
    open_runs = query.unfinished(context.workspace)
    if not open_runs:
        return []
    from hpcest.lifecycle.watch import look  # takes half as long again as a listing in which all runs have ended

    news = False
    before = {run_id: status for run_id, _, status in open_runs}
    found = look(context, map(context.workspace.run, before))
    warnings = collect_all(context, found.values())
    for run_id, seen in found.items():
        news = news or seen.finished or before[run_id] != seen.status.value
        if not seen.finished and before[run_id] != seen.status.value:
            warnings += context.plugins.notify("hpcest_status_changed", run=seen.folder, before=before[run_id], after=seen.status.value)
    if news:
        ingest.refresh(context.workspace)
    return warnings
