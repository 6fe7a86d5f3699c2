"""``hpcest data``"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, pairs_of, the_context, the_workspace
from hpcest.cli.groups import Group

if TYPE_CHECKING:
    from hpcest.lifecycle.data.datasets import DatasetVersion


@click.group(cls=Group, short_help="List, register or show datasets.")
def data() -> None:
    """List, register or show datasets. DATASET is a name, or NAME:VERSION.

    A run gets one with --input NAME=azureml:DATASET (or azureml:DATASET,download for a copy on each node).
    """


def _facts(version: DatasetVersion) -> dict[str, Any]:
    found = {name: getattr(version, name) for name in ("name", "version", "id", "created", "by", "description", "tags", "kind")}
    return {
        **found,
        **{name: getattr(version.data, name) for name in ("type", "digest", "files", "size")},
        "paths": list(version.data.paths),
    }


@data.command("list")
@click.option("--name", metavar="NAME", help="All versions of this dataset, newest first.")
@json_option
def list_(name: str | None, as_json: bool) -> None:
    """List the registered datasets, the latest version of each.

    --json: a list of objects as 'data show' prints them.
    """
    from hpcest.lifecycle.data import datasets

    workspace = the_workspace()
    if name:
        found = [datasets.read(workspace, name, number) for number in reversed(datasets.versions(workspace, name))]
    else:
        found = [datasets.read(workspace, one) for one in datasets.names(workspace)]
    if as_json:
        output.print_json([_facts(version) for version in found])
        return
    rows = [
        (
            one.name,
            one.version,
            output.age(one.created),
            one.data.files,
            output.size(one.data.size),
            " ".join(one.data.paths),
            one.description,
        )
        for one in found
    ]
    empty = f"no dataset is called {name!r}" if name else "no datasets are registered"
    output.table(("name", "version", "registered", "files", "size", "data", "description"), rows, empty=empty, keep=("name", "version"))


@data.command(short_help="Register files or folders under a name.")
@click.argument("name")
@click.argument("paths", metavar="PATH…", nargs=-1, required=True)
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="A tag of the dataset.")
@click.option("--description", default="", metavar="TEXT", help="What it is.")
@json_option
def register(name: str, paths: tuple[str, ...], tags: tuple[str, ...], description: str, as_json: bool) -> None:
    """Register the files, folders or patterns PATH… as the next version of the dataset NAME; NAME:VERSION is printed.

    The data stays where it is. Every file is read once for its digest; HPCEST_DATA_DIGEST=stat goes by sizes and times
    instead. Where the latest version is the same, that one is printed.

    --json: an object as 'data show' prints it.
    """
    from hpcest.lifecycle.data import datasets
    from hpcest.lifecycle.data.datastores import local_path
    from hpcest.model.spec import DataInput

    context = the_context()
    whole = tuple(local_path(context, path if "://" in path else os.path.abspath(Path(path).expanduser())) for path in paths)
    made = datasets.register(
        context.workspace, name, DataInput(whole), description=description, tags=pairs_of(tags, "--tag"), say=output.say
    )
    if as_json:
        output.print_json(_facts(made))
    else:
        output.write_name(made.id)


@data.command(short_help="Show a dataset.")
@click.argument("dataset")
@click.option("--files", is_flag=True, help="List its files instead, with their sizes.")
@json_option
def show(dataset: str, files: bool, as_json: bool) -> None:
    """Show a dataset: where it is, what it was when it was registered, and what has changed since.

    --json: an object with name, version, id, created (seconds since the epoch), by, description, tags, kind (file or
    tabular), type, digest, files (how many), size (bytes), paths, and changes (lost, changed, new: names of files by their
    sizes and times); with --files a list of objects with name, size and sha256.
    """
    from hpcest.lifecycle.data import datasets
    from hpcest.lifecycle.data.contents import read_manifest

    workspace = the_workspace()
    found = datasets.named(workspace, dataset)
    listing = read_manifest(workspace, found.data.manifest)
    if files:
        rows = [(name, size, content) for name, (size, _, content) in sorted(listing.files.items())] if listing else []
        if as_json:
            output.print_json([dict(zip(("name", "size", "sha256"), row, strict=True)) for row in rows])
        else:
            output.table(("name", "size", "sha256"), rows, empty="its list of files is gone", keep=("name",))
        return
    facts = {**_facts(found), "changes": datasets.changes(workspace, found)}
    if as_json:
        output.print_json(facts)
        return
    facts.update(
        created=output.moment(found.created),
        size=output.size(found.data.size),
        tags=[f"{key}={value}" for key, value in found.tags.items()],
    )
    facts["changes"] = [f"{word} {name}" for word, names in facts["changes"].items() for name in names[:5]]
    output.pairs({key: value for key, value in facts.items() if key != "id"})
