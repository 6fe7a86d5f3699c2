"""The workspace: where runs, environments and models are kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError, UsageError, WorkspaceError
from hpcest.kit.files import read_json, write_json
from hpcest.lifecycle import workspace as storage
from hpcest.lifecycle.context import Context
from hpcest.model.folders import WorkspaceFolder
from hpcest.sdk import azure, pointer

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hpcest.sdk.compute import ComputeTarget
    from hpcest.sdk.data.datastore import Datastore
    from hpcest.sdk.environment import Environment
    from hpcest.sdk.experiment import Experiment
    from hpcest.sdk.model import Model
    from hpcest.sdk.run import Run


class Workspace:
    """A workspace directory. Make one with ``create``, open one with ``from_config``, ``get`` or ``Workspace(path)``.

    ``root`` is its directory, ``name`` what it is called. Raises WorkspaceError if there is none.
    """

    def __init__(
        self,
        folder: WorkspaceFolder | str | Path | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        auth: Any = None,
        **off_azure: Unpack[azure.PlaceKeywords],
    ) -> None:
        if workspace_name or resource_group or off_azure:  # Azure's way to name one; its folder is no subscription
            given = {"resource_group": resource_group, "auth": auth, **off_azure}
            _ignore("Workspace", given if folder is None else {"subscription_id": folder, **given})
            folder = _named(workspace_name or "", pointer.locate())
        elif folder is None:
            folder = pointer.locate()
        self.folder = folder if isinstance(folder, WorkspaceFolder) else storage.open_workspace(Path(folder))
        self.context = Context(self.folder)
        self._header: dict[str, Any] = read_json(self.folder.header) or {}

    @classmethod
    def create(
        cls,
        name: str = "",
        *misplaced: NoReturn,
        path: str | Path | None = None,
        exist_ok: bool = True,
        tags: Mapping[str, object] | None = None,
        **off_azure: Unpack[azure.WorkspaceKeywords],
    ) -> Workspace:
        """Make the directory ``path`` (the current one by default) a workspace called ``name``, with ``tags``.

        Azure's own arguments (subscription_id, resource_group, location, …) are accepted and ignored
        with a warning. Raises WorkspaceError if it can't be made, or exists and ``exist_ok`` is False.
        """
        _refuse("Workspace.create", misplaced)
        _ignore("Workspace.create", off_azure, "name", "path", "exist_ok", "tags")
        made = cls(storage.create_workspace(Path(path or ".").absolute(), name=name, exist_ok=exist_ok))
        if tags:
            made.update(tags=tags)
        return made

    @classmethod
    def from_config(cls, path: str | Path | None = None, auth: Any = None, **off_azure: Unpack[azure.ConfigKeywords]) -> Workspace:
        """The workspace that holds ``path`` (the current directory by default), found like git finds a repository.

        On the way up the file that ``write_config`` leaves leads to a workspace elsewhere. Else it is the
        one that HPCEST_WORKSPACE names, else ~/hpcest. A ``config.json`` of Azure's counts as the directory that it is in.
        Raises WorkspaceError.
        """
        _ignore("Workspace.from_config", {"auth": auth, **off_azure}, "path")
        start = Path(path) if path is not None else None
        return cls(pointer.locate(start.absolute().parent if start is not None and _is_azures(start) else start))

    @classmethod
    def get(
        cls, name: str = "", *misplaced: NoReturn, path: str | Path | None = None, **off_azure: Unpack[azure.WorkspaceKeywords]
    ) -> Workspace:
        """The workspace in the directory ``path``, or the one that ``from_config`` finds if it is called ``name``.

        Raises WorkspaceError if there is none, or the one there is called otherwise.
        """
        _refuse("Workspace.get", misplaced)
        _ignore("Workspace.get", off_azure, "name", "path")
        return cls(_named(name, storage.open_workspace(Path(path)) if path is not None else pointer.locate()))

    @staticmethod
    def list(subscription_id: Any = None, auth: Any = None, resource_group: Any = None) -> dict[str, list[Workspace]]:
        """The workspaces that can be found from here, by name: of the current directory, HPCEST_WORKSPACE, and ~/hpcest.

        All that it takes is Azure's, and has no effect.
        """
        _ignore("Workspace.list", {"subscription_id": subscription_id, "auth": auth, "resource_group": resource_group})
        found: dict[str, dict[Path, Workspace]] = {}
        for locate in (pointer.locate, lambda: _opened(os.environ.get("HPCEST_WORKSPACE")), lambda: _opened("~/hpcest")):
            with contextlib.suppress(WorkspaceError):
                one = Workspace(locate())
                found.setdefault(one.name, {}).setdefault(one.root.resolve(), one)
        return {name: [*places.values()] for name, places in found.items()}

    @property
    def name(self) -> str:
        """What the workspace is called; its directory's name by default."""
        return str(self._header.get("name") or self.root.name)

    @property
    def root(self) -> Path:
        """The workspace's directory."""
        return self.folder.root

    @property
    def location(self) -> str:
        """The same as ``root``, as a text: where Azure ML has a region."""
        return str(self.root)

    @property
    def resource_group(self) -> str:
        """Azure's; empty here, so that programs which print it go on."""
        return ""

    @property
    def subscription_id(self) -> str:
        """Azure's; empty here, so that programs which print it go on."""
        return ""

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the workspace itself; ``update`` changes them."""
        return dict(self._header.get("tags") or {})

    @property
    def description(self) -> str:
        """What the workspace is for; ``update`` changes it."""
        return str(self._header.get("description") or "")

    def update(
        self,
        friendly_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, object] | None = None,
        **off_azure: Unpack[azure.PlaceKeywords],
    ) -> Workspace:
        """Change what the workspace is called, what it is for, or its tags (all of them at once); return it. Raises WorkspaceError."""
        _ignore("Workspace.update", off_azure, "friendly_name", "description", "tags")
        changes: dict[str, Any] = {"name": friendly_name, "description": description}
        if tags is not None:
            changes["tags"] = {str(key): "" if value is None else str(value) for key, value in tags.items()}
        header = {**(read_json(self.folder.header) or {}), **{key: value for key, value in changes.items() if value is not None}}
        try:
            write_json(self.folder.header, header, sync=True)
        except OSError as error:
            raise WorkspaceError(f"{self.folder.header} can't be written: {error.strerror}") from error
        self._header = header
        return self

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Make the directory one that is no workspace any more; the user's own files stay as they are.

        Runs, models and all else are kept beside, in ``.hpcest-deleted-TIME``, unless ``delete_dependent_resources``: then they
        are removed for good. Raises UsageError while a run goes on, WorkspaceError.
        """
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh

        refresh(self.context)
        going = query.unfinished(self.folder)
        if going:
            raise UsageError(f"run {going[0].id} goes on in {self.root}", hint=f"end it first: hpcest cancel {going[0].id}")
        aside = self.folder.home.with_name(f"{self.folder.home.name}-deleted-{time.strftime('%Y%m%dT%H%M%S')}")
        try:
            os.rename(self.folder.home, aside)
            if delete_dependent_resources:
                shutil.rmtree(aside)
        except OSError as error:
            raise WorkspaceError(f"the workspace {self.root} can't be removed: {error.strerror}") from error

    @property
    def experiments(self) -> dict[str, Experiment]:
        """All experiments that have runs or tags and are not archived, by name; the one with the latest run first."""
        from hpcest.sdk.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    @property
    def models(self) -> dict[str, Model]:
        """The latest version of each registered model, by name."""
        from hpcest.sdk.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def environments(self) -> dict[str, Environment]:
        """The latest version of each registered environment, by name."""
        from hpcest.sdk.environment import Environment

        return dict(Environment.list(self))

    @property
    def datasets(self) -> dict[str, Any]:
        """The latest version of each registered dataset, by name."""
        from hpcest.sdk.data.dataset import Dataset

        return Dataset.get_all(self)

    @property
    def datastores(self) -> dict[str, Datastore]:
        """The datastores, by name."""
        from hpcest.sdk.data.datastore import datastores_of

        return datastores_of(self)

    def get_default_datastore(self) -> Datastore:
        """The datastore that is meant where none is named."""
        from hpcest.sdk.data.datastore import Datastore

        return Datastore.get_default(self)

    def set_default_datastore(self, name: str) -> None:
        """Have the datastore ``name`` be the default one. Raises UnknownNameError."""
        from hpcest.sdk.data.datastore import Datastore

        Datastore(self, name).set_as_default()

    @property
    def compute_targets(self) -> Mapping[str, ComputeTarget]:
        """The configured compute targets, by name."""
        from hpcest.sdk.compute import ComputeTarget

        return {name: ComputeTarget(self, name) for name in self.context.config.compute}

    def get_default_compute_target(self, type: str = "CPU") -> ComputeTarget:
        """The compute target that runs get which name none. ``type`` has no effect. Raises UnknownNameError for one that is gone."""
        from hpcest.sdk.compute import ComputeTarget

        return ComputeTarget(self, self.context.config.target().name)

    def get_default_keyvault(self) -> NoReturn:
        """Refused: hpcest keeps no secrets. Raises SpecError."""
        raise SpecError("hpcest keeps no secrets", hint="give them as environment variables: they are kept apart from the record")

    def get_run(self, run_id: str) -> Run:
        """The run with that id (or a unique prefix of it, or ``@latest``). Raises UnknownNameError."""
        from hpcest.sdk.run import Run

        return Run.get(self, run_id)

    def get_mlflow_tracking_uri(self) -> str:
        """What ``mlflow.set_tracking_uri`` is to be given to read and write the runs of this workspace."""
        from hpcest.onnode.azureml import tracking_uri

        return str(tracking_uri(str(self.root)))

    def get_details(self) -> dict[str, Any]:
        """What the workspace's own file says, and where it is."""
        return {**self._header, "name": self.name, "location": self.location}

    def write_config(self, path: str | Path | None = None, file_name: str | None = None) -> None:
        """Leave a small file in the directory ``path`` (the current one) that leads ``from_config`` to this workspace.

        A file of another name counts only where it is named: ``from_config('project/other.json')``.
        """
        pointer.write_pointer(Path(path or "."), self.folder, self.name, file_name or pointer.FILE_NAME)

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, root={str(self.root)!r})"


