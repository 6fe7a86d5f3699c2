"""Opening, replacing and repairing the index: damage of every kind costs a line and a moment, never data."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hpcest
from hpcest.errors import WorkspaceError
from hpcest.history import ingest, query, store
from hpcest.history.location import Place, index_location, locate
from hpcest.history.schema import VERSION

if TYPE_CHECKING:
    from tests.history.conftest import Records

ROOT = Path(hpcest.__file__).parent.parent


def pragma(path: Path, name: str) -> object:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def damage(path: Path, how: str) -> None:
    """Break an index the way a full disk, a crash or a user would."""
    size = path.stat().st_size
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is not a database, it only has the name of one\n" * 100)
    elif how == "half":
        os.truncate(path, size // 2)
    elif how == "a few bytes":
        os.truncate(path, 30)
    elif how == "zeros":
        overwrite(path, 4096, b"\0" * (size - 4096))
    elif how == "garbage":
        overwrite(path, 4096, os.urandom(size - 4096))
    elif how == "another database":
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE run")


DAMAGES = ["empty", "text", "half", "a few bytes", "zeros", "garbage", "another database", "no table"]


@pytest.mark.parametrize("first", ["refresh", "list"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_index_is_set_aside_and_built_again(records: Records, caplog: pytest.LogCaptureFixture, how: str, first: str) -> None:
    """Whoever meets the damage repairs it, says one line, keeps the old file, and the result is whole."""
    for number in range(40):
        records.run(f"run{number:02d}", spec={"tags": {"a": "x" * 500}}, events=[{"t": 1, "e": "metric", "k": "loss", "v": number}])
    records.refresh()
    whole, path = records.dump(), index_location(records.workspace)
    damage(path, how)
    if first == "refresh":
        records.refresh()
    assert len(query.list_runs(records.workspace, limit=None)) == 40
    assert records.dump() == whole
    assert len(list(path.parent.glob("history.db.corrupt-*[0-9]"))) == 1
    assert [line.levelname for line in caplog.records if str(path) in line.getMessage()] == ["WARNING"]


def test_only_the_latest_damaged_indexes_are_kept(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that breaks every day does not fill up with what it broke."""
    records.run("abc")
    records.refresh()
    path = index_location(records.workspace)
    for number in range(5):
        path.with_name(f"history.db.corrupt-2026010{number}T000000").write_text("old")
    damage(path, "text")
    records.refresh()
    kept = sorted(path.parent.glob("history.db.corrupt-*"))
    assert len(kept) == 2
    assert kept[0].name == "history.db.corrupt-20260104T000000"


def test_an_index_of_a_newer_version_is_not_touched(records: Records) -> None:
    """Neither reading nor refreshing nor rebuilding changes a byte of it."""
    records.run("abc")
    records.refresh()
    path = index_location(records.workspace)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    for action in (ingest.refresh, ingest.reindex, query.list_runs, query.unfinished):
        with pytest.raises(WorkspaceError, match="made by a newer version"):
            action(records.workspace)
    assert path.read_bytes() == before


def test_an_index_of_an_older_version_is_migrated(records: Records) -> None:
    """What a migration of this version finds missing it adds; the version says so afterwards."""
    records.run("abc")
    records.refresh()
    path = index_location(records.workspace)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        ]
        for table in tables:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = -1")  # as if there had been one before the first
    assert [row.id for row in query.list_runs(records.workspace)] == ["abc"]
    assert pragma(path, "user_version") == VERSION
    assert not list(path.parent.glob("*.corrupt-*"))


def test_the_version_is_the_number_of_migrations() -> None:
    """Each migration is named after its number, and an index knows how many it has had."""
    from hpcest.history.migrations import migrations

    names = [migration.name for migration in migrations._migrations]
    assert len(names) == VERSION
    assert [name[:5] for name in names] == [f"m{number:03d}_" for number in range(1, VERSION + 1)]


def test_a_local_index_has_a_write_ahead_log_and_one_on_a_network_has_none(records: Records) -> None:
    """The journal follows the file system, also for an index that is there already."""
    records.run("abc")
    records.refresh()
    place = locate(records.workspace)
    assert pragma(place.path, "journal_mode") == "wal"
    for network, mode in ((True, "truncate"), (False, "wal"), (True, "truncate")):
        connection = store.open_writer(Place(place.path, network))
        assert connection is not None
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == mode
        assert connection.execute("PRAGMA mmap_size").fetchone()[0] == 0
        assert connection.execute("PRAGMA busy_timeout").fetchone()[0] == (30000 if network else 10000)
        connection.close()
        assert not Path(f"{place.path}-shm").exists()
    with store.built_beside(Place(place.path, True)) as connection:
        connection.execute("SELECT 1 FROM run")
    assert pragma(place.path, "journal_mode") == "delete"  # what any new connection says of a file without a log


def test_a_log_of_the_old_index_never_meets_the_new_one(records: Records) -> None:
    """A reader that stays open over a rebuild keeps its state; the new index starts without a log."""
    records.run("abc")
    records.refresh()
    place = locate(records.workspace)
    reader = store.open_reader(place)
    assert reader is not None
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM run").fetchone()[0] == 1
    records.run("def")
    records.refresh()  # into the log, which the reader keeps from being merged
    assert os.path.getsize(f"{place.path}-wal") > 0
    ingest.reindex(records.workspace)
    assert not os.path.exists(f"{place.path}-wal")
    assert len(query.list_runs(records.workspace)) == 2
    records.run("ghi")
    records.refresh()
    assert reader.execute("SELECT count(*) FROM run").fetchone()[0] == 1
    reader.close()
    assert len(query.list_runs(records.workspace)) == 3
    assert pragma(place.path, "integrity_check") == "ok"


def test_what_a_killed_rebuild_left_is_removed(records: Records) -> None:
    """Half-built indexes do not pile up, and the index is as private as the workspace makes it."""
    left = Path(f"{index_location(records.workspace)}.new-123")
    left.write_text("half")
    records.refresh()
    assert sorted(path.name for path in left.parent.iterdir()) == ["history.db", "history.db.lock", "runs"]


def test_an_index_that_can_be_made_nowhere_is_an_error_that_says_so(records: Records) -> None:
    """Without a folder for it there is no listing, and the message names the place."""
    with pytest.raises(WorkspaceError, match="there is no index"):
        query.list_runs(type(records.workspace)(records.workspace.root / "elsewhere"))


def test_a_listing_imports_neither_sqlite_utils_nor_yaml(records: Records) -> None:
    """Only a new index, or one to migrate, loads them."""
    records.run("abc")
    code = """
import sys
from hpcest.history import ingest, query
from hpcest.model.folders import WorkspaceFolder
workspace = WorkspaceFolder(sys.argv[1])
ingest.refresh(workspace)
assert query.list_runs(workspace)
print(*sorted({"sqlite_utils", "yaml", "rich", "click", "submitit", "pluggy", "uuid", "logging", "subprocess"} & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", code, str(records.workspace.root)]
    first = subprocess.run(run, check=True, env=environment, text=True, capture_output=True)
    again = subprocess.run(run, check=True, env=environment, text=True, capture_output=True)
    assert "sqlite_utils" in first.stdout.split()
    assert again.stdout.split() == []
