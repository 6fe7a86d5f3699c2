"""Where registered datasets lie in a workspace, and how a version comes to be there.

    .hpcest/data/registered/NAME/VERSION.json       name, version, created, by, description, tags, kind, and the data
    .hpcest/data/registered/NAME/VERSION.deleted    the number was given, and is not given again

A version is one file that appears whole, under the first number that nobody has, and never changes. It says where the
data is and what it was; the data itself stays where it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcest.contracts import Say, silent
from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.codec import decode, encode
from hpcest.kit.files import create_exclusively, read_json
from hpcest.kit.users import user_at_host
from hpcest.lifecycle.data.contents import differences, listing_of, read_manifest
from hpcest.lifecycle.data.files import find, look_again
from hpcest.model.datapaths import whole_path
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import DataInput
from hpcest.onnode import versions as numbered

LATEST = "latest"
_LONGEST = 200


@dataclass(frozen=True)
class DatasetVersion:
    """One version of a registered dataset. ``created`` is in seconds since the epoch, ``kind`` is ``file`` or ``tabular``."""

    name: str
    version: int
    data: DataInput
    kind: str = "file"
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    created: float = 0.0
    by: str = ""

    @property
    def id(self) -> str:
        """``name:version``."""
        return f"{self.name}:{self.version}"

    def as_input(self, *, mode: str = "mount", target: str = "") -> DataInput:
        """The version as the input of a run."""
        return replace(self.data, dataset=self.name, version=self.version, mode=mode, target=target)


def checked_name(name: str) -> str:
    """``name``, if a dataset can be registered under it. Raises SpecError."""
    usable = isinstance(name, str) and name.isprintable() and name == name.strip() and not set(name) & set(":/@")
    if not usable or not 0 < len(numbered.folder_name(name)) <= _LONGEST:
        raise SpecError(f"{name!r} can't be the name of a dataset", hint="use up to 200 letters, digits and marks, but not ':', '/' or '@'")
    return name


def _home(workspace: WorkspaceFolder, name: str = "") -> Path:
    root = workspace.home / "data" / "registered"
    return root / numbered.folder_name(name) if name else root


def names(workspace: WorkspaceFolder) -> list[str]:
    """The names of all registered datasets, sorted."""
    return [name for name in numbered.names(_home(workspace)) if versions(workspace, name)]


def versions(workspace: WorkspaceFolder, name: str) -> list[int]:
    """The versions of a registered dataset, lowest first; none where nothing is called so."""
    return list(numbered.numbers(_home(workspace, name), ".json"))


def read(workspace: WorkspaceFolder, name: str, version: int | str | None = None) -> DatasetVersion:
    """One version: a number, or ``latest``, which is also what None is. Raises UnknownNameError, HpcestError for a damaged one."""
    known = versions(workspace, name) if isinstance(name, str) and name else []
    if not known:
        raise UnknownNameError("registered dataset", str(name), names(workspace))
    text = LATEST if version in (None, 0, "") else str(version)
    if text != LATEST and not (text.isascii() and text.isdigit() and int(text) in known):
        raise UnknownNameError(f"version of dataset {name!r}", text, [*map(str, known), LATEST])
    number = known[-1] if text == LATEST else int(text)
    path = _home(workspace, name) / f"{number}.json"
    try:
        return decode(DatasetVersion, read_json(path))
    except (OSError, ValueError, TypeError, KeyError, SpecError, UnknownNameError) as error:
        raise HpcestError(f"{path} can't be read: {error}", hint=f"register {name!r} anew, which makes another version") from error


def named(workspace: WorkspaceFolder, text: str) -> DatasetVersion:
    """What ``name``, ``name:version``, ``name@latest`` or one of them after ``azureml:`` names. Raises UnknownNameError."""
    name, _, version = text.removeprefix("azureml:").replace("@", ":", 1).partition(":")
    return read(workspace, name, version or None)


def register(  # noqa: PLR0913 - keywords that say what it is
    workspace: WorkspaceFolder,
    name: str,
    data: DataInput,
    *,
    kind: str = "file",
    description: str = "",
    tags: Mapping[str, Any] | None = None,
    new_version: bool = True,
    say: Say = silent,
) -> DatasetVersion:
    """Register what ``data`` names now as the next version of ``name``; where the latest one is the same, that one is returned.

    Raises SpecError for a name that can't be, data that isn't there, or, unless ``new_version``, a name that has another
    version; HpcestError where it can't be written.
    """
    folder = _home(workspace, checked_name(name))
    found = find(data.paths, data.root)
    listing = listing_of(workspace, found, [*data.paths, found.root], say, known=data.manifest)
    kept = DataInput(
        data.paths, root=found.root, type=kind_of(data), digest=listing.digest, files=len(found.files), size=found.size,
        manifest=listing.manifest, table=data.table,
    )  # fmt: skip
    labels = {str(key): "" if value is None else str(value) for key, value in (tags or {}).items()}
    made = DatasetVersion(name, 0, kept, kind, description or "", labels, time.time(), user_at_host())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            latest = _latest(workspace, name)
            if latest and _is_same(latest, made):
                return latest
            if latest and not new_version:
                raise SpecError(f"a dataset {name!r} is registered already", hint="give create_new_version=True, or another name")
            number = max([*versions(workspace, name), *numbered.numbers(folder, ".deleted")], default=0) + 1
            made = replace(made, version=number)
            if create_exclusively(folder / f"{number}.json", json.dumps(encode(made), indent=1) + "\n"):
                return made
    except OSError as error:
        raise HpcestError(f"the dataset {name!r} can't be registered in {folder}: {error.strerror or error}") from error


def changes(workspace: WorkspaceFolder, version: DatasetVersion) -> dict[str, list[str]]:
    """What is not as it was when the version was registered, by sizes and times: the names ``lost``, ``changed`` and ``new``."""
    known = read_manifest(workspace, version.data.manifest)
    if known is None:
        return {}
    try:
        found = find(version.data.paths, version.data.root) if whole_path(version.data) else look_again(known.root, known.files)
    except SpecError:
        return {"lost": [*known.files]}
    now = {name: (size, stamp, "") for name, size, stamp in found.files}
    names = zip(("lost", "changed", "new"), differences(known, now), strict=True)
    return {word: sorted(which) for word, which in names if which}


def kind_of(data: DataInput) -> str:
    """``uri_file`` for one file, else what the data says that it is."""
    if data.type == "mltable" or len(data.paths) != 1:
        return data.type if data.type == "mltable" else "uri_folder"
    return "uri_file" if os.path.isfile(data.paths[0]) else "uri_folder"


def _latest(workspace: WorkspaceFolder, name: str) -> DatasetVersion | None:
    try:
        return read(workspace, name)
    except HpcestError:  # none, or one that is damaged: another version is made
        return None


def _is_same(one: DatasetVersion, other: DatasetVersion) -> bool:
    def shape(made: DatasetVersion) -> Any:
        return made.data.paths, made.data.root, made.data.digest, made.data.table, made.kind

    return bool(shape(one) == shape(other))


def unregister(workspace: WorkspaceFolder, name: str) -> int:
    """Forget all versions of a dataset, the data stays; returns how many there were. Raises UnknownNameError."""
    known = versions(workspace, name)
    if not known:
        raise UnknownNameError("registered dataset", name, names(workspace))
    for number in known:
        path = _home(workspace, name) / f"{number}.json"
        path.rename(path.with_suffix(".deleted"))
    return len(known)
