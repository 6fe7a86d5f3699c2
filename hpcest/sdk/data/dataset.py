"""Datasets: files by where they are, registered under a name in versions that know their content."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hpcest.errors import SpecError
from hpcest.lifecycle.data import datasets as registry
from hpcest.lifecycle.data.datasets import DatasetVersion
from hpcest.lifecycle.data.files import find
from hpcest.model.datapaths import whole_path
from hpcest.model.spec import DataInput
from hpcest.onnode.table import chosen
from hpcest.sdk.data.configs import DatasetConsumptionConfig
from hpcest.sdk.data.datastore import checked_tags, one_path, paths_of
from hpcest.sdk.files import copy_file

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcest.sdk.data.tabular import TabularDatasetFactory
    from hpcest.sdk.workspace import Workspace


class AbstractDataset:
    """What datasets of files and of tables have in common. Nothing of the data is read before something needs it."""

    kind: ClassVar[str] = "file"
    #: Method of Azure ML's → what to do instead.
    ELSEWHERE: ClassVar[Mapping[str, str]] = {}

    def __init__(self, data: DataInput, registered: DatasetVersion | None = None) -> None:
        self._data, self._registered = data, registered

    def __getattr__(self, name: str) -> NoReturn:
        if name in type(self).ELSEWHERE:
            raise SpecError(f"{type(self).__name__}.{name} is not there", hint=type(self).ELSEWHERE[name])
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def name(self) -> str | None:
        """The name that it is registered under, or None."""
        return self._registered.name if self._registered else None

    @property
    def version(self) -> int | None:
        """Which version of that name it is, or None."""
        return self._registered.version if self._registered else None

    @property
    def id(self) -> str | None:
        """``name:version`` of a registered one, which ``Dataset.get_by_id`` takes."""
        return self._registered.id if self._registered else None

    @property
    def description(self) -> str:
        """What was said of it when it was registered."""
        return self._registered.description if self._registered else ""

    @property
    def tags(self) -> dict[str, str]:
        """The tags that it was registered with."""
        return dict(self._registered.tags) if self._registered else {}

    @property
    def digest(self) -> str:
        """The digest of names and contents when it was registered; empty for one that is not."""
        return self._data.digest

    def data_input(self) -> DataInput:
        """What a run spec says of it."""
        return self._registered.as_input() if self._registered else self._data

    def register(
        self,
        workspace: Workspace,
        name: str,
        description: str | None = None,
        tags: Mapping[str, Any] | None = None,
        create_new_version: bool = False,
    ) -> Self:
        """Register it under ``name``, with a digest of its content, for which every file is read once.

        Where the latest version is the same, that one is returned. Raises SpecError where it is another and
        ``create_new_version`` is False.
        """
        labels = checked_tags(tags)
        made = registry.register(
            workspace.folder, name, self._data, kind=self.kind, description=description or "", tags=labels, new_version=create_new_version
        )
        return type(self)(made.data, made)

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """It as the input ``name`` of a run; add ``.as_mount()`` or ``.as_download()``."""
        return DatasetConsumptionConfig(name, self)

    def unregister_all_versions(self, workspace: Workspace) -> None:
        """Forget its name, in all versions; the data stays. Raises SpecError for one that is not registered."""
        if not self._registered:
            raise SpecError("a dataset that is not registered can't be unregistered")
        registry.unregister(workspace.folder, self._registered.name)

    def _files(self) -> list[str]:
        found = find(self._data.paths, self._data.root)
        return [os.path.join(found.root, name) for name, _, _ in found.files]

    def _input_name(self) -> str:
        """A name for one that was given none, the same whenever it is asked for."""
        word = re.sub(r"\W", "_", self.name or "", flags=re.ASCII)
        if word and not word[0].isdigit():
            return word
        return f"input_{hashlib.sha256(repr(self._data).encode()).hexdigest()[:8]}"

    def to_argument(self) -> str:
        """What stands for the path among a program's arguments."""
        return self.as_named_input(self._input_name()).to_argument()

    def bind(self, data: dict[str, DataInput], outputs: dict[str, Any]) -> None:
        """Enter it into the inputs of a run, under a name that is made for it."""
        self.as_named_input(self._input_name()).as_direct().bind(data, outputs)

    def __repr__(self) -> str:
        what = repr(self.id) if self._registered else ", ".join(map(repr, self._data.paths))
        return f"{type(self).__name__}({what})"


