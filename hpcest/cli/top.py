"""``hpcest top``"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context

if TYPE_CHECKING:
    from hpcest.history.query import RunRow
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

_COLUMNS = ("id", "experiment", "name", "status", "compute", "since", "progress", "message")
#: How long a run that has ended is still shown, in seconds, and how many runs at most.
_RECENT_S, _MOST = 600.0, 200
_METRICS = 3  # so many are shown of each run


@click.command(short_help="Watch the runs that go on, with their progress.")
@click.option("-i", "--interval", type=click.FloatRange(0.1), default=2.0, show_default=True, metavar="SECONDS", help="Between two looks.")
@click.option("-e", "--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option("--once", is_flag=True, help="Print the table once; so it is where stdout is no terminal.")
@json_option
def top(interval: float, experiment: str | None, once: bool, as_json: bool) -> None:
    """Show the runs that have not ended, and those that did in the last ten minutes, until Ctrl-C.

    Each with its status, the time since it started (of one that waits: since it was submitted), its last
    metrics with their step, and why it waits. Every look asks each scheduler at most once.

    --json, with --once: a list of objects with id, experiment, display_name, status, reason, message, compute, created,
    started, ended (seconds since the epoch, or null), attempt, metrics (the last value of each scalar), step (of the
    metrics, or null), job (its id at the scheduler, or empty).
    """
    context = the_context()
    if as_json and not once:
        raise click.UsageError("--json prints one look: give --once too")
    if as_json:
        output.print_json(_looked(context, experiment))
    elif once or not sys.stdout.isatty():
        output.table(_COLUMNS, [_cells(one) for one in _looked(context, experiment)], empty="no runs go on")
    else:
        output.live(_COLUMNS, lambda: [_cells(one) for one in _looked(context, experiment)], interval, empty="no runs go on; Ctrl-C ends this")


def _looked(context: Context, experiment: str | None) -> list[dict[str, Any]]:
    """What is true of the runs now, newest first."""
    from hpcest.history import ingest, query
    from hpcest.lifecycle.collect import collect_all
    from hpcest.lifecycle.watch import look
    from hpcest.onnode.state import TERMINAL

    ingest.refresh(context.workspace)
    going = [one.id for one in query.unfinished(context.workspace)]
    seen = look(context, map(context.workspace.run, going))
    collect_all(context, seen.values())
    if seen:
        ingest.refresh(context.workspace)
    since = time.time() - _RECENT_S
    rows = query.list_runs(context.workspace, experiment=experiment, status=_open(TERMINAL), limit=_MOST)
    ended = query.list_runs(context.workspace, experiment=experiment, where=f"ended > {since:.0f}", sort="-ended", limit=_MOST)
    shown = {row.id: row for row in [*rows, *ended]}
    newest = sorted(shown.values(), key=lambda row: (not row.finished, row.created), reverse=True)
    return [_facts(context, row, seen.get(row.id)) for row in newest[:_MOST]]


def _open(terminal: Iterable[str]) -> list[str]:
    from hpcest.model.status import Status

    return [status.value for status in Status if status.value and status.value not in terminal]


def _facts(context: Context, row: RunRow, seen: Seen | None) -> dict[str, Any]:
    status, reason, message = (str(seen.status), str(seen.reason), seen.message) if seen else (row.status, row.reason, row.message)
    return {
        "id": row.id,
        "experiment": row.experiment,
        "display_name": row.display_name,
        "status": status,
        "reason": reason,
        "message": message,
        "compute": row.compute,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "attempt": row.attempt,
        "metrics": row.metrics,
        "step": _step(context, row) if row.metrics else None,
        "job": str(((seen.state.job if seen else None) or {}).get("id") or row.job or ""),
    }
