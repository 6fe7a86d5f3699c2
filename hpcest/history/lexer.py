"""The words of a search condition, each with its place, and errors that point at one."""

from __future__ import annotations

import re
from typing import NamedTuple

from hpcest.errors import UsageError

HINT = (
    "fields: id, name, experiment, status, reason, message, description, user, host, compute, framework, environment, script, "
    "parent, job, attempt, exit_code, created, queued, started, ended, duration, metrics.NAME, params.NAME, tags.NAME, "
    "properties.NAME (odd names in backquotes); operators: = != < <= > >= ~ (contains) !~ in (…); and, or, not, parentheses; "
    "times: 2026-05-31, '2026-05-31 14:00', or an age such as 2d or 3h, which is the moment so long ago"
)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator> <=|>=|!=|<>|!~|==|=|<|>|~)
      | (?P<mark> [(),])
      | (?P<text> '(?:[^']|'')*' | "(?:[^"]|"")*")
      | (?P<name> [A-Za-z_]+ \. ` (?:[^`]|``)+ `)
      | (?P<word> [^\s()=<>!~,'"`]+)
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """One word: ``kind`` is operator, mark, text, name, word or end; ``value`` is without its quotes."""

    kind: str
    value: str
    at: int

    def keyword(self) -> str:
        """``and``, ``or``, ``not`` or ``in``; empty for anything else."""
        lower = self.value.lower()
        return lower if self.kind == "word" and lower in ("and", "or", "not", "in") else ""


def tokens(text: str) -> list[Token]:
    """The words of ``text``, and an ``end``. Raises UsageError."""
    found, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise wrong(text, at, f"a quote {text[at]} is not closed" if text[at] in "'\"`" else f"{text[at]!r} means nothing here")
        kind = str(match.lastgroup)
        value, place = match[kind], match.end()
        found.append(Token(kind, _unquoted(kind, value), match.start(kind)))
    return [*found, Token("end", "", len(text.rstrip()))]


def _unquoted(kind: str, value: str) -> str:
    if kind == "text":
        return value[1:-1].replace(value[0] * 2, value[0])
    if kind == "name":
        table, _, name = value.partition(".")
        return f"{table}.{name[1:-1].replace('``', '`')}"
    return value


def wrong(text: str, at: int, problem: str) -> UsageError:
    """An error that shows ``text`` with a caret below the place ``at``."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return UsageError(f"{problem}\n  {shown}\n  {' ' * _width(shown[:at])}^", hint=HINT)


def _width(text: str) -> int:
    """How many columns a terminal takes for ``text``."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
