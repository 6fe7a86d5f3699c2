"""Where registered environments lie in a workspace, and how a version comes to be there.

    .hpcest/environments/registered/NAME/VERSION.json        name, version, created, by, and the spec
    .hpcest/environments/registered/NAME/labels/LABEL.json   the version that a label is on

A version is one file that appears whole, under the first number that nobody has, and never changes. These files are
the truth, there is no index of them.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.codec import decode, encode
from hpcest.kit.files import create_exclusively, read_json, write_json
from hpcest.kit.users import user_at_host
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from hpcest.onnode import versions as numbered
from hpcest.onnode.versions import folder_name

LATEST = "latest"
_LONGEST = 200


@dataclass(frozen=True)
class Registered:
    """One version of a registered environment. ``created`` is in seconds since the epoch."""

    name: str
    version: int
    spec: EnvironmentSpec
    created: float = 0.0
    by: str = ""


def checked_name(name: str) -> str:
    """``name``, if an environment can be registered under it. Raises SpecError."""
    usable = isinstance(name, str) and name.isprintable() and name == name.strip() and not set(name) & set(":/@")
    if not usable or not 0 < len(folder_name(name)) <= _LONGEST:
        raise SpecError(
            f"{name!r} can't be the name of an environment", hint="use up to 200 letters, digits and marks, without ':', '/' and '@'"
        )
    return name


def _home(workspace: WorkspaceFolder, name: str = "") -> Path:
    root = workspace.environments / "registered"
    return root / folder_name(name) if name else root


def names(workspace: WorkspaceFolder) -> list[str]:
    """The names of all registered environments, sorted."""
    return [name for name in numbered.names(_home(workspace)) if versions(workspace, name)]


def versions(workspace: WorkspaceFolder, name: str) -> list[int]:
    """The versions of a registered environment, lowest first; none where nothing is called so."""
    return list(numbered.numbers(_home(workspace, name), ".json"))


def read(workspace: WorkspaceFolder, name: str, version: int | str | None = None) -> Registered:
    """One version: a number, a label, or the latest. Raises UnknownNameError, HpcestError for a damaged one."""
    known = versions(workspace, name) if name else []
    if not known:
        raise UnknownNameError("registered environment", name, names(workspace))
    number = _number(workspace, name, version, known)
    path = _home(workspace, name) / f"{number}.json"
    try:
        facts: Any = read_json(path)
        spec = decode(EnvironmentSpec, facts["spec"])
        return Registered(str(facts["name"]), number, spec, float(facts["created"]), str(facts["by"]))
    except (OSError, ValueError, TypeError, KeyError, SpecError, UnknownNameError) as error:
        raise HpcestError(f"{path} can't be read: {error}", hint=f"register {name!r} anew, which makes another version") from error


def _number(workspace: WorkspaceFolder, name: str, version: int | str | None, known: list[int]) -> int:
    if version is None or version == LATEST:
        return known[-1]
    text = str(version)
    if text.isascii() and text.isdigit() and int(text) in known:
        return int(text)
    labels = labels_of(workspace, name)
    if text in labels:
        return labels[text]
    raise UnknownNameError(f"version of environment {name!r}", text, [*map(str, known), *labels, LATEST])


def register(workspace: WorkspaceFolder, name: str, spec: EnvironmentSpec) -> Registered:
    """Keep ``spec`` as the next version of ``name``; where the latest one is the same, that one is returned.

    Raises SpecError for a name that no environment can have and for a password, HpcestError.
    """
    folder, kept = _home(workspace, checked_name(name)), replace(spec, name=name)
    _refuse_secrets(kept)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            known = versions(workspace, name)
            latest = None
            with contextlib.suppress(HpcestError):  # of one that is damaged another version is made
                latest = read(workspace, name) if known else None
            if latest and encode(latest.spec) == encode(kept):
                return latest
            number = max(known, default=0) + 1
            facts = {"name": name, "version": number, "created": time.time(), "by": user_at_host(), "spec": encode(kept)}
            if create_exclusively(folder / f"{number}.json", json.dumps(facts, indent=1) + "\n"):
                return read(workspace, name, number)
    except OSError as error:
        raise HpcestError(f"the environment {name!r} can't be registered in {folder}: {error.strerror or error}") from error


def _refuse_secrets(spec: EnvironmentSpec) -> None:
    """What is registered is there for everybody who can read the workspace."""
    from hpcest.environments.secrets import has_secret, strip
    from hpcest.lifecycle.secrets import is_secret

    for line in (*spec.pip, *spec.channels, *spec.conda, spec.image, *spec.system, *spec.steps):
        if has_secret(line) and ("${" not in line or line == spec.image):
            hint = "write the URL with ${NAME}, whose value is taken from the variable NAME when it is built, or use ~/.netrc"
            if line == spec.image:
                hint = "name the image without it, and log in: apptainer registry login --username NAME docker://REGISTRY"
            raise SpecError(f"an environment with a password in {strip(line)!r} can't be registered", hint=hint)
    for name, value in spec.variables.items():
        if is_secret(name) and value:
            raise SpecError(f"the variable {name} of the environment looks like a secret", hint="set it for the run: environment_variables")


def labels_of(workspace: WorkspaceFolder, name: str) -> dict[str, int]:
    """The labels of a registered environment, and the versions that they are on."""
    found = {}
    for path in sorted((_home(workspace, name) / "labels").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found[unquote(path.stem)] = int(read_json(path)["version"])
    return found


def label(workspace: WorkspaceFolder, name: str, version: int | str, labels: list[str]) -> None:
    """Put labels on a version, away from any other. Raises UnknownNameError, SpecError."""
    number = read(workspace, name, version).version
    for text in labels:
        if checked_name(text) == LATEST or text.isdigit():
            raise SpecError(f"{text!r} can't be a label", hint="'latest' is always the highest version, and numbers are versions")
        path = _home(workspace, name) / "labels" / f"{folder_name(text)}.json"
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"version": number})


def named(workspace: WorkspaceFolder, kinds: list[str], text: str) -> EnvironmentSpec:
    """What one word names: a registered environment (``name``, ``name:version``, ``name@label``), else a kind in ``kinds``.

    Raises UnknownNameError with the nearest of both.
    """
    name, mark, version = text.partition(":") if ":" in text else text.partition("@")
    if mark or versions(workspace, name):
        return read(workspace, name, version or None).spec
    if text in (*kinds, "auto"):
        return EnvironmentSpec(kind=text)
    raise UnknownNameError("environment", text, [*kinds, *names(workspace)])
