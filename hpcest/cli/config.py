"""``hpcest config``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import a_workspace, json_option
from hpcest.cli.groups import Group


@click.group(cls=Group, short_help="Show the configuration, and where each value comes from.")
def config() -> None:
    """Show the configuration, and where each value comes from; outside a workspace the site's and the user's."""


@config.command()
@json_option
def show(as_json: bool) -> None:
    """Show every value of the merged configuration with its origin.

    --json: a list of objects with key (a dotted path), value, from.
    """
    from hpcest.config import load_config

    rows = list(load_config(a_workspace()).items())
    if as_json:
        output.print_json([{"key": key, "value": value, "from": origin} for key, value, origin in rows])
    else:
        output.table(("key", "value", "from"), rows)


@config.command()
@json_option
def path(as_json: bool) -> None:
    """List the configuration files, lowest first, and which of them exist.

    --json: a list of objects with level (site, user, workspace), path, exists.
    """
    from hpcest.config import config_paths

    rows = [(name, str(file), file.exists()) for name, file in config_paths(a_workspace())]
    if as_json:
        output.print_json([{"level": level, "path": file, "exists": there} for level, file, there in rows])
    else:
        output.table(("level", "path", ""), [(level, file, "" if there else "(not there)") for level, file, there in rows], keep=("path",))
