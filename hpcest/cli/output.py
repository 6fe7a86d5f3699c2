"""The only place that prints: data to stdout, talk to stderr, colours and tables on a terminal alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

_COLOURS = {
    "Completed": "green", "Failed": "red", "Canceled": "yellow", "Running": "cyan", "Queued": "blue", "Preparing": "blue",
    "Finalizing": "cyan", "CancelRequested": "yellow", "NotResponding": "red",
}  # fmt: skip


def clean(value: Any) -> str:
    """A text for one table cell: control characters, which could drive the terminal, are shown as escapes."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say(line: str) -> None:
    """One line of talk, to stderr."""
    click.echo(line, err=True)


def write(text: str) -> None:
    """Data as it is, to stdout (logs, CSV)."""
    stream = sys.stdout
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a terminal that isn't UTF-8
        stream.write(text.encode(stream.encoding, "replace").decode(stream.encoding))
    stream.flush()


def print_json(value: Any) -> None:
    """One JSON document, to stdout."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=True, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "") -> None:
    """Rows below headings. On a terminal with rules and colours, else aligned text without cuts."""
    cells = [[clean(value) for value in row] for row in rows]
    if not cells and empty:
        say(empty)
        return
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    widths = [max(len(heading), *(len(row[number]) for row in cells), 0) for number, heading in enumerate(columns)]
    for line in [[heading.upper() for heading in columns], *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in columns:
        made.add_column(heading, overflow="fold")
    for row in cells:
        made.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console().print(made)


def pairs(items: Mapping[str, Any]) -> None:
    """Names and values, one a line, values aligned; empty values are left out."""
    shown = {name: value for name, value in items.items() if value not in (None, "", [], {})}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        text = "\n".join(clean(line) for line in value) if isinstance(value, (list, tuple)) else clean(value)
        first, *rest = text.split("\n")
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {status(first)}")
        for line in rest:
            click.echo(" " * (width + 2) + line)


def status(text: str) -> str:
    """A status in its colour (which click takes out where stdout is no terminal)."""
    colour = _COLOURS.get(text.partition(" ")[0])
    return click.style(text, fg=colour) if colour else text


def moment(seconds: float | None) -> str:
    """A time of day as people read it: 2026-11-21 13:05:09."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""


def age(seconds: float | None) -> str:
    """How long ago: ``42 s``, ``5 min``, ``3 h``, ``12 d``."""
    return span(max(0.0, time.time() - seconds)) if seconds else ""


def span(seconds: float | None) -> str:
    """A duration in its largest unit."""
    if seconds is None:
        return ""
    for unit, size, until in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < until:
            return f"{seconds / size:.0f} {unit}" if seconds >= 10 or unit != "s" else f"{seconds:.1f} {unit}"
    return f"{seconds / 86400:.0f} d"


def number(value: Any) -> str:
    """A metric in six significant digits; lists by their last value and length."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"{number(value[-1])} ({len(value)} values)" if value else "[]"
    if isinstance(value, dict):
        return "table of " + ", ".join(map(str, value))
    return str(value)
