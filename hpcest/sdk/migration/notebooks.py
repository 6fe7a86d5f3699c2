"""The cells of a Jupyter notebook, changed in its own text: whatever is not changed stays as it is, to the byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpcest.errors import UsageError

_SPACE = re.compile(r"[ \t\r\n]*")
_READ = json.JSONDecoder().raw_decode
_WORD = re.compile(r"-?[\w.+-]+")


@dataclass(frozen=True)
class _Value:
    """A value of JSON, and where it stands: objects hold pairs, arrays lists of these."""

    held: Any
    start: int
    end: int


class Notebook:
    """A notebook by its text. ``cells`` are the texts of its cells of code. Raises UsageError for what is no notebook."""

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            json.loads(text)
        except ValueError as error:
            raise UsageError(f"it is no notebook: {error}") from None
        self._sources = list(_sources(_value(text, 0)))
        self.cells = ["".join(line.held for line in lines) for lines in map(_lines, self._sources)]

    def line(self, cell: int, line: int) -> int:
        """The line of the file where a ``line`` (from 1) of a cell (from 0) stands."""
        lines = _lines(self._sources[cell])
        at, seen = self._sources[cell].start, 1
        for one in lines:
            at = one.start
            seen += one.held.count("\n")
            if seen > line or (seen == line and "\n" not in one.held):
                break
        return self._text.count("\n", 0, at) + 1

    def written(self, cells: Sequence[str]) -> str:
        """The notebook's text with other ``cells``."""
        text, ascii_only = self._text, self._text.isascii()
        for source, before, after in reversed(list(zip(self._sources, self.cells, cells, strict=True))):
            if before != after:
                text = text[: source.start] + _source(source, text, after, ascii_only=ascii_only) + text[source.end :]
        return text


def _source(source: _Value, text: str, after: str, *, ascii_only: bool) -> str:
    """The JSON of a cell's lines, laid out as they were; lines that were there before keep their spelling."""
    if isinstance(source.held, str):
        return json.dumps(after, ensure_ascii=ascii_only)
    old = source.held
    spelt = {line.held: text[line.start : line.end] for line in old}
    between = text[old[0].end : old[1].start] if len(old) > 1 else "," + text[source.start + 1 : old[0].start]
    lines = re.findall(r"[^\n]*\n|[^\n]+", after)
    new = between.join(spelt.get(line) or json.dumps(line, ensure_ascii=ascii_only) for line in lines)
    return text[source.start : old[0].start] + new + text[old[-1].end : source.end]


def _lines(source: _Value) -> list[_Value]:
    return [source] if isinstance(source.held, str) else source.held


def _sources(notebook: _Value) -> Iterator[_Value]:
    """Where the cells of code have their texts; those of the old format too, which had worksheets."""
    top = _object(notebook)
    if not top or not {"cells", "worksheets"} & set(top):
        raise UsageError("it is no notebook: it has no cells")
    sheets = [top] if "cells" in top else [_object(sheet) for sheet in top["worksheets"].held]
    for sheet in sheets:
        for cell in map(_object, sheet["cells"].held):
            source = cell.get("source") or cell.get("input")
            if "cell_type" in cell and cell["cell_type"].held == "code" and source is not None and source.held:
                yield source


def _object(value: _Value) -> dict[str, _Value]:
    return {name.held: item for name, item in value.held} if isinstance(value.held, tuple) else {}


def _value(text: str, at: int) -> _Value:
    """The value that begins at ``at``, or after the white space there. The text is JSON: that was tried before."""
    at = _skip(text, at)
    if text[at] == '"':
        held, end = _READ(text, at)
        return _Value(held, at, end)
    if text[at] not in "{[":
        found = _WORD.match(text, at)
        assert found is not None
        return _Value(None, at, found.end())
    closing, items, end = "}" if text[at] == "{" else "]", list[Any](), _skip(text, at + 1)
    while text[end] != closing:
        one = _value(text, end)
        if closing == "}":
            value = _value(text, _skip(text, one.end) + 1)
            items.append((one, value))
            one = value
        else:
            items.append(one)
        end = _skip(text, one.end)
        end = _skip(text, end + 1) if text[end] == "," else end
    return _Value(tuple(items) if closing == "}" else items, at, end + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()
