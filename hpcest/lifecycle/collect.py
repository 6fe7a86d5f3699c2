"""What is done once when a run has ended: tidy up after a killed controller, tell the listeners.

Nothing is copied: outputs and logs were written where they stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

from hpcest.model.folders import RunFolder

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

#: Collecting takes moments, listeners aside.
PATIENCE_S = 60.0


def collect(context: Context, seen: Seen) -> list[str]:
    """Collect a finished run; every later call for the same run does nothing. Returns warnings of listeners."""
    folder = seen.folder
    if not seen.finished or seen.state.collected:
        return []
    with contextlib.suppress(OSError):  # before anything else, so that no crash leaves them
        (folder.state / "secrets.json").unlink(missing_ok=True)
    first = _first(folder)
    if first:
        _tidy(folder)
    if first or _was_interrupted(folder):
        _note(folder)
    if not first:
        return []
    before = "Running" if seen.state.started else "Queued"
    changed = context.plugins.notify("hpcest_status_changed", run=folder, before=before, after=seen.status.value)
    return changed + context.plugins.notify("hpcest_after_collect", run=folder)


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

    warnings, news = [], False
    before = {run_id: status for run_id, _, status in open_runs}
    for run_id, seen in look(context, map(context.workspace.run, before)).items():
        news = news or seen.finished or before[run_id] != seen.status.value
        if seen.finished:
            warnings += collect(context, seen)
        elif before[run_id] != seen.status.value:
            warnings += context.plugins.notify("hpcest_status_changed", run=seen.folder, before=before[run_id], after=seen.status.value)
    if news:
        ingest.refresh(context.workspace)
    return warnings
