"""Deleted runs: moved to the workspace's trash, from where they can be taken back or removed for good.

The child runs that a run's program made or submitted go with it, and come back with it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hpcest.errors import HpcestError, UnknownNameError, UsageError
from hpcest.history import edits
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.watch import look
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode.reading import read_state
from hpcest.onnode.record import get_json


def put(context: Context, folder: RunFolder) -> None:
    """Move a run to the trash. Raises UsageError for one that goes on, or has a child that does."""
    family = _family(context.workspace.runs, folder.id)
    for run_id, seen in look(context, map(context.workspace.run, family)).items():
        if not seen.finished:
            raise UsageError(f"run {run_id} is {seen.status}", hint=f"end it first: hpcest cancel {run_id}")
    for run_id in family:
        _move(context.workspace, run_id, context.workspace.runs, context.workspace.trash)


def restore(workspace: WorkspaceFolder, run_id: str) -> None:
    """Take a run out of the trash. Raises UnknownNameError if it isn't there."""
    _in_trash(workspace, run_id)
    for one in reversed(_family(workspace.trash, run_id)):
        _move(workspace, one, workspace.trash, workspace.runs)


def purge(workspace: WorkspaceFolder, run_id: str) -> None:
    """Remove a run that is in the trash for good."""
    _in_trash(workspace, run_id)
    for one in reversed(_family(workspace.trash, run_id)):
        try:
            _open_up(workspace.trash / one)
            shutil.rmtree(workspace.trash / one)
        except OSError as error:
            raise HpcestError(f"run {one} can't be removed: {error}") from error


def _open_up(folder: Path) -> None:
    """Make directories that a program closed ones that can be emptied."""
    for place, names, _ in os.walk(folder):
        for inner in (os.path.join(place, name) for name in names):  # os.walk goes into them after this
            if not os.path.islink(inner) and not os.access(inner, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(inner, 0o700)


def _family(place: Path, run_id: str) -> list[str]:
    """The run and all runs below it that are in ``place`` too."""
    found = [run_id]
    for one in found:  # grows meanwhile
        for child in read_state(place / one).children:
            if os.path.basename(child) == child and child not in found and _parent_of(place / child) == one:
                found.append(child)
    return found


def _parent_of(folder: Path) -> str:
    header = get_json(str(RunFolder(folder).header)) or {}
    return str((header.get("spec") or {}).get("parent") or "")


def _in_trash(workspace: WorkspaceFolder, run_id: str) -> None:
    known = os.listdir(workspace.trash) if workspace.trash.is_dir() else []
    if run_id not in known:
        raise UnknownNameError("run in the trash", run_id, known)


def _move(workspace: WorkspaceFolder, run_id: str, source: Path, target: Path) -> None:
    try:
        target.mkdir(exist_ok=True)
        os.rename(source / run_id, target / run_id)
    except OSError as error:
        raise HpcestError(f"run {run_id} can't be moved to {target}: {error.strerror}") from error
    edits.announce(workspace, run_id)
