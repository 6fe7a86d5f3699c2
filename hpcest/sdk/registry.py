"""Where registered models lie in a workspace, and how a version comes to be there.

    .hpcest/models/NAME/VERSION/model.json     name, version, where it came from, tags
    .hpcest/models/NAME/VERSION/data/…         the file or folder itself
    .hpcest/models/NAME/VERSION/events/…       tags, properties and descriptions that were given later
    .hpcest/models/NAME/VERSION.deleted        the number was given, and is not given again
    .hpcest/models/NAME/.new-…                 a version that is being written, .gone-… one that is being removed

A version appears whole or not at all: it is written beside and renamed to the first free number, so
two registrations at once get two versions and an interrupted one leaves none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import read_json, write_json
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import processes
from hpcest.onnode import versions as numbered
from hpcest.sdk.files import Put, clone, copy_whole

_LONGEST = 200  # bytes of a folder's name, with room for what is put before and after it


def checked_name(name: str) -> str:
    """``name``, if a model can be called so. Raises SpecError."""
    usable = isinstance(name, str) and name.isprintable() and name == name.strip() and ":" not in name
    if not usable or not 0 < len(numbered.folder_name(name)) <= _LONGEST:
        raise SpecError(
            f"{name!r} can't be the name of a model", hint="use up to 200 letters, digits and marks, without ':' and line breaks"
        )
    return name


def home(workspace: WorkspaceFolder, name: str) -> Path:
    """The folder of all versions of a model; it never leaves the registry, whatever the name."""
    return workspace.models / str(numbered.folder_name(name))


def versions(workspace: WorkspaceFolder, name: str) -> list[int]:
    """The versions of a model, lowest first."""
    return list(numbered.numbers(home(workspace, name)))


def names(workspace: WorkspaceFolder) -> list[str]:
    """The names of all models that have a version, sorted."""
    return [name for name in numbered.names(workspace.models) if versions(workspace, name)]


def read(workspace: WorkspaceFolder, name: str, version: int) -> dict[str, Any]:
    """The facts of one version. Raises HpcestError for a damaged one, UnknownNameError where it is gone."""
    path = home(workspace, name) / str(version) / "model.json"
    try:
        facts = read_json(path)
    except (OSError, ValueError) as error:
        raise HpcestError(f"{path} can't be read: {error}") from error
    if facts is None:
        raise UnknownNameError(f"version of model {name!r}", str(version), map(str, versions(workspace, name)))
    if not isinstance(facts, dict) or not isinstance(facts.get("file"), str):
        raise HpcestError(f"{path} is damaged", hint=f"remove the folder {path.parent}")
    return facts


def register(
    workspace: WorkspaceFolder, name: str, source: Path, facts: dict[str, Any], root: Path | None = None, *, put: Put = clone
) -> int:
    """Take ``source`` into the registry as the next version of ``name``, by ``put`` for each file; return its number.

    With ``root`` no link of it may lead out of there. Raises SpecError for what can't be copied whole, HpcestError.
    """
    if not source.exists():
        raise SpecError(f"there is no file or folder {str(source)!r} to register as a model")
    file = source.resolve().name if source.name in ("", "..") else source.name
    folder = home(workspace, checked_name(name))
    beside = folder / f".new-{uuid.uuid4().hex}"
    try:
        (beside / "data").mkdir(parents=True)
        write_json(beside / numbered.OWNER, processes.identity())
        _sweep(folder)
        copy_whole(source, beside / "data" / (file or "model"), root, put=put)
        return int(numbered.publish(str(beside), {"name": name, "created": time.time(), "file": file or "model", **facts}))
    except OSError as error:
        raise HpcestError(f"the model {name!r} can't be registered in {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what registrations and deletions left that are known to have been killed."""
    for path in folder.glob(".gone-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".new-*"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            owner = read_json(path / numbered.OWNER)
            if owner is not None and processes.alive(owner) is False:
                shutil.rmtree(path, ignore_errors=True)


def delete(workspace: WorkspaceFolder, name: str, version: int) -> None:
    """Remove one version for good; its number is not given again. Raises UnknownNameError, HpcestError."""
    folder = home(workspace, name)
    gone = folder / f".gone-{uuid.uuid4().hex}"
    try:
        (folder / f"{version}.deleted").touch()  # first: a number that is free would be given again
        os.rename(folder / str(version), gone)
    except FileNotFoundError:
        raise UnknownNameError(f"version of model {name!r}", str(version), map(str, versions(workspace, name))) from None
    except OSError as error:
        raise HpcestError(f"version {version} of model {name!r} can't be deleted: {error.strerror}") from error
    shutil.rmtree(gone, ignore_errors=True)


def all_versions(workspace: WorkspaceFolder) -> Iterator[tuple[str, int]]:
    """Every version of every model: by name, the newest first."""
    for name in names(workspace):
        yield from ((name, version) for version in reversed(versions(workspace, name)))
