"""Tables in files: what is chosen of them is kept as a recipe, and read by pandas when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpcest.errors import HpcestError, SpecError
from hpcest.lifecycle.data.files import find
from hpcest.model.spec import DataInput
from hpcest.onnode import table
from hpcest.onnode.partitions import Partitions
from hpcest.sdk import azure
from hpcest.sdk.data.dataset import AbstractDataset, counted, split_of
from hpcest.sdk.data.datastore import one_path, paths_of
from hpcest.sdk.files import copy_file

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace

_TYPES = ("string", "float", "integer", "boolean", "datetime")
#: What an option is where nobody says otherwise; such a one is not written into the recipe.
_USUAL = {"include_path": False, "infer_column_types": True, "separator": ",", "header": True, "empty_as_string": False, "encoding": "utf8"}


class PromoteHeadersBehavior(Enum):
    """Where the names of columns are. All but ``NO_HEADERS`` mean the first line of each file."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


class DataType:
    """The type of a column, for ``set_column_types``."""

    def __init__(self, name: str, detail: Any = None) -> None:
        self.name, self.detail = name, detail

    @staticmethod
    def to_string() -> DataType:
        """Texts."""
        return DataType("string")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> DataType:
        """Numbers; what is none becomes a missing value."""
        return DataType("float", decimal_mark if decimal_mark != "." else None)

    @staticmethod
    def to_long() -> DataType:
        """Whole numbers."""
        return DataType("integer")

    @staticmethod
    def to_bool() -> DataType:
        """Truth values."""
        return DataType("boolean")

    @staticmethod
    def to_datetime(formats: Sequence[str] | str | None = None) -> DataType:
        """Moments, in one or several ``formats`` such as ``%Y-%m-%d``; by default in any form that pandas reads."""
        return DataType("datetime", [formats] if isinstance(formats, str) else list(formats) if formats else None)


class TabularDataset(AbstractDataset):
    """A table, as ``Dataset.Tabular.from_…`` finds it."""

    kind: ClassVar[str] = "tabular"
    ELSEWHERE: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("time_before", "time_after", "time_between", "time_recent", "with_timestamp_columns", "timestamp_columns"),
                        "choose rows of to_pandas_dataframe() by their times"),
        "partition_by": "write the folders with pandas",
        "filter": "choose rows of to_pandas_dataframe()",
        "to_dask_dataframe": "read the files with dask: dask.dataframe.read_csv(…)",
        "to_spark_dataframe": "read the files with Spark",
        "to_csv_files": "write them with to_pandas_dataframe().to_csv(…)",
        "to_parquet_files": "write them with to_pandas_dataframe().to_parquet(…)",
        "get_profile": "to_pandas_dataframe().describe()",
    }  # fmt: skip

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> Any:
        """The table as a pandas DataFrame.

        A value that is not of the type that was asked for its column is missing; with ``on_error='fail'``, and for moments
        beyond what pandas can say with ``out_of_range_datetime='error'``, it is an error. Raises HpcestError for that, where
        there is no pandas, and where a file can't be read as a table.
        """
        try:
            return table.read(self._data.table, self._files(), on_error, out_of_range_datetime)
        except (ImportError, LookupError, ValueError) as error:
            said = error.args[0] if error.args and isinstance(error, LookupError) else error
            raise HpcestError(f"the table can't be read: {said}") from error

    def _then(self, *step: Any) -> TabularDataset:
        recipe = {**self._data.table, "steps": [*self._data.table.get("steps", []), list(step)]}
        return TabularDataset(replace(self._data, table=recipe))

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> TabularDataset:
        """Only these columns. With ``validate`` the table is read at once, and HpcestError raised where it lacks one."""
        kept = self._then("keep_columns", [columns] if isinstance(columns, str) else list(columns))
        if validate:
            kept.to_pandas_dataframe()
        return kept

    def drop_columns(self, columns: str | Sequence[str]) -> TabularDataset:
        """All but these columns."""
        return self._then("drop_columns", [columns] if isinstance(columns, str) else list(columns))

    def take(self, count: int) -> TabularDataset:
        """The first ``count`` rows. Raises SpecError for a number below 0."""
        return self._then("take", counted(count))

    def skip(self, count: int) -> TabularDataset:
        """All rows but the first ``count``. Raises SpecError for a number below 0."""
        return self._then("skip", counted(count))

    def take_sample(self, probability: float, seed: int | None = None) -> TabularDataset:
        """Each row with that probability; the same ones for the same ``seed``."""
        return self._then("sample", *split_of(probability, seed), False)

    def random_split(self, percentage: float, seed: int | None = None) -> tuple[TabularDataset, TabularDataset]:
        """Two tables: each row is in the first with the probability ``percentage`` (0 to 1), else in the second."""
        share, start = split_of(percentage, seed)
        return self._then("sample", share, start, False), self._then("sample", share, start, True)


