"""``hpcest plugins``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import json_option


@click.command(short_help="List the plugins, and what is wrong with them.")
@json_option
def plugins(as_json: bool) -> None:
    """List frameworks, environments, backends and other plugins, where they come from, and what is wrong with them."""
    from hpcest.config import load_config
    from hpcest.errors import WorkspaceError
    from hpcest.pluginmanager import load_plugins

    try:
        from hpcest.cli.common import the_workspace

        workspace = the_workspace()
    except WorkspaceError:
        workspace = None
    loaded = load_plugins(disabled=load_config(workspace).plugins.disable)
    rows = loaded.listing()
    if as_json:
        output.print_json(
            [{"kind": row.kind, "name": row.name, "origin": row.origin, "module": row.module, "problem": row.problem} for row in rows]
        )
        return
    output.table(("kind", "name", "from", "module", "problem"), [(row.kind, row.name, row.origin, row.module, row.problem) for row in rows])
