"""A run folder as a controller leaves it, and what Slurm says of its job, for the tests of evidence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hpcest.backends.slurm import evidence as module
from hpcest.backends.slurm.polling import Answer
from hpcest.backends.slurm.queries import JobView
from hpcest.backends.slurm.site import Site
from hpcest.contracts import Evidence
from hpcest.model.folders import RunFolder

NOW = 1_800_000_000.0
NAME = "train.abc"
SITE = Site(version=(22, 5, 8), min_job_age=60, kill_wait=10, accounting=True, accounting_type="accounting_storage/slurmdbd")
JOB = {"id": "7", "name": NAME, "submitted": NOW - 1000}


class Scene:
    """A run folder, and what Slurm says."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.state.mkdir(parents=True)
        self.now = NOW

    def plan(self, ago: float = 1000.0, **more: Any) -> Scene:
        return self._write(self.folder.launch, {"job_name": NAME, **more}, ago)

    def claim(self, attempt: int = 0, ago: float = 5.0, **more: Any) -> Scene:
        """A controller's claim with its last heartbeat so long ago."""
        return self._write(self.folder.claim(attempt), {"host": "n1", "pid": 4, "job": "7", **more}, ago)

    def sentinel(self, attempt: int = 0, ago: float = 5.0, **outcome: Any) -> Scene:
        return self._write(self.folder.sentinel(attempt), {"rc": 1, "status": "Failed", "attempt": attempt, **outcome}, ago)

    def _write(self, path: Path, value: Any, ago: float) -> Scene:
        path.write_text(json.dumps(value))
        os.utime(path, (NOW - ago, NOW - ago))
        return self

    def look(self, *views: JobView, job: dict[str, Any] | None = None, asked: float = 1.0, **answer: Any) -> Evidence:
        """What is true, where Slurm said ``views`` so many seconds ago."""
        by_id: dict[str, tuple[JobView, ...]] = {}
        by_name: dict[str, tuple[JobView, ...]] = {}
        for view in views:
            by_id[view.id] = (*by_id.get(view.id, ()), view)
            by_name[view.name] = (*by_name.get(view.name, ()), view)
        when = self.now - asked if asked >= 0 else 0.0
        return module.evidence(self.folder, JOB if job is None else job, Answer(by_id, by_name, when, **answer), SITE, self.now)


def view(state: str, **facts: Any) -> JobView:
    told = {"submitted": NOW - 1000, "nodes": "n1", "restarts": 0, **facts}
    return JobView(**{"id": "7", "name": NAME, "state": state, **told})


def ended(state: str, ago: float = 600.0, **facts: Any) -> JobView:
    return view(state, **{"start": NOW - 900, "end": NOW - ago, **facts})
