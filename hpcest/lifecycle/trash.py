"""Deleted runs: moved to the workspace's trash, from where they can be taken back or removed for good."""

from __future__ import annotations

import os
import shutil

from hpcest.errors import HpcestError, UnknownNameError, UsageError
from hpcest.history import edits
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.watch import look_at
from hpcest.model.folders import RunFolder, WorkspaceFolder


def put(context: Context, folder: RunFolder) -> None:
    """Move a run to the trash. Raises UsageError for one that goes on."""
    seen = look_at(context, folder)
    if not seen.finished:
        raise UsageError(f"run {folder.id} is {seen.status}", hint=f"end it first: hpcest cancel {folder.id}")
    _move(context.workspace, folder.id, context.workspace.runs, context.workspace.trash)


def restore(workspace: WorkspaceFolder, run_id: str) -> None:
    """Take a run out of the trash. Raises UnknownNameError if it isn't there."""
    _in_trash(workspace, run_id)
    _move(workspace, run_id, workspace.trash, workspace.runs)


def purge(workspace: WorkspaceFolder, run_id: str) -> None:
    """Remove a run that is in the trash for good."""
    _in_trash(workspace, run_id)
    try:
        shutil.rmtree(workspace.trash / run_id)
    except OSError as error:
        raise HpcestError(f"run {run_id} can't be removed: {error}") from error


def _in_trash(workspace: WorkspaceFolder, run_id: str) -> None:
    known = os.listdir(workspace.trash) if workspace.trash.is_dir() else []
    if run_id not in known:
        raise UnknownNameError("run in the trash", run_id, known)


def _move(workspace: WorkspaceFolder, run_id: str, source: os.PathLike[str], target: os.PathLike[str]) -> None:
    try:
        os.makedirs(target, exist_ok=True)
        os.rename(os.path.join(source, run_id), os.path.join(target, run_id))
    except OSError as error:
        raise HpcestError(f"run {run_id} can't be moved to {os.fspath(target)}: {error.strerror}") from error
    edits.announce(workspace, run_id)
