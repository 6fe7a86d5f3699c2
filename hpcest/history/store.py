"""Opening the index, replacing it whole, and setting a damaged one aside.

An index is never made where it is read: a new one is built beside and renamed. A reader has the old
one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from hpcest.errors import WorkspaceError
from hpcest.history.location import Place
from hpcest.history.schema import VERSION, migrate, version_of

_DAMAGE = ("malformed", "not a database", "encrypted", "no such table", "no such column", "could not decode")
_BESIDE = ("-wal", "-shm", "-journal")
_KEPT_ASIDE = 2


def damaged(error: Exception) -> bool:
    """Whether ``error`` says that the index itself is broken, and not that someone holds it or the disk is full."""
    return isinstance(error, sqlite3.DatabaseError) and any(words in str(error).lower() for words in _DAMAGE)


def open_reader(place: Place) -> sqlite3.Connection | None:
    """A read-only connection; None where there is no index of this version that can be read.

    Raises WorkspaceError for an index of a newer version.
    """
    while (inode := identity(place)) is not None:
        try:
            connection = _connect(place, "ro")
        except sqlite3.Error:
            return None
        try:
            version = version_of(connection)  # opens the write-ahead log as well
        except sqlite3.Error:
            connection.close()
            return None
        if identity(place) == inode:
            if version == VERSION:
                return connection
            connection.close()
            _refuse_newer(place, version)
            return None
        connection.close()  # replaced in between: the log might be the new one's
    return None


def open_writer(place: Place) -> sqlite3.Connection | None:
    """A connection to change the index with, migrated to this version; None if there is none (any more).

    A damaged index is set aside. Only for who has the turn. Raises WorkspaceError for a newer version.
    """
    if identity(place) is None:
        return None
    connection = _connect(place, "rw")
    try:
        version = version_of(connection)
        _refuse_newer(place, version)
        if version:
            _journal(connection, place)
            if version < VERSION:
                migrate(connection)
            return connection
        problem = "it is empty"
    except sqlite3.DatabaseError as error:
        if not damaged(error):
            connection.close()
            raise
        problem = str(error)
    except BaseException:
        connection.close()
        raise
    connection.close()
    set_aside(place, problem)
    return None


def _connect(place: Place, mode: str) -> sqlite3.Connection:
    uri = f"{place.path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=30.0 if place.network else 10.0, isolation_level=None)
    # A file on another host may shrink under a memory map, and that kills the process.
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _journal(connection: sqlite3.Connection, place: Place) -> None:
    """A write-ahead log where processes of one host share memory, else the journal that needs none."""
    reply = ""
    if not place.network:
        reply = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if reply != "wal":
        reply = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()[0]
        if reply != "truncate":
            raise sqlite3.OperationalError(f"its journal mode stays {reply!r}")
    connection.execute("PRAGMA synchronous = NORMAL")


def _refuse_newer(place: Place, version: int) -> None:
    if version > VERSION:
        raise WorkspaceError(
            f"the index {place.path} was made by a newer version of hpcest (schema {version}, this one knows {VERSION})",
            hint="upgrade hpcest, or remove that file: it is built again from the run folders",
        )


def usable(place: Place) -> bool:
    """Whether there is an index of this version that can be read. Raises WorkspaceError for a newer one."""
    connection = open_reader(place)
    if connection:
        connection.close()
    return connection is not None


def identity(place: Place) -> int | None:
    """The inode of the index, None where there is none."""
    try:
        return os.stat(place.path).st_ino
    except OSError:
        return None


@contextlib.contextmanager
def built_beside(place: Place) -> Iterator[sqlite3.Connection]:
    """An empty index to fill; it takes the place of the old one at the end. Only for who has the turn."""
    for left in place.path.parent.glob(f"{place.path.name}.new-*[0-9]"):  # by a process that was killed
        _remove(left)
    beside = Path(f"{place.path}.new-{os.getpid()}")
    connection = sqlite3.connect(beside, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection)
        yield connection
        _journal(connection, place)
        connection.close()
        _sync(beside)
        # First the old file, then what belongs to it, then the new one: a log is never seen with another's file.
        _remove(place.path)
        os.replace(beside, place.path)
    finally:
        connection.close()
        _remove(beside)


def set_aside(place: Place, why: str) -> None:
    """Rename a damaged index out of the way, and say so in one line."""
    aside = f"{place.path}.corrupt-{time.strftime('%Y%m%dT%H%M%S')}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(place.path, aside)
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{place.path}{suffix}", aside + suffix)
    warn(f"the index {place.path} was damaged ({why}): it is kept as {aside} and built again")
    for old in sorted(place.path.parent.glob(f"{place.path.name}.corrupt-*[0-9]"))[:-_KEPT_ASIDE]:
        _remove(old)


def warn(line: str) -> None:
    """Say one line to whoever runs this process."""
    import logging  # rarely needed, and slow to import

    logging.getLogger(__name__).warning("%s", line)


def _remove(path: Path) -> None:
    for suffix in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
