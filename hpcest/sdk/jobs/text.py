"""``${{inputs.x}}`` and ``$[[ … ]]`` in the texts of a job, put in so that a shell reads them as they are meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

_PLACEHOLDER = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_HEREDOC = re.compile(r"<<(-?)[ \t]*(['\"\\]?)([A-Za-z_]\w*)")
#: The first word of a placeholder that belongs to another kind of job → what to do instead.
_ELSEWHERE = {
    "search_space": "only a sweep has a search space: give the value in inputs",
    "parent": "only a step of a pipeline has a parent: give the value in inputs",
}


@dataclass(frozen=True)
class Value:
    """What stands in for a placeholder: a ``text``, raw if a shell is to read it as it is written, or a ``variable``.

    ``text`` is None where only the node knows it, ``given`` False for an optional input without a value.
    """

    text: str | None = None
    variable: str = ""
    raw: bool = False
    given: bool = True


#: Says that a piece of text is wrong: the piece, what is the matter, and what to do.
Wrong = Callable[[str, str, str], NoReturn]


class Texts:
    """Fills in the texts of one job. ``known`` has ``inputs.x`` and ``outputs.y``; ``wrong`` raises, with the line of a text."""

    def __init__(self, known: Mapping[str, Value]) -> None:
        self.known = known

    def plain(self, text: str, wrong: Wrong) -> str | None:
        """``text`` filled in where no shell reads it, a variable's value, say; None if only the node knows what it comes to."""
        self._complete(text, wrong)
        text = self._without_absent(text)
        found = [self._value(match, wrong) for match in _PLACEHOLDER.finditer(text)]
        if any(value.text is None for value in found):
            return None
        return _PLACEHOLDER.sub(lambda match: self._value(match, wrong).text or "", text)

    def argument(self, text: str, wrong: Wrong) -> str:
        """``text`` as an argument of a script, in which the node replaces ``${NAME}``."""

        def put(match: re.Match[str]) -> str:
            value = self._value(match, wrong)
            return value.text if value.text is not None else f"${{{value.variable}}}"

        self._complete(text, wrong)
        return _PLACEHOLDER.sub(put, self._without_absent(text))

    def line(self, text: str, wrong: Wrong) -> str:
        """``text`` as a shell's: whatever a path holds stays one word, inside quotes and outside."""
        self._complete(text, wrong)
        text = self._without_absent(text)
        state, parts, place = _Shell(), [], 0
        for match in _PLACEHOLDER.finditer(text):
            before, value = text[place : match.start()], self._value(match, wrong)
            state.read(before)
            put = _as_shell_reads(value, state, partial(wrong, match.group(0)))
            state.read(put if value.raw else "")
            parts += [before, put]
            place = match.end()
        return "".join([*parts, text[place:]])

    def _without_absent(self, text: str) -> str:
        """The optional parts of ``text`` that have all their inputs, and what is around them."""

        def part(match: re.Match[str]) -> str:
            names = [found.group(1).strip() for found in _PLACEHOLDER.finditer(match.group(1))]
            absent = any(name in self.known and not self.known[name].given for name in names)
            return "" if absent else match.group(1).strip()

        return _OPTIONAL.sub(part, text)

    def _value(self, match: re.Match[str], wrong: Wrong) -> Value:
        name = match.group(1).strip()
        if name not in self.known:
            listed = "known: " + (", ".join(self.known) or "none")
            wrong(match.group(0), "is not known", _ELSEWHERE.get(name.partition(".")[0], listed))
        if not self.known[name].given:
            wrong(match.group(0), "has no value", f"give {name} one, or put what needs it between $[[ and ]]")
        return self.known[name]

    def _complete(self, text: str, wrong: Wrong) -> None:
        """Refuse a placeholder or an optional part that does not end, and placeholders as early job files have them."""
        rest = _PLACEHOLDER.sub("", _OPTIONAL.sub("", text))
        for opening, closing in (("${{", "}}"), ("$[[", "]]")):
            if opening in rest:
                wrong(opening, "is never closed", f"write {opening} … {closing}")
        for name in self.known:
            if f"{{{name}}}" in rest:
                wrong(f"{{{name}}}", "is no placeholder any more", f"write ${{{{{name}}}}}")


def _as_shell_reads(value: Value, state: _Shell, wrong: Callable[[str, str], NoReturn]) -> str:
    """How ``value`` is written at a place in a shell line, so that it comes out as one piece of text."""
    if value.text is not None and (value.raw or shlex.quote(value.text) == value.text):
        return value.text
    name = value.variable
    if state.quote == "here":
        if value.text is None and state.quoted_document:
            wrong("is only known on the node, and stands in a here-document with quotes", f"take the quotes off, or read {name} there")
        return value.text if value.text is not None and state.quoted_document else f"${{{name}}}"
    if not name:
        return shlex.quote(value.text or "")
    return {'"': f"${{{name}}}", "'": f"'\"${name}\"'", "#": f"${name}"}.get(state.quote, f'"${name}"')


class _Shell:
    """Where in a shell line one is: ``quote`` is empty outside quotes, a quote, ``#`` in a comment, ``here`` in a here-document."""

    def __init__(self) -> None:
        self.quote, self.quoted_document = "", False
        self._before, self._line = "\n", ""
        self._waiting: list[tuple[str, bool, bool]] = []  # here-documents: their end, whether in quotes, whether tabs go

    def read(self, text: str) -> None:
        """Go on over ``text``."""
        place = 0
        while place < len(text):
            place += self._step(text, place)
            self._before = text[place - 1]

    def _step(self, text: str, place: int) -> int:
        """What the character at ``place`` changes; returns how many characters it took."""
        char = text[place]
        if char == "\n":
            self._end_of_line()
            return 1
        self._line += char
        if self.quote == "here":
            return 1
        if char == "\\" and self.quote in ("", '"'):
            return 2 if place + 1 < len(text) and text[place + 1] != "\n" else 1
        if self.quote in ("'", '"'):
            self.quote = "" if char == self.quote else self.quote
        elif self.quote == "":
            document = _HEREDOC.match(text, place) if self._before != "<" and not text.startswith("<<<", place) else None
            if document:
                self._waiting.append((document[3], bool(document[2]), bool(document[1])))
                return len(document[0]) + (document[2] in ("'", '"'))
            if char in "'\"":
                self.quote = char
            elif char == "#" and self._before in " \t\n;&|(":
                self.quote = "#"
        return 1

    def _end_of_line(self) -> None:
        line, self._line = self._line, ""
        if self.quote == "here":
            end, _, tabs = self._waiting[0]
            if (line.lstrip("\t") if tabs else line) == end:
                self._waiting.pop(0)
                self.quote = ""
        elif self.quote == "#":
            self.quote = ""
        if self.quote == "" and self._waiting:
            self.quote, self.quoted_document = "here", self._waiting[0][1]
