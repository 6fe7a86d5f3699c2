"""Registered models: versions of files that runs made, kept in the workspace."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.onnode import models
from hpcest.onnode.filters import has_all
from hpcest.sdk import registry
from hpcest.sdk.azure import MODEL, warn_ignored
from hpcest.sdk.files import clone, copy_whole, share
from hpcest.sdk.modeledits import ModelEdits

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace

#: Azure ML's filters: names with values, or a list of names and of [name, value].
Filter = Mapping[str, str | None] | Sequence[str | Sequence[str]]


_ELSEWHERE = "load the model where it is needed, from Model.get_model_path('name')"
_SERVING = ("deploy", "deploy_from_image", "deploy_from_model", "package", "profile", "print_configuration", "get_sas_urls")


class _Serving(type):
    """What Azure ML serves models with is answered with what to do instead."""

    def __getattr__(cls, name: str) -> NoReturn:
        raise _not_there(name)


def _not_there(name: str) -> Exception:
    if name in _SERVING:
        return SpecError(f"Model.{name}: hpcest does not deploy models", hint=_ELSEWHERE)
    return AttributeError(f"Model has no attribute {name!r}")


class Framework:
    """Azure ML's words for what a model was made with; any other text is as good."""

    CUSTOM = "Custom"
    TENSORFLOW = "TensorFlow"
    SCIKITLEARN = "ScikitLearn"
    ONNX = "Onnx"
    PYTORCH = "PyTorch"
    MULTI = "Multi"


