"""``hpcest models``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, pairs_of, run_argument, the_context, the_run, the_workspace
from hpcest.cli.groups import Group

if TYPE_CHECKING:
    from hpcest.sdk.model import Model


@click.group(cls=Group, short_help="List, register, show or download models.")
def models() -> None:
    """List, register, show or download models. MODEL is a name, or NAME:VERSION."""


def _model(reference: str) -> Model:
    from hpcest.sdk.model import Model
    from hpcest.sdk.workspace import Workspace

    workspace = Workspace(the_workspace())
    return Model(workspace, id=reference) if ":" in reference else Model(workspace, reference)


@models.command("list")
@click.option("--name", metavar="NAME", help="Only versions of this model.")
@click.option("--latest", is_flag=True, help="Only the latest version of each.")
@json_option
def list_(name: str | None, latest: bool, as_json: bool) -> None:
    """List the registered models, newest version first.

    --json: a list of objects as 'models show' prints them.
    """
    from hpcest.sdk.model import Model
    from hpcest.sdk.workspace import Workspace

    found = Model.list(Workspace(the_workspace()), name, latest=latest)
    if as_json:
        output.print_json([model.serialize() for model in found])
        return
    rows = [(model.name, model.version, _age(model), model.run_id, model.framework, _tags(model), model.description) for model in found]
    output.table(
        ("name", "version", "registered", "run", "framework", "tags", "description"),
        rows,
        empty=f"no model is called {name!r}" if name else "no models are registered",
        keep=("name", "run"),
    )


def _age(model: Model) -> str:
    return output.age(model.created_time.timestamp())


def _tags(model: Model) -> str:
    return " ".join(f"{key}={value}" for key, value in model.tags.items())


@models.command(short_help="Register a file or folder of a run.")
@run_argument
@click.argument("name")
@click.argument("path", metavar="[PATH]", default="outputs")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="A tag of the model.")
@click.option("--description", default="", metavar="TEXT", help="What it is.")
@click.option("--framework", default="", metavar="NAME", help="What it was made with, such as scikit-learn.")
@json_option
def register(run: str, name: str, path: str, tags: tuple[str, ...], description: str, framework: str, as_json: bool) -> None:
    """Register the file or folder PATH of RUN (default: outputs) as the next version of the model NAME; NAME:VERSION is printed.

    --json: an object as 'models show' prints it.
    """
    from hpcest.sdk.run import Run

    found = Run(str(the_run(the_context(), run).path))
    model = found.register_model(name, path, tags=pairs_of(tags, "--tag"), description=description, model_framework=framework or None)
    if as_json:
        output.print_json(model.serialize())
    else:
        output.write_name(model.id)


@models.command()
@click.argument("model")
@json_option
def show(model: str, as_json: bool) -> None:
    """Show a model.

    --json: an object with name, version, id, created (seconds since the epoch), description, run_id, framework,
    framework_version, tags, properties, datasets, lineage (run_id, snapshot, environment, data), path.
    """
    found = _model(model).serialize()
    if as_json:
        output.print_json(found)
        return
    found["created"] = output.moment(found["created"])
    lineage = found.pop("lineage")
    found |= {name: lineage[name] for name in ("snapshot", "environment")}
    for name, values in (("tags", found["tags"]), ("properties", found["properties"]), ("data", lineage["data"])):
        found[name] = [f"{key}={value}" for key, value in values.items()]
    found["datasets"] = [f"{word}={dataset}" for word, named in found["datasets"].items() for dataset in named]
    output.pairs({key: value for key, value in found.items() if key != "id"})


@models.command(short_help="Copy a model's file or folder.")
@click.argument("model")
@click.argument("dest", metavar="[DEST]", default=".", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def download(model: str, dest: Path, overwrite: bool) -> None:
    """Copy a model's file or folder into the directory DEST (default: here); its path is printed."""
    output.write_name(_model(model).download(dest, exist_ok=overwrite))
