"""Registered models: versions of files that runs made, kept in the workspace.

    .hpcest/models/NAME/VERSION/model.json     name, version, where it came from, tags
    .hpcest/models/NAME/VERSION/data/…         the file or folder itself

A version appears whole or not at all: it is written beside and renamed to the first free number, so
two registrations at once get two versions and an interrupted one leaves none.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import read_json, write_json

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace


class Model:
    """One version of a registered model: ``Model(workspace, 'iris')`` is the latest.

    ``name``, ``version``, ``tags``, ``properties``, ``description``, ``created_time`` (seconds since the
    epoch), ``run_id``, ``framework``, ``framework_version``. Raises UnknownNameError.
    """

    def __init__(self, workspace: Workspace, name: str, version: int | None = None) -> None:
        known = list(_versions(workspace, name))
        if not known:
            raise UnknownNameError("model", name, sorted({model for model, _ in _all(workspace)}))
        chosen = max(known) if version is None else int(version)
        if chosen not in known:
            raise UnknownNameError(f"version of model {name!r}", str(chosen), map(str, known))
        self.workspace = workspace
        self.folder = _home(workspace, name) / str(chosen)
        self._facts: dict[str, Any] = read_json(self.folder / "model.json") or {}
        self.name, self.version = name, chosen

    id = property(lambda self: f"{self.name}:{self.version}", doc="``name:version``")
    tags = property(lambda self: dict(self._facts.get("tags", {})), doc="The tags.")
    properties = property(lambda self: dict(self._facts.get("properties", {})), doc="The properties.")
    description = property(lambda self: str(self._facts.get("description", "")), doc="The description.")
    created_time = property(lambda self: float(self._facts.get("created", 0.0)), doc="When it was registered.")
    run_id = property(lambda self: str(self._facts.get("run_id", "")), doc="The run it came from, or empty.")
    framework = property(lambda self: str(self._facts.get("framework", "")), doc="Model framework, or empty.")
    framework_version = property(lambda self: str(self._facts.get("framework_version", "")), doc="Its version, or empty.")

    @property
    def run(self) -> Run | None:
        """The run that the model came from, if it did and is still there."""
        from hpcest.sdk.run import Run

        try:
            return Run.get(self.workspace, self.run_id) if self.run_id else None
        except UnknownNameError:
            return None

    @property
    def path(self) -> Path:
        """The model's file or folder in the workspace; read it, don't change it."""
        return self.folder / "data" / str(self._facts["file"])

    @classmethod
    def register(
        cls,
        workspace: Workspace,
        model_path: str | Path,
        model_name: str,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        description: str = "",
        *,
        run_id: str = "",
        framework: str = "",
        framework_version: str = "",
    ) -> Model:
        """Copy a file or folder into the registry as the next version of ``model_name``. Raises HpcestError."""
        source = Path(model_path)
        if not source.exists():
            raise SpecError(f"there is no file or folder {str(source)!r} to register as a model")
        if not model_name.strip() or len(model_name) > 200:
            raise SpecError(f"{model_name!r} can't be the name of a model", hint="1 to 200 characters")
        home = _home(workspace, model_name)
        beside = home / f".{uuid.uuid4().hex}"
        facts = {
            "name": model_name, "created": time.time(), "file": source.name, "run_id": run_id, "description": description,
            "tags": {str(key): str(value) for key, value in (tags or {}).items()},
            "properties": {str(key): str(value) for key, value in (properties or {}).items()},
            "framework": framework, "framework_version": framework_version,
        }  # fmt: skip
        try:
            (beside / "data").mkdir(parents=True)
            _copy(source, beside / "data" / source.name)
            version = _publish(workspace, beside, facts)
        except OSError as error:
            raise HpcestError(f"the model {model_name!r} can't be registered in {home}: {error.strerror}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return cls(workspace, model_name, version)

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        *,
        latest: bool = False,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> list[Model]:
        """The registered models, by name and newest version first; ``latest`` gives one of each name."""
        found = [Model(workspace, model, version) for model, version in sorted(_all(workspace), key=lambda pair: (pair[0], -pair[1]))]
        found = [model for model in found if name is None or model.name == name]
        if latest:
            found = [model for number, model in enumerate(found) if number == 0 or found[number - 1].name != model.name]
        if run_id is not None:
            found = [model for model in found if model.run_id == run_id]
        return [model for model in found if all(model.tags.get(key) == value for key, value in (tags or {}).items())]

    def download(self, target_dir: str | Path = ".", exist_ok: bool = False) -> str:
        """Copy the model's file or folder into ``target_dir``; return its path there. Raises SpecError if it is there."""
        target = Path(target_dir) / self.path.name
        if target.exists() and not exist_ok:
            raise SpecError(f"{target} exists already", hint="choose another directory, or overwrite it with exist_ok=True")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(self.path, target)
        return str(target)

    def delete(self) -> None:
        """Remove this version. Its number is not given again."""
        gone = self.folder.with_name(f".{uuid.uuid4().hex}")
        os.rename(self.folder, gone)
        self.folder.with_suffix(".deleted").touch()
        shutil.rmtree(gone, ignore_errors=True)

    def serialize(self) -> dict[str, Any]:
        """All that is known of the model."""
        return {**self._facts, "version": self.version, "id": self.id, "path": str(self.path)}

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, version={self.version})"


def _home(workspace: Workspace, name: str) -> Path:
    """A directory for any name: what a path can't hold is percent-encoded."""
    encoded = quote(name, safe=" ")
    return workspace.folder.models / (encoded if encoded not in (".", "..") else encoded.replace(".", "%2E"))


def _versions(workspace: Workspace, name: str) -> Iterator[int]:
    try:
        entries = os.listdir(_home(workspace, name))
    except OSError:
        return
    yield from (int(entry) for entry in entries if entry.isdigit())


def _all(workspace: Workspace) -> Iterator[tuple[str, int]]:
    from urllib.parse import unquote

    try:
        names = os.listdir(workspace.folder.models)
    except OSError:
        return
    for entry in names:
        yield from ((unquote(entry), version) for version in _versions(workspace, unquote(entry)))


def _publish(workspace: Workspace, beside: Path, facts: dict[str, Any]) -> int:
    """Rename ``beside`` to the first version that nobody has or had."""
    while True:
        taken = [int(entry.split(".")[0]) for entry in os.listdir(beside.parent) if entry.split(".")[0].isdigit()]
        version = max(taken, default=0) + 1
        write_json(beside / "model.json", {**facts, "version": version}, sync=True)
        try:
            os.rename(beside, beside.parent / str(version))
            return version
        except OSError:
            if not (beside.parent / str(version)).exists():
                raise


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
