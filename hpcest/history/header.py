"""What ``run.json`` says of a run, read without its schema: a newer one is listed with what can be understood."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from hpcest.history.params import parse_arguments, parse_line


class Header(NamedTuple):
    """The facts of a run that never change."""

    kind: str
    experiment: str
    display_name: str
    description: str
    created: float
    compute: str
    framework: str
    environment: str
    script: str
    user: str
    host: str
    parent: str
    params: dict[str, str]
    tags: dict[str, str]
    properties: dict[str, str]


def read_header(folder: str) -> Header | None:
    """The header of the run folder; None while there is none that is whole."""
    try:
        with open(os.path.join(folder, "run.json"), "rb") as stream:
            data = json.loads(stream.read())
            made = os.fstat(stream.fileno()).st_mtime
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    spec, command = _mapping(data.get("spec")), _mapping(_mapping(data.get("spec")).get("command"))
    kind, created = clean(data.get("kind")) or "run", data.get("created")
    environment = _mapping(spec.get("environment"))
    known = (clean(environment.get(field)) for field in ("name", "image", "kind"))
    return Header(
        kind=kind,
        experiment=clean(spec.get("experiment")),
        display_name=clean(spec.get("display_name")),
        description=clean(spec.get("description")),
        created=float(created) if isinstance(created, (int, float)) and 0 <= created < 1e12 else made,
        # A spec leaves out what has its default: see model.spec.RunSpec.
        compute=clean(spec.get("compute", "local" if kind == "run" else "")),
        framework=clean(spec.get("framework", "script" if kind == "run" else "")),
        environment=next((text for text in known if text), ""),
        script=clean(command.get("script")) or clean(command.get("line")),
        user=clean(data.get("user")),
        host=clean(data.get("host")),
        parent=clean(spec.get("parent")),
        params=_parameters_of(command),
        tags=_texts(spec.get("tags")),
        properties=_texts(spec.get("properties")),
    )


def clean(value: Any) -> str:
    """``value`` as a text that any database takes: lone surrogates become question marks, None is empty."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()


def _parameters_of(command: dict[str, Any]) -> dict[str, str]:
    arguments = command.get("arguments")
    if isinstance(arguments, list):
        return parse_arguments([clean(word) for word in arguments])
    return parse_line(clean(command.get("line")))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> dict[str, str]:
    return {clean(key): clean(item) for key, item in _mapping(value).items()}
