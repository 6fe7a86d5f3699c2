"""Keeping what is said later of an experiment or a version of a model, in the words of ``onnode.edits``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpcest.errors import HpcestError
from hpcest.lifecycle.journal import append
from hpcest.model.folders import RunFolder


def add(home: Path, what: str, events: Iterable[dict[str, Any]]) -> None:
    """Add events to what is kept of ``what`` in the folder ``home``. Raises HpcestError."""
    folder = RunFolder(home)
    try:
        folder.events.mkdir(parents=True, exist_ok=True)
        append(folder, "user", *events)
    except OSError as error:
        raise HpcestError(f"{what} can't be changed: {folder.path}: {error.strerror}", hint="check its space and permissions") from error