class TabularDatasetFactory:
    """``Dataset.Tabular``."""

    @staticmethod
    def from_delimited_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        infer_column_types: bool = True,
        set_column_types: Mapping[str, Any] | None = None,
        separator: str = ",",
        header: bool | PromoteHeadersBehavior = True,
        partition_format: str | None = None,
        support_multi_line: bool = False,
        empty_as_string: bool = False,
        encoding: str = "utf8",
        **unknown: Any,
    ) -> TabularDataset:
        """The table in delimited files at ``path``: a path or pattern, (datastore, path), or a list of them.

        ``include_path`` adds a column ``Path``; ``set_column_types`` is column → DataType; ``partition_format``, such as
        ``/{country}/{day:yyyy/MM/dd}/data.csv``, makes columns of what paths say. Values may have lines of their own whatever
        ``support_multi_line`` says. Raises SpecError where nothing is there, unless ``validate`` is False.
        """
        options = {
            "include_path": include_path, "infer_column_types": infer_column_types, "set_column_types": set_column_types,
            "separator": separator, "header": header, "partition_format": partition_format, "empty_as_string": empty_as_string,
            "encoding": encoding, **unknown,
        }  # fmt: skip
        return _table(path, delimited_table(options), validate=validate)

    @staticmethod
    def from_parquet_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
    ) -> TabularDataset:
        """The table in Parquet files at ``path``. To read it takes pyarrow beside pandas."""
        options = {"include_path": include_path, "set_column_types": set_column_types, "partition_format": partition_format}
        return _table(path, {"format": "parquet", **_options(options)}, validate=validate)

    @staticmethod
    def from_json_lines_files(
        path: Any,
        validate: bool = True,
        include_path: bool = False,
        set_column_types: Mapping[str, Any] | None = None,
        partition_format: str | None = None,
        invalid_lines: str = "error",
        encoding: str = "utf8",
    ) -> TabularDataset:
        """The table in files with one JSON object a line. ``invalid_lines='drop'`` leaves out what is none."""
        if invalid_lines not in ("error", "drop"):
            raise SpecError(f"invalid_lines is {invalid_lines!r}", hint="allowed: error, drop")
        options = {
            "include_path": include_path, "set_column_types": set_column_types, "partition_format": partition_format,
            "encoding": encoding, "drop_invalid": invalid_lines == "drop" or None,
        }  # fmt: skip
        return _table(path, {"format": "json_lines", **_options(options)}, validate=validate)

    @staticmethod
    def from_sql_query(*query: Any, **options: Any) -> TabularDataset:
        """Refused: compute nodes reach no database."""
        raise SpecError(
            "from_sql_query: there is no database here", hint="write the result to a file: from_delimited_files, from_parquet_files"
        )

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any,
        target: Any,
        name: str,
        description: str | None = None,
        tags: Mapping[str, Any] | None = None,
        show_progress: bool = True,
        row_group_size: int | None = None,
    ) -> TabularDataset:
        """Write a DataFrame below ``target``, (datastore, path), and register it as the next version of ``name``.

        ``show_progress`` and ``row_group_size`` have no effect: it is written at once.
        """
        import tempfile

        place = Path(one_path(target, "target")) / os.urandom(8).hex()
        with tempfile.TemporaryDirectory() as folder:
            try:
                written = Path(folder, "table.parquet")
                dataframe.to_parquet(written)
                recipe: dict[str, Any] = {"format": "parquet"}
            except ImportError:  # no pyarrow: then as text
                written = Path(folder, "table.csv")
                dataframe.to_csv(written, index=False)
                recipe = delimited_table({})
            copy_file(written, place / written.name)
        workspace = _workspace_of(target)
        made = TabularDataset(DataInput((str(place / written.name),), table=recipe))
        return made.register(workspace, name, description, tags, create_new_version=True)


def _workspace_of(target: Any) -> Workspace:
    datastore = target[0] if isinstance(target, tuple) else getattr(target, "datastore", target)
    workspace: Workspace | None = getattr(datastore, "workspace", None)
    if workspace is None:
        raise SpecError(f"target {target!r} is in no datastore", hint="give (datastore, 'path')")
    return workspace


def delimited_table(options: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a table in delimited files. Raises SpecError for an option that there is not."""
    known = (*_USUAL, "set_column_types", "partition_format", "support_multi_line", "validate")
    for name in options:
        if name not in known:
            raise azure.unknown_keyword("from_delimited_files", name, known)
    return {"format": "delimited", **_options({name: options[name] for name in options if name not in ("support_multi_line", "validate")})}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options is not as it is by default, as plain values."""
    values = dict(given)
    if "header" in values:
        values["header"] = values["header"] not in (False, None, PromoteHeadersBehavior.NO_HEADERS)
    if values.get("set_column_types"):
        values["set_column_types"] = {column: _type(column, kind) for column, kind in values["set_column_types"].items()}
    if values.get("partition_format") is not None:
        try:
            Partitions(str(values["partition_format"]))
        except ValueError as error:
            raise SpecError(str(error), hint="such as '/{country}/{day:yyyy/MM/dd}/*.csv', up to the end of the path") from error
    found = {name: value for name, value in values.items() if value is not None and value != _USUAL.get(name)}
    return {"options": found} if found else {}


def _type(column: str, kind: Any) -> str | list[Any]:
    names: dict[Any, str] = {str: "string", float: "float", int: "integer", bool: "boolean"}
    name = kind.name if isinstance(kind, DataType) else names.get(kind, kind) if isinstance(kind, (str, type)) else None
    if name not in _TYPES:
        raise SpecError(
            f"the type of column {column!r} is {kind!r}", hint=f"allowed: {', '.join(_TYPES)}, or DataType.to_float() and so on"
        )
    detail = kind.detail if isinstance(kind, DataType) else None
    return [name, detail] if detail else str(name)


def _table(path: Any, recipe: dict[str, Any], *, validate: bool) -> TabularDataset:
    paths = paths_of(path)
    if validate:
        find(paths)
    return TabularDataset(DataInput(paths, table=recipe))
