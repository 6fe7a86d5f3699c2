"""``hpcest plugins``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import a_workspace, json_option


@click.command(short_help="List the plugins, and what is wrong with them.")
@json_option
def plugins(as_json: bool) -> None:
    """List frameworks, environments, backends and other plugins, where they come from, and what is wrong with them.

    --json: a list of objects with kind (framework, environment, backend, or empty), name, origin, module, problem.
    """
    from hpcest.config import load_config
    from hpcest.pluginmanager import load_plugins

    rows = load_plugins(disabled=load_config(a_workspace()).plugins.disable).listing()
    if as_json:
        output.print_json(
            [{"kind": row.kind, "name": row.name, "origin": row.origin, "module": row.module, "problem": row.problem} for row in rows]
        )
        return
    output.table(
        ("kind", "name", "from", "module", "problem"),
        [(row.kind, row.name, row.origin, row.module, row.problem) for row in rows],
        keep=("kind", "name"),
    )
