"""The index's migrations, oldest first. A new one is added at the end; an old one is never changed.

What the run folders hold can be read again, so a migration may as well empty a table and forget the
offsets in ``source``: the next refresh fills it.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("hpcest-history")


@migrations()
def m001_create_tables(db: Database) -> None:
    """Runs with what was recorded about them, and how far each file has been read."""
    for statement in _TABLES.split(";"):
        db.execute(statement)


_TABLES = """
CREATE TABLE run (
    id TEXT PRIMARY KEY, kind TEXT, experiment TEXT, display_name TEXT, description TEXT,
    status TEXT, reason TEXT, message TEXT, created REAL, queued REAL, started REAL, ended REAL,
    compute TEXT, framework TEXT, environment TEXT, script TEXT, user TEXT, host TEXT, parent TEXT,
    attempt INTEGER, exit_code INTEGER, job TEXT, trashed INTEGER, lost INTEGER, collected INTEGER
) WITHOUT ROWID;
CREATE INDEX run_latest ON run (parent, created);

CREATE TABLE param (run TEXT, key TEXT, value TEXT, num REAL, PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX param_values ON param (key, value);
CREATE INDEX param_numbers ON param (key, num);
CREATE TABLE tag (run TEXT, key TEXT, value TEXT, num REAL, PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX tag_values ON tag (key, value);
CREATE TABLE property (run TEXT, key TEXT, value TEXT, num REAL, PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX property_values ON property (key, value);

-- value has no type: whole numbers stay whole. text holds what is no number, and NaN.
CREATE TABLE metric_last (
    run TEXT, name TEXT, kind TEXT, value, text TEXT, step REAL, time REAL, writer TEXT,
    count INTEGER, min REAL, max REAL, PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX metric_last_values ON metric_last (name, value);

-- The sum of a run's events so far, since when it is over, and whether and until when to look at it again.
CREATE TABLE progress (run TEXT PRIMARY KEY, state TEXT, over REAL, settled INTEGER, recheck REAL) WITHOUT ROWID;
CREATE INDEX progress_unsettled ON progress (run) WHERE settled = 0;
CREATE TABLE source (run TEXT, file TEXT, inode INTEGER, offset INTEGER, bad INTEGER, PRIMARY KEY (run, file)) WITHOUT ROWID;
CREATE TABLE edit (file TEXT PRIMARY KEY, inode INTEGER, offset INTEGER) WITHOUT ROWID;
CREATE TABLE waiting (run TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', '0')"""
