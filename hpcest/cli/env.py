"""``hpcest env``"""

from __future__ import annotations

from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_workspace
from hpcest.errors import UnknownNameError


@click.group(short_help="List or show built environments.")
def env() -> None:
    """List or show the environments that were built in this workspace."""


def _images() -> list[dict[str, Any]]:
    from hpcest.kit.files import read_json

    found = []
    for manifest in sorted(the_workspace().environments.glob("*/*/image.json")):
        image = read_json(manifest) or {}
        found.append({**image, "kind": image.get("kind") or manifest.parent.parent.name, "key": image.get("key") or manifest.parent.name})
    return found


@env.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the environments that were built in this workspace."""
    images = _images()
    if as_json:
        output.print_json(images)
        return
    rows = [(image["kind"], image["key"][:12], output.age(image.get("created")), len(image.get("packages") or ())) for image in images]
    output.table(("kind", "key", "built", "packages"), rows, empty="no environment was built yet")


@env.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show the environment whose key starts with KEY, with its packages."""
    images = [image for image in _images() if image["key"].startswith(key)]
    if len(images) != 1:
        raise UnknownNameError("environment", key, [image["key"][:12] for image in _images()])
    if as_json:
        output.print_json(images[0])
        return
    image = dict(images[0])
    image["created"] = output.moment(image.get("created"))
    output.pairs({name: value for name, value in image.items() if not isinstance(value, dict)})