def _ignore(where: str, given: Mapping[str, Any], *own: str) -> None:
    """Warn of Azure's keywords. Raises SpecError for one that nobody knows, with the nearest of those and of a method's ``own``."""
    azure.warn_ignored(where, given, azure.WORKSPACE, own)


def _named(name: str, found: WorkspaceFolder) -> WorkspaceFolder:
    """``found``, if it is called ``name`` or any name will do. Raises WorkspaceError."""
    called = str((read_json(found.header) or {}).get("name") or found.root.name)
    if name and called != name:
        raise WorkspaceError(f"the workspace {found.root} is called {called!r}, not {name!r}", hint="give its directory as path=")
    return found


def _opened(place: str | None) -> WorkspaceFolder:
    if not place:
        raise WorkspaceError("no workspace is named")
    return storage.open_workspace(Path(place).expanduser())


def _is_azures(path: Path) -> bool:
    """Whether it is the file in which Azure ML keeps which workspace is meant: here its directory says as much."""
    try:
        found = read_json(path) if path.is_file() else None
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "subscription_id" in found and "workspace" not in found


def _refuse(where: str, misplaced: tuple[Any, ...]) -> None:
    """Azure's second argument without a keyword is an authentication, a person's may be meant as a path."""
    if misplaced:
        shown = ", ".join(repr(word) for word in misplaced)
        raise SpecError(f"{where} takes only the name without a keyword, not {shown} as well", hint="name the directory: path='…'")
