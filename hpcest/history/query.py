"""What the index knows, as plain rows. Nothing here changes anything; call ``ingest.refresh`` first for what is new."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hpcest.history.access import Sql, look, marks
from hpcest.history.header import clean
from hpcest.history.resolve import resolve
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.state import TERMINAL

__all__ = [
    "ExperimentRow", "RunRow", "Unfinished", "each_run", "experiments", "get_run", "last_steps", "list_runs", "number_of", "resolve",
    "unfinished",
]  # fmt: skip

_AT_ONCE = 500  # how many runs are named in one SQL statement
_FIRST = 20  # so many of them are read first where all are wanted one by one


class RunRow(NamedTuple):
    """One run as the index has it. Times are seconds since the epoch, None where it has not come so far.

    ``metrics`` holds the last value of each scalar, ``params`` the options among the script's arguments,
    ``lost`` how many events could not be recorded or read.
    """

    id: str
    kind: str
    experiment: str
    display_name: str
    description: str
    status: str
    reason: str
    message: str
    created: float
    queued: float | None
    started: float | None
    ended: float | None
    compute: str
    framework: str
    environment: str
    script: str
    user: str
    host: str
    parent: str
    attempt: int
    exit_code: int | None
    job: str
    trashed: bool
    lost: int
    collected: bool
    tags: dict[str, str]
    properties: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float | str]

    @property
    def finished(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL

    @property
    def duration(self) -> float | None:
        """For how many seconds it ran, or has been running; None before it started."""
        if self.started is None:
            return None
        return max(0.0, (self.ended if self.ended is not None else time.time()) - self.started)


_COLUMNS = RunRow._fields.index("tags")  # those of the table run; the rest have tables of their own


class ExperimentRow(NamedTuple):
    """An experiment: how many runs it has (children not counted), and when the latest was made."""

    runs: int
    latest: float


class Unfinished(NamedTuple):
    """A run that a watcher must look at; ``job`` are the facts that its backend recorded, None before that."""

    id: str
    job: dict[str, Any] | None
    status: str


def list_runs(  # noqa: PLR0913  # the options of a listing, all by keyword
    workspace: WorkspaceFolder,
    *,
    experiment: str | None = None,
    status: str | Iterable[str] | None = None,
    tags: Mapping[str, str | None] | None = None,
    properties: Mapping[str, str | None] | None = None,
    framework: str | None = None,
    compute: str | None = None,
    where: str | None = None,
    sort: str | None = None,
    limit: int | None = 50,
    parent: str | None = None,
    include_children: bool = False,
    trashed: bool = False,
    before: RunRow | None = None,
    index: str = "",
) -> list[RunRow]:
    """The runs that meet all conditions, newest first unless ``sort`` says otherwise; see ``search`` for ``where`` and ``sort``.

    A tag or property with the value None must be there, with any value. Children are listed with ``parent``, or with
    ``include_children``; runs in the trash only with ``trashed``. With ``before`` only those that come after that run in
    the listing, newest first. Raises UsageError for a condition that can't be read.
    """
    conditions = [Sql("trashed = ?", (int(trashed),)), *(_having("tag", *pair) for pair in (tags or {}).items())]
    conditions += (_having("property", *pair) for pair in (properties or {}).items())
    if parent is not None or not include_children:
        conditions.append(Sql("parent = ?", (clean(parent),)))
    for column, wanted in ("experiment", experiment), ("framework", framework), ("compute", compute):
        if wanted is not None:
            conditions.append(Sql(f"{column} = ?", (clean(wanted),)))
    if before is not None:
        conditions.append(Sql("(created, id) < (?, ?)", (before.created, before.id)))
    sorting = Sql("created DESC, id DESC")
    if status is not None or where or sort:
        from hpcest.history import search  # a plain listing does without

        if status is not None:
            names = tuple(search.status_name(name) for name in ([status] if isinstance(status, str) else status))
            conditions.append(Sql(f"status IN ({marks(names)})", names))
        if where:
            conditions.append(search.condition(where))
        if sort:
            first = search.order(sort)
            sorting = Sql(f"{first.sql}, {sorting.sql}", first.values)
    query = f"WHERE {' AND '.join(part.sql for part in conditions)} ORDER BY {sorting.sql} LIMIT ?"
    values = [value for part in (*conditions, sorting) for value in part.values]
    return look(workspace, index, lambda connection: _rows(connection, query, [*values, -1 if limit is None else limit]))


def each_run(workspace: WorkspaceFolder, **conditions: Any) -> Iterator[RunRow]:
    """The runs that ``list_runs`` would return without a limit, read in parts: the first are there at once."""
    size, last = _FIRST, None
    while True:
        rows = list_runs(workspace, limit=size, before=last, **conditions)
        yield from rows
        if len(rows) < size:
            return
        size, last = _AT_ONCE, rows[-1]


def _having(table: str, key: str, value: str | None) -> Sql:
    if value is None:
        return Sql(f"id IN (SELECT run FROM {table} WHERE key = ?)", (clean(key),))  # noqa: S608  # our own names
    return Sql(f"id IN (SELECT run FROM {table} WHERE key = ? AND value = ?)", (clean(key), clean(value)))  # noqa: S608  # likewise


def number_of(workspace: WorkspaceFolder, run_id: str, *, index: str = "") -> int:
    """Which run of its experiment it is, counted from 1, children among them; 0 for one that the index doesn't have."""
    query = """SELECT count(*) FROM run JOIN (SELECT experiment, created, id FROM run WHERE id = ?) AS this
        ON run.experiment = this.experiment AND (run.created, run.id) <= (this.created, this.id)"""
    return int(look(workspace, index, lambda connection: connection.execute(query, (clean(run_id),)).fetchone()[0]))


