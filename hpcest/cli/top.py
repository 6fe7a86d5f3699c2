"""``hpcest top``"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context

if TYPE_CHECKING:
    from hpcest.history.query import RunRow
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

_COLUMNS = ("id", "experiment", "name", "status", "compute", "since", "progress", "message")
#: Which of the runs that have ended are still shown, and how many runs at most.
_RECENT, _MOST = "ended > 10min", 200
_GOING = ("NotStarted", "Preparing", "Queued", "Running", "Finalizing", "CancelRequested")
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

    --json: a list of objects (with --once) with id, experiment, display_name, status, reason, message, compute, created,
    started, ended (seconds since the epoch, or null), attempt, metrics (the last value of each scalar), step (of the
    metrics, or null), job (its id at the scheduler, or empty).
    """
    context = the_context()
    if as_json and not once:
        raise click.UsageError("--json prints one look: give --once too")
    if as_json:
        output.print_json(_looked(context, experiment))
    elif once or not output.to_a_terminal():
        output.table(_COLUMNS, [_cells(one) for one in _looked(context, experiment)], empty="no runs go on")
    else:
        output.live(
            _COLUMNS, lambda: [_cells(one) for one in _looked(context, experiment)], interval, empty="no runs go on; Ctrl-C ends this"
        )


def _looked(context: Context, experiment: str | None) -> list[dict[str, Any]]:
    """What is true of the runs now, newest first."""
    from hpcest.history import ingest, query
    from hpcest.lifecycle.collect import collect_all
    from hpcest.lifecycle.watch import look

    ingest.refresh(context.workspace)
    going = [one.id for one in query.unfinished(context.workspace)]
    seen = look(context, map(context.workspace.run, going))
    collect_all(context, seen.values())
    if seen:
        ingest.refresh(context.workspace)
    rows = query.list_runs(context.workspace, experiment=experiment, status=_GOING, limit=_MOST)
    rows += query.list_runs(context.workspace, experiment=experiment, where=_RECENT, sort="-ended", limit=_MOST)
    shown = sorted({row.id: row for row in rows}.values(), key=lambda row: (not row.finished, row.created), reverse=True)[:_MOST]
    steps = query.last_steps(context.workspace, [row.id for row in shown])
    return [_facts(row, seen.get(row.id), steps.get(row.id)) for row in shown]


def _facts(row: RunRow, seen: Seen | None, step: float | None) -> dict[str, Any]:
    now = seen if seen is not None and not row.finished else None  # what the index says of an ended run is newer
    return {
        "id": row.id,
        "experiment": row.experiment,
        "display_name": row.display_name,
        "status": str(now.status) if now else row.status,
        "reason": str(now.reason) if now else row.reason,
        "message": now.message if now else row.message,
        "compute": row.compute,
        "created": row.created,
        "started": row.started,
        "ended": row.ended,
        "attempt": row.attempt,
        "metrics": row.metrics,
        "step": step,
        "job": row.job,
    }


def _cells(one: Mapping[str, Any]) -> Sequence[str]:
    status = one["status"] + (f" ({one['reason']})" if one["reason"] else "")
    if one["ended"]:
        took = f"took {output.span(one['ended'] - one['started'])}, " if one["started"] else ""
        since = f"{took}ended {output.age(one['ended'])} ago"
    else:
        since = output.age(one["started"] or one["created"])
    metrics = [f"{name}={output.number(value)}" for name, value in list(one["metrics"].items())[:_METRICS]]
    step = [f"step {one['step']:g}"] if one["step"] is not None else []
    message = one["message"].split("\n")[0]
    attempt = f"attempt {one['attempt'] + 1}" if one["attempt"] else ""
    said = "; ".join(part for part in (attempt, message) if part)
    return one["id"], one["experiment"], one["display_name"], status, one["compute"], since, "  ".join([*step, *metrics]), said