class Model(ModelEdits, metaclass=_Serving):
    """One version of a registered model: ``Model(workspace, 'iris')`` is the latest, ``Model(workspace, id='iris:3')`` the third.

    ``tags``, ``properties``, ``run_id`` and ``model_framework`` narrow the choice. Its attributes are ``name``,
    ``version``, ``id``, ``tags``, ``properties``, ``description``, ``created_time``,
    ``run_id``, ``framework``, ``framework_version``. Raises UnknownNameError if there is none such.
    """

    Framework = Framework

    def __getattr__(self, name: str) -> NoReturn:
        raise _not_there(name)

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Filter | None = None,
        properties: Filter | None = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
    ) -> None:
        if id is not None:
            name, version = _named(id)
        if not isinstance(name, str):
            raise SpecError("a model needs a name or an id", hint="Model(workspace, 'name'), or id='name:version'")
        chosen = _choose(
            workspace, name, version, {"tags": tags, "properties": properties, "run_id": run_id, "model_framework": model_framework}
        )
        self._open(workspace, name, chosen)

    def _open(self, workspace: Workspace, name: str, version: int) -> None:
        self.workspace, self.name, self.version = workspace, name, version
        self.folder = registry.home(workspace.folder, name) / str(version)
        self._facts = registry.read(workspace.folder, name, version)

    @property
    def id(self) -> str:
        """``name:version``"""
        return f"{self.name}:{self.version}"

    @property
    def created_time(self) -> datetime:
        """When it was registered, in UTC."""
        return datetime.fromtimestamp(float(self._facts.get("created", 0.0)), timezone.utc)

    @property
    def run_id(self) -> str:
        """The run it came from, or empty."""
        return str(self._facts.get("run_id", ""))

    @property
    def framework(self) -> str:
        """What it was made with, or empty."""
        return str(self._facts.get("framework", ""))

    @property
    def framework_version(self) -> str:
        """The version of that, or empty."""
        return str(self._facts.get("framework_version", ""))

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

    @property
    def url(self) -> str:
        """The same as a ``file://`` link."""
        return self.path.absolute().as_uri()

    @classmethod
    def register(
        cls,
        workspace: Workspace,
        model_path: str | Path,
        model_name: str,
        tags: Mapping[str, object] | None = None,
        properties: Mapping[str, object] | None = None,
        description: str | None = None,
        datasets: Sequence[tuple[str, Any]] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Sequence[str | Path] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        *,
        run_id: str = "",
        root: Path | None = None,
        settled: bool = False,
        key: str = "",
        **unknown: Any,
    ) -> Model:
        """Take a file or folder into the registry as the next version of ``model_name``; return it.

        Of a folder, ``child_paths`` names what of it belongs to the model. What is copied shares its blocks with the original
        where the file system can; what is ``settled``, so that nobody is to write to it any more, is made read-only and not
        copied. ``datasets`` are pairs of a word and a dataset. Links are followed; with ``root`` none may lead out of it.
        ``key`` is that of a run's own request for this version.
        Raises SpecError for a name that no model can have and for what can't be copied whole, HpcestError.
        """
        samples = {"sample_input_dataset": sample_input_dataset, "sample_output_dataset": sample_output_dataset}
        ignored = {**samples, "resource_configuration": resource_configuration, **unknown}
        warn_ignored("Model.register", ignored, MODEL, inspect.signature(cls.register).parameters)
        facts = {
            **facts_of(tags, properties, description, datasets, (model_framework, model_framework_version)),
            "run_id": run_id,
            "made": models.made_of(str(workspace.folder.run(run_id).path)) if run_id else {},
            **({"key": key} if key else {}),
        }
        put = share if settled else clone
        with _only(Path(model_path), child_paths) as source:
            return cls._of(workspace, model_name, registry.register(workspace.folder, model_name, source, facts, root, put=put))

    @property
    def datasets(self) -> dict[str, list[str]]:
        """The datasets that were named when it was registered, by the word for what they were used: ``name:version`` each."""
        found: dict[str, list[str]] = {}
        for word, dataset in self._facts.get("datasets") or ():
            found.setdefault(word, []).append(dataset)
        return found

    @property
    def lineage(self) -> dict[str, Any]:
        """Where it comes from: ``run_id``, ``snapshot`` (of the code), ``environment`` (the key of its lock), ``data`` that it read."""
        return {"run_id": self.run_id, "snapshot": "", "environment": "", "data": {}, **(self._facts.get("made") or {})}

    @classmethod
    def _of(cls, workspace: Workspace, name: str, version: int) -> Model:
        made = cls.__new__(cls)
        made._open(workspace, name, version)
        return made

    @staticmethod
    def list(
        workspace: Workspace,
        name: str | None = None,
        tags: Filter | None = None,
        properties: Filter | None = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> list[Model]:
        """The registered models, by name and newest version first; ``latest`` gives one of each name.

        ``tags`` is a dict, or Azure ML's list of names and ``[name, value]``; ``properties`` likewise.
        ``dataset_id`` is ``name:version``. ``expand`` and ``page_count`` have no effect.
        """
        conditions = {"tags": tags, "properties": properties, "run_id": run_id, "model_framework": model_framework}
        found: dict[tuple[str, int], Model] = {}
        for model_name, version in registry.all_versions(workspace.folder):
            if name not in (None, model_name) or (latest and (model_name, 0) in found):
                continue
            try:
                model = Model._of(workspace, model_name, version)
            except UnknownNameError:
                continue  # deleted between the listing and now
            if model._meets(conditions) and (dataset_id is None or model._read(dataset_id)):
                found[model_name, 0 if latest else version] = model
        return [*found.values()]

    def _meets(self, conditions: Mapping[str, Any]) -> bool:
        plain = {"run_id": self.run_id, "model_framework": self.framework}
        return all(conditions[key] in (None, value) for key, value in plain.items()) and all(
            has_all(have, _wanted(conditions[key])) for key, have in (("tags", self.tags), ("properties", self.properties))
        )

    def _read(self, dataset_id: str) -> bool:
        """Whether the dataset was named for it, or read by its run."""
        return any(dataset_id in named for named in (*self.datasets.values(), self.lineage["data"].values()))

    @staticmethod
    def deserialize(workspace: Workspace, model_payload: Mapping[str, Any]) -> Model:
        """The model that ``serialize`` has described. Raises UnknownNameError, SpecError."""
        if not isinstance(model_payload, Mapping) or "id" not in model_payload:
            raise SpecError("model_payload has no 'id'", hint="give what model.serialize() has returned")
        return Model(workspace, id=str(model_payload["id"]))

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """The path of a model's file or folder, the latest version by default, in the workspace that is meant here.

        Inside a run that is the run's workspace. Raises UnknownNameError, WorkspaceError.
        """
        from hpcest.sdk.workspace import Workspace

        return str(Model(_workspace or Workspace.from_config(), model_name, version=version).path)

    def download(self, target_dir: str | Path = ".", exist_ok: bool = False) -> str:
        """Copy the model's file or folder into ``target_dir``; return its path there.

        Raises SpecError if something of that name is there, unless ``exist_ok``; UnknownNameError where the version was deleted.
        """
        registry.read(self.workspace.folder, self.name, self.version)  # which says so where it was deleted
        target = Path(target_dir) / self.path.name
        if target.exists() and not exist_ok:
            raise SpecError(f"{target} exists already", hint="choose another directory, or overwrite it with exist_ok=True")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_whole(self.path, target)
        except OSError as error:
            raise HpcestError(f"{self.id} can't be copied to {target}: {error.strerror or error}") from error
        return str(target)

    def delete(self) -> None:
        """Remove this version for good. Its number is not given again. Raises UnknownNameError if it is gone already."""
        registry.delete(self.workspace.folder, self.name, self.version)

    def serialize(self) -> dict[str, Any]:
        """All that is known of the model.

        ``name``, ``version``, ``id``, ``created`` (seconds since the epoch), ``description``, ``run_id``,
        ``framework``, ``framework_version``, ``tags``, ``properties``, ``datasets``, ``lineage``, ``path``.
        """
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "created": float(self._facts.get("created", 0.0)),
            "description": self.description,
            "run_id": self.run_id,
            "framework": self.framework,
            "framework_version": self.framework_version,
            "tags": self.tags,
            "properties": self.properties,
            "datasets": self.datasets,
            "lineage": self.lineage,
            "path": str(self.path),
        }

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, version={self.version})"


