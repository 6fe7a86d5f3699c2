"""The tables of the index, and how an older index becomes one of this version.

sqlite-utils is imported only when there is something to migrate: listings must start fast.
"""

from __future__ import annotations

import sqlite3

#: How many migrations there are; an index carries the number that it has had as its ``user_version``.
VERSION = 1


def version_of(connection: sqlite3.Connection) -> int:
    """The version of an index, 0 for a database that is none of ours. Raises sqlite3.DatabaseError."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Apply the migrations that the index has not had, each in a transaction of its own."""
    import sqlite_utils

    from hpcest.history.migrations import migrations

    migrations.apply(sqlite_utils.Database(connection))
    connection.execute(f"PRAGMA user_version = {VERSION:d}")
