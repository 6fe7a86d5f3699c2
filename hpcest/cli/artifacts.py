"""``hpcest artifacts``"""

from __future__ import annotations

from pathlib import Path

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, run_argument, the_context, the_run


@click.group(short_help="List or get the files of a run.")
def artifacts() -> None:
    """List or get the files of a run: outputs, logs, images, uploads."""


@artifacts.command("list")
@run_argument
@json_option
def list_(run: str, as_json: bool) -> None:
    """List the files of RUN with their sizes in bytes."""
    from hpcest.onnode.run import artifact_names, artifact_path

    folder = the_run(the_context(), run)
    rows = [(name, Path(artifact_path(folder.path, name)).lstat().st_size) for name in artifact_names(folder.path)]
    if as_json:
        output.print_json([{"name": name, "bytes": size} for name, size in rows])
    else:
        output.table(("name", "bytes"), rows, empty=f"run {folder.id} has no files yet")


@artifacts.command()
@run_argument
@click.argument("path", metavar="[PATH]", default="")
@click.argument("dest", metavar="[DEST]", default=".", type=click.Path(path_type=Path))
def get(run: str, path: str, dest: Path) -> None:
    """Copy the file PATH of RUN, or all files below the folder PATH (default: all), to DEST (default: here)."""
    from hpcest.errors import UnknownNameError
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace

    context = the_context()
    found = Run.get(Workspace(context.workspace), the_run(context, run).id)
    names = found.get_file_names()
    if path in names:
        found.download_file(path, dest)
        return
    chosen = [name for name in names if not path or name.startswith(path.rstrip("/") + "/")]
    if not chosen:
        raise UnknownNameError(f"file of run {found.id}", path, names)
    for name in chosen:
        found.download_file(name, dest / name)
    output.say(f"{len(chosen)} files copied to {dest}")
