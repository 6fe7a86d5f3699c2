"""``hpcest runs``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, pairs_of, the_context

if TYPE_CHECKING:
    from hpcest.history.query import RunRow


@click.command(short_help="List runs, newest first.")
@click.option("-e", "--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option("--status", metavar="STATUS", help="Only runs with this status, such as Failed.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Only runs with this tag.")
@click.option("--where", metavar="EXPR", help="Only runs for which it holds, such as \"metrics.acc > 0.9 and params.lr = '0.1'\".")
@click.option("--sort", metavar="FIELD", help="Sort by a field, such as metrics.acc; with - in front, the largest first.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, metavar="N", help="How many at most; 0: all.")
@click.option("--children", is_flag=True, help="Also runs that were made by runs.")
@json_option
def runs(experiment: str, status: str, tags: tuple[str, ...], limit: int, as_json: bool, **options: Any) -> None:
    """List runs, newest first."""
    from hpcest.history import query
    from hpcest.lifecycle.collect import refresh

    context = the_context()
    for warning in refresh(context):
        output.say(f"warning: {warning}")
    rows = query.list_runs(
        context.workspace, experiment=experiment, status=status, tags=pairs_of(tags, "--tag"), where=options["where"],
        sort=options["sort"], limit=limit or None, include_children=options["children"],
    )  # fmt: skip
    if as_json:
        output.print_json([as_dict(row) for row in rows])
        return
    output.table(
        ("id", "experiment", "name", "status", "compute", "created", "took", "metrics"),
        [_cells(row) for row in rows],
        empty="no runs" + (" match" if experiment or status or tags or options["where"] else " yet; submit one: hpcest submit SCRIPT"),
    )


def _cells(row: RunRow) -> tuple[str, ...]:
    took = output.span(row.ended - row.started) if row.ended and row.started else ""
    metrics = "  ".join(f"{name}={output.number(value)}" for name, value in list(row.metrics.items())[:3])
    status = row.status + (f" ({row.reason})" if row.reason else "")
    return row.id, row.experiment, row.display_name, status, row.compute, output.age(row.created), took, metrics


def as_dict(row: RunRow) -> dict[str, Any]:
    """One run as the JSON listings have it; times are seconds since the epoch."""
    names = ("id", "experiment", "display_name", "status", "reason", "message", "created", "queued", "started", "ended", "compute")
    more = ("framework", "environment", "script", "user", "host", "parent", "attempt", "exit_code", "params", "metrics", "tags")
    return {name: getattr(row, name) for name in (*names, *more)}
