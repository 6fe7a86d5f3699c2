"""Datastores: named folders on shared storage that data is put into and read from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import HpcestError, SpecError
from hpcest.lifecycle.data import datastores as storage
from hpcest.sdk.files import copy_file

if TYPE_CHECKING:
    from hpcest.sdk.data.configs import DataReference
    from hpcest.sdk.workspace import Workspace


class _Kinds(type):
    """Azure's ``register_azure_…`` are answered with what to do instead."""

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith(("register_azure_", "register_dbfs", "register_hdfs")):
            raise SpecError(
                f"Datastore.{name}: a datastore is a folder here", hint="Datastore.register(workspace, 'NAME', '/shared/folder')"
            )
        raise AttributeError(f"Datastore has no attribute {name!r}")


class Datastore(metaclass=_Kinds):
    """A named folder: ``Datastore(workspace, 'scratch')``, or the default one without a name.

    ``folder`` is where it is. Every workspace has ``workspaceblobstore``, the default one, of its own. Raises UnknownNameError.
    """

    workspace: Workspace
    name: str
    folder: Path

    def __init__(self, workspace: Workspace, name: str | None = None) -> None:
        self.workspace = workspace
        self.name = name or storage.default(workspace.context)
        self.folder = storage.folder_of(workspace.context, self.name)

    @classmethod
    def get(cls, workspace: Workspace, datastore_name: str) -> Datastore:
        """The datastore called so. Raises UnknownNameError with the nearest."""
        return cls(workspace, datastore_name)

    @classmethod
    def get_default(cls, workspace: Workspace) -> Datastore:
        """The default datastore."""
        return cls(workspace)

    @classmethod
    def register(cls, workspace: Workspace, datastore_name: str, path: str | Path, *, overwrite: bool = False) -> Datastore:
        """Call the folder ``path``, which is there, ``datastore_name`` in this workspace.

        Raises SpecError where there is no such folder, or the name means another one and ``overwrite`` is False.
        """
        known = storage.folders(workspace.context).get(datastore_name)
        if known and not overwrite and os.path.realpath(known) != os.path.realpath(path):
            raise SpecError(f"the datastore {datastore_name!r} is {known} already", hint="give overwrite=True, or another name")
        storage.register(workspace.context, datastore_name, path)
        return cls(workspace, datastore_name)

    register_path = register

    def set_as_default(self) -> None:
        """Make it the workspace's default datastore."""
        storage.set_default(self.workspace.context, self.name)

    def unregister(self) -> None:
        """Take the name back; the folder and what is in it stay. Raises SpecError for what was not registered."""
        storage.unregister(self.workspace.context, self.name)

    @property
    def datastore_type(self) -> str:
        """Where Azure ML names a kind of storage."""
        return "folder"

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """A reference to a file or folder in it. Raises SpecError for a path that leads out of it."""
        from hpcest.sdk.data.configs import DataReference

        return DataReference(self, data_reference_name, path)

    def place(self, path: str | None = None) -> Path:
        """The file or folder ``path`` in it, as a path of this machine, whether it is there or not. Raises SpecError."""
        return storage.inside(self.folder, path or "")

    def as_mount(self) -> DataReference:
        """A reference to all of it."""
        return self.path().as_mount()

    def as_download(self, path_on_compute: str | None = None) -> DataReference:
        """A reference to all of it that is copied to the nodes."""
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: str | None = None) -> DataReference:
        """A reference that what a program wrote is copied to."""
        return self.path().as_upload(path_on_compute)

    def upload(
        self, src_dir: str | Path, target_path: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataReference:
        """Copy a folder's files into ``target_path`` of the datastore, keeping their names.

        Files that are there stay as they are unless ``overwrite``, and a warning says so where ``show_progress``. Raises
        SpecError for a source that is no folder.
        """
        if not os.path.isdir(src_dir):
            raise SpecError(f"upload: {str(src_dir)!r} is not a folder", hint="upload_files takes single files")
        found = sorted(os.path.join(where, name) for where, _, names in os.walk(src_dir) for name in names)
        return self._put([(path, os.path.relpath(path, src_dir)) for path in found], target_path, overwrite, say=show_progress)

    def upload_files(
        self,
        files: Sequence[str | Path],
        relative_root: str | Path | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy files into ``target_path``, under their names below ``relative_root`` (by default what they share).

        Raises SpecError for what is no file, or is not below the root.
        """
        paths = [os.path.abspath(file) for file in ([files] if isinstance(files, (str, Path)) else files)]
        for path in paths:
            if not os.path.isfile(path):
                raise SpecError(f"upload_files: there is no file {path!r}")
        if not paths:
            raise SpecError("upload_files: no file is given")
        root = (
            os.path.abspath(relative_root) if relative_root is not None else os.path.commonpath([os.path.dirname(path) for path in paths])
        )
        pairs = [(path, os.path.relpath(path, root)) for path in paths]
        for path, name in pairs:
            if name.startswith(".."):
                raise SpecError(f"upload_files: {path!r} is not below {root!r}", hint="choose another relative_root")
        return self._put(pairs, target_path, overwrite, say=show_progress)

    def _put(self, pairs: Iterable[tuple[str, str]], target_path: str | None, overwrite: bool, *, say: bool) -> DataReference:
        place, left = self.place(target_path), []
        for source, name in pairs:
            target = place / name
            if os.path.realpath(target) == os.path.realpath(source):
                continue
            if target.exists() and not overwrite:
                left.append(name)
            else:
                copy_file(Path(source), target)
        if left and say:
            what = f"{left[0]} and {len(left) - 1} more files are" if len(left) > 1 else f"{left[0]} is"
            warnings.warn(f"upload: {what} there already and not replaced; overwrite=True does that", stacklevel=3)
        return self.path(target_path)

    def download(self, target_path: str | Path, prefix: str | None = None, overwrite: bool = False, show_progress: bool = True) -> int:
        """Copy what is below ``prefix`` (all by default) into the folder ``target_path``, under the names that it has in the datastore.

        Returns how many files were copied; files that are there stay unless ``overwrite``. Raises SpecError where nothing is.
        """
        start = self.place(prefix)
        found = [start] if start.is_file() else [Path(where, name) for where, _, names in os.walk(start) for name in names]
        if not found:
            raise SpecError(f"the datastore {self.name!r} has nothing in {prefix or 'it'!r}", hint=f"look into {self.folder}")
        copied = 0
        for source in sorted(found):
            target = Path(target_path) / source.relative_to(self.folder)
            if source.is_file() and (overwrite or not target.exists()):
                copy_file(source, target)
                copied += 1
        return copied

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Datastore) and (self.name, self.folder) == (other.name, other.folder)

    def __hash__(self) -> int:
        return hash((self.name, self.folder))

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, folder={str(self.folder)!r})"


def datastores_of(workspace: Workspace) -> dict[str, Datastore]:
    """All datastores of a workspace by name; one whose folder is gone is among them."""
    return {name: Datastore(workspace, name) for name in storage.folders(workspace.context)}


class DataPath:
    """A place in a datastore. Raises SpecError for one that leads out of it."""

    def __init__(self, datastore: Datastore, path_on_datastore: str | None = None, name: str | None = None) -> None:
        self.datastore, self.path_on_datastore, self.name = datastore, path_on_datastore or "", name
        self.place = datastore.place(path_on_datastore)

    def __repr__(self) -> str:
        return f"DataPath({self.datastore!r}, {self.path_on_datastore!r})"


def paths_of(path: Any, what: str = "path") -> tuple[str, ...]:
    """The absolute paths that Azure ML's forms of a path mean: a text, (datastore, text), a DataPath, a reference, or a list of them.

    Raises SpecError for anything else, and for an address in a network.
    """
    if isinstance(path, (list, set)) or (isinstance(path, tuple) and not (len(path) == 2 and isinstance(path[0], Datastore))):
        return tuple(one for item in path for one in paths_of(item, what))
    if isinstance(path, tuple):
        datastore, relative = path
        if isinstance(relative, (list, tuple)):
            return tuple(one for item in relative for one in paths_of((datastore, item), what))
        return (str(datastore.place(relative)),)
    if isinstance(path, Datastore):
        return (str(path.folder),)
    if isinstance(getattr(path, "place", None), Path):  # a DataPath, or a DataReference
        return (str(path.place),)
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise SpecError(f"{what} {path!r} names no data", hint="give a path, (datastore, 'path'), or a list of them")
    text = os.fspath(path)
    scheme, colons, _ = text.partition("://")
    if colons and scheme.isalnum() and scheme != "file":
        raise SpecError(
            f"data at {text!r} is on a network, which compute nodes do not reach",
            hint="download it into a folder first, and name that: datastore.upload_files([…])",
        )
    return (os.path.abspath(os.path.expanduser(text.removeprefix("file://"))),)


def one_path(path: Any, what: str) -> str:
    """Like ``paths_of`` for what must be one place."""
    paths = paths_of(path, what)
    if len(paths) != 1:
        raise SpecError(f"{what} must be one place, not {len(paths)}")
    return paths[0]


def checked_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    """Tags as texts. Raises HpcestError for what is no dict."""
    if tags is not None and not isinstance(tags, Mapping):
        raise HpcestError(f"tags must be a dict, not {tags!r}")
    return {str(key): "" if value is None else str(value) for key, value in (tags or {}).items()}
