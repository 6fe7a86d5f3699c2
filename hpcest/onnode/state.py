"""What a run's events add up to: its status, reason, times, tags.

The result does not depend on the order in which the files of several writers are read: a status is
chosen by attempt, then by how far along it is, then by who says so, and only then by the clock; where
two times are equal the names of the writers decide, and within one file the later line. A field of
the wrong type, from a program that writes its events itself, never raises.
"""

import json
from bisect import bisect_left

# How far along each status is. Within one attempt a later one replaces an earlier one.
ORDER = {
    "NotStarted": 0,
    "Preparing": 1,
    "Queued": 2,
    "Running": 3,
    "CancelRequested": 4,
    "Finalizing": 5,
    "Completed": 6,
    "Failed": 6,
    "Canceled": 6,
}
TERMINAL = frozenset(status for status, order in ORDER.items() if order == 6)
# Among terminal statuses the controller saw the program end; a watcher only concludes.
WEIGHT = {"controller": 2, "program": 2, "submit": 1, "user": 1, "watch": 0}


class RunState:
    """The sum of a run's events, metrics left out. ``apply`` events in any order.

    ``tags``, ``properties`` and ``params`` map a name to ``[time, value]``; a removed tag's value is None.
    All attributes hold JSON values, so ``to_json`` and ``from_json`` keep a sum to go on from.
    """

    FIELDS = (
        "status", "reason", "message", "attempt", "exit_code", "queued", "started", "ended", "job",
        "tags", "properties", "params", "names", "children", "models", "usage", "lost", "trashed", "collected", "key", "by",
    )  # fmt: skip

    def __init__(self):
        self.status = "NotStarted"
        self.reason = ""
        self.message = ""
        self.attempt = 0
        self.exit_code = None
        self.queued = self.started = self.ended = None
        self.job = None
        self.tags = {}
        self.properties = {}
        self.params = {}
        self.names = {}  # display_name and description, like tags
        self.children = []
        self.models = {}  # key → what is to be registered, None for what was taken back
        self.usage = {}
        self.lost = 0
        self.trashed = [0.0, False]
        self.collected = False
        self.key = [-1, -1, -1, 0.0, ""]
        self.by = {}  # who wrote what is kept in tags, properties, names, job and usage

    @property
    def finished(self):
        return self.status in TERMINAL

    def to_json(self):
        return {name: getattr(self, name) for name in self.FIELDS}

    @classmethod
    def from_json(cls, data):
        state = cls()
        for name in cls.FIELDS:
            if name in data:
                setattr(state, name, data[name])
        return state

    def apply(self, event, writer=""):
        """Add one event of ``writer`` (the name of its file). Kinds that this version doesn't know are skipped."""
        change = getattr(self, "_on_" + str(event.get("e")), None)
        if change is not None:
            change(event, moment(event.get("t")), writer)

    def _on_status(self, event, when, writer):
        status, attempt = str(event.get("v")), _whole(event.get("a")) or 0
        if status not in ORDER:
            return
        self._note_times(status, when)
        key = [attempt, ORDER[status], WEIGHT.get(str(event.get("by")), 0), when, writer]
        if key < self.key:
            return
        self.key = key
        self.status, self.attempt = status, attempt
        self.reason, self.message = _text(event.get("r")), _text(event.get("m"))
        self.exit_code = _whole(event.get("rc"))
        self.ended = when if status in TERMINAL else None

    def _note_times(self, status, when):
        if status == "Queued" and (self.queued is None or when < self.queued):
            self.queued = when
        elif status == "Running" and (self.started is None or when < self.started):
            self.started = when

    def _on_tag(self, event, when, writer):
        self._newest("tags", event.get("k"), _text(event.get("v")), (when, writer))

    def _on_untag(self, event, when, writer):
        self._newest("tags", event.get("k"), None, (when, writer))

    def _on_property(self, event, when, writer):
        self._first("properties", event, when, writer)

    def _on_param(self, event, when, writer):
        self._first("params", event, when, writer)

    def _first(self, table, event, when, writer):
        name, values = event.get("k"), getattr(self, table)  # written once: the first value stays
        if isinstance(name, str):
            known, by = values.get(name), table + ":" + name
            if known is None or (when, writer) < (known[0], self.by[by]):
                values[name] = [when, _text(event.get("v"))]
                self.by[by] = writer

    def _on_name(self, event, when, writer):
        self._newest("names", "display_name", _text(event.get("v")), (when, writer))

    def _on_description(self, event, when, writer):
        self._newest("names", "description", _text(event.get("v")), (when, writer))

    def _newest(self, table, name, value, stamp):
        if not isinstance(name, str):
            return
        known, by = getattr(self, table), table + ":" + name
        if name not in known or stamp >= (known[name][0], self.by[by]):
            known[name] = [stamp[0], value]
            self.by[by] = stamp[1]

    def _on_job(self, event, when, writer):
        if self.job is None or (when, writer) >= (self.job["t"], self.by["job"]):
            self.job = {key: value for key, value in event.items() if key != "e"}
            self.job["t"] = when
            self.by["job"] = writer

    def _on_child(self, event, when, writer):
        child = event.get("id")
        if isinstance(child, str):
            place = bisect_left(self.children, child)
            if self.children[place : place + 1] != [child]:
                self.children.insert(place, child)

    def _on_model(self, event, when, writer):
        key, facts = event.get("k"), event.get("v")
        if isinstance(key, str):
            self.models[key] = facts if isinstance(facts, dict) and self.models.get(key, facts) is not None else None

    def _on_usage(self, event, when, writer):
        stamp = (_whole(event.get("a")) or 0, when, writer)
        if not self.usage or stamp >= (_whole(self.usage.get("a")) or 0, self.usage["t"], self.by["usage"]):
            self.usage = {key: value for key, value in event.items() if key != "e"}
            self.usage["t"] = when
            self.by["usage"] = writer

    def _on_lost(self, event, when, writer):
        self.lost += _whole(event.get("n")) or 0

    def _on_collected(self, event, when, writer):
        self.collected = True

    def _on_trash(self, event, when, writer):
        self.trashed = max(self.trashed, [when, bool(event.get("v"))])


def moment(value):
    """``value`` as seconds since the epoch; 0.0 for what is no finite number."""
    if type(value) is float and value - value == 0.0:
        return value
    return float(value) if type(value) is int and abs(value) < 1 << 53 else 0.0


def _whole(value):
    """``value`` if it is a whole number of a size that any reader can take, else None."""
    return value if type(value) is int and abs(value) < 1 << 53 else None


def _text(value):
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
