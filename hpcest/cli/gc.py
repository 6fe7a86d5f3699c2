"""``hpcest gc``"""

from __future__ import annotations

from dataclasses import asdict

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_workspace


@click.command(short_help="Remove what no run refers to any more.")
@click.option("--older-than", metavar="7d", default="7d", show_default=True, help="How old it must be; a day at least.")
@click.option("--trash", metavar="30d", help="Also remove runs for good that have been in the trash for that long.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def gc(older_than: str, trash: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove snapshots of code and lists of data that no run, model or dataset of this workspace refers to any more.

    Runs in the trash still count, as they may be taken back. Safe while others submit. For environments see 'hpcest env gc'.

    --json: an object with snapshots, objects (files of them), data_lists (counts), runs (ids), freed (bytes), kept (what could
    not be removed, and why), dry_run.
    """
    from hpcest.kit.units import parse_time
    from hpcest.lifecycle.sweep import sweep

    lain = float(parse_time(trash)) if trash is not None else None
    swept = sweep(the_workspace(), older_than=float(parse_time(older_than)), trash_older_than=lain, dry_run=dry_run)
    if as_json:
        output.print_json({**asdict(swept), "dry_run": dry_run})
        return
    counts = [(len(swept.runs), "run"), (swept.snapshots, "snapshot"), (swept.objects, "file"), (swept.data_lists, "list of data")]
    named = [f"{count} {name if count == 1 else _PLURALS.get(name, name + 's')}" for count, name in counts if count]
    for line in swept.kept:
        output.say(f"kept {line}")
    done = f"{'would remove' if dry_run else 'removed'} {', '.join(named)}: {output.size(swept.freed)}"
    output.say(done if named else "nothing to remove")


_PLURALS = {"list of data": "lists of data"}
