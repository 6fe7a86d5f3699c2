"""``--where`` and ``--sort``: a small language, compiled to SQL with every value as a parameter.

    metrics.acc > 0.9 and params.lr = '0.01' and not (tags.kind = draft or started < 30d)

Nothing that was typed ever becomes SQL text: fields come from the tables below. What a run does not
have equals nothing, so ``tags.kind != x`` holds for a run without that tag.
"""

from __future__ import annotations

import re
import time
from typing import Any

from hpcest.errors import UsageError
from hpcest.history.access import Sql
from hpcest.history.header import clean
from hpcest.history.lexer import HINT, Token, tokens, wrong
from hpcest.history.params import number
from hpcest.onnode.state import ORDER

_TEXTS = {
    "id": "id", "name": "display_name", "display_name": "display_name", "experiment": "experiment", "status": "status",
    "reason": "reason", "message": "message", "description": "description", "user": "user", "host": "host", "compute": "compute",
    "framework": "framework", "environment": "environment", "script": "script", "parent": "parent", "job": "job",
}  # fmt: skip
_TIMES = frozenset(("created", "queued", "started", "ended"))
_NUMBERS = frozenset(("attempt", "exit_code", "duration"))
_DURATION = "(ifnull(ended, ?) - started)"
# What a user calls it → table, its column of names, of numbers, of texts.
_TABLES = {
    "metrics": ("metric_last", "name", "value", "text"),
    "params": ("param", "key", "num", "value"),
    "tags": ("tag", "key", "num", "value"),
    "properties": ("property", "key", "num", "value"),
}
_MOST_COMPARISONS = 200
_DEEPEST = 40
_COMPARING = {"=": "=", "==": "=", "!=": "=", "<>": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "~": "~", "!~": "~"}
_NEGATIVE = frozenset(("!=", "<>", "!~"))
_AGE = re.compile(r"(?:\d+(?:\.\d+)?(?:s|min|m|h|d|w))+")
_AGE_PART = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def condition(text: str, *, now: float | None = None) -> Sql:
    """The condition as SQL over the table ``run``; ``now`` is what ages count from. Raises UsageError with a caret."""
    return _Parser(clean(text), time.time() if now is None else now).whole()


def order(text: str, *, now: float | None = None) -> Sql:
    """``metrics.acc``, ``-metrics.acc`` (largest first), or several with commas, as SQL after ORDER BY. Raises UsageError.

    Runs without a value come last either way.
    """
    parts: list[str] = []
    values: tuple[Any, ...] = ()
    for field in clean(text).split(","):
        name = field.strip()
        key = _key(name.lstrip("-+").replace("`", ""), time.time() if now is None else now)
        if key is None:
            raise UsageError(f"runs can't be sorted by {name!r}", hint=HINT.partition(";")[0])
        parts.append(f"{key.sql} IS NULL, {key.sql} {'DESC' if name.startswith('-') else 'ASC'}")
        values += key.values * 2
    return Sql(", ".join(parts), values)


def status_name(text: str) -> str:
    """The status as it is spelt, whatever its case. Raises UsageError for one that no run can have."""
    for name in ORDER:
        if name.lower() == text.lower():
            return name
    raise UsageError(f"{text!r} is no status", hint="allowed: " + ", ".join(ORDER))


def _key(name: str, now: float) -> Sql | None:
    """The value that a field has, as SQL."""
    table, dot, item = name.partition(".")
    if dot and item and table in _TABLES:
        source, key, numbers, texts = _TABLES[table]
        return Sql(f"(SELECT ifnull({numbers}, {texts}) FROM {source} WHERE {source}.run = run.id AND {key} = ?)", (item,))  # noqa: S608  # our own names
    if name in _TEXTS:
        return Sql(f"nullif({_TEXTS[name]}, '')")
    if name == "duration":
        return Sql(_DURATION, (now,))
    return Sql(name) if name in _TIMES or name in _NUMBERS else None


