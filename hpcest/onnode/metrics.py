"""What a run's metric events add up to, in the shapes that Azure ML's ``get_metrics`` returns."""

from hpcest.onnode.state import moment

KINDS = frozenset(("metric", "list", "row", "table", "image"))


class Metrics:
    """The values logged under each name, in the order in which they were logged."""

    def __init__(self):
        self.points = {}  # name -> [(time, step, value)] of scalars
        self._tables = {}  # name -> (time, value) of lists, rows, tables, images

    def apply(self, event):
        """Add one event; False if it is no metric."""
        kind = event.get("e")
        if kind not in KINDS:
            return False
        name, value, when = event.get("k"), event.get("v"), moment(event.get("t"))
        if not isinstance(name, str):
            return True  # a metric, but nobody could ask for it
        if kind == "metric":
            self.points.setdefault(name, []).append((when, event.get("s"), value))
        elif kind in ("row", "list"):
            self._tables.setdefault(name, []).append((when, value))
        elif name not in self._tables or when >= self._tables[name][-1][0]:
            self._tables[name] = [(when, value)]  # a table or an image replaces an older one
        return True

    def series(self, name):
        """The scalars logged under ``name`` as [(time, step, value)], oldest first."""
        return sorted(self.points.get(name, ()), key=lambda point: point[0])

    def names(self):
        return list(self.points) + [name for name in self._tables if name not in self.points]

    def value(self, name):
        """One scalar as itself, several as a list; rows and tables as a dict of columns."""
        if name in self.points:
            values = [value for _, _, value in self.series(name)]
        else:
            values = []
            for _, value in sorted(self._tables[name], key=lambda pair: pair[0]):
                if isinstance(value, dict):
                    return self._columns(name)
                values.extend(value if isinstance(value, list) else [value])
            return values if len(values) != 1 or isinstance(self._tables[name][0][1], list) else values[0]
        return values[0] if len(values) == 1 else values

    def _columns(self, name):
        columns = {}  # type: dict[str, list[object]]
        for _, row in sorted(self._tables[name], key=lambda pair: pair[0]):
            for column, value in row.items() if isinstance(row, dict) else ():
                columns.setdefault(column, []).extend(value if isinstance(value, list) else [value])
        rows = max(len(values) for values in columns.values()) if columns else 0
        return {column: values[0] if rows == 1 else values for column, values in columns.items()}

    def to_dict(self):
        """Every name with its value, sorted by name."""
        return {name: self.value(name) for name in sorted(self.names(), key=str)}
