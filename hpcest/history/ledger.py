"""What one refresh writes: gathered first, then written in short transactions."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

from hpcest.history.header import Header, clean
from hpcest.history.params import number
from hpcest.history.scan import Reading, Source
from hpcest.onnode.state import RunState

_MOST_RUNS = 500
_INSERTS = {
    "run": 25,
    "progress": 5,
    "source": 5,
    "param": 4,
    "tag": 4,
    "property": 4,
    "metric_last": 11,
    "edit": 3,
    "waiting": 1,
    "meta": 2,
}
_OF_A_RUN = ("param", "tag", "property", "metric_last", "source", "progress", "waiting")


class Rest(NamedTuple):
    """Since when a run is over, whether it is left alone from now on, and until when to look at it in any case."""

    over: float | None
    settled: bool
    recheck: float


class OvertakenError(Exception):
    """Another process has written in between; what was gathered is no longer right, and no longer needed."""


class Ledger:
    """Gathers rows for one index and commits them; ``runs`` counts the runs that were written.

    Readers see whole transactions. If two processes gather at once, in spite of the lock, the second
    to commit notices by the index's generation, and gives up: nothing is ever counted twice.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.runs = 0
        self._generation = int(self.meta("generation") or 0)
        self._rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _INSERTS}
        self._deletes: dict[str, list[tuple[str]]] = {table: [] for table in ("run", *_OF_A_RUN)}
        self._updates: list[tuple[str, tuple[Any, ...]]] = []

    def meta(self, key: str) -> str | None:
        """A remembered fact about the whole index."""
        found = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def remember(self, key: str, value: str) -> None:
        """Write a fact about the whole index with the next commit."""
        self._rows["meta"].append((key, value))

    def insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Insert or replace whole rows of a table."""
        self._rows[table].extend(rows)

    def drop(self, run_id: str) -> None:
        """Forget a run."""
        if (run_id,) in self._deletes["run"]:
            return
        self.runs += 1
        for table in ("run", *_OF_A_RUN):
            self._deletes[table].append((run_id,))

    def forget(self, table: str, run_id: str) -> None:
        """Delete a run's rows of one table."""
        self._deletes[table].append((run_id,))

    def settle(self, run_id: str, settled: bool, recheck: float) -> None:
        """Note whether the run is to be looked at again; it is in any case until ``recheck``."""
        self._updates.append(("UPDATE progress SET settled = ?, recheck = ? WHERE run = ?", (int(settled), recheck, run_id)))

    def put(self, run_id: str, header: Header, reading: Reading, rest: Rest, *, before: dict[str, Source] | None) -> None:
        """Write all that is known of one run. ``before`` is what ``reading`` went on from; None for a new run."""
        fold = reading.fold
        assert fold is not None
        self.runs += 1
        state, sources = fold.state, {**({} if reading.fresh else before or {}), **reading.sources}
        self._rows["run"].append(_run_row(run_id, header, state, sum(source.bad for source in sources.values())))
        self._rows["progress"].append((run_id, _state_text(state), rest.over, int(rest.settled), rest.recheck))
        self._rows["source"].extend((run_id, file, *source) for file, source in reading.sources.items())
        if before is not None:
            for table in ("tag", "property", "param", "metric_last", "source") if reading.fresh else ("tag", "property", "param"):
                self._deletes[table].append((run_id,))
        self._rows["param"].extend(_pairs(run_id, {}, state.params, last=header.params))
        self._rows["tag"].extend(_pairs(run_id, header.tags, state.tags))
        self._rows["property"].extend(_pairs(run_id, {}, state.properties, last=header.properties))
        self._rows["metric_last"].extend((run_id, name, *fold.metrics[name]) for name in sorted(fold.changed))
        if len(self._rows["run"]) >= _MOST_RUNS:
            self.commit()

    def commit(self) -> None:
        """Write what was gathered, in one transaction. Raises OvertakenError, sqlite3.Error."""
        if not (any(self._rows.values()) or any(self._deletes.values()) or self._updates):
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            if int(self.meta("generation") or 0) != self._generation:
                raise OvertakenError
            for table, doomed in self._deletes.items():
                self.connection.executemany(f"DELETE FROM {table} WHERE {'id' if table == 'run' else 'run'} = ?", doomed)  # noqa: S608  # our own names
                doomed.clear()
            for table, rows in self._rows.items():
                marks = ", ".join("?" * _INSERTS[table])
                self.connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)  # noqa: S608  # our own names
                rows.clear()
            for statement, values in self._updates:
                self.connection.execute(statement, values)
            self._updates.clear()
            self._generation += 1
            self.connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", (str(self._generation),))
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise


def _run_row(run_id: str, header: Header, state: RunState, bad: int) -> tuple[Any, ...]:
    names = {key: clean(value) for key, (_, value) in state.names.items()}
    job = state.job or {}
    return (
        run_id,
        header.kind,
        header.experiment,
        names.get("display_name", header.display_name),
        names.get("description", header.description),
        state.status,
        clean(state.reason),
        clean(state.message),
        header.created,
        state.queued,
        state.started,
        state.ended,
        header.compute,
        header.framework,
        header.environment,
        header.script,
        header.user,
        header.host,
        header.parent,
        state.attempt,
        state.exit_code,
        clean(job.get("id")),
        int(state.trashed[1]),
        state.lost + bad,
        int(state.collected),
    )


def _state_text(state: RunState) -> str:
    """The state as a text that is equal for equal states, in whatever order their events came."""
    return json.dumps(state.to_json(), sort_keys=True, separators=(",", ":"))


def _pairs(run_id: str, first: dict[str, str], noted: dict[str, Any], *, last: dict[str, str] | None = None) -> list[tuple[Any, ...]]:
    """Rows of tags or properties: those of the header, and what events made of them."""
    pairs: dict[str, str | None] = dict(first)
    for key, (_, value) in sorted(noted.items()):
        pairs[clean(key)] = None if value is None else clean(value)
    pairs.update(last or {})
    return [(run_id, key, value, number(value)) for key, value in pairs.items() if value is not None]
