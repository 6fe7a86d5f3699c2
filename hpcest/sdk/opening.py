"""Opening a run from outside: which one is meant, and how what is written into it reaches the history."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.record import EventWriter

#: An announcement has every index look at the run for two minutes more: this often is enough while lines are added.
ANNOUNCED_FOR_S = 10.0


def inside_a_run() -> bool:
    """Whether this process belongs to a run's program: there nothing of ours may stop it."""
    return "HPCEST_RUN_DIR" in os.environ


def find_run(workspace: WorkspaceFolder, reference: str) -> str:
    """The folder of the run that an id, a prefix of one or ``@latest`` means. Raises UnknownNameError, UsageError."""
    from hpcest.history.resolve import resolve

    return str(workspace.run(resolve(workspace, reference)).path)


def writer_of(folder: str) -> EventWriter:
    """What writes into a run that this process has opened, and is not part of."""
    return EventWriter(folder, "user") if inside_a_run() else AnnouncingWriter(folder)


class AnnouncingWriter(EventWriter):
    """Tells the history that lines were added, which no longer looks at a run that has ended."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder, "user")
        self._workspace = WorkspaceFolder(Path(folder).parents[2])
        self._announced = -ANNOUNCED_FOR_S

    def write(self, data: bytes) -> None:
        """Append whole lines; never raises for trouble of the storage."""
        super().write(data)
        now = time.monotonic()
        if now - self._announced >= ANNOUNCED_FOR_S:
            from hpcest.history.edits import announce

            self._announced = now
            with contextlib.suppress(OSError):
                announce(self._workspace, os.path.basename(self.folder))
