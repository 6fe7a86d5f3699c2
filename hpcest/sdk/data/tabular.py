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
from hpcest.sdk import azure
from hpcest.sdk.data.dataset import AbstractDataset, split_of
from hpcest.sdk.data.datastore import one_path, paths_of
from hpcest.sdk.files import copy_file

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace

_TYPES = ("string", "float", "integer", "boolean", "datetime")
_NOT_HERE = "partition_format"
_DELIMITED = {
    "validate": True, "include_path": False, "infer_column_types": True, "set_column_types": None, "separator": ",", "header": True,
    "partition_format": None, "support_multi_line": False, "empty_as_string": False, "encoding": "utf8",
}  # fmt: skip


class PromoteHeadersBehavior(Enum):
    """Where the names of columns are. All but ``NO_HEADERS`` mean the first line of each file."""

    NO_HEADERS = 0
    ONLY_FIRST_FILE_HAS_HEADERS = 1
    COMBINE_ALL_FILES_HEADERS = 2
    ALL_FILES_HAVE_SAME_HEADERS = 3


class DataType:
    """The type of a column, for ``set_column_types``."""

    def __init__(self, name: str) -> None:
        self.name = name

    @staticmethod
    def to_string() -> DataType:
        """Texts."""
        return DataType("string")

    @staticmethod
    def to_float(decimal_mark: str = ".") -> DataType:
        """Numbers; what is none becomes a missing value."""
        return DataType("float")

    @staticmethod
    def to_long() -> DataType:
        """Whole numbers."""
        return DataType("integer")

    @staticmethod
    def to_bool() -> DataType:
        """Truth values."""
        return DataType("boolean")

    @staticmethod
    def to_datetime(formats: Any = None) -> DataType:
        """Moments, in any form that pandas reads."""
        return DataType("datetime")


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
    }  # fmt: skip

    def to_pandas_dataframe(self, on_error: str = "null", out_of_range_datetime: str = "null") -> Any:
        """The table as a pandas DataFrame. Raises HpcestError where there is no pandas, or a file can't be read as a table."""
        try:
            return table.read(self._data.table, self._files())
        except (ImportError, KeyError, ValueError, UnicodeError) as error:
            raise HpcestError(f"the table can't be read: {error.args[0] if error.args else error}") from error

    def _then(self, *step: Any) -> TabularDataset:
        recipe = {**self._data.table, "steps": [*self._data.table.get("steps", []), list(step)]}
        return TabularDataset(replace(self._data, table=recipe))

    def keep_columns(self, columns: str | Sequence[str], validate: bool = False) -> TabularDataset:
        """Only these columns."""
        return self._then("keep_columns", [columns] if isinstance(columns, str) else list(columns))

    def drop_columns(self, columns: str | Sequence[str]) -> TabularDataset:
        """All but these columns."""
        return self._then("drop_columns", [columns] if isinstance(columns, str) else list(columns))

    def take(self, count: int) -> TabularDataset:
        """The first ``count`` rows."""
        return self._then("take", int(count))

    def skip(self, count: int) -> TabularDataset:
        """All rows but the first ``count``."""
        return self._then("skip", int(count))

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
    def from_delimited_files(path: Any, **options: Any) -> TabularDataset:
        """The table in delimited files at ``path``: a path or pattern, (datastore, path), or a list of them.

        Options and defaults: ``separator=','``, ``header=True`` (or a PromoteHeadersBehavior), ``encoding='utf8'``,
        ``include_path=False`` (a column ``Path``), ``infer_column_types=True``, ``set_column_types`` (column → DataType),
        ``empty_as_string=False``, ``support_multi_line`` (always), ``validate=True``. Raises SpecError.
        """
        recipe = delimited_table(options)
        return _table(path, recipe, validate=bool(options.get("validate", True)))

    @staticmethod
    def from_parquet_files(
        path: Any, validate: bool = True, include_path: bool = False, set_column_types: Any = None, partition_format: str | None = None
    ) -> TabularDataset:
        """The table in Parquet files at ``path``. To read it takes pyarrow beside pandas."""
        options = {"include_path": include_path, "set_column_types": set_column_types, _NOT_HERE: partition_format}
        return _table(path, {"format": "parquet", **_options(options)}, validate=validate)

    @staticmethod
    def from_json_lines_files(path: Any, **options: Any) -> TabularDataset:
        """The table in files with one JSON object a line. Options: validate, include_path, set_column_types, encoding."""
        known = {name: _DELIMITED[name] for name in ("validate", "include_path", "set_column_types", _NOT_HERE, "encoding")}
        known.update({"invalid_lines": "error"})
        _refuse_unknown("from_json_lines_files", options, known)
        kept = {name: value for name, value in options.items() if name != "invalid_lines"}
        return _table(path, {"format": "json_lines", **_options(kept)}, validate=bool(options.get("validate", True)))

    @staticmethod
    def from_sql_query(*query: Any, **options: Any) -> TabularDataset:
        """Refused: compute nodes reach no database."""
        raise SpecError(
            "from_sql_query: there is no database here", hint="write the result to a file: from_delimited_files, from_parquet_files"
        )

    @staticmethod
    def register_pandas_dataframe(
        dataframe: Any, target: Any, name: str, description: str | None = None, tags: Mapping[str, Any] | None = None, **others: Any
    ) -> TabularDataset:
        """Write a DataFrame below ``target``, (datastore, path), and register it as the next version of ``name``."""
        import tempfile

        azure.warn_ignored(
            "register_pandas_dataframe", others, {"show_progress": "it is written at once", "row_group_size": "pandas decides"}
        )
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
    _refuse_unknown("from_delimited_files", options, _DELIMITED)
    return {"format": "delimited", **_options(options)}


def _refuse_unknown(where: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in options:
        if name not in known:
            raise azure.unknown_keyword(where, name, known)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the options is not as it is by default, as plain values."""
    if given.get(_NOT_HERE) is not None:
        raise SpecError("partition_format is not there for tables", hint="include_path=True gives a column with each file's path")
    header = given.get("header", True)
    if isinstance(header, PromoteHeadersBehavior):
        header = header is not PromoteHeadersBehavior.NO_HEADERS
    values = {**given, "header": bool(header)}
    found = {name: value for name, value in values.items() if name in _DELIMITED and value != _DELIMITED[name] and name != "validate"}
    if found.get("set_column_types"):
        found["set_column_types"] = {column: _type(column, kind) for column, kind in found["set_column_types"].items()}
    found.pop("support_multi_line", None)
    return {"options": found} if found else {}


def _type(column: str, kind: Any) -> str:
    names: dict[Any, str] = {str: "string", float: "float", int: "integer", bool: "boolean"}
    name = kind.name if isinstance(kind, DataType) else names.get(kind, kind) if isinstance(kind, (str, type)) else None
    if name not in _TYPES:
        raise SpecError(
            f"the type of column {column!r} is {kind!r}", hint=f"allowed: {', '.join(_TYPES)}, or DataType.to_float() and so on"
        )
    return str(name)


def _table(path: Any, recipe: dict[str, Any], *, validate: bool) -> TabularDataset:
    paths = paths_of(path)
    if validate:
        find(paths)
    return TabularDataset(DataInput(paths, table=recipe))
