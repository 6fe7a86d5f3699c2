"""How ``RunDetails`` puts what it knows of a run: as HTML without scripts for a notebook, as text for a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

_COLOURS = {"Completed": "#2e7d32", "Failed": "#c62828", "Canceled": "#6d4c41", "Running": "#1565c0", "Finalizing": "#1565c0"}
_WIDTH, _HEIGHT = 160, 40
_MOST_METRICS = 24
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def as_html(facts: Mapping[str, Any]) -> str:
    """The run as a piece of HTML; everything that came from it is escaped."""
    title = f"<b>{escape(facts['name'] or facts['id'])}</b> {_badge(str(facts['status']))} {escape(facts.get('reason') or '')}"
    rows = [(name, escape(value)) for name, value in _rows(facts)]
    parts = [
        f'<div style="margin-bottom:4px">{title}</div>',
        f"<div>{escape(facts['details'])}</div>" if facts.get("details") else "",
        _html_table(rows),
        _html_metrics(facts),
        _html_pictures(facts),
        _html_table([(escape(child["id"]), escape(f"{child['name']} {child['status']}".strip())) for child in facts.get("children") or ()]),
        _html_log(facts),
    ]
    return f'<div style="font-family:sans-serif;font-size:13px;line-height:1.5">{"".join(parts)}</div>'


def as_card(status: str, **facts: str) -> str:
    """A few facts as a piece of HTML: what a notebook shows of a cell's value."""
    return _html_table([*((escape(name), escape(value)) for name, value in facts.items()), ("status", _badge(status))])


def as_text(facts: Mapping[str, Any]) -> str:
    """The same for a terminal, without what could drive it."""
    lines = [f"{facts['id']} {facts['name']}".rstrip(), f"  {'status':<12} {facts['status']} {facts.get('reason') or ''}".rstrip()]
    lines += [f"  {name:<12} {value}" for name, value in [*([("", facts["details"])] if facts.get("details") else []), *_rows(facts)]]
    lines += [f"  {'metric' if not place else '':<12} {name} = {shown(value)}" for place, (name, value) in enumerate(_metrics(facts))]
    children = facts.get("children") or ()
    lines += [f"  {'child' if not place else '':<12} {one['id']} {one['name']} {one['status']}" for place, one in enumerate(children)]
    lines += ["", *(f"  | {line}" for line in facts["log"].split("\n"))] if facts.get("log") else []
    return _CONTROLS.sub("", "\n".join(lines)) + "\n"


def shown(value: object) -> str:
    """A value of a metric as short as it can be understood."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("run", facts["id"]), ("experiment", facts.get("experiment")), ("compute", facts.get("compute"))]
    rows += [(name, _moment(facts.get(name))) for name in ("created", "started")]
    rows.append(("took" if facts.get("finished") else "runs for", _span(facts)))
    for group in ("params", "tags"):
        rows.append((group, ", ".join(f"{name}={value}" for name, value in (facts.get(group) or {}).items())))
    return [(name, str(value)) for name, value in rows if value]


def _moment(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def _span(facts: Mapping[str, Any]) -> str:
    if not facts.get("started"):
        return ""
    seconds = int(max(0.0, (facts.get("finished") or time.time()) - facts["started"]))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _metrics(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list((facts.get("metrics") or {}).items())[:_MOST_METRICS]


def _badge(status: str) -> str:
    colour = _COLOURS.get(status, "#757575")
    return f'<span style="background:{colour};color:#fff;padding:1px 8px;border-radius:9px">{escape(status)}</span>'


def _html_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><td style="text-align:left;opacity:.65;padding:0 12px 0 0">{name}</td><td style="text-align:left">{value}</td></tr>'
        for name, value in rows
    )
    return f'<table style="border:0;margin:4px 0">{cells}</table>' if cells else ""


def _html_metrics(facts: Mapping[str, Any]) -> str:
    found = []
    for name, value in _metrics(facts):
        if name in (facts.get("images") or ()):
            continue
        curve = _curve((facts.get("series") or {}).get(name) or ())
        text = f"<div>{escape(name)}: <b>{escape(shown(value)[:80])}</b></div>"
        found.append(f'<div style="display:inline-block;margin:0 16px 8px 0;vertical-align:top">{text}{curve}</div>')
    return f'<div style="margin:6px 0">{"".join(found)}</div>' if found else ""


def _html_pictures(facts: Mapping[str, Any]) -> str:
    return "".join(
        f'<figure style="display:inline-block;margin:0 16px 8px 0"><figcaption>{escape(name)}</figcaption>'
        f'<img alt="{escape(name)}" src="{escape(uri)}" style="max-width:320px;max-height:240px"></figure>'
        for name, uri in (facts.get("images") or {}).items()
    )


def _curve(pairs: Iterable[tuple[float, float]]) -> str:
    """A curve as a small picture."""
    points = list(pairs)
    if len(points) < 2:
        return ""
    across, up = zip(*points, strict=True)
    places = zip(_shares(across), _shares(up), strict=True)
    dots = " ".join(f"{x * _WIDTH:.1f},{(1 - y) * (_HEIGHT - 4) + 2:.1f}" for x, y in places)
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    line = f'<polyline points="{dots}" fill="none" stroke="#1565c0" stroke-width="1.5"/>'
    return f"<svg {size}><title>{escape(shown(min(up)))} to {escape(shown(max(up)))}</title>{line}</svg>"


def _shares(values: Sequence[float]) -> list[float]:
    """Each value as its share of the way from the least to the greatest."""
    low = min(values) / 2
    way = max(values) / 2 - low or 1.0  # halves, for the whole may be more than a float can hold
    return [(value / 2 - low) / way for value in values]


def _html_log(facts: Mapping[str, Any]) -> str:
    text = _CONTROLS.sub("", facts.get("log") or "")
    style = "max-height:220px;overflow:auto;border:1px solid #8884;padding:4px 8px;margin:4px 0;font-size:12px"
    return f'<pre style="{style}">{escape(text)}</pre>' if text.strip() else ""
