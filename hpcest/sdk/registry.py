"""The models of a workspace, as the login side sees them: the core is ``onnode.models``, with which programs register theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import read_json
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import models
from hpcest.onnode.copying import Refused
from hpcest.sdk.files import Put, clone


def home(workspace: WorkspaceFolder, name: str) -> Path:
    """The folder of all versions of a model; it never leaves the registry, whatever the name."""
    return Path(models.home(str(workspace.models), name))


def versions(workspace: WorkspaceFolder, name: str) -> list[int]:
    """The versions of a model, lowest first."""
    return list(models.versions(str(workspace.models), name))


def names(workspace: WorkspaceFolder) -> list[str]:
    """The names of all models that have a version, sorted."""
    return list(models.names(str(workspace.models)))


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
    try:
        return int(models.register(str(workspace.models), name, source, facts, root, put))
    except Refused as error:
        raise SpecError(error.message, hint=error.hint) from error
    except OSError as error:
        where = home(workspace, name)
        raise HpcestError(f"the model {name!r} can't be registered in {where}: {error.strerror or error}") from error


def delete(workspace: WorkspaceFolder, name: str, version: int) -> None:
    """Remove one version for good; its number is not given again. Raises UnknownNameError, HpcestError."""
    try:
        models.delete(str(workspace.models), name, version)
    except FileNotFoundError:
        raise UnknownNameError(f"version of model {name!r}", str(version), map(str, versions(workspace, name))) from None
    except OSError as error:
        raise HpcestError(f"version {version} of model {name!r} can't be deleted: {error.strerror}") from error


def all_versions(workspace: WorkspaceFolder) -> Iterator[tuple[str, int]]:
    """Every version of every model: by name, the newest first."""
    for name in names(workspace):
        yield from ((name, version) for version in reversed(versions(workspace, name)))
