"""A run's events added up: its state, and the last value, count and range of each metric.

Parts of the files in any order of the writers give the same sum as all of them at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isnan
from typing import Any

from hpcest.history.header import clean
from hpcest.onnode.metrics import KINDS
from hpcest.onnode.state import RunState, moment

# One metric: kind, value, text, step, time, writer, count, min, max; in this order in the table, too.
Metric = list[Any]
_TIME, _WRITER, _COUNT, _MIN, _MAX = 4, 5, 6, 7, 8


class Fold:
    """The sum so far. ``changed`` are the names of the metrics that were added to since it was made."""

    def __init__(self, state: RunState, metrics: dict[str, Metric]) -> None:
        self.state = state
        self.metrics = metrics
        self.changed: set[str] = set()

    def add(self, events: Iterable[Mapping[str, Any]], writer: str) -> None:
        """Add events of one writer, in the order of its file."""
        for event in events:
            kind = event.get("e")
            if kind == "metric":
                self._point(event, kind, writer, event.get("v"))
            elif isinstance(kind, str) and kind in KINDS:
                self._other(event, kind, writer)
            else:
                self.state.apply(event, writer)

    def _other(self, event: Mapping[str, Any], kind: str, writer: str) -> None:
        value = event.get("v")
        if kind == "list" and isinstance(value, list):
            for item in value:
                self._point(event, kind, writer, item)
        elif kind == "image":
            self._point(event, kind, writer, clean(value))
        else:
            self._point(event, kind, writer, None)  # of a table only that it is there

    def _point(self, event: Mapping[str, Any], kind: str, writer: str, value: Any) -> None:
        name = event.get("k")
        if type(name) is not str:
            return
        stored, text = value, None
        if type(value) is not float or isnan(value):
            stored, text = _stored(value)
        when, step = moment(event.get("t")), event.get("s")
        known = self.metrics.get(name)
        if known is None:
            name = clean(name)
            known = self.metrics.get(name)
        self.changed.add(name)
        if known is None:
            self.metrics[name] = [kind, stored, text, _step(step), when, writer, 1, stored, stored]
            return
        if when > known[_TIME] or (when == known[_TIME] and writer >= known[_WRITER]):
            known[:6] = kind, stored, text, _step(step), when, writer
        known[_COUNT] += 1
        if stored is not None:
            if known[_MIN] is None or stored < known[_MIN]:
                known[_MIN] = stored
            if known[_MAX] is None or stored > known[_MAX]:
                known[_MAX] = stored


def _stored(value: Any) -> tuple[float | None, str | None]:
    """A value as (number, text), one of which is None: no database column holds all that JSON can say."""
    if value is None:
        return None, None
    if isinstance(value, int):
        return (int(value) if abs(value) < 1 << 63 else _float(value)), None
    if isinstance(value, float):
        return None, "NaN"
    return None, clean(value if isinstance(value, str) else json.dumps(value))


def _step(value: Any) -> float | None:
    if type(value) is int:
        return _float(value)
    return value if type(value) is float and not isnan(value) else None


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
