"""What is said later of something that never changes itself: an experiment, a version of a model.

Each process appends to a file of its own below ``events/``, with the lines of a run folder, so two that edit at once lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcest.errors import HpcestError
from hpcest.lifecycle.journal import append
from hpcest.model.folders import RunFolder
from hpcest.onnode import edits as later


def add(home: Path, what: str, events: Iterable[dict[str, Any]]) -> None:
    """Add events to what is kept of ``what`` in the folder ``home``. Raises HpcestError."""
    folder = RunFolder(home)
    try:
        folder.events.mkdir(parents=True, exist_ok=True)
        append(folder, "user", *events)
    except OSError as error:
        raise HpcestError(f"{what} can't be changed: {folder.path}: {error.strerror}", hint="check its space and permissions") from error


def tags(values: Mapping[str, object]) -> list[dict[str, Any]]:
    """The events that set tags; a value of None is an empty text."""
    return list(later.tagged(values))


def untags(names: Sequence[str] | str) -> list[dict[str, Any]]:
    """The events that take tags away: one, or several."""
    return list(later.untagged(names))


def properties(values: Mapping[str, object]) -> list[dict[str, Any]]:
    """The events that set properties, of which the first value stays."""
    return list(later.given(values))