def facts_of(
    tags: Mapping[str, object] | None,
    properties: Mapping[str, object] | None,
    description: str | None,
    datasets: Sequence[tuple[str, Any]] | Mapping[str, Any] | None,
    framework: tuple[str | None, str | None],
) -> dict[str, Any]:
    """What is said of a version when it is registered, as it is written. Raises SpecError for what can't be said so."""
    for what, given in (("tags", tags), ("properties", properties)):
        if given is not None and not isinstance(given, Mapping):
            raise SpecError(f"{what} must be a dict, not {given!r}", hint=f"such as {what}={{'kind': 'best'}}")
    pairs = [*datasets.items()] if isinstance(datasets, Mapping) else [*(datasets or ())]
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise SpecError(f"datasets has {pair!r}", hint="give pairs of a word and a dataset, such as [('training', dataset)]")
    return dict(models.facts(tags, properties, description, pairs, framework))


@contextlib.contextmanager
def _only(source: Path, child_paths: Sequence[str | Path] | None) -> Iterator[Path]:
    """``source``, or a folder of links to those of its files and folders that are asked for. Raises SpecError."""
    if child_paths is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".hpcest-") as alone:
        chosen = Path(alone, source.resolve().name)
        for child in [child_paths] if isinstance(child_paths, (str, Path)) else child_paths:
            inside = os.path.normpath(child)
            if os.path.isabs(inside) or inside.split(os.sep)[0] == ".." or not (source / inside).exists():
                raise SpecError(
                    f"child_paths: {str(child)!r} is not in the folder {str(source)!r}", hint="paths are relative to model_path"
                )
            link = chosen / inside
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((source / inside).resolve())
        yield chosen


def _named(reference: str) -> tuple[str, int | None]:
    """``name:version`` in its two parts."""
    name, colon, version = str(reference).rpartition(":")
    if not colon or not name or not version.isdigit():
        raise SpecError(f"{reference!r} is no id of a model", hint="an id is name:version, such as iris:3")
    return name, int(version)


def _choose(workspace: Workspace, name: str, version: int | None, conditions: Mapping[str, Any]) -> int:
    """The version that is meant: the one named, else the latest that meets the conditions."""
    known = registry.versions(workspace.folder, name)
    if not known:
        raise UnknownNameError("model", name, registry.names(workspace.folder))
    if version is not None:
        version = int(version) if str(version).isdigit() else version
        if version not in known:
            raise UnknownNameError(f"version of model {name!r}", str(version), map(str, known))
        known = [version]
    if all(value is None for value in conditions.values()):
        return known[-1]
    for number in reversed(known):
        if Model._of(workspace, name, number)._meets(conditions):
            return number
    wanted = ", ".join(f"{key}={value!r}" for key, value in conditions.items() if value is not None)
    raise UnknownNameError(f"model with {wanted}", name, (), hint="see: hpcest models list")


def _wanted(given: Filter | str | None) -> dict[str, str | None]:
    """A filter as names with values, None for any value."""
    if isinstance(given, Mapping):
        return dict(given)
    pairs = [given] if isinstance(given, str) else given or ()
    return {pair if isinstance(pair, str) else str(pair[0]): None if isinstance(pair, str) else str(pair[1]) for pair in pairs}
