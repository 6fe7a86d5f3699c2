"""Finding, making and opening workspaces, the way git finds repositories."""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from hpcest.errors import WorkspaceError
from hpcest.kit.files import read_json, write_json, write_text
from hpcest.model.folders import WorkspaceFolder

SCHEMA = 1
_CONFIG = """\
# hpcest's settings for this workspace; `hpcest config show` says where each value comes from.
# default_compute: local
# compute:
#   local:
#     slots: 2          # how many runs go on at once
"""


def create_workspace(root: Path, *, name: str = "", exist_ok: bool = True) -> WorkspaceFolder:
    """Make a workspace of the directory ``root`` (made if need be). Raises WorkspaceError.

    An existing workspace is opened, or refused where ``exist_ok`` is False; its files are left alone.
    """
    workspace = WorkspaceFolder(root.absolute())
    if _is_workspace(root):
        if not exist_ok:
            raise WorkspaceError(f"{root} is a workspace already", hint="open it with Workspace.from_config")
        return open_workspace(root)
    try:
        for folder in (workspace.runs, workspace.manifests, workspace.objects, workspace.environments, workspace.models):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(workspace.home / ".gitignore", "*\n!config.yaml\n!.gitignore\n")
        if not workspace.config.exists():
            write_text(workspace.config, _CONFIG)
        header = {"schema": SCHEMA, "id": uuid.uuid4().hex, "name": name or workspace.root.name, "created": time.time()}
        write_json(workspace.header, header, sync=True)  # last: what has it is a whole workspace
    except OSError as error:
        raise WorkspaceError(f"no workspace can be made in {root}: {error.strerror}", hint="choose another directory") from error
    return workspace


def open_workspace(root: Path) -> WorkspaceFolder:
    """The workspace in the directory ``root``. Raises WorkspaceError if there is none, or a newer one."""
    workspace = WorkspaceFolder(root.absolute())
    try:
        header = read_json(workspace.header)
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{workspace.header} can't be read: {error}") from error
    if header is None:
        raise WorkspaceError(f"{root} is not a workspace", hint=f"make it one: hpcest init {root}")
    if not isinstance(header, dict):
        raise WorkspaceError(f"{workspace.header} is damaged: it holds no JSON object")
    if not isinstance(header.get("schema"), int) or header["schema"] > SCHEMA:
        raise WorkspaceError(
            f"the workspace {root} was made by a newer version of hpcest (schema {header.get('schema')}, this one knows {SCHEMA})",
            hint="upgrade hpcest: pip install --upgrade hpcest",
        )
    return workspace


def find_workspace(start: Path | None = None, environ: Mapping[str, str] = os.environ) -> WorkspaceFolder:
    """The workspace that holds ``start`` (the current directory), else HPCEST_WORKSPACE, else ~/hpcest.

    Raises WorkspaceError, saying where it looked.
    """
    here = _absolute(start)
    for folder in (here, *here.parents) if here else ():
        if _is_workspace(folder):
            return open_workspace(folder)
    named = environ.get("HPCEST_WORKSPACE")
    if named:
        return open_workspace(Path(named))
    home = Path(environ.get("HOME") or os.path.expanduser("~"), "hpcest")
    if _is_workspace(home):
        return open_workspace(home)
    where = f"{here} is not in a workspace" if here else "the current directory does not exist any more"
    raise WorkspaceError(f"{where}, HPCEST_WORKSPACE is not set, and there is none in ~/hpcest", hint="make one: hpcest init")


def _is_workspace(folder: Path) -> bool:
    """Whether there is a workspace in ``folder``, readable or not."""
    try:
        os.stat(WorkspaceFolder(folder).header)
    except PermissionError:  # ours if its directory can be seen, else any directory may be closed to us
        return os.path.isdir(WorkspaceFolder(folder).home)
    except OSError:
        return False
    return True


def _absolute(start: Path | None) -> Path | None:
    """Where to begin to look; None where the current directory is needed and was deleted."""
    try:
        return (start or Path.cwd()).absolute()
    except FileNotFoundError:
        return None


def checked_experiment(name: str) -> str:
    """The name of an experiment, stripped. Raises SpecError for one that no listing could show."""
    from hpcest.errors import SpecError

    stripped = name.strip()
    if not stripped or len(stripped) > 255 or re.search(r"[\x00-\x1f\x7f]", stripped):
        raise SpecError(f"the experiment name {name!r} can't be used", hint="1 to 255 characters without line breaks or control characters")
    return stripped
