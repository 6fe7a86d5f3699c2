"""Ending jobs: what waits leaves the queue; of what runs the controller is told, so that programs end gently."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from hpcest.errors import BackendError
from hpcest.kit import process
from hpcest.model.folders import RunFolder

_CHUNK = 500
Jobs = Mapping[str, tuple[RunFolder, Mapping[str, Any]]]
_GONE = ("Invalid job id", "already completing or completed", "Job/step already", "Requested partition configuration")


def cancel(clusters: Mapping[str, Jobs], environ: Mapping[str, str]) -> None:
    """End the jobs of each cluster with a command or two for each few hundred. Raises BackendError with scancel's own words.

    The batch step alone gets the signal: a signal to a step reaches every process of it, also what serves a
    container's files. A job that starts between the two commands is caught by the second.
    """
    for jobs in clusters.values():
        for folder, _ in jobs.values():
            with contextlib.suppress(OSError):
                folder.cancel.touch()  # a job that starts meanwhile sees it, and one that runs at its next heartbeat
    for cluster, jobs in clusters.items():
        where = [f"--clusters={cluster}"] if cluster else []
        own = {str(facts["id"]): folder for folder, facts in jobs.values() if facts.get("id") and not facts.get("attached")}
        fresh = {one for one in own if "_" in one and not _has_started(own[one])}
        for chunk in _chunks(sorted(fresh)):  # with a filter or a signal scancel would end all tasks that Slurm keeps as one record
            _scancel([*where, *chunk], environ)
        for chunk in _chunks([one for one in own if one not in fresh]):
            _scancel([*where, "--state=PENDING", *chunk], environ)
            _scancel([*where, "--batch", "--signal=TERM", *chunk], environ)


def _has_started(folder: RunFolder) -> bool:
    """Whether a controller has ever begun an attempt. Then Slurm has a record for this task of an array alone."""
    return any(folder.state.glob("claim.*.json"))


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


def _scancel(words: list[str], environ: Mapping[str, str]) -> None:
    done = process.run(["scancel", *words], env=environ, timeout=60)
    problems = [line for line in done.err.splitlines() if line.strip() and not any(word in line for word in _GONE)]
    if not done.ok and problems:
        raise BackendError(f"Slurm could not be told to end it: {'; '.join(problems)}", hint="try again: hpcest cancel RUN")
