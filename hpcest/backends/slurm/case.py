"""What a verdict on a run is made of: the claims, sentinels and signs of life in its folder, and Slurm's word."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpcest.backends.slurm.polling import Answer
from hpcest.backends.slurm.queries import JobView
from hpcest.backends.slurm.site import Site
from hpcest.model.folders import RunFolder
from hpcest.onnode.record import get_json

#: A controller beats every 15 s, and so do the nodes of a run that has several; after so long without a sign there is a doubt.
SILENT_S = 180.0
_STATE_FILE = re.compile(r"(claim|exit)\.([0-9]+)\.json")


@dataclass(frozen=True)
class Case:
    """All that a verdict is made of. ``attempt`` is the newest one with a file, -1 if there is none; ``beat`` its heartbeat.

    ``pulses`` are the last signs of each of its nodes, where there are several.
    """

    job: Mapping[str, Any]
    view: JobView | None
    answer: Answer
    site: Site
    now: float
    attempt: int = -1
    claim: Mapping[str, Any] | None = None
    sentinel: Mapping[str, Any] | None = None
    beat: float = 0.0
    ended: float = 0.0
    planned: float | None = None
    canceled: float | None = None
    pulses: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The Slurm job as one says it."""
        return str(self.job.get("id") or (self.view.id if self.view else "")) or str(self.job.get("name") or "")

    @property
    def silent(self) -> float:
        """Seconds since the controller's last sign."""
        return self.now - self.beat

    @property
    def beating(self) -> bool:
        """Whether a controller is at work."""
        return self.claim is not None and self.sentinel is None and self.silent <= SILENT_S

    @property
    def next(self) -> int:
        """The attempt that a waiting job is to become."""
        if self.view is not None and self.view.restarts is not None and self.view.source == "squeue":
            return max(self.view.restarts, 0)
        return self.attempt + 1 if self.sentinel is not None else max(self.attempt, 0)

    @property
    def alive(self) -> float:
        """The last sign of life, in epoch seconds."""
        return max(float(self.job.get("submitted") or 0.0), self.beat, self.ended, self.planned or 0.0)


def read(folder: RunFolder, case: Case) -> Case:
    """``case`` with the newest attempt's files. The claim first: a run that ends meanwhile has both."""
    try:
        names = os.listdir(folder.state)
    except OSError:
        names = []
    attempts = [int(match[2]) for match in map(_STATE_FILE.fullmatch, names) if match]
    planned = _mtime(folder.launch)
    case = replace(case, canceled=_mtime(folder.cancel))
    job = case.job
    if not job.get("id") and not job.get("name") and planned is not None:
        job = {"name": str((get_json(str(folder.launch)) or {}).get("job_name") or "")}
    if not attempts:
        return replace(case, job=job, planned=planned)
    newest = max(attempts)
    claim, beat = get_json(str(folder.claim(newest))), _mtime(folder.claim(newest))
    sentinel = get_json(str(folder.sentinel(newest)))
    claim = claim if isinstance(claim, dict) else {} if beat is not None else None
    if not job.get("id") and claim and claim.get("job"):
        job = {**job, "id": str(claim["job"])}
    return replace(
        case,
        job=job,
        attempt=newest,
        claim=claim,
        sentinel=sentinel if isinstance(sentinel, dict) else None,
        beat=beat or 0.0,
        ended=_mtime(folder.sentinel(newest)) or 0.0,
        pulses=_pulses(folder, newest, names) if sentinel is None else {},
        planned=planned,
    )


def _pulses(folder: RunFolder, attempt: int, names: Iterable[str]) -> dict[str, float]:
    """When each node of an attempt gave its last sign."""
    start = f"pulse.{attempt}."
    return {name[len(start) :]: _mtime(folder.state / name) or 0.0 for name in names if name.startswith(start)}


def _mtime(path: os.PathLike[str]) -> float | None:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None
