"""``hpcest init``"""

from __future__ import annotations

from pathlib import Path

import click

from hpcest.cli import output


@click.command(short_help="Make a directory a workspace.")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="TEXT", help="What to call it; default: the directory's name.")
@click.pass_context
def init(context: click.Context, directory: Path | None, name: str) -> None:
    """Make DIR (default: the current directory) a workspace. One that is there is left as it is.

    Everything is kept in DIR/.hpcest; put it on storage that all nodes see.
    """
    from hpcest.lifecycle.workspace import create_workspace
    from hpcest.model.folders import WorkspaceFolder

    given = context.find_root().params.get("workspace")
    if given and directory:
        raise click.UsageError("name the directory once, as DIR or with -w")
    root = directory or Path(given or ".")
    there = WorkspaceFolder(root.absolute()).header.exists()
    workspace = create_workspace(root, name=name)
    output.say(f"{workspace.root} is a workspace already" if there else f"workspace {workspace.root}")
