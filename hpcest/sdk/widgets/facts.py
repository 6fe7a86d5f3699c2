"""What ``RunDetails`` knows of a run: plain facts that can be shown in any form, with much of anything cut down to a page."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import UnknownNameError

if TYPE_CHECKING:
    from hpcest.onnode.metrics import Metrics
    from hpcest.sdk.run import Run

_LOG_BYTES, _LOG_LINES = 16384, 25
_MOST_POINTS, _MOST_CHILDREN = 200, 50
_MOST_PICTURES, _PICTURE_BYTES = 6, 1 << 20  # a notebook keeps what it shows
_PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".svg": "svg+xml", ".webp": "webp"}


def facts_of(run: Run) -> dict[str, Any]:
    """What ``RunDetails.get_widget_data`` returns. Raises UnknownNameError for a run that is gone."""
    from hpcest.lifecycle.watch import look_at
    from hpcest.onnode.events import read_run
    from hpcest.onnode.record import get_json
    from hpcest.onnode.state import TERMINAL

    if not Path(run.folder, "run.json").is_file():
        raise UnknownNameError("run", run.id, (), hint="it was deleted, or its file system is away")
    seen = look_at(run.workspace.context, run.workspace.folder.run(run.id))
    state, metrics = read_run(run.folder)
    header = get_json(str(Path(run.folder) / "run.json")) or {}
    values, series = _values(metrics)
    return {
        "id": run.id,
        "name": run.display_name,
        "experiment": run.experiment.name,
        "status": str(seen.status),
        "reason": str(seen.reason),
        "details": seen.message,
        "compute": str(header.get("spec", {}).get("compute", "local")),
        "created": header.get("created"),
        "started": state.started,
        "finished": state.ended,
        "ended": str(seen.status) in TERMINAL,
        "metrics": values,
        "series": {name: _thinned(pairs) for name, pairs in sorted(series.items()) if len(pairs) > 1},
        "images": _pictures(run, values),
        "params": {name: value for name, (_, value) in sorted(getattr(state, "params", {}).items())},
        "tags": run.get_tags(),
        "children": [_child(Path(run.folder).with_name(child)) for child in state.children[-_MOST_CHILDREN:]],
        "log": _end_of_log(run),
    }


def unreadable(run: Run) -> dict[str, Any]:
    """What can be said of a run whose files can't be read."""
    return {"id": run.id, "name": "", "experiment": "", "status": "unknown", "reason": "", "ended": True}


def _values(metrics: Metrics) -> tuple[dict[str, Any], dict[str, list[tuple[float, float]]]]:
    """The last value of each metric, and the curve of each that has one; each column of a table counts as a metric."""
    last: dict[str, Any] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in sorted(metrics.names(), key=str):
        value = metrics.value(name)
        if name in metrics.points:
            curves[name] = list(_drawable((step, number) for _, step, number in metrics.series(name)))
        elif isinstance(value, dict):
            for column, cells in value.items():
                full = f"{name}.{column}"
                last[full] = _last(cells)
                curves[full] = list(_drawable((None, cell) for cell in cells)) if isinstance(cells, list) else []
            continue
        elif isinstance(value, list):
            curves[name] = list(_drawable((None, one) for one in value))
        last[name] = _last(value)
    return last, curves


def _drawable(points: Iterable[tuple[Any, Any]]) -> Iterable[tuple[float, float]]:
    """The points of a curve that can be drawn: a step, or else the point's number, and its value."""
    for number, (step, value) in enumerate(points):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            yield (float(step) if isinstance(step, (int, float)) else float(number), float(value))


def _thinned(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = max(1, -(-len(pairs) // _MOST_POINTS))
    return pairs[:-1:stride] + pairs[-1:]


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else value


def _pictures(run: Run, values: dict[str, Any]) -> dict[str, str]:
    """The newest images that were logged, name → ``data:`` URI; larger ones stay out of the notebook."""
    found: dict[str, str] = {}
    for name, artifact in reversed(values.items()):
        kind = _PICTURES.get(Path(artifact).suffix.lower()) if isinstance(artifact, str) and artifact.startswith("images/") else None
        path = Path(run.folder, "artifacts", str(artifact))
        if kind and len(found) < _MOST_PICTURES and path.is_file() and path.stat().st_size <= _PICTURE_BYTES:
            found[name] = f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return dict(reversed(found.items()))


def _child(folder: Path) -> dict[str, str]:
    from hpcest.onnode.events import read_run

    state = read_run(str(folder))[0]
    return {"id": folder.name, "name": str((state.names.get("display_name") or [0, ""])[1]), "status": state.status}


def _end_of_log(run: Run) -> str:
    """The last lines of what rank 0 printed in its latest attempt."""
    from hpcest.lifecycle.follow import log_paths

    paths = log_paths(run.workspace.folder.run(run.id)).get(0)
    try:
        with open(paths[-1] if paths else "", "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-_LOG_LINES:])
