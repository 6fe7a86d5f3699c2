"""Tables in files, read as a recipe says; pandas is imported when one is read.

A recipe is plain JSON: ``format`` (delimited, parquet, json_lines), the ``options`` of the format, and ``steps``, a list of
[name, arguments…] that are taken one after the other.
"""

import importlib
import json
import os
import random
from typing import Any

from hpcest.onnode.partitions import Partitions

FORMATS = ("delimited", "parquet", "json_lines")
_ENDINGS = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "json_lines", ".ndjson": "json_lines", ".json": "json_lines"}
#: What pandas calls the types that can be asked for.
_TYPES = {"string": "str", "float": "float64", "integer": "Int64", "boolean": "boolean"}


def read(recipe, paths, on_error="null", out_of_range_datetime="null"):
    """The table in the files ``paths``, one after the other, as a pandas DataFrame.

    A value that is not of its column's type is missing, or with ``on_error='fail'`` a ValueError; so is a moment that is none
    with ``out_of_range_datetime='error'``. Raises ImportError where there is no pandas, ValueError, KeyError.
    """
    for name, given, allowed in (
        ("on_error", on_error, ("null", "fail")), ("out_of_range_datetime", out_of_range_datetime, ("null", "error"))
    ):  # fmt: skip
        if given not in allowed:
            raise ValueError("%s is %r; allowed: %s" % (name, given, ", ".join(allowed)))
    try:
        pandas: Any = importlib.import_module("pandas")  # the program's own
    except ImportError as error:
        raise ImportError("to read a table takes pandas, which is not installed here: add pandas to the environment") from error
    paths = list(paths)
    if not paths:
        raise ValueError("there is no file to read a table from")
    format_ = recipe.get("format") or _ENDINGS.get(os.path.splitext(paths[0])[1].lower(), "delimited")
    reader: Any = {"delimited": _delimited, "parquet": _parquet, "json_lines": _json_lines}[format_]
    options = recipe.get("options") or {}
    partitions = Partitions(options["partition_format"]) if options.get("partition_format") else None
    frames = []
    for path in paths:
        frame = reader(pandas, path, options)
        for name, value in (partitions.of(path) if partitions else {}).items():
            frame[name] = value
        if options.get("include_path"):
            frame.insert(0, "Path", path)
        frames.append(frame)
    table = frames[0] if len(frames) == 1 else pandas.concat(frames, ignore_index=True)
    table = _typed(pandas, table, options.get("set_column_types") or {}, (on_error == "fail", out_of_range_datetime == "error"))
    for step in recipe.get("steps") or []:
        take: Any = _STEPS[step[0]]
        table = take(table, *step[1:])
    return table.reset_index(drop=True)


def _delimited(pandas, path, options):
    header = 0 if options.get("header", True) else None
    keep = {} if options.get("infer_column_types", True) else {"dtype": str}
    empty = {"keep_default_na": False} if options.get("empty_as_string") else {}
    frame = pandas.read_csv(
        path, sep=options.get("separator") or ",", header=header, encoding=options.get("encoding") or "utf8", **dict(keep, **empty)
    )
    if header is None:
        frame.columns = ["Column%d" % (number + 1) for number in range(len(frame.columns))]
    return frame


def _parquet(pandas, path, options):
    return pandas.read_parquet(path)


def _json_lines(pandas, path, options):
    encoding = options.get("encoding") or "utf8"
    if not options.get("drop_invalid"):
        return pandas.read_json(path, lines=True, encoding=encoding)
    found = []
    with open(path, encoding=encoding) as stream:
        for line in stream:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return pandas.DataFrame([one for one in found if isinstance(one, dict)])


def _typed(pandas, table, types, strict):
    """The columns in the types that were asked for: a name, or [name, detail]."""
    for column, given in types.items():
        kind, detail = given if isinstance(given, list) else (given, None)
        _columns(table, [column])
        if kind == "datetime":
            table[column] = _moments(pandas, table[column], detail, strict)
        elif kind in ("float", "integer"):
            texts = table[column].astype(str).str.replace(detail, ".", regex=False) if detail else table[column]
            table[column] = pandas.to_numeric(texts, errors="raise" if strict[0] else "coerce").astype(_TYPES[kind])
        else:
            table[column] = table[column].astype(_TYPES[kind])
    return table


def _moments(pandas, column, formats, strict):
    """A column as moments, in the first of the ``formats`` that each value is in, or in any that pandas knows."""
    found = pandas.to_datetime(column, errors="coerce", format=formats[0] if formats else None)
    for other in (formats or [])[1:]:
        found = found.fillna(pandas.to_datetime(column, errors="coerce", format=other))
    wrong = column[found.isna() & column.notna()]
    if len(wrong) and any(strict):
        try:
            pandas.to_datetime(wrong.iloc[:1], format=formats[0] if formats else None)
        except ValueError as error:
            if strict[type(error).__name__ == "OutOfBoundsDatetime"]:
                raise
    return found


def _columns(table, names):
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise KeyError("the table has no column %r; it has: %s" % (missing[0], ", ".join(map(str, table.columns))))
    return list(names)


def chosen(count, probability, seed):
    """For each of ``count`` rows (or files) whether it is in the sample: the same for the same seed, wherever it is asked."""
    numbers = random.Random(seed)  # noqa: S311 - no secret
    return [numbers.random() < probability for _ in range(count)]


def _sampled(table, probability, seed, rest):
    return table[[one != rest for one in chosen(len(table), probability, seed)]]


_STEPS = {
    "keep_columns": lambda table, names: table[_columns(table, names)],
    "drop_columns": lambda table, names: table.drop(columns=_columns(table, names)),
    "take": lambda table, count: table.iloc[:count],
    "skip": lambda table, count: table.iloc[count:],
    "sample": _sampled,
}
