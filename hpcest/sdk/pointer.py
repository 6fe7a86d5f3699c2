"""The small file that leads from a project's directory to a workspace elsewhere, on a large file system say."""

from __future__ import annotations

import os
from pathlib import Path

from hpcest.errors import WorkspaceError
from hpcest.kit.files import read_json, write_json
from hpcest.lifecycle.workspace import find_workspace, open_workspace
from hpcest.model.folders import WorkspaceFolder

FILE_NAME = ".hpcest.json"
_KEY = "workspace"


def write_pointer(folder: Path, workspace: WorkspaceFolder, name: str, file_name: str = FILE_NAME) -> Path:
    """Write the file that leads from ``folder`` to ``workspace``; return its path. Raises WorkspaceError."""
    target = folder / file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(target, {_KEY: str(workspace.root), "name": name})
    except OSError as error:
        raise WorkspaceError(f"{target} can't be written: {error.strerror}") from error
    return target


def locate(start: Path | None = None) -> WorkspaceFolder:
    """The workspace that is meant in ``start`` (the current directory), or by it if it is such a file.

    The nearest directory upwards that is a workspace, or has the file that leads to one; else
    HPCEST_WORKSPACE, else ~/hpcest. Raises WorkspaceError, saying where it looked.
    """
    try:
        here = Path(os.path.abspath(start or Path.cwd()))
    except FileNotFoundError:  # the current directory was deleted: what else names a workspace still does
        return find_workspace()
    if here.is_file():
        return _follow(here)
    for folder in (here, *here.parents):
        if (folder / WorkspaceFolder.MARKER / "workspace.json").exists():
            break
        if (folder / FILE_NAME).is_file():
            return _follow(folder / FILE_NAME)
    return find_workspace(here)


def _follow(file: Path) -> WorkspaceFolder:
    try:
        found = read_json(file)
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{file} can't be read: {error}", hint="write it anew: Workspace.write_config") from error
    root = found.get(_KEY) if isinstance(found, dict) else None
    if not isinstance(root, str) or not root:
        raise WorkspaceError(f"{file} names no workspace", hint="write it anew: Workspace.write_config")
    try:
        return open_workspace(file.parent / root)
    except WorkspaceError as error:
        raise WorkspaceError(f"{file} leads to a workspace that is not there: {error.message}", hint=f"mend or remove {file}") from error
