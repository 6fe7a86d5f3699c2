"""What is kept of an experiment beside its runs: tags, and whether it is archived.

    .hpcest/experiments/NAME/events/*.jsonl    lines as in a run folder: tag, untag, and trash for what is archived

Each process appends to a file of its own, so two that tag at once lose nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import versions
from hpcest.onnode.reading import read_state
from hpcest.onnode.versions import folder_name
from hpcest.sdk import edits


def _home(workspace: WorkspaceFolder, name: str = "") -> Path:
    root = workspace.home / "experiments"
    return root / folder_name(name) if name else root


def names(workspace: WorkspaceFolder) -> set[str]:
    """The experiments of which something is kept."""
    return set(versions.names(_home(workspace)))


def tags(workspace: WorkspaceFolder, name: str) -> dict[str, str]:
    """The tags of an experiment."""
    return {key: value for key, (_, value) in read_state(_home(workspace, name)).tags.items() if value is not None}


def archived(workspace: WorkspaceFolder, name: str) -> float | None:
    """When the experiment was archived, in seconds since the epoch; None for one that is not."""
    when, is_archived = read_state(_home(workspace, name)).trashed
    return float(when) if is_archived else None


def note(workspace: WorkspaceFolder, name: str, events: Iterable[dict[str, Any]]) -> None:
    """Add events to what is kept of an experiment. Raises HpcestError."""
    edits.add(_home(workspace, name), f"experiment {name!r}", events)


def forget(workspace: WorkspaceFolder, name: str) -> None:
    """Remove what is kept of an experiment beside its runs."""
    shutil.rmtree(_home(workspace, name), ignore_errors=True)
