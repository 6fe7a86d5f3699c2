"""``hpcest compute``"""

from __future__ import annotations

from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context
from hpcest.cli.groups import Group
from hpcest.kit.codec import encode


@click.group(cls=Group, short_help="List or show the compute targets.")
def compute() -> None:
    """List or show the compute targets that the configuration names."""


@compute.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the compute targets; the default one has a star.

    --json: a list of objects with name, backend, default (true for one), options (as they were written), from.
    """
    config = the_context().config
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "backend": target.backend,
            "default": name == config.default_compute,
            "options": target.options,
            "from": config.origin(f"compute.{name}"),
        }
        for name, target in config.compute.items()
    ]
    if as_json:
        output.print_json(found)
        return
    rows = [(f"{one['name']}{' *' if one['default'] else ''}", one["backend"], _options(one["options"]), one["from"]) for one in found]
    output.table(("name", "backend", "options", "from"), rows, keep=("name",))


def _options(options: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


@compute.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show every option of a compute target, with its value and its meaning.

    --json: an object with name, backend and options: a list of objects with option, value, set (whether it was
    set to something else than the default), help.
    """
    import dataclasses

    context = the_context()
    backend = context.backend(name)
    given = encode(backend.options)
    rows = [
        {
            "option": field.name,
            "value": encode(getattr(backend.options, field.name)),
            "set": field.name in given,
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(backend.options)
    ]
    if as_json:
        output.print_json({"name": name, "backend": backend.name, "options": rows})
        return
    output.table(("option", "value", "meaning"), [(row["option"], row["value"], row["help"]) for row in rows], keep=("option",))
