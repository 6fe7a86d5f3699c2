"""The workspace: where runs, environments and models are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError, WorkspaceError
from hpcest.kit.files import read_json
from hpcest.lifecycle import workspace as storage
from hpcest.lifecycle.context import Context
from hpcest.model.folders import WorkspaceFolder
from hpcest.sdk import pointer
from hpcest.sdk.azure import WORKSPACE, warn_ignored

if TYPE_CHECKING:
    from hpcest.sdk.compute import ComputeTarget
    from hpcest.sdk.experiment import Experiment
    from hpcest.sdk.model import Model
    from hpcest.sdk.run import Run


class Workspace:
    """A workspace directory. Make one with ``create``, open one with ``from_config``, ``get`` or ``Workspace(path)``.

    ``root`` is its directory, ``name`` what it is called. Raises WorkspaceError if there is none.
    """

    def __init__(self, folder: WorkspaceFolder | str | Path) -> None:
        self.folder = folder if isinstance(folder, WorkspaceFolder) else storage.open_workspace(Path(folder))
        self.context = Context(self.folder)
        self._header: dict[str, Any] = read_json(self.folder.header) or {}

    @classmethod
    def create(cls, name: str = "", *misplaced: NoReturn, path: str | Path | None = None, exist_ok: bool = True, **azure: Any) -> Workspace:
        """Make the directory ``path`` (the current one by default) a workspace called ``name``.

        Azure's own arguments (subscription_id, resource_group, location, …) are accepted and ignored
        with a warning. Raises WorkspaceError if it can't be made, or exists and ``exist_ok`` is False.
        """
        _refuse("Workspace.create", misplaced)
        warn_ignored("Workspace.create", azure, WORKSPACE)
        return cls(storage.create_workspace(Path(path or "."), name=name, exist_ok=exist_ok))

    @classmethod
    def from_config(cls, path: str | Path | None = None, **azure: Any) -> Workspace:
        """The workspace that holds ``path`` (the current directory by default), found like git finds a repository.

        On the way up the file that ``write_config`` leaves leads to a workspace elsewhere. Else it is the
        one that HPCEST_WORKSPACE names, else ~/hpcest. Raises WorkspaceError.
        """
        warn_ignored("Workspace.from_config", azure, WORKSPACE)
        return cls(pointer.locate(Path(path) if path is not None else None))

    @classmethod
    def get(cls, name: str = "", *misplaced: NoReturn, path: str | Path | None = None, **azure: Any) -> Workspace:
        """The workspace in the directory ``path``, or the one that ``from_config`` finds if it is called ``name``.

        Raises WorkspaceError if there is none, or the one there is called otherwise.
        """
        _refuse("Workspace.get", misplaced)
        warn_ignored("Workspace.get", azure, WORKSPACE)
        found = cls(path) if path is not None else cls.from_config()
        if name and found.name != name:
            raise WorkspaceError(f"the workspace {found.root} is called {found.name!r}, not {name!r}", hint="give its directory as path=")
        return found

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
    def experiments(self) -> dict[str, Experiment]:
        """All experiments that have runs, by name."""
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh
        from hpcest.sdk.experiment import Experiment

        refresh(self.context)
        return {name: Experiment(self, name) for name in query.experiments(self.folder) if name.strip()}

    @property
    def models(self) -> dict[str, Model]:
        """The latest version of each registered model, by name."""
        from hpcest.sdk.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def compute_targets(self) -> Mapping[str, ComputeTarget]:
        """The configured compute targets, by name."""
        from hpcest.sdk.compute import ComputeTarget

        return {name: ComputeTarget(self, name) for name in self.context.config.compute}

    def get_run(self, run_id: str) -> Run:
        """The run with that id (or a unique prefix of it, or ``@latest``). Raises UnknownNameError."""
        from hpcest.sdk.run import Run

        return Run.get(self, run_id)

    def get_details(self) -> dict[str, Any]:
        """What the workspace's own file says, and where it is."""
        return {**self._header, "name": self.name, "location": self.location}

    def write_config(self, path: str | Path | None = None, file_name: str = pointer.FILE_NAME) -> None:
        """Leave a small file in the directory ``path`` (the current one) that leads ``from_config`` to this workspace.

        A file of another name counts only where it is named: ``from_config('project/other.json')``.
        """
        pointer.write_pointer(Path(path or "."), self.folder, self.name, file_name)

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, root={str(self.root)!r})"


def _refuse(where: str, misplaced: tuple[Any, ...]) -> None:
    """Azure's second argument without a keyword is an authentication, a person's may be meant as a path."""
    if misplaced:
        shown = ", ".join(repr(word) for word in misplaced)
        raise SpecError(f"{where} takes only the name without a keyword, not {shown} as well", hint="name the directory: path='…'")
