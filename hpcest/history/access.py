"""A consistent, read-only look at the index, for everything that asks it something."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sized
from typing import Any, NamedTuple, TypeVar

from hpcest.errors import WorkspaceError
from hpcest.history import store
from hpcest.history.location import Place, locate
from hpcest.model.folders import WorkspaceFolder

T = TypeVar("T")


class Sql(NamedTuple):
    """A piece of SQL, and the values of its question marks."""

    sql: str
    values: tuple[Any, ...] = ()


def marks(values: Sized) -> str:
    """As many question marks as there are values."""
    return ", ".join("?" * len(values))


def look(workspace: WorkspaceFolder, index: str, ask: Callable[[sqlite3.Connection], T]) -> T:
    """What ``ask`` returns for the index as it is now; the index is made or repaired first where it must be.

    ``ask`` sees one state of the index, whoever writes meanwhile. Raises WorkspaceError if there is no
    index that can be read.
    """
    place = locate(workspace, index)
    connection, seen = _open(workspace, place, index)
    try:
        return _ask(connection, ask)
    except sqlite3.DatabaseError as error:
        if not store.damaged(error):
            raise
        problem = str(error)
    from hpcest.history.ingest import repair

    repair(workspace, seen, problem, index=index)
    return _ask(_open(workspace, place, index)[0], ask)


def _open(workspace: WorkspaceFolder, place: Place, index: str) -> tuple[sqlite3.Connection, int | None]:
    """A connection, and the identity of what it reads or of what it was before."""
    seen = store.identity(place)
    connection = store.open_reader(place)
    if connection is None:
        from hpcest.history.ingest import refresh

        refresh(workspace, index=index)
        seen = store.identity(place)
        connection = store.open_reader(place)
    if connection is None:
        raise WorkspaceError(
            f"there is no index of the runs at {place.path}, and none could be made",
            hint="check that the folder can be written, or have the index elsewhere: HPCEST_HISTORY_INDEX=node",
        )
    return connection, seen


def _ask(connection: sqlite3.Connection, ask: Callable[[sqlite3.Connection], T]) -> T:
    with contextlib.closing(connection):
        connection.execute("BEGIN")
        return ask(connection)