def get_run(workspace: WorkspaceFolder, run_id: str, *, index: str = "") -> RunRow | None:
    """The run with this id, in the trash or not; None if there is none."""
    found = look(workspace, index, lambda connection: _rows(connection, "WHERE id = ?", [clean(run_id)]))
    return found[0] if found else None


def last_steps(workspace: WorkspaceFolder, ids: Iterable[str], *, index: str = "") -> dict[str, float]:
    """The step of each run's newest metric, for the runs whose metrics have steps."""
    wanted = list(ids)

    def read(connection: sqlite3.Connection) -> dict[str, float]:
        rows = _each(connection, "run, time, step FROM metric_last", wanted)
        return {run: step for run, _, step in sorted((row for row in rows if row[2] is not None), key=lambda row: row[1] or 0.0)}

    return look(workspace, index, read)


def experiments(workspace: WorkspaceFolder, *, index: str = "") -> dict[str, ExperimentRow]:
    """All experiments by name, the one with the latest run first."""
    query = "SELECT experiment, count(*), max(created) FROM run WHERE parent = '' AND trashed = 0 GROUP BY experiment ORDER BY 3 DESC, 1"
    return look(workspace, index, lambda connection: {row[0]: ExperimentRow(*row[1:]) for row in connection.execute(query)})


def unfinished(workspace: WorkspaceFolder, *, index: str = "") -> list[Unfinished]:
    """The runs that a watcher must look at: those that have not ended, and those that ended but were not collected."""
    query = f"""
        SELECT id, state, status FROM run JOIN progress ON progress.run = run.id
        WHERE settled = 0 AND (status NOT IN ({marks(TERMINAL)}) OR (kind = 'run' AND NOT collected)) ORDER BY created, id"""  # noqa: S608  # question marks
    found = look(workspace, index, lambda connection: connection.execute(query, sorted(TERMINAL)).fetchall())
    return [Unfinished(run_id, json.loads(state).get("job"), status) for run_id, state, status in found]


def _rows(connection: sqlite3.Connection, query: str, values: list[Any]) -> list[RunRow]:
    columns = ", ".join(RunRow._fields[:_COLUMNS])
    runs = connection.execute(f"SELECT {columns} FROM run {query}", values).fetchall()  # noqa: S608  # made of our own names
    ids = [run[0] for run in runs]
    tags = _pairs(connection, "run, key, value FROM tag", ids)
    properties = _pairs(connection, "run, key, value FROM property", ids)
    params = _pairs(connection, "run, key, value FROM param", ids)
    metrics: dict[str, dict[str, float | str]] = {run_id: {} for run_id in ids}
    for run_id, name, kind, value, text in _each(connection, "run, name, kind, value, text FROM metric_last", ids):
        if value is not None:
            metrics[run_id][name] = value
        elif kind in ("metric", "list") and text is not None:
            metrics[run_id][name] = float("nan") if text == "NaN" else text
    rows = (RunRow._make((*run, tags[run[0]], properties[run[0]], params[run[0]], metrics[run[0]])) for run in runs)
    return [row._replace(trashed=bool(row.trashed), collected=bool(row.collected)) for row in rows]


def _pairs(connection: sqlite3.Connection, columns: str, ids: list[str]) -> dict[str, dict[str, str]]:
    """Run id → name → text, for these runs."""
    found: dict[str, dict[str, str]] = {run_id: {} for run_id in ids}
    for run_id, key, value in _each(connection, columns, ids):
        found[run_id][key] = value
    return found


def _each(connection: sqlite3.Connection, columns: str, ids: list[str]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        yield from connection.execute(f"SELECT {columns} WHERE run IN ({marks(part)})", part)
