"""YAML files that people write: plain values, the line of each of them, and errors that say ``file:line:``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hpcest.errors import ConfigError, SpecError, UnknownNameError
from hpcest.kit.codec import decode

T = TypeVar("T")

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000  # aliases can make a small file huge
MAX_DEPTH = 50

# Compiled when the first file is read: most commands find none.
_UNPRINTABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_WHOLE = r"-?(0|[1-9][0-9]{0,17})"
_FRACTION = r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
_WORDS: dict[str, bool | None] = {
    written: value
    for words, value in (("true yes on", True), ("false no off", False), ("null ~", None))
    for word in words.split()
    for written in (word, word.capitalize(), word.upper())
} | {"": None}


class WrittenFloat(float):
    """A number with a fraction that prints as it was written, so that the version 3.10 stays 3.10."""

    _written: str

    def __new__(cls, written: str) -> WrittenFloat:
        """The number that ``written`` says."""
        number = super().__new__(cls, written)
        number._written = written
        return number

    def __repr__(self) -> str:
        return self._written

    def __reduce__(self) -> tuple[type[WrittenFloat], tuple[str]]:
        return WrittenFloat, (self._written,)


@dataclass(frozen=True)
class Document:
    """What a YAML file holds: mappings, lists, texts, numbers, booleans and None; None where it is empty.

    ``lines`` has the line of every key and item by its dotted path (``compute.gpu.slots``, ``pip[0]``);
    ``words`` the words that were read as true or false (``no``), by path.
    """

    path: Path
    value: Any
    lines: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def line(self, key: str = "") -> int:
        """The line of ``key``, or of the nearest thing around it."""
        while key and key not in self.lines:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self.lines.get(key, 1)

    def where(self, key: str = "") -> str:
        """``file:line`` of ``key``."""
        return f"{self.path}:{self.line(key)}"

    def part(self, key: str) -> Any:
        """The value at the dotted path ``key`` (of keys without dots); an empty mapping where there is none."""
        value = self.value
        for name in filter(None, re.split(r"\.|\[(\d+)\]", key)):
            try:
                value = value[int(name)] if isinstance(value, list) else value[name]
            except (KeyError, IndexError, TypeError, ValueError):
                return {}
        return {} if value is None else value


def load(path: Path) -> Document:
    """Read the YAML file ``path``. Raises ConfigError for whatever is wrong with it, with the line.

    What is not in quotes is a whole number if it is written as one in decimal, without zeros in front;
    a number with a fraction if it is a decimal with a point or an exponent (it prints as written, see
    WrittenFloat); true, false or none if it is one of YAML's words for them (``on`` and ``no`` too).
    All else is a text: 2:00:00, 2024-01-31, 010, 1_000, 0x1F, 1.2.3.
    """
    return parse(_text(path), path)


def parse(text: str, path: Path) -> Document:
    """The document that ``text`` is; ``path`` is what messages call it. Raises ConfigError."""
    bad = re.search(_UNPRINTABLE, text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise ConfigError(f"{path}:{line}: the character U+{ord(bad.group()):04X} is not allowed in YAML", hint="remove it")
    if all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines()):
        return Document(path, None)  # the configuration of a new workspace: nothing to import yaml for
    import yaml

    events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    try:
        return _Builder(path, events).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, path) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error


def decode_document(cls: type[T], document: Document, where: str = "") -> T:
    """Build the dataclass ``cls`` from the document, or from its part at the dotted path ``where``.

    Raises ConfigError with ``file:line:`` for a value of the wrong type, an unknown key (with the nearest
    one), or a missing one.
    """
    try:
        return decode(cls, document.part(where), where=where)
    except (SpecError, UnknownNameError) as error:
        raise located(error, document.where, document.words) from error


def located(error: SpecError | UnknownNameError, where: Callable[[str], str], words: Mapping[str, str]) -> ConfigError:
    """A decoding error as a ConfigError: ``where`` says where a dotted path was written."""
    path, hint = getattr(error, "path", ""), error.hint
    if path in words and error.message.endswith(("must be a text, not True", "must be a text, not False")):
        hint = f"YAML reads {words[path]} as {str(_WORDS[words[path]]).lower()}; put it in quotes if the text is meant"
    return ConfigError(f"{where(path)}: {error.message}", hint=hint)


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{path}: this is a directory, not a YAML file", hint="name a file in it") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read: {(error.strerror or str(error)).lower()}", hint="check the path and its permissions"
        ) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB, so hardly a file of settings", hint="check the path")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})", hint="save the file as UTF-8") from None


def _syntax_error(error: Any, text: str, path: Path) -> ConfigError:
    """One message for a scanner's or parser's error. Marks count lines and columns from 0."""
    lines, mark, context = text.splitlines(), error.problem_mark, error.context_mark
    if mark.line >= len(lines) and context is not None and context.line < len(lines):
        mark, context = context, None  # at the end of the file: where the unfinished thing starts says more
    if mark.line >= len(lines):
        hint = "close what is open, or give the last key its value"
        return ConfigError(f"{path}:{max(len(lines), 1)}: not valid YAML: the file ends too early: {error.problem}", hint=hint)
    row = lines[mark.line]
    if "\t" in row[: len(row) - len(row.lstrip())] and not row[: mark.column + 1].strip():
        return ConfigError(f"{path}:{mark.line + 1}: a tab is used as indentation, which YAML forbids", hint="indent with spaces")
    started = f", in what starts on line {context.line + 1}" if context is not None and context.line != mark.line else ""
    message = f"{path}:{mark.line + 1}: not valid YAML at column {mark.column + 1}: {error.problem}{started}: {row.strip()!r}"
    start = context if context is not None and context.line == mark.line else mark
    first = row[start.column : start.column + 1]
    if first and first in "*&@`%!|>":
        return ConfigError(message, hint=f"put a value that starts with {first} in quotes")
    if "mapping values" in (error.problem or ""):
        return ConfigError(message, hint="check the indentation, and put a value that contains ': ' in quotes")
    return ConfigError(message, hint="check indentation, quotes and brackets here and on the line before")


class _Builder:
    """Makes values of the parser's events, so that lines, duplicates and words are still there to be seen."""

    def __init__(self, path: Path, events: Iterator[Any]) -> None:
        self.path, self.events = path, events
        self.lines: dict[str, int] = {"": 1}
        self.words: dict[str, str] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}  # name → value, how many values it is
        self.count = 0

    def document(self) -> Document:
        value, started = None, False
        for event in self.events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if started:
                    self.refuse(event, "a second document starts here (---), but a file holds one", "remove it, or use two files")
                started = True
            elif kind not in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
                self.lines[""] = event.start_mark.line + 1
                value = self.value(event, "", 0)
        return Document(self.path, value, self.lines, self.words)

    def refuse(self, event: Any, problem: str, hint: str) -> NoReturn:
        raise ConfigError(f"{self.path}:{event.start_mark.line + 1}: {problem}", hint=hint)

    def value(self, event: Any, path: str, depth: int) -> Any:
        """The value that starts with ``event``, to its end."""
        kind, before = type(event).__name__, self.count
        self.count += 1
        if kind == "AliasEvent":
            if event.anchor not in self.anchors:
                self.refuse(
                    event, f"*{event.anchor} refers to an anchor that is not defined before it", "put a text that starts with * in quotes"
                )
            value, size = self.anchors[event.anchor]
            self.count += size
        elif kind == "ScalarEvent":
            value = self.scalar(event, path)
        else:
            self._check_tag(event, "map" if kind == "MappingStartEvent" else "seq")
            if depth >= MAX_DEPTH:
                self.refuse(event, f"values are nested more than {MAX_DEPTH} deep", "check the brackets")
            value = self.mapping(path, depth) if kind == "MappingStartEvent" else self.sequence(path, depth)
        if self.count > MAX_VALUES:
            self.refuse(event, f"the file holds more than {MAX_VALUES} values", "check its anchors and aliases")
        if kind != "AliasEvent" and event.anchor:
            self.anchors[event.anchor] = value, self.count - before
        return value

    def scalar(self, event: Any, path: str) -> Any:
        if event.tag == "tag:yaml.org,2002:str" or (event.implicit[1] and not event.implicit[0]):
            return event.value
        self._check_tag(event, "str")
        value = plain(event.value)
        if isinstance(value, bool):
            self.words[path] = event.value
        return value

    def sequence(self, path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while type(event := next(self.events)).__name__ != "SequenceEndEvent":
            where = f"{path}[{len(items)}]"
            self.lines[where] = event.start_mark.line + 1
            items.append(self.value(event, where, depth + 1))
        return items

    def mapping(self, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Any] = []
        while type(event := next(self.events)).__name__ != "MappingEndEvent":
            key, line = self.key(event), event.start_mark.line + 1
            where = f"{path}.{key}" if path else key
            if key in lines:
                self.refuse(event, f"the key {key!r} is here a second time; the first is on line {lines[key]}", "keep one of them")
            lines[key] = self.lines[where] = line
            value = self.value(next(self.events), where, depth + 1)
            if key == "<<" and event.implicit[0]:
                merged = value if isinstance(value, list) else [value]
                if not all(isinstance(one, dict) for one in merged):
                    self.refuse(event, "<< takes a mapping or a list of mappings", "name an anchor of a mapping: <<: *name")
            else:
                found[key] = value
        for one in merged:
            found = {**one, **found}
        return found

    def key(self, event: Any) -> str:
        if type(event).__name__ != "ScalarEvent":
            self.refuse(event, "a key must be a text, not a list, a mapping or an alias", "put a text that starts with {, [ or * in quotes")
        key = self.scalar(event, "")
        if not isinstance(key, str):
            kind = {bool: "true or false", type(None): "nothing"}.get(type(key), "a number")
            self.refuse(event, f"the key {event.value!r} is read as {kind}, but keys must be texts", f"write it in quotes: '{event.value}'")
        return key

    def _check_tag(self, event: Any, standard: str) -> None:
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{standard}"):
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(event, f"the tag {tag} is not supported", "remove it; put a text that starts with ! in quotes")


def plain(text: str) -> Any:
    """What a word without quotes is: a number, true, false, None, or the text itself. ``load`` has the rule."""
    if text in _WORDS:
        return _WORDS[text]
    if re.fullmatch(_WHOLE, text) and text != "-0":
        return int(text)
    if re.fullmatch(_FRACTION, text):
        number = WrittenFloat(text)
        return number if abs(number) != float("inf") else text
    return text
