"""The only place that prints: data to stdout, talk to stderr, colours and tables on a terminal alone."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import click

_COLOURS = {
    "Completed": "green", "Failed": "red", "Canceled": "yellow", "Running": "cyan", "Queued": "blue", "Preparing": "blue",
    "Finalizing": "cyan", "CancelRequested": "yellow", "NotResponding": "red", "ok": "green", "note": "yellow", "bad": "red",
}  # fmt: skip
KEPT = ("id", "run", "key", "status")  # columns of what is typed or pasted again
_NARROWEST = 10  # what a column of words needs, so that it is worth having


def prepare_streams() -> None:
    """Have nothing fail to be printed: what the terminal's encoding lacks is shown as an escape, a closed stream takes all."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)  # None where it was closed before we started
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as we run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def clean(value: Any) -> str:
    """A text for one table cell: control characters, which could drive the terminal, are shown as escapes."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text)


def clean_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(clean(line) for line in text.split("\n"))


def say(line: str) -> None:
    """One line of talk (or several), to stderr."""
    click.echo(clean_lines(line), err=True)


def write(text: str) -> None:
    """Data as it is, to stdout: logs, ids."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_name(text: str) -> None:
    """A name on a line of its own: as it is for a program that reads it, without control characters on a terminal."""
    write((clean(text) if sys.stdout.isatty() else text) + "\n")


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows as CSV below a line of headings, to stdout."""
    import csv

    shown = clean if sys.stdout.isatty() else lambda cell: cell
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([shown(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON document, to stdout. Numbers that JSON has not are texts: "NaN", "Infinity", "-Infinity"."""
    import json  # not for --version and --help

    click.echo(json.dumps(_plain(value), indent=1, ensure_ascii=True, allow_nan=False, default=str))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "", keep: Collection[str] = KEPT, names: bool = False
) -> None:
    """Rows below headings. On a terminal with rules and colours, else aligned text without cuts.

    The columns called as in ``keep`` are never broken, however narrow the terminal. Headings are in capitals
    in plain text, unless they are ``names`` of something.
    """
    cells = [[clean(value) for value in row] for row in rows]
    if not cells and empty:
        say(empty)
        return
    if sys.stdout.isatty():
        _rich_table(columns, cells, keep)
        return
    widths = [max(len(heading), *(len(row[number]) for row in cells), 0) for number, heading in enumerate(columns)]
    for line in [[heading if names else heading.upper() for heading in columns], *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]], keep: Collection[str]) -> None:
    made, least = _made_table(columns, cells, keep)
    # A terminal that is narrower wraps the lines itself, which is better than a column of single letters.
    plain = _console()
    plain.width = max(plain.width, least)
    plain.print(made)


def to_a_terminal() -> bool:
    """Whether stdout is one."""
    return sys.stdout.isatty()


def live(columns: Sequence[str], rows: Callable[[], Iterable[Sequence[Any]]], every: float, *, empty: str) -> None:
    """A table that fills the terminal and is made anew every so many seconds, until Ctrl-C; the last one stays."""
    import signal

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console, before = _console(), signal.getsignal(signal.SIGINT)
    asked_to_end: list[int] = []  # no lock: whoever handles a signal may interrupt its holder

    def end(number: int, frame: object) -> None:
        """An exception at any moment could be swallowed by what is under way; the second Ctrl-C is one."""
        asked_to_end.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end)

    def made() -> Any:
        cells = [[clean(value) for value in row] for row in rows()]
        shown = cells[: max(1, console.size.height - 5)]  # headings, rules, the line below
        below = f"{len(cells) - len(shown)} more; " if len(shown) < len(cells) else ""
        clock = Text(f"{below}{time.strftime('%H:%M:%S')}; Ctrl-C ends this", style="dim")
        return Group(_made_table(columns, shown, KEPT, fold=False)[0] if shown else Text(empty), clock)

    try:
        with Live(made(), console=console, auto_refresh=False, transient=False) as shown:
            while not asked_to_end:
                until = time.monotonic() + every
                while not asked_to_end and (left := until - time.monotonic()) > 0:
                    time.sleep(min(left, 0.1))
                shown.update(made(), refresh=True)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGINT, before)


def _made_table(columns: Sequence[str], cells: Sequence[Sequence[str]], keep: Collection[str], *, fold: bool = True) -> tuple[Any, int]:
    """A table for a terminal, and the least width at which it can be read. What does not fit is folded, or cut off."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made, least = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False), 0
    for number, heading in enumerate(columns):
        longest = max([len(heading), *(len(row[number]) for row in cells)])
        least += 3 + (longest if heading in keep else min(longest, _NARROWEST))
        kept = longest if heading in keep and not fold else None
        made.add_column(Text(heading), overflow="fold" if fold else "ellipsis", no_wrap=heading in keep or not fold, min_width=kept)
    for row in cells:
        made.add_row(*(Text(cell, style=_style(heading, cell)) for heading, cell in zip(columns, row, strict=True)))
    return made, least


def _console() -> Any:
    from rich.console import Console

    return Console() if _coloured() else Console(color_system=None)


def _style(heading: str, cell: str) -> str:
    return _COLOURS.get(cell.partition(" ")[0], "") if heading in ("status", "state") else ""


def _coloured() -> bool:
    """Whether stdout is a terminal that wants colours: see no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def pairs(items: Mapping[str, Any]) -> None:
    """Names and values, one a line, values aligned; empty values are left out."""
    shown = {clean(name): value for name, value in items.items() if value not in (None, "", [], {}, ())}
    width, coloured = max(map(len, shown), default=0), _coloured()
    for name, value in shown.items():
        first, *rest = [clean(line) for line in value] if isinstance(value, (list, tuple)) else [clean(value)]
        if coloured:
            first = click.style(first, fg=_COLOURS.get(first.partition(" ")[0])) if name == "status" else first
        click.echo(f"{click.style(name.ljust(width), bold=True) if coloured else name.ljust(width)}  {first}")
        for line in rest:
            click.echo(" " * (width + 2) + line)


def moment(seconds: float | None) -> str:
    """A time of day as people read it: 2026-11-21 13:05:09."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else ""
    except (OverflowError, ValueError, OSError):  # a writer whose clock is beyond all years
        return str(seconds)


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


def size(count: float) -> str:
    """Bytes as people read them: ``420 kB``, ``1.3 GB``."""
    for unit, whole in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= whole:
            return f"{count / whole:.{1 if count < 10 * whole else 0}f} {unit}"
    return f"{count:.0f} B"


def number(value: Any) -> str:
    """A metric in six significant digits; lists by their last value and length."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"{number(value[-1])} ({len(value)} values)" if value else "[]"
    if isinstance(value, dict):
        return "table of " + ", ".join(map(str, value))
    return str(value)
