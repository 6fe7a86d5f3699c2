"""``hpcest reindex``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import the_workspace


@click.command(short_help="Rebuild the history's index from the run folders.")
def reindex() -> None:
    """Rebuild the history's index from the run folders, which are the truth. Nothing else is changed."""
    import time

    from hpcest.history.ingest import reindex as rebuild

    began = time.monotonic()
    count = rebuild(the_workspace())
    output.say(f"{count} runs indexed in {time.monotonic() - began:.1f} s")
