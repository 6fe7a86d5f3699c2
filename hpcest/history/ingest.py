"""Bringing the index up to date with the run folders, and building it anew."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time

from hpcest.errors import WorkspaceError
from hpcest.history import scan, store, turn
from hpcest.history.edits import Announcements
from hpcest.history.fold import Fold
from hpcest.history.header import read_header
from hpcest.history.ledger import Ledger, OvertakenError, Rest
from hpcest.history.location import Place, locate, on_network
from hpcest.history.scan import Source
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.state import RunState

#: A finished run whose files haven't changed for this long is not looked at again.
SETTLED_AFTER_S = 60.0
#: So long is a run looked at when an edit was announced: the edit may reach this host after the announcement.
RECHECK_S = 120.0
#: The time stamp of a folder is believed when this long after its first sight nothing else was found there.
STAMP_TRUSTED_S = 5.0
WAIT_S = 2.0
WAIT_FOR_INDEX_S = 300.0


def refresh(workspace: WorkspaceFolder, *, index: str = "") -> int:
    """Bring the index up to date; return how many runs were new, changed or gone. ``index`` is the place, see ``locate``.

    If another process is at it, wait for it for at most two seconds and return 0. Makes the index if
    there is none. An index that can't be written (a full disk) stays as it is, with a warning. Raises
    WorkspaceError for an index of a newer version, or if there is none and none can be made.
    """
    place = locate(workspace, index)
    usable = store.usable(place)
    with turn.taken(place, wait_s=WAIT_S if usable else WAIT_FOR_INDEX_S) as ours:
        if not ours:
            return 0
        try:
            return _refresh(workspace, place)
        except (sqlite3.OperationalError, OSError) as error:
            if store.damaged(error) or not store.usable(place):
                raise WorkspaceError(
                    f"the index {place.path} can't be written: {error}",
                    hint="make room there, or have it elsewhere: HPCEST_HISTORY_INDEX=node",
                ) from error
            store.warn(f"the index {place.path} can't be written ({error}): what it says may be out of date")
            return 0


def reindex(workspace: WorkspaceFolder, *, index: str = "") -> int:
    """Build the index anew from the run folders and replace the old one; return the number of runs.

    Who reads meanwhile sees the old one. Raises WorkspaceError if another process has the index for minutes.
    """
    place = locate(workspace, index)
    store.usable(place)
    with turn.taken(place, wait_s=WAIT_FOR_INDEX_S, anew=True) as ours:
        if not ours:
            raise WorkspaceError(f"the index {place.path} can't be written, or another process keeps it", hint="try again later")
        return _rebuild(workspace, place)


def repair(workspace: WorkspaceFolder, broken: int | None, problem: str, *, index: str = "") -> None:
    """Set the damaged index with the inode ``broken`` aside and build it anew; nothing if somebody has done it."""
    place = locate(workspace, index)
    with turn.taken(place, wait_s=WAIT_FOR_INDEX_S, anew=True) as ours:
        if ours and store.identity(place) == broken:
            store.set_aside(place, problem)
            _rebuild(workspace, place)


def _refresh(workspace: WorkspaceFolder, place: Place) -> int:
    connection = store.open_writer(place)
    if connection is None:
        return _rebuild(workspace, place)
    try:
        with contextlib.closing(connection):
            return _Ingest(workspace, connection).run()
    except sqlite3.DatabaseError as error:
        if not store.damaged(error):
            raise
        store.set_aside(place, str(error))
    return _rebuild(workspace, place)


def _rebuild(workspace: WorkspaceFolder, place: Place) -> int:
    with store.built_beside(place) as connection:
        return _Ingest(workspace, connection).run()


class _Ingest:
    """One pass over the run folders of a workspace."""

    def __init__(self, workspace: WorkspaceFolder, connection: sqlite3.Connection) -> None:
        self.workspace, self.connection = workspace, connection
        self.runs = str(workspace.runs)
        self.network = on_network(workspace.runs)
        self.ledger = Ledger(connection)
        self.now = time.time()
        self.stamp = ""  # of the folder of all runs, if it is to be remembered
        self.waiting = {row[0] for row in connection.execute("SELECT run FROM waiting")}

    def run(self) -> int:
        # The announcements first: what was announced is in the files by now.
        announced = Announcements(self.workspace, self.connection)
        with contextlib.suppress(OvertakenError):  # the other process has read what we have
            again = self._unsettled(announced.runs)
            for run_id in self._new_runs():
                self._first_look(run_id)
            for run_id, (over, recheck) in again.items():
                self._look_again(run_id, over, recheck)
            # Last, so that after a crash nothing counts as seen that was not written.
            self.ledger.insert("edit", announced.rows)
            if self.stamp:
                self.ledger.remember("runs", self.stamp)
            self.ledger.commit()
        return self.ledger.runs

    def _unsettled(self, announced: set[str]) -> dict[str, tuple[float | None, float]]:
        """The runs to look at again: since when each is over, if it is, and until when to look in any case."""
        found = {row[0]: (row[1], row[2]) for row in self.connection.execute("SELECT run, over, recheck FROM progress WHERE settled = 0")}
        for run_id in announced:
            row = self.connection.execute("SELECT over FROM progress WHERE run = ?", (run_id,)).fetchone()
            if row:
                found[run_id] = (row[0], self.now + RECHECK_S)
                self.ledger.settle(run_id, False, self.now + RECHECK_S)
        return found

    # ------------------------------------------------------------------ which runs there are
    def _new_runs(self) -> list[str]:
        """The runs that are not in the index yet; forgets those whose folder is gone."""
        try:
            facts = os.stat(self.runs)
        except OSError:
            return []  # no run yet, or a file system that is away: neither is a reason to forget anything
        stamp = [scan.inode_of(facts), facts.st_mtime_ns]
        remembered, seen, trusted = json.loads(self.ledger.meta("runs") or "[null, 0, false]")
        if remembered == stamp and trusted:
            return sorted(self.waiting)
        first = self.now if remembered != stamp else seen
        try:
            names = scan.run_names(self.runs)
        except OSError:
            return sorted(self.waiting)
        # Stamps are coarse: what comes within the same tick would never show.
        trusted = self.now - first > STAMP_TRUSTED_S
        if remembered != stamp or trusted:
            self.stamp = json.dumps([stamp, first, trusted])
        known = {row[0] for row in self.connection.execute("SELECT id FROM run")}
        for run_id in sorted(known - names):
            self._drop_if_gone(run_id)
        for run_id in sorted(self.waiting - names):
            self.ledger.forget("waiting", run_id)
        return sorted(names - known)

    def _drop_if_gone(self, run_id: str) -> None:
        # A listing may be older than a look; and a file system that is away takes all runs along.
        if not os.path.lexists(os.path.join(self.runs, run_id)) and os.path.isdir(self.runs):
            self.ledger.drop(run_id)

    # ------------------------------------------------------------------ one run
    def _first_look(self, run_id: str) -> None:
        folder = f"{self.runs}/{run_id}"
        header = read_header(folder)
        reading = scan.read_run(folder, None, lambda _: Fold(RunState(), {}), network=self.network) if header else None
        if header is None or reading is None or reading.fold is None:
            if run_id not in self.waiting:
                self.ledger.insert("waiting", [(run_id,)])
            return
        if run_id in self.waiting:
            self.ledger.forget("waiting", run_id)
        over = _over_since(reading.fold.state, header.kind)
        self.ledger.put(run_id, header, reading, Rest(over, self._settled(over, reading.newest, 0.0), 0.0), before=None)

    def _look_again(self, run_id: str, over: float | None, recheck: float) -> None:
        rows = self.connection.execute("SELECT file, inode, offset, bad FROM source WHERE run = ?", (run_id,))
        known = {row[0]: Source(*row[1:]) for row in rows}
        folder = f"{self.runs}/{run_id}"
        reading = scan.read_run(folder, known, lambda fresh: self._sum(run_id, fresh), network=self.network)
        if reading is None:
            self._drop_if_gone(run_id)
            return
        if reading.fold is None:
            if self._settled(over, reading.newest, recheck):
                self.ledger.settle(run_id, True, 0.0)
            return
        header = read_header(folder)
        if header is None:
            return  # it had one, and will have it again, or be gone
        over = _over_since(reading.fold.state, header.kind)
        self.ledger.put(run_id, header, reading, Rest(over, self._settled(over, reading.newest, recheck), recheck), before=known)

    def _sum(self, run_id: str, fresh: bool) -> Fold:
        row = self.connection.execute("SELECT state FROM progress WHERE run = ?", (run_id,)).fetchone()
        if fresh or row is None:
            return Fold(RunState(), {})
        columns = "name, kind, value, text, step, time, writer, count, min, max"
        metrics = self.connection.execute(f"SELECT {columns} FROM metric_last WHERE run = ?", (run_id,))  # noqa: S608  # our own names
        return Fold(RunState.from_json(json.loads(row[0])), {name: list(values) for name, *values in metrics})

    def _settled(self, over: float | None, newest: float, recheck: float) -> bool:
        return over is not None and max(over, newest) <= self.now - SETTLED_AFTER_S and recheck <= self.now


def _over_since(state: RunState, kind: str) -> float | None:
    """When nothing more was to come; None for a run that goes on, or that nobody has collected yet."""
    return float(state.ended or 0.0) if state.finished and (state.collected or kind != "run") else None
