"""A workspace with an awkward path, runs written the way writers write them, and the index as plain rows."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcest.history import ingest
from hpcest.history.location import index_location
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode.record import encode

LONG_AGO = 3600.0
# What two indexes of the same files must agree on; the rest is about when to look again.
COMPARED = {
    "run": "*",
    "param": "*",
    "tag": "*",
    "property": "*",
    "metric_last": "*",
    "source": "*",
    "progress": "run, state, over",
}


class Records:
    """A workspace to write runs into: ``run`` makes one, ``append`` adds to one of its files."""

    def __init__(self, root: Path) -> None:
        self.workspace = WorkspaceFolder(root)
        self.workspace.runs.mkdir(parents=True)
        self.now = time.time()

    def run(
        self, run_id: str, *, spec: Mapping[str, Any] | None = None, events: Iterable[Mapping[str, Any]] = (), **header: Any
    ) -> RunFolder:
        """A run folder with a header and, in the file ``rank0-n1-1.jsonl``, events."""
        folder = self.workspace.run(run_id)
        folder.events.mkdir(parents=True)
        spec = {"experiment": "mnist", **(spec or {})}
        data = {"schema": 1, "id": run_id, "kind": "run", "created": self.now - 100, "user": "me", "host": "login1", "spec": spec, **header}
        folder.header.write_text(json.dumps(data))
        if events:
            self.append(run_id, *events)
        return folder

    def append(self, run_id: str, *events: Mapping[str, Any] | bytes, file: str = "rank0-n1-1.jsonl") -> Path:
        """Append events, or bytes as they are, to an event file of the run."""
        path = self.workspace.run(run_id).events / file
        with open(path, "ab") as stream:
            for event in events:
                stream.write(event if isinstance(event, bytes) else encode(event))
        return path

    def finished(self, run_id: str, *, spec: Mapping[str, Any] | None = None, **header: Any) -> RunFolder:
        """A run that ended an hour ago and was collected."""
        end = self.now - LONG_AGO
        folder = self.run(run_id, spec=spec, events=[self.status("Completed", t=end), {"t": end, "e": "collected"}], **header)
        self.age(folder)
        return folder

    def status(self, value: str, **fields: Any) -> dict[str, Any]:
        """A status event of the controller, of now."""
        return {"t": self.now, "e": "status", "v": value, "by": "controller", **fields}

    def age(self, folder: RunFolder, seconds: float = LONG_AGO) -> None:
        """Make the run's event files look as if they were last written some time ago."""
        for path in folder.events.iterdir():
            os.utime(path, (time.time() - seconds, time.time() - seconds))

    def refresh(self) -> int:
        """Bring the index up to date."""
        return ingest.refresh(self.workspace)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the index that must not depend on how it came there."""
        with contextlib.closing(sqlite3.connect(index_location(self.workspace))) as connection:
            return {
                table: sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
                for table, columns in COMPARED.items()
            }

    def rebuilt(self) -> dict[str, list[tuple[Any, ...]]]:
        """The same of an index that is built from nothing, now."""
        ingest.reindex(self.workspace)
        return self.dump()


@pytest.fixture
def new_records(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Records]:
    """As many empty workspaces as asked for."""
    return lambda: Records(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    """An empty workspace whose path has what URIs and SQL trip over."""
    return Records(tmp_path / "w s%20?#'é\\")
