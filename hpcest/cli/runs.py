"""``hpcest runs``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context

if TYPE_CHECKING:
    from hpcest.history.query import RunRow

_FIELDS = (
    "id", "experiment", "display_name", "status", "reason", "message", "created", "queued", "started", "ended", "compute",
    "framework", "environment", "script", "user", "host", "parent", "attempt", "exit_code", "params", "metrics", "tags",
)  # fmt: skip


@click.command(short_help="List runs, newest first.")
@click.option("-e", "--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option("--status", metavar="STATUS", multiple=True, help="Only runs with this status, such as Failed; may be given repeatedly.")
@click.option("--tag", "tags", metavar="K[=V]", multiple=True, help="Only runs with this tag.")
@click.option("--where", metavar="EXPR", help="Only runs for which it holds, such as \"metrics.acc > 0.9 and params.lr = '0.1'\".")
@click.option("--sort", metavar="FIELD", help="Sort by a field, such as metrics.acc; with - in front, the largest first.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, metavar="N", help="How many at most; 0: all.")
@click.option("--children", is_flag=True, help="Also runs that were made by runs.")
@json_option
def runs(experiment: str, status: tuple[str, ...], tags: tuple[str, ...], limit: int, as_json: bool, **options: Any) -> None:
    """List runs, newest first.

    --where compares fields by = != < <= > >= ~ (contains) !~ or in (...), joined by and, or, not and
    parentheses: id, name, experiment, status, reason, message, description, user, host, compute,
    framework, environment, script, parent, job, attempt, exit_code, created, queued, started, ended,
    duration, metrics.NAME, params.NAME, tags.NAME, properties.NAME. A time is 2026-05-31,
    '2026-05-31 14:00', or an age such as 2d.

    --json: a list of objects with id, experiment, display_name, status, reason, message, created, queued, started,
    ended (seconds since the epoch, or null), compute, framework, environment, script, user, host, parent, attempt,
    exit_code, params, metrics (the last value of each scalar), tags.
    """
    from hpcest.history import query
    from hpcest.lifecycle.collect import refresh

    context = the_context()
    for warning in refresh(context):
        output.say(f"warning: {warning}")
    rows = query.list_runs(
        context.workspace, experiment=experiment, status=status or None, tags=_tags(tags), where=options["where"],
        sort=options["sort"], limit=limit + 1 if limit else None, include_children=options["children"],
    )  # fmt: skip
    if limit and len(rows) > limit:
        rows = rows[:limit]
        output.say(f"these are {limit} of more; see all: --limit 0")
    if as_json:
        output.print_json([{name: getattr(row, name) for name in _FIELDS} for row in rows])
        return
    output.table(
        ("id", "experiment", "name", "status", "compute", "created", "took", "metrics"),
        [_cells(row) for row in rows],
        empty="no runs" + (" match" if experiment or status or tags or options["where"] else " yet; submit one: hpcest submit SCRIPT"),
    )


def _tags(given: tuple[str, ...]) -> dict[str, str | None]:
    """``K=V`` for a tag with a value, ``K`` for one with any."""
    found: dict[str, str | None] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not key:
            raise click.BadParameter(f"{one!r} is not NAME or NAME=VALUE", param_hint="--tag")
        found[key] = value if equals else None
    return found


def _cells(row: RunRow) -> tuple[str, ...]:
    took = output.span(row.ended - row.started) if row.ended and row.started else ""
    metrics = "  ".join(f"{name}={output.number(value)}" for name, value in list(row.metrics.items())[:3])
    status = row.status + (f" ({row.reason})" if row.reason else "")
    return row.id, row.experiment, row.display_name, status, row.compute, output.age(row.created), took, metrics
