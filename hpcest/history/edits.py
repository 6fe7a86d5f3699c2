"""Announcing that something was added to a run that nobody looks at any more.

A finished run is read once and then left alone. Who tags, renames or deletes it later appends the
event to the run folder first, and announces it then: every index reads the announcements.
"""

from __future__ import annotations

import os
import sqlite3

from hpcest.history.header import clean
from hpcest.history.scan import inode_of
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import record
from hpcest.onnode.events import CHUNK, read_stream


def announce(workspace: WorkspaceFolder, run_id: str) -> None:
    """Have every index look at the run again. Call it when the event is in the run folder. Raises OSError."""
    problem = record.announce(str(workspace.edits), run_id)
    if problem is not None:
        raise problem


class Announcements:
    """What was announced since the index last looked; ``rows`` are the offsets to remember, if any changed."""

    def __init__(self, workspace: WorkspaceFolder, connection: sqlite3.Connection) -> None:
        self.rows: list[tuple[str, int, int]] = []
        self.runs: set[str] = set()
        try:
            names = sorted(name for name in os.listdir(workspace.edits) if name.endswith(".jsonl"))
        except OSError:
            return
        known = {file: (inode, offset) for file, inode, offset in connection.execute("SELECT file, inode, offset FROM edit")}
        for name in names:
            self._read(os.path.join(workspace.edits, name), clean(name), known.get(clean(name), (0, 0)))

    def _read(self, path: str, name: str, known: tuple[int, int]) -> None:
        inode, offset = known
        try:
            with open(path, "rb", buffering=0) as stream:
                facts = os.fstat(stream.fileno())
                if inode_of(facts) != inode or facts.st_size < offset:
                    offset = 0
                start, before = offset, -1
                while offset != before and facts.st_size > offset:
                    before = offset
                    events, offset, _ = read_stream(stream, offset, CHUNK)
                    self.runs.update(clean(event.get("run")) for event in events)
        except OSError:
            return
        if offset != start or inode_of(facts) != inode:
            self.rows.append((name, inode_of(facts), offset))