class FileDataset(AbstractDataset):
    """Files, as ``Dataset.File.from_files`` finds them."""

    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "partition_by": "have the program write the folders that it wants",
        "filter": "choose files by a pattern: from_files((datastore, 'folder/*.jpg'))",
        "hydrate": "data on shared storage is there already",
        "file_metadata": "os.stat(path) of the paths that mount() or download() gives",
        **dict.fromkeys(("add_tags", "remove_tags", "update"), "register it again: create_new_version=True, with tags and a description"),
    }

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """It as an input, under a name that is made for it, where it is."""
        return self.as_named_input(self._input_name()).as_mount(path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """It as an input, under a name that is made for it, copied to each node."""
        return self.as_named_input(self._input_name()).as_download(path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        """It as an input, under a name that is made for it."""
        return self.as_named_input(self._input_name()).as_direct()

    def to_path(self) -> list[str]:
        """The names of its files, each with a ``/`` before it, sorted."""
        return ["/" + name for name, _, _ in find(self._data.paths, self._data.root).files]

    def download(self, target_path: str | Path | None = None, overwrite: bool = False, ignore_not_found: bool = False) -> list[str]:
        """Copy its files into the folder ``target_path`` (a new one by default); returns their paths there.

        Raises SpecError for a file that is there already unless ``overwrite``, and before anything is copied.
        """
        target = Path(target_path) if target_path is not None else Path(tempfile.mkdtemp(prefix="hpcest-data-"))
        found = find(self._data.paths, self._data.root)
        pairs = [(Path(found.root, name), target / name) for name, _, _ in found.files]
        taken = [copy for _, copy in pairs if os.path.lexists(copy)]
        if taken and not overwrite:
            raise SpecError(f"download: {str(taken[0])!r} is there already", hint="give overwrite=True, or another folder")
        for source, copy in pairs:
            if source.exists() or not ignore_not_found:
                copy_file(source, copy)
        return [str(copy) for _, copy in pairs]

    def mount(self, mount_point: str | Path | None = None) -> Mounted:
        """A context whose ``mount_point`` is a folder with its files: its own, or one of links to them."""
        return Mounted(self._data, mount_point)

    def take(self, count: int) -> FileDataset:
        """The first ``count`` files, by name. Raises SpecError for a number below 0."""
        return self._of(self._files()[: counted(count)])

    def skip(self, count: int) -> FileDataset:
        """All files but the first ``count``. Raises SpecError for a number below 0, and where none is left."""
        return self._of(self._files()[counted(count) :])

    def take_sample(self, probability: float, seed: int | None = None) -> FileDataset:
        """Each file with that probability; the same ones for the same ``seed``."""
        return self.random_split(probability, seed)[0]

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[FileDataset, FileDataset]:
        """Two datasets: each file is in the first with the probability ``percentage`` (0 to 1), else in the second."""
        files, (share, start) = self._files(), split_of(percentage, seed)
        first = dict(zip(files, chosen(len(files), share, start), strict=True))
        return self._of([file for file in files if first[file]]), self._of([file for file in files if not first[file]])

    def _of(self, files: list[str]) -> FileDataset:
        root = find(self._data.paths, self._data.root).root
        return FileDataset(DataInput(tuple(files), root=root))


def counted(count: Any) -> int:
    """``count``, a whole number from 0 up. Raises SpecError."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise SpecError(f"the count is {count!r}", hint="give a whole number from 0 up")
    return count


def split_of(percentage: float, seed: int | None) -> tuple[float, int]:
    """A probability and a seed, checked; without a seed one that is kept. Raises SpecError."""
    if isinstance(percentage, bool) or not isinstance(percentage, (int, float)) or not 0 <= percentage <= 1:
        raise SpecError(f"the share is {percentage!r}", hint="give a number from 0 to 1, such as 0.8")
    return float(percentage), int.from_bytes(os.urandom(4), "big") if seed is None else int(seed)


class Mounted:
    """What ``FileDataset.mount`` returns: use it with ``with``, or ``start`` and ``stop``."""

    def __init__(self, data: DataInput, mount_point: str | Path | None) -> None:
        self._data, self._wanted = data, str(mount_point) if mount_point is not None else ""
        whole = whole_path(data)
        self._own = os.path.dirname(whole) if whole and os.path.isfile(whole) else whole
        self.mount_point = self._wanted or self._own or os.path.join(tempfile.mkdtemp(prefix="hpcest-mount-"), "data")
        self._links = bool(self._wanted or not self._own)

    def start(self) -> None:
        """Have the files at the mount point. Raises SpecError if there is something else."""
        if not self._links:
            return
        if os.path.isdir(self.mount_point) and not os.listdir(self.mount_point):
            os.rmdir(self.mount_point)
        if os.path.lexists(self.mount_point):
            raise SpecError(f"mount: there is something at {self.mount_point!r} already", hint="name an empty folder, or a new one")
        found = find(self._data.paths, self._data.root)
        for name, _, _ in found.files:
            link = Path(self.mount_point, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.join(found.root, name))

    def stop(self) -> None:
        """Remove the links; the files stay."""
        if self._links:
            for where, folders, names in os.walk(self.mount_point, topdown=False):
                for name in names:
                    if os.path.islink(os.path.join(where, name)):
                        os.unlink(os.path.join(where, name))
                for name in folders:
                    if not os.listdir(os.path.join(where, name)):
                        os.rmdir(os.path.join(where, name))
            if os.path.isdir(self.mount_point) and not os.listdir(self.mount_point):
                os.rmdir(self.mount_point)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class FileDatasetFactory:
    """``Dataset.File``."""

    @staticmethod
    def from_files(path: Any, validate: bool = True, partition_format: str | None = None, is_file: bool = False) -> FileDataset:
        """The files at ``path``: a path or pattern, (datastore, path), or a list of them.

        Raises SpecError where nothing is there, unless ``validate`` is False.
        """
        if partition_format is not None:
            raise SpecError("partition_format is not there for files", hint="read the values from the paths in the program")
        paths = paths_of(path)
        if validate:
            find(paths)
        return FileDataset(DataInput(paths, type="uri_file" if is_file else "uri_folder"))

    @staticmethod
    def upload_directory(
        src_dir: str | Path, target: Any, pattern: str | None = None, overwrite: bool = False, show_progress: bool = True
    ) -> FileDataset:
        """Copy a folder's files (those that match ``pattern``) to ``target``, (datastore, path), and return them as a dataset."""
        if not os.path.isdir(src_dir):
            raise SpecError(f"upload_directory: {str(src_dir)!r} is not a folder")
        place = Path(one_path(target, "target"))
        source = os.path.abspath(src_dir)
        found = find((os.path.join(source, pattern) if pattern else source,), source)
        for name, _, _ in found.files:
            if overwrite or not (place / name).exists():
                copy_file(Path(source, name), place / name)
        paths = (str(place),) if not pattern else tuple(str(place / name) for name, _, _ in found.files)
        return FileDataset(DataInput(paths, root=str(place)))


class _Lazy(type):
    """``Dataset.Tabular`` is imported when it is used."""

    @property
    def Tabular(cls) -> type[TabularDatasetFactory]:
        """Where tables come from."""
        from hpcest.sdk.data.tabular import TabularDatasetFactory

        return TabularDatasetFactory


class Scenario:
    """Azure ML's words for what a model used a dataset for; any other text is as good."""

    TRAINING = "training"
    VALIDATION = "validation"
    INFERENCING = "inferencing"


class Dataset(metaclass=_Lazy):
    """Where datasets come from: ``Dataset.File``, ``Dataset.Tabular``, and the registered ones by name."""

    File, Scenario = FileDatasetFactory, Scenario

    @staticmethod
    def get_by_name(workspace: Workspace, name: str, version: int | str = "latest") -> Any:
        """A registered dataset, of files or of a table. Raises UnknownNameError with the nearest."""
        return _made(registry.read(workspace.folder, name, version))

    @staticmethod
    def get_by_id(workspace: Workspace, id: str) -> Any:
        """The registered dataset with that ``id``, which is ``name:version``. Raises UnknownNameError."""
        return _made(registry.named(workspace.folder, id))

    @staticmethod
    def get_all(workspace: Workspace) -> dict[str, Any]:
        """The latest version of every registered dataset, by name."""
        return {name: _made(registry.read(workspace.folder, name)) for name in registry.names(workspace.folder)}


def _made(version: DatasetVersion) -> AbstractDataset:
    from hpcest.sdk.data.tabular import TabularDataset

    return (TabularDataset if version.kind == "tabular" else FileDataset)(version.data, version)
