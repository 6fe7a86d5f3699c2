"""How a run uses data: named inputs, declared outputs, and the older data references.

Each can stand among the arguments of a program, where it becomes ``$AZURE_ML_INPUT_name`` or ``$AZURE_ML_OUTPUT_name``, which
the node replaces by the path; and ``bind`` enters what it is into the data of a run spec.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from hpcest.errors import SpecError
from hpcest.model.spec import DataInput, DataOutput
from hpcest.sdk.data.datastore import Datastore, checked_tags, one_path

if TYPE_CHECKING:
    from typing_extensions import Self

    from hpcest.sdk.data.dataset import AbstractDataset

T = TypeVar("T", DataInput, DataOutput)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DEFAULT_DESTINATION = "dataset/{run-id}/{output-name}"


def checked_name(name: Any, what: str) -> str:
    """``name``, if data of a run can be called so: it becomes part of a variable's name. Raises SpecError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError(f"{name!r} can't be the name of {what}", hint="use letters, digits and '_', and no digit at the start")
    return name


def enter(found: dict[str, T], name: str, value: T, what: str) -> None:
    """Add data to what a run has. Raises SpecError if the name is that of other data."""
    if found.setdefault(name, value) != value:
        raise SpecError(f"two {what}s are called {name!r}", hint="rename one of them")


