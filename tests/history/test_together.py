"""Many processes at one index: nothing is lost, nothing is counted twice, nobody waits long."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hpcest
from hpcest.history import ingest, query, schema, store, turn
from hpcest.history.access import look
from hpcest.history.header import read_header
from hpcest.history.ledger import Ledger, OvertakenError, Rest
from hpcest.history.location import Place, index_location, locate

if TYPE_CHECKING:
    from tests.history.conftest import Records

ROOT = Path(hpcest.__file__).parent.parent


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs ``code`` with this hpcest."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def output(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err == ""
    return out


REFRESHER = """
import sys, time
from hpcest.history import ingest, query
from hpcest.model.folders import WorkspaceFolder
workspace, end = WorkspaceFolder(sys.argv[1]), time.time() + float(sys.argv[2])
changed, seen = 0, 0
while time.time() < end:
    changed += ingest.refresh(workspace)
    rows = query.list_runs(workspace, limit=None)
    assert len(rows) >= seen, (len(rows), seen)
    seen = len(rows)
print(changed)
"""
WRITER = """
import json, os, sys, time
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.record import EventWriter
workspace, end, name = WorkspaceFolder(sys.argv[1]), time.time() + float(sys.argv[2]), sys.argv[3]
writers, count = [], 0
while time.time() < end:
    if count % 20 == 0:
        folder = workspace.run(f"{name}{count:06d}")
        os.makedirs(folder.path)
        writers = [*writers[-3:], EventWriter(folder.path, "rank0")]
        writers[-1].event("status", v="Running", by="controller")
        folder.header.write_text(json.dumps({"schema": 1, "id": folder.id, "created": time.time(), "spec": {"experiment": name}}))
    for writer in writers:
        writer.event("metric", k="loss", v=count)
    count += 1
    time.sleep(0.002)
for writer in writers:
    writer.close()
"""


def test_eight_processes_refresh_while_two_write(records: Records) -> None:
    """From no index at all: every reader sees runs appear and none vanish, and in the end everything is there once."""
    root = str(records.workspace.root)
    writers = [python(WRITER, root, 4, name) for name in ("wa", "wb")]
    readers = [python(REFRESHER, root, 4) for _ in range(8)]
    for process in writers:
        output(process)
    assert sum(int(output(process)) for process in readers) > 0
    records.refresh()
    grown = records.dump()
    assert len(grown["run"]) == len(os.listdir(records.workspace.runs)) > 2
    assert grown == records.rebuilt()


def test_many_processes_make_the_first_index_together(records: Records) -> None:
    """Whoever comes first builds it, the others wait for it; all list the same."""
    for number in range(200):
        records.run(f"run{number:03d}")
    code = """
import sys
from hpcest.history import query
from hpcest.model.folders import WorkspaceFolder
print(len(query.list_runs(WorkspaceFolder(sys.argv[1]), limit=None)))
"""
    assert [output(process) for process in [python(code, records.workspace.root) for _ in range(8)]] == ["200\n"] * 8


def test_readers_see_the_old_index_or_the_new_one(records: Records) -> None:
    """While it is rebuilt again and again, a listing is always whole."""
    for number in range(60):
        records.run(f"run{number:03d}", events=[{"t": 1, "e": "tag", "k": "a", "v": "1"}])
    records.refresh()
    code = """
import sys, time
from hpcest.history import ingest
from hpcest.model.folders import WorkspaceFolder
workspace, end = WorkspaceFolder(sys.argv[1]), time.time() + 3
while time.time() < end:
    ingest.reindex(workspace)
    ingest.refresh(workspace)