class _Parser:
    """A recursive descent over the tokens; every method returns a condition that is never NULL."""

    def __init__(self, text: str, now: float) -> None:
        self.text, self.now = text, now
        self.tokens = tokens(text)
        self.place = self.comparisons = self.depth = 0

    def whole(self) -> Sql:
        found = self._chain("or")
        if self._next.kind != "end":
            raise self._wrong("expected an operator, 'and', 'or' or the end")
        return found

    @property
    def _next(self) -> Token:
        return self.tokens[self.place]

    def _take(self) -> Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def _wrong(self, problem: str, token: Token | None = None) -> UsageError:
        return wrong(self.text, (token or self._next).at, problem)

    def _chain(self, word: str) -> Sql:
        part = self._negation if word == "and" else lambda: self._chain("and")
        parts = [part()]
        while self._next.keyword() == word:
            self._take()
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return Sql(
            "(" + f" {word.upper()} ".join(found.sql for found in parts) + ")", tuple(value for found in parts for value in found.values)
        )

    def _negation(self) -> Sql:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._wrong(f"nested more than {_DEEPEST} deep")
        try:
            if self._next.keyword() == "not":
                self._take()
                return _not(self._negation())
            if self._next.value == "(" and self._next.kind == "mark":
                self._take()
                found = self._chain("or")
                self._expect(")")
                return found
            return self._comparison()
        finally:
            self.depth -= 1

    def _expect(self, mark: str) -> None:
        if self._next.kind != "mark" or self._next.value != mark:
            raise self._wrong(f"expected {mark!r}")
        self._take()

    # ------------------------------------------------------------------ one comparison
    def _comparison(self) -> Sql:
        field = self._take()
        if field.kind not in ("word", "name") or field.keyword():
            raise self._wrong("expected a field", field)
        table, dot, item = field.value.partition(".")
        if not (field.value in _TEXTS or field.value in _TIMES or field.value in _NUMBERS or (dot and item and table in _TABLES)):
            raise self._wrong(f"{field.value!r} is not a field" + self._meant(field.value), field)
        self.comparisons += 1
        if self._next.kind == "operator":
            operator = self._take().value
            found = self._compare(field, _COMPARING[operator], self._value())
            return _not(found) if operator in _NEGATIVE else found
        negative = self._next.keyword() == "not" and self.tokens[self.place + 1].keyword() == "in"
        if negative:
            self._take()
        if self._next.keyword() == "in":
            self._take()
            found = self._any_of(field)
            return _not(found) if negative else found
        if dot:  # alone: the run has it
            source, key, *_ = _TABLES[table]
            return Sql(f"id IN (SELECT run FROM {source} WHERE {key} = ?)", (item,))  # noqa: S608  # our own names
        raise self._wrong(f"expected an operator after {field.value!r}")

    def _meant(self, name: str) -> str:
        if "." not in name and name.isidentifier():
            from difflib import get_close_matches

            near = get_close_matches(name, [*_TEXTS, *_TIMES, *_NUMBERS], n=1)
            return f"; did you mean {near[0]}?" if near else f"; did you mean metrics.{name}, params.{name} or tags.{name}?"
        return ""

    def _any_of(self, field: Token) -> Sql:
        self._expect("(")
        parts = [self._compare(field, "=", self._value())]
        while self._next.value == "," and self._next.kind == "mark":
            self._take()
            self.comparisons += 1
            parts.append(self._compare(field, "=", self._value()))
        self._expect(")")
        return Sql("(" + " OR ".join(part.sql for part in parts) + ")", tuple(value for part in parts for value in part.values))

    def _value(self) -> Token:
        if self.comparisons > _MOST_COMPARISONS:
            raise self._wrong(f"more than {_MOST_COMPARISONS} comparisons")
        if self._next.kind not in ("word", "text") or self._next.keyword():
            raise self._wrong("expected a value (a text in quotes, a number, a word)")
        return self._take()

    def _compare(self, field: Token, operator: str, value: Token) -> Sql:
        name = field.value
        if name in _TEXTS:
            return _text(
                f"ifnull({_TEXTS[name]}, '')", operator, self._status(value) if name == "status" and operator == "=" else value.value
            )
        if name in _TIMES or name in _NUMBERS:
            if operator == "~":
                raise self._wrong(f"{name} is no text: compare it with = != < <= > >=", field)
            return self._time(name, operator, value) if name in _TIMES else self._number(name, operator, value)
        table, _, item = name.partition(".")
        source, key, numbers, texts = _TABLES[table]
        figure = number(value.value) if value.kind == "word" or table == "metrics" else None
        if figure is not None and operator != "~":
            inner = Sql(f"{numbers} {operator} ?", (figure,))
        else:
            inner = _text(texts, operator, "NaN" if table == "metrics" and value.value.lower() == "nan" else value.value)
        return Sql(f"id IN (SELECT run FROM {source} WHERE {key} = ? AND {inner.sql})", (item, *inner.values))  # noqa: S608  # our own names

    def _status(self, value: Token) -> str:
        try:
            return status_name(value.value)
        except UsageError as error:
            raise self._wrong(f"{error.message}; {error.hint}", value) from None

    def _number(self, name: str, operator: str, value: Token) -> Sql:
        figure = number(value.value)
        if figure is None and name == "duration" and _AGE.fullmatch(value.value):
            figure = _span(value.value)
        if figure is None:
            raise self._wrong(f"expected a number for {name}" + (", in seconds, or a span such as 2h" if name == "duration" else ""), value)
        if name == "duration":
            return Sql(f"ifnull({_DURATION} {operator} ?, 0)", (self.now, figure))
        return Sql(f"ifnull({name} {operator} ?, 0)", (figure,))

    def _time(self, name: str, operator: str, value: Token) -> Sql:
        span = _moment(value.value, self.now)
        if span is None:
            raise self._wrong(f"expected a time for {name}: 2026-05-31, '2026-05-31 14:00', or an age such as 2d", value)
        start, end = span
        if operator == "=":
            return Sql(f"ifnull({name} >= ? AND {name} {'<=' if start == end else '<'} ?, 0)", (start, end))
        if start == end or operator in ("<", ">="):
            return Sql(f"ifnull({name} {operator} ?, 0)", (start,))
        # A day ends where the next one starts.
        return Sql(f"ifnull({name} {'>=' if operator == '>' else '<'} ?, 0)", (end,))


def _not(found: Sql) -> Sql:
    return Sql(f"NOT ({found.sql})", found.values)


def _text(column: str, operator: str, value: str) -> Sql:
    if operator == "~":
        return Sql(f"instr(lower({column}), lower(?)) > 0", (value,))
    return Sql(f"{column} {operator} ?", (value,))


def _span(text: str) -> float:
    return sum(float(count) * _SECONDS[unit] for count, unit in _AGE_PART.findall(text))


def _moment(text: str, now: float) -> tuple[float, float] | None:
    """The time that ``text`` means as (start, end) in seconds since the epoch; a date is a whole day."""
    from datetime import datetime, timedelta

    if _AGE.fullmatch(text):
        start = now - _span(text)
        return start, start
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
        if len(text) == 10:
            return moment.timestamp(), (moment + timedelta(days=1)).timestamp()
        return moment.timestamp(), moment.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
