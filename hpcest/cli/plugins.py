"""``hpcest plugins``"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import a_workspace, json_option

if TYPE_CHECKING:
    from hpcest.config import Config
    from hpcest.pluginmanager import Plugins


@click.command(short_help="List the plugins and what is wrong with them, or show one.")
@click.argument("name", required=False)
@json_option
def plugins(name: str | None, as_json: bool) -> None:
    """List frameworks, environments, backends and other plugins, where they come from, and what is wrong with them.

    With NAME show what is called so: a framework's distributions, versions and options (for -O), an environment's fields, a
    backend's options (for a compute target).

    --json: a list of objects with kind (framework, environment, backend, or empty), name, origin, module, problem; with NAME
    also distributions, versions, takes, and options: a list of objects with option, default, help.
    """
    from hpcest.config import load_config
    from hpcest.errors import UnknownNameError
    from hpcest.pluginmanager import load_plugins

    config = load_config(a_workspace())
    found = load_plugins(disabled=config.plugins.disable)
    rows = [row._asdict() for row in found.listing()]
    if name:
        known = [row["name"] for row in rows]
        rows = [{**row, **_details(found, row, config)} for row in rows if row["name"] == name]
        if not rows:
            raise UnknownNameError("plugin", name, known)
    if as_json:
        output.print_json(rows)
    elif name:
        for row in rows:
            _show(row)
    else:
        shown = [(row["kind"], row["name"], row["origin"], row["module"], row["problem"]) for row in rows]
        output.table(("kind", "name", "from", "module", "problem"), shown, keep=("kind", "name"))


def _details(found: Plugins, row: dict[str, Any], config: Config) -> dict[str, Any]:
    """What the class of a plugin says of itself."""
    from hpcest.kit.codec import encode
    from hpcest.lifecycle.presets import versions

    more: dict[str, Any] = {"distributions": [], "versions": [], "takes": [], "options": []}
    if row["problem"] or not row["kind"]:
        return more
    kind = getattr(found, row["kind"])(row["name"])
    if row["kind"] == "framework":
        more.update(distributions=list(kind.distributions), versions=versions(kind, config.frameworks.get(row["name"])))
    elif row["kind"] == "environment":
        more["takes"] = sorted(kind.takes)
    options = getattr(kind, "Options", None)
    if options is not None:
        default = options()
        more["options"] = [
            {"option": one.name, "default": encode(getattr(default, one.name)), "help": one.metadata.get("help", "")}
            for one in dataclasses.fields(options)
        ]
    return more


def _show(row: dict[str, Any]) -> None:
    facts = {"kind": row["kind"], "from": f"{row['origin']} ({row['module']})", "problem": row["problem"]}
    facts.update((name, ", ".join(row[name])) for name in ("distributions", "versions", "takes"))
    output.pairs({name: value for name, value in facts.items() if value})
    if row["options"]:
        rows = [(one["option"], one["default"], one["help"]) for one in row["options"]]
        output.table(("option", "default", "meaning"), rows, keep=("option",))
