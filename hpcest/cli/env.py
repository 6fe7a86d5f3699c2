"""``hpcest env``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_workspace
from hpcest.cli.groups import Group
from hpcest.errors import UnknownNameError, UsageError

_FIELDS = ("kind", "key", "name", "python", "packages", "created", "by", "state", "folder")
_MORE = ("base", "tool", "resolved", "seconds", "log")


@click.group(cls=Group, short_help="List or show built environments.")
def env() -> None:
    """List or show the environments that were built in this workspace."""


def _images() -> list[dict[str, Any]]:
    """What the manifests say, the newest first; one that can't be read is listed as damaged."""
    found = [_image(manifest) for manifest in the_workspace().environments.glob("*/*/image.json")]
    return sorted(found, key=lambda image: (-(image["created"] or 0.0), image["folder"]))


def _image(manifest: Path) -> dict[str, Any]:
    from hpcest.onnode.record import get_json

    data = get_json(str(manifest))
    image = data if isinstance(data, dict) else {}
    token = str(image.get("token") or "")
    folder = manifest.parent / token if token and "/" not in token else manifest.parent
    log = image.get("log")
    return {
        **{name: image.get(name) for name in (*_FIELDS, *_MORE)},
        "kind": str(image.get("kind") or manifest.parent.parent.name),
        "key": str(image.get("key") or manifest.parent.name.partition("-")[0]),
        "name": str(image.get("name") or ""),
        "packages": [str(line) for line in image.get("packages") or ()],
        "created": image.get("created") if isinstance(image.get("created"), (int, float)) else None,
        "state": "ready" if image and folder.is_dir() else "damaged",
        "folder": str(folder),
        "log": str(manifest.parent / log) if isinstance(log, str) and "/" not in log else None,
    }


@env.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the environments that were built in this workspace, the newest first.

    --json: a list of objects with kind, key, name, python, packages (a list of requirements), created (seconds
    since the epoch), by, state (ready or damaged), folder.
    """
    images = _images()
    if as_json:
        output.print_json([{name: image[name] for name in _FIELDS} for image in images])
        return
    rows = [
        (
            image["kind"],
            image["key"][:12],
            image["name"],
            image["python"],
            len(image["packages"]),
            output.age(image["created"]),
            image["state"],
        )
        for image in images
    ]
    output.table(("kind", "key", "name", "python", "packages", "built", "state"), rows, empty="no environment was built yet")


@env.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show the environment whose key starts with KEY, with its packages.

    --json: an object with what 'env list' has, and base (the Python it was made of), tool, resolved (when its
    versions were chosen), seconds (to build it), log.
    """
    images = _images()
    found = [image for image in images if image["key"].startswith(key) or Path(image["folder"]).parent.name == key]
    if not found or not key:
        raise UnknownNameError("environment", key, [image["key"][:12] for image in images], hint="" if images else "none was built yet")
    if len(found) > 1:
        places = "\n  ".join(f"{Path(image['folder']).parent.name}  {image['name']}" for image in found)
        raise UsageError(f"environment {key!r} is ambiguous: {len(found)} keys start with it", hint=f"name one of\n  {places}")
    if as_json:
        output.print_json(found[0])
        return
    output.pairs({**found[0], "created": output.moment(found[0]["created"]), "resolved": output.moment(found[0]["resolved"])})
