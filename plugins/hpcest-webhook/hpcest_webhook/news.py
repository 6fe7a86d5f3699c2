"""What is told of a run, from what its folder says: docs/run-folder.md describes its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcest.model.folders import RunFolder


def news_of(run: RunFolder, event: str, status: str) -> dict[str, Any]:
    """The news as JSON values. What the record does not say is None, or an empty text."""
    header = _json(run.header)
    spec = header.get("spec") or {}
    told = [one for one in _statuses(run) if one.get("v") == status]
    last = max(told, key=lambda one: (_number(one.get("a")) or 0, _number(one.get("t")) or 0), default={})
    started = min((_number(one.get("t")) or 0 for one in _statuses(run) if one.get("v") == "Running"), default=None)
    ended = _number(last.get("t")) if event == "ended" else None
    return {
        "event": event,
        "run": run.id,
        "status": status,
        "reason": str(last.get("r") or ""),
        "message": str(last.get("m") or ""),
        "exit_code": last.get("rc"),
        "experiment": str(spec.get("experiment") or ""),
        "display_name": str(spec.get("display_name") or ""),
        "compute": str(spec.get("compute") or "local"),
        "user": str(header.get("user") or ""),
        "host": str(header.get("host") or ""),
        "workspace": str(run.path.parents[2]),
        "created": header.get("created"),
        "started": started,
        "ended": ended,
        "seconds": round(ended - started, 3) if ended is not None and started is not None else None,
    }


def sentence(news: dict[str, Any]) -> str:
    """The news for people, in a line."""
    name = f" ({news['display_name']})" if news["display_name"] else ""
    what = {"submitted": "was submitted", "started": "has started"}.get(news["event"], f"has ended: {news['status']}")
    after = f" after {_time(news['seconds'])}" if news["seconds"] is not None else ""
    why = ", ".join(filter(None, [news["reason"], news["message"]]))
    return f"run {news['run']}{name} of {news['experiment']} {what}{after}" + (f"; {why}" if why else "")


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _statuses(run: RunFolder) -> Iterator[dict[str, Any]]:
    for path in sorted(run.events.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a line that is under way
            if isinstance(event, dict) and event.get("e") == "status":
                yield event


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
