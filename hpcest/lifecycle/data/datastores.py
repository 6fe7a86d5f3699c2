"""Datastores: named folders of data, in the workspace or anywhere on shared storage.

    .hpcest/datastores/registered/NAME.json   a name for a folder elsewhere
    .hpcest/datastores/folders/NAME/          the workspace's own: workspaceblobstore, workspacefilestore
    .hpcest/datastores/default.json           the name of the default one

A name in the configuration (``datastores: {scratch: /scratch/project}``) counts where the workspace has none.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import read_json, write_json
from hpcest.lifecycle.context import Context
from hpcest.model.folders import WorkspaceFolder

OWN = ("workspaceblobstore", "workspacefilestore")
_URI = "azureml://"


def _home(workspace: WorkspaceFolder) -> Path:
    return workspace.home / "datastores"


def checked_name(name: str) -> str:
    """``name``, if a datastore can be called so. Raises SpecError."""
    usable = isinstance(name, str) and name.isprintable() and not set(name) & set("/:\\") and 0 < len(name.encode()) <= 100
    if not usable or name.startswith(".") or name != name.strip():
        raise SpecError(f"{name!r} can't be the name of a datastore", hint="use letters, digits, '-' and '_'")
    return name


def folders(context: Context) -> dict[str, str]:
    """All datastores: name → folder. The workspace's own names win over the configuration's."""
    found = {name: str(_home(context.workspace) / "folders" / name) for name in OWN}
    found.update((name, os.path.abspath(os.path.expanduser(path))) for name, path in context.config.datastores.items())
    for path in sorted((_home(context.workspace) / "registered").glob("*.json")):
        try:
            found[path.stem] = str(read_json(path)["path"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise HpcestError(f"the datastore {path} can't be read: {error}", hint="register it anew") from error
    return found


def folder_of(context: Context, name: str) -> Path:
    """The folder of the datastore ``name``; the workspace's own are made now. Raises UnknownNameError."""
    known = folders(context)
    if name not in known:
        raise UnknownNameError("datastore", name, known)
    folder = Path(known[name])
    if name in OWN and folder.parent == _home(context.workspace) / "folders":
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def inside(folder: Path, relative: str, what: str = "path") -> Path:
    """The place of ``relative`` in a datastore's folder, which it never leaves. Raises SpecError."""
    text = str(relative).replace("\\", "/").lstrip("/")
    if ".." in text.split("/") or "\0" in text:
        raise SpecError(f"the {what} {relative!r} leads out of the datastore", hint="give a path below its folder, without '..'")
    return Path(os.path.normpath(folder / text)) if text.strip("./") or text.startswith(".") else folder


def register(context: Context, name: str, path: str | Path) -> None:
    """Give the folder ``path`` a name in this workspace. Raises SpecError where there is no such folder."""
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(folder):
        raise SpecError(f"the datastore {name!r} needs a folder, and {folder} is none", hint=f"make it first: mkdir -p {folder}")
    target = _home(context.workspace) / "registered" / f"{checked_name(name)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"path": folder})


def unregister(context: Context, name: str) -> None:
    """Take a name back; the folder stays. Raises UnknownNameError, SpecError for one that this workspace has not given."""
    known = folders(context)
    target = _home(context.workspace) / "registered" / f"{name}.json"
    if name not in known:
        raise UnknownNameError("datastore", name, known)
    if not target.exists():
        raise SpecError(f"the datastore {name!r} is not registered in this workspace", hint="it comes with it, or is in the configuration")
    target.unlink()
    if default(context) == name:
        (_home(context.workspace) / "default.json").unlink(missing_ok=True)


def default(context: Context) -> str:
    """The name of the default datastore: the one that was set, else ``workspaceblobstore``."""
    try:
        return str((read_json(_home(context.workspace) / "default.json") or {}).get("name") or OWN[0])
    except (OSError, ValueError, AttributeError):
        return OWN[0]


def set_default(context: Context, name: str) -> None:
    """Choose the default datastore. Raises UnknownNameError."""
    if name not in folders(context):
        raise UnknownNameError("datastore", name, folders(context))
    _home(context.workspace).mkdir(parents=True, exist_ok=True)
    write_json(_home(context.workspace) / "default.json", {"name": name})


def local_path(context: Context, path: str) -> str:
    """A path of data as one of this machine: ``azureml://…/datastores/NAME/paths/…`` is a place in a datastore.

    Raises SpecError for an address in a network and for what is no absolute path, UnknownNameError.
    """
    if path.startswith(_URI):
        words = path[len(_URI) :].split("/")
        if "datastores" not in words or "paths" not in words:
            raise SpecError(f"the address {path!r} names no datastore", hint="write azureml://datastores/NAME/paths/FOLDER")
        name, rest = words[words.index("datastores") + 1], words[words.index("paths") + 1 :]
        return str(inside(folder_of(context, unquote(name)), unquote("/".join(rest))))
    scheme, colons, _ = path.partition("://")
    if path.startswith("file://"):
        path = path[len("file://") :]
    elif colons and scheme.isalnum():
        raise SpecError(
            f"data at {path!r} is on a network, which compute nodes do not reach",
            hint="download it into a folder first, such as a datastore's, and name that",
        )
    if "\0" in path or not os.path.isabs(path):
        raise SpecError(f"{path!r} is not an absolute path", hint="name data by its whole path")
    return os.path.normpath(path)