class DatasetConsumptionConfig:
    """A dataset as the input ``name`` of a run: what ``dataset.as_named_input(name).as_mount()`` gives.

    ``mode`` is ``mount``, ``download`` or ``direct``; ``path_on_compute`` where the program wants it.
    """

    name: str
    dataset: AbstractDataset | DataInput
    mode: str
    path_on_compute: str | None

    def __init__(self, name: str, dataset: AbstractDataset | DataInput, mode: str = "direct", path_on_compute: str | None = None) -> None:
        self.name = checked_name(name, "an input")
        if mode not in ("mount", "download", "direct"):
            raise SpecError(f"the mode of input {name!r} is {mode!r}", hint="allowed: mount, download, direct")
        if not isinstance(dataset, DataInput) and not hasattr(dataset, "data_input"):
            raise SpecError(f"input {name!r}: {dataset!r} is no dataset", hint="make one: Dataset.File.from_files(…)")
        self.dataset, self.mode, self.path_on_compute = dataset, mode, path_on_compute

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """The data where it is; several files as a folder of links to them."""
        return DatasetConsumptionConfig(self.name, self.dataset, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """A copy on the disk of each node, which is removed when the run's attempt ends."""
        return DatasetConsumptionConfig(self.name, self.dataset, "download", path_on_compute)

    def as_direct(self) -> DatasetConsumptionConfig:
        """The data where it is, as ``run.input_datasets`` gives it."""
        return DatasetConsumptionConfig(self.name, self.dataset, "direct")

    def as_hdfs(self) -> DatasetConsumptionConfig:
        """Refused: nothing here is a Hadoop file system."""
        raise SpecError("as_hdfs: there is no Hadoop file system", hint="take as_mount(): data on shared storage is there on every node")

    def to_argument(self) -> str:
        """What stands for the path among a program's arguments."""
        return f"$AZURE_ML_INPUT_{self.name}"

    def bind(self, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        """Enter it into the inputs of a run. Raises SpecError for a name that other data has."""
        found = self.dataset if isinstance(self.dataset, DataInput) else self.dataset.data_input()
        enter(data, self.name, replace(found, mode=self.mode, target=self.path_on_compute or ""), "input")

    def __str__(self) -> str:
        return self.to_argument()

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig({self.name!r}, {self.dataset!r}, {self.mode!r})"


class OutputFileDatasetConfig:
    """A folder that a run writes: ``./outputs/name`` of the run, or below ``destination``, (datastore, path) or a path.

    ``{run-id}`` and ``{output-name}`` in the path are replaced; a datastore without a path means
    ``dataset/{run-id}/{output-name}`` in it. ``source`` is where the program writes, if not at the path that it is told.
    """

    def __init__(
        self, name: str | None = None, destination: Any = None, source: str | None = None, partition_format: str | None = None
    ) -> None:
        if partition_format is not None:
            raise SpecError("partition_format is not there for outputs", hint="have the program name its files as it wants")
        self.name = checked_name(name, "an output") if name is not None else f"output_{os.urandom(4).hex()}"
        self.destination, self.source = destination, source
        self._output = DataOutput(path=_destination(destination), target=source or "")

    def _with(self, **changes: Any) -> Self:
        made = copy.copy(self)
        made._output = replace(self._output, **changes)
        return made

    def as_mount(self, disable_metadata_cache: bool = False) -> Self:
        """The program writes to the destination itself."""
        return self._with(mode="mount")

    def as_upload(self, overwrite: bool = False, source_globs: Sequence[str] | str | None = None) -> Self:
        """What the program wrote, or what of it matches ``source_globs``, is copied to the destination when the run has completed."""
        globs = (source_globs,) if isinstance(source_globs, str) else tuple(source_globs or ())
        return self._with(mode="upload", overwrite=bool(overwrite), globs=globs)

    def register_on_complete(self, name: str, description: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        """Have it become a version of the dataset ``name`` when the run has completed, and only then."""
        from hpcest.lifecycle.data.datasets import checked_name as of_dataset

        return self._with(dataset=of_dataset(name), description=description or "", tags=checked_tags(tags))

    def read_delimited_files(self, **options: Any) -> Self:
        """The dataset that it becomes is a table in delimited files; the options are those of ``Dataset.Tabular.from_delimited_files``."""
        from hpcest.sdk.data.tabular import delimited_table

        return self._with(table=delimited_table(options))

    def read_parquet_files(self) -> Self:
        """The dataset that it becomes is a table in Parquet files."""
        return self._with(table={"format": "parquet"})

    def as_input(self, name: str | None = None) -> DatasetConsumptionConfig:
        """What it has written as the input of another run, which comes after.

        Raises SpecError where the place is not known before a run has written it.
        """
        path = self._output.path.replace("{output-name}", self.name)
        if not path or "{" in path:
            raise SpecError(
                f"where the output {self.name!r} will be is known when its run has an id",
                hint="give destination=(datastore, 'a/path'), or register_on_complete and Dataset.get_by_name",
            )
        return DatasetConsumptionConfig(name or self.name, DataInput((path,)), "mount")

    def to_argument(self) -> str:
        """What stands for the path among a program's arguments."""
        return f"$AZURE_ML_OUTPUT_{self.name}"

    def bind(self, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        """Enter it into the outputs of a run. Raises SpecError for a name that another output has."""
        enter(outputs, self.name, self._output, "output")

    def __str__(self) -> str:
        return self.to_argument()

    def __repr__(self) -> str:
        return f"OutputFileDatasetConfig({self.name!r}, {self.destination!r})"


def _destination(given: Any) -> str:
    if given is None:
        return ""
    if isinstance(given, Datastore) or (isinstance(given, tuple) and len(given) == 2 and given[1] is None):
        given = (given[0] if isinstance(given, tuple) else given, DEFAULT_DESTINATION)
    return one_path(given, "destination")


class DataReference:
    """A place in a datastore that a run reads or writes: the older form, where ``dataset.as_named_input`` is the newer.

    ``place`` is its path on this machine. Its name is ``data_reference_name``, else what the path is called.
    """

    def __init__(
        self,
        datastore: Datastore,
        data_reference_name: str | None = None,
        path_on_datastore: str | None = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        if mode not in ("mount", "download", "upload"):
            raise SpecError(f"the mode of a data reference is {mode!r}", hint="allowed: mount, download, upload")
        self.datastore, self.path_on_datastore, self.mode = datastore, path_on_datastore, mode
        self.path_on_compute, self.overwrite = path_on_compute, overwrite
        self.place = datastore.place(path_on_datastore)
        made = re.sub(r"\W", "_", os.path.basename(str(path_on_datastore or "").rstrip("/")) or datastore.name, flags=re.ASCII)
        made = f"_{made}" if made[:1].isdigit() else made
        self.data_reference_name = made if data_reference_name is None else checked_name(data_reference_name, "a data reference")

    @property
    def name(self) -> str:
        """What its variables are called after."""
        return self.data_reference_name

    def _as(self, mode: str, path_on_compute: str | None, overwrite: bool) -> DataReference:
        return DataReference(self.datastore, self.name, self.path_on_datastore, mode, path_on_compute, overwrite)

    def as_mount(self) -> DataReference:
        """The place itself."""
        return self._as("mount", None, False)

    def as_download(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """A copy on the disk of each node."""
        return self._as("download", path_on_compute, overwrite)

    def as_upload(self, path_on_compute: str | None = None, overwrite: bool = False) -> DataReference:
        """A folder whose files are copied to the place when the run has completed."""
        return self._as("upload", path_on_compute, overwrite)

    def path(self, path: str | None = None, data_reference_name: str | None = None) -> DataReference:
        """A place below this one."""
        joined = "/".join(filter(None, [self.path_on_datastore, path]))
        return DataReference(self.datastore, data_reference_name, joined, self.mode, self.path_on_compute, self.overwrite)

    def to_config(self) -> DataReference:
        """What goes into ``run_config.data_references``: the reference itself."""
        return self

    def to_argument(self) -> str:
        """What stands for the path among a program's arguments."""
        return f"$AZUREML_DATAREFERENCE_{self.name}"

    def bind(self, data: dict[str, DataInput], outputs: dict[str, DataOutput]) -> None:
        """Enter it into the inputs of a run, or into its outputs where it is uploaded. Raises SpecError for a name that other data has."""
        target = self.path_on_compute or ""
        if self.mode == "upload":
            enter(outputs, self.name, DataOutput(str(self.place), mode="upload", target=target, overwrite=self.overwrite), "output")
        else:
            mode = "direct" if self.mode == "mount" else self.mode  # programs write through references too
            enter(data, self.name, DataInput((str(self.place),), mode=mode, target=target), "input")

    def __str__(self) -> str:
        return self.to_argument()

    def __repr__(self) -> str:
        return f"DataReference({self.datastore.name!r}, {self.name!r}, {self.path_on_datastore!r})"
