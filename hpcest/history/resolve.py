"""From what a user types to a run: an id, the beginning of one, ``@latest``, ``@2``, ``@latest:EXPERIMENT``."""

from __future__ import annotations

import sqlite3
import time

from hpcest.errors import UnknownNameError, UsageError
from hpcest.history.access import look
from hpcest.history.header import clean
from hpcest.model.folders import WorkspaceFolder

SHORTEST = 2
_SHOWN = 8
_COMPARED = 1000  # so many ids are looked at for a similar one


def resolve(workspace: WorkspaceFolder, reference: str, *, index: str = "") -> str:
    """The id of the run that ``reference`` means: an id, a unique prefix, ``@latest``, ``@2`` or either with ``:EXPERIMENT``.

    ``@2`` is the second latest; children and runs in the trash are not counted, and no prefix finds a
    run in the trash. Brings the index up to date first. Raises UnknownNameError, and UsageError that lists
    the candidates of an ambiguous one.
    """
    reference = clean(reference.strip())
    whole = 0 < len(reference) < 256 and "/" not in reference and reference[0] not in ".@"
    if whole and workspace.run(reference).header.exists():  # what is there needs no index
        return reference
    from hpcest.history.ingest import refresh

    refresh(workspace, index=index)
    find = _nth if reference.startswith("@") else _prefix
    return look(workspace, index, lambda connection: find(connection, reference))


def _nth(connection: sqlite3.Connection, reference: str) -> str:
    which, colon, experiment = reference[1:].partition(":")
    place = 1 if which == "latest" else int(which) if which.isascii() and which.isdigit() and len(which) < 10 else 0
    if place < 1:
        raise UsageError(f"{reference!r} names no run", hint="use @latest, @2 for the second latest, or @latest:EXPERIMENT")
    conditions, values = ("parent = '' AND trashed = 0 AND experiment = ?", [experiment]) if colon else ("parent = '' AND trashed = 0", [])
    found = connection.execute(
        f"SELECT id FROM run WHERE {conditions} ORDER BY created DESC, id DESC LIMIT 1 OFFSET ?",  # noqa: S608  # our own words
        [*values, place - 1],
    ).fetchone()
    if found:
        return str(found[0])
    count = connection.execute(f"SELECT count(*) FROM run WHERE {conditions}", values).fetchone()[0]  # noqa: S608  # our own words
    if colon and not count:
        names = connection.execute("SELECT DISTINCT experiment FROM run WHERE parent = '' AND trashed = 0")
        raise UnknownNameError("experiment", experiment, [name for (name,) in names])
    where = f"experiment {experiment!r}" if colon else "this workspace"
    hint = f"{where} has {count} run{'s' * (count != 1)}: hpcest runs lists them" if count else f"{where} has no runs yet"
    raise UnknownNameError("run", reference, [], hint=hint)


def _prefix(connection: sqlite3.Connection, prefix: str) -> str:
    if len(prefix) < SHORTEST:
        raise UsageError(f"{prefix!r} is too short for a run", hint=f"give at least {SHORTEST} characters of its id, or @latest")
    query = "SELECT id, experiment, created FROM run WHERE substr(id, 1, ?) = ? AND trashed = 0 ORDER BY created DESC, id DESC"
    found = connection.execute(query, (len(prefix), prefix)).fetchall()
    if len(found) == 1:
        return str(found[0][0])
    if found:
        lines = [f"{run_id}  {experiment}  {age(time.time() - created)} ago" for run_id, experiment, created in found[:_SHOWN]]
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise UsageError(
            f"run {prefix!r} is ambiguous: {len(found)} ids start with it", hint="give more of one of\n  " + "\n  ".join(lines + more)
        )
    latest = connection.execute("SELECT id FROM run WHERE trashed = 0 ORDER BY created DESC LIMIT ?", (_COMPARED,))
    ids = [run_id for (run_id,) in latest]
    raise UnknownNameError("run", prefix, ids, hint=_hint(prefix, ids))


def _hint(prefix: str, ids: list[str]) -> str:
    from difflib import get_close_matches  # slow to import, and rarely wanted

    near = get_close_matches(prefix, ids, n=1, cutoff=0.7)
    return f"did you mean {near[0]!r}?" if near else "hpcest runs lists them" if ids else "there are no runs yet"


def age(seconds: float) -> str:
    """A time span in its largest unit: ``3 h``."""
    for unit, length in ("d", 86400), ("h", 3600), ("min", 60):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
