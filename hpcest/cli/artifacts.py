"""``hpcest artifacts``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, run_argument, the_context, the_run
from hpcest.cli.groups import Group


@click.group(cls=Group, short_help="List or get the files of a run.")
def artifacts() -> None:
    """List or get the files of a run: outputs, logs, images, uploads."""


@artifacts.command("list")
@run_argument
@json_option
def list_(run: str, as_json: bool) -> None:
    """List the files of RUN with their sizes in bytes.

    --json: a list of objects with name, bytes.
    """
    from hpcest.onnode.run import artifact_names

    folder = the_run(the_context(), run)
    rows = [(name, size) for name in artifact_names(folder.path) if (size := _size(str(folder.path), name)) is not None]
    if as_json:
        output.print_json([{"name": name, "bytes": size} for name, size in rows])
    else:
        output.table(("name", "bytes"), rows, empty=f"run {folder.id} has no files yet")


def _size(folder: str, name: str) -> int | None:
    """In bytes; None for a file that was removed meanwhile."""
    from hpcest.onnode.run import artifact_path

    try:
        return Path(artifact_path(folder, name)).lstat().st_size
    except OSError:
        return None


@artifacts.command(short_help="Copy files of a run.")
@run_argument
@click.argument("path", metavar="[PATH]", default="")
@click.argument("dest", metavar="[DEST]", default=".", type=click.Path())
def get(run: str, path: str, dest: str) -> None:
    """Copy the file PATH of RUN, or all files below the folder PATH (default: all), to DEST (default: here).

    A single file gets its last name in DEST if that is a directory; those of a folder keep their whole names.
    """
    from hpcest.errors import UnknownNameError
    from hpcest.onnode.run import artifact_names
    from hpcest.sdk import files

    folder = the_run(the_context(), run)
    names = artifact_names(folder.path)
    if path in names:
        source = files.artifact(str(folder.path), path)
        inside = os.path.isdir(dest) or dest.endswith("/")
        files.copy_file(source, Path(dest, os.path.basename(path)) if inside else Path(dest))
        output.say(f"{path} copied to {dest}")
        return
    chosen = [name for name in names if not path or name.startswith(path.rstrip("/") + "/")]
    if path and not chosen:
        files.path_of(str(folder.path), path)  # says what is wrong with a name that leads elsewhere
        raise UnknownNameError(f"file of run {folder.id}", path, names)
    left_out = files.copy_files(str(folder.path), [(name, Path(dest, name)) for name in chosen])
    for line in left_out:
        output.say(f"warning: left out: {line}")
    copied = len(chosen) - len(left_out)
    output.say(f"{copied} file{'s' * (copied != 1)} copied to {dest}")