"""
    rebuilding, listings = python(code, records.workspace.root), 0
    while rebuilding.poll() is None:
        rows = query.list_runs(records.workspace, limit=None)
        assert len(rows) == 60
        assert all(row.tags == {"a": "1"} for row in rows)
        listings += 1
    assert output(rebuilding) == ""
    assert listings > 10


def test_a_reader_whose_index_is_replaced_while_it_opens_it_starts_again(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it could read the old file with the new one's log."""
    records.run("abc")
    records.refresh()
    whole, calls = schema.version_of, []

    def slow(connection: sqlite3.Connection) -> int:
        calls.append(connection)
        if len(calls) == 1:
            monkeypatch.setattr(store, "version_of", whole)
            records.run("def")
            ingest.reindex(records.workspace)
            monkeypatch.setattr(store, "version_of", slow)
        return whole(connection)

    monkeypatch.setattr(store, "version_of", slow)
    reader = store.open_reader(locate(records.workspace))
    assert reader is not None
    assert [row[0] for row in reader.execute("SELECT id FROM run ORDER BY id")] == ["abc", "def"]
    reader.close()
    assert len(calls) == 2


def test_one_question_sees_one_state(records: Records) -> None:
    """What is written between its first and its last statement is not in the answer."""
    records.run("abc")
    records.refresh()

    def ask(connection: sqlite3.Connection) -> list[int]:
        counts = [connection.execute("SELECT count(*) FROM run").fetchone()[0]]
        records.run("def")
        assert records.refresh() == 1
        return [*counts, connection.execute("SELECT count(*) FROM run").fetchone()[0]]

    assert look(records.workspace, "", ask) == [1, 1]
    assert len(query.list_runs(records.workspace)) == 2


def test_threads_of_one_process_may_refresh_at_once(records: Records) -> None:
    """As in a server: nothing is counted twice."""
    records.run("abc")
    done: list[bool] = []

    def refresh() -> None:
        for _ in range(20):
            ingest.refresh(records.workspace)
        done.append(True)

    threads = [threading.Thread(target=refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for step in range(100):
        records.append("abc", {"t": step, "e": "metric", "k": "loss", "v": step})
    for thread in threads:
        thread.join()
    records.refresh()
    assert len(done) == 4
    assert records.dump() == records.rebuilt()


def test_who_commits_second_without_a_lock_gives_up(records: Records) -> None:
    """On a file system whose locks do nothing, two ingesters at once still count nothing twice."""
    records.finished("abc")
    records.refresh()
    with contextlib.closing(sqlite3.connect(index_location(records.workspace), isolation_level=None)) as connection:
        before = records.dump()
        first, second = Ledger(connection), Ledger(connection)
        header = read_header(str(records.workspace.run("abc").path))
        assert header is not None
        first.settle("abc", True, 1.0)
        second.drop("abc")
        first.commit()
        with pytest.raises(OvertakenError):
            second.commit()
        assert not connection.in_transaction
        assert records.dump() == before
        assert Rest(None, False, 0.0).settled is False


def test_the_turn_is_taken_by_one_and_given_back(tmp_path: Path) -> None:
    """Who waits in vain is told so; who waited while another did the same work need not do it again."""
    for network in (False, True):
        place = Place(tmp_path / f"index-{network}.db", network)
        holder = python(
            "import sys, time; from pathlib import Path; from hpcest.history import turn; from hpcest.history.location import Place\n"
            "with turn.taken(Place(Path(sys.argv[1]), sys.argv[2] == 'True'), wait_s=0) as ours:\n"
            "    print(ours, flush=True); time.sleep(3)",
            place.path,
            network,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        began = time.monotonic()
        with turn.taken(place, wait_s=0.1) as ours:
            assert not ours
        assert time.monotonic() - began < 2.9
        with turn.taken(place, wait_s=10) as ours:  # its work began before we asked
            assert ours
        assert output(holder) == ""


def test_work_that_began_after_we_asked_is_enough(tmp_path: Path) -> None:
    """Fifty processes that come at once need two passes, not fifty."""
    place, passes, lock = Place(tmp_path / "index.db", False), [], threading.Lock()

    def one() -> None:
        with turn.taken(place, wait_s=30) as ours:
            if ours:
                with lock:
                    passes.append(1)
                time.sleep(0.3)

    threads = [threading.Thread(target=one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(passes) <= 5


def test_a_place_without_locks_or_permission(records: Records) -> None:
    """Without a folder for the lock nobody has the turn."""
    missing = Place(records.workspace.root / "no such folder" / "index.db", False)
    with turn.taken(missing, wait_s=0) as ours:
        assert not ours
    assert not locate(records.workspace).network
