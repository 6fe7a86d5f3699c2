"""The data of a run: found and known by its content before the run is recorded, and told to the node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hpcest.errors import SpecError
from hpcest.lifecycle.data import datasets
from hpcest.lifecycle.data.contents import Listing, differences, listing_of, manifest_path, read_manifest
from hpcest.lifecycle.data.datastores import local_path
from hpcest.lifecycle.data.files import Found, find, look_again
from hpcest.lifecycle.passage import Passage
from hpcest.model.datapaths import output_path, path_of, whole_path, written_path
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.spec import DataInput, DataOutput, RunSpec
from hpcest.onnode import models
from hpcest.onnode.copying import Refused

INPUT_MODES, OUTPUT_MODES = ("mount", "download", "direct"), ("mount", "upload")
#: So many bytes of data that is not registered are read when a run is submitted, to know it by its content.
MOST_READ = 16 << 30
TYPES = ("uri_file", "uri_folder", "mltable")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names that mean something to programs, and are not given to data.
_TAKEN = re.compile(r"(?:.*PATH|HOME|USER|LOGNAME|SHELL|PWD|LANG|TERM|TMPDIR|RANK|WORLD_SIZE|(?:LC_|SLURM|HPCEST|AZURE|OMPI|PMI|MASTER).*)")


def resolve(passage: Passage) -> None:
    """Find the data that the spec names, and what it is now. Raises SpecError for what isn't there, with the file."""
    spec = passage.spec
    for name in (*spec.data, *spec.outputs):
        if not _NAME.fullmatch(name):
            raise SpecError(f"{name!r} can't be the name of data", hint="use letters, digits and '_', and no digit at the start")
    for name in spec.data:
        if name in spec.inputs:
            raise SpecError(f"two inputs are called {name!r}", hint="rename one of them")
    data = {name: _input(passage, name, given) for name, given in spec.data.items()}
    outputs = {name: _output(passage, name, given) for name, given in spec.outputs.items()}
    passage.spec = replace(spec, data=data, outputs=outputs)


def _input(passage: Passage, name: str, given: DataInput) -> DataInput:
    _allowed(f"the mode of input {name!r}", given.mode, INPUT_MODES)
    _allowed(f"the type of input {name!r}", given.type, TYPES)
    workspace = passage.context.workspace
    if given.dataset and not given.paths:
        given = datasets.read(workspace, given.dataset, given.version or None).as_input(mode=given.mode, target=given.target)
    paths = tuple(local_path(passage.context, path) for path in given.paths)
    if passage.spec.after and paths and not any(os.path.exists(path) for path in paths):
        return replace(given, paths=paths)  # made by a run that comes before; the node will see
    known = read_manifest(workspace, given.manifest)
    found = _what_is_there(paths, given, known)
    most = None if given.dataset else MOST_READ
    listing = listing_of(workspace, found, [*paths, found.root], passage.say, known=given.manifest, most=most)
    told = replace(given, paths=paths, root=found.root, digest=listing.digest, files=len(found.files), size=found.size)
    if known and known.root == found.root:
        _compare(passage, f"dataset {given.dataset}:{given.version}" if given.dataset else f"input {name!r}", known, listing)
    return replace(told, type=datasets.kind_of(told), manifest=listing.manifest)


def _what_is_there(paths: tuple[str, ...], given: DataInput, known: Listing | None) -> Found:
    """The files of a version of a dataset are those that it was made of; a folder is what is in it now."""
    if known and given.dataset and not whole_path(replace(given, paths=paths)):
        return look_again(known.root, known.files)
    return find(paths, given.root)


def _compare(passage: Passage, what: str, known: Listing, now: Listing) -> None:
    gone, changed, new = differences(known, now.files)
    if gone:
        others = f", and {len(gone) - 1} more files" if len(gone) > 1 else ""
        raise SpecError(
            f"{what} has lost the file {os.path.join(known.root, gone[0])!r}{others}",
            hint="put it back, or register the data anew, which makes another version",
        )
    for names, word in ((changed, "changed"), (new, "is new")):
        if names:
            others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            passage.say(f"warning: {what} is not what it was: {os.path.join(known.root, names[0])} {word}{others}")


def _output(passage: Passage, name: str, given: DataOutput) -> DataOutput:
    _allowed(f"the mode of output {name!r}", given.mode, OUTPUT_MODES)
    _allowed(f"the type of output {name!r}", given.type, TYPES)
    if given.dataset:
        datasets.checked_name(given.dataset)
    if given.model:
        _checked_model(given.model)
    path = local_path(passage.context, given.path) if given.path else ""
    if path and given.mode == "mount" and os.path.lexists(path) and os.path.isdir(path) != (given.type != "uri_file"):
        raise SpecError(f"output {name!r} goes to {path}, which is {'a folder' if os.path.isdir(path) else 'no folder'}")
    return replace(given, path=path)


def _checked_model(name: str) -> None:
    try:
        models.checked_name(name)
    except Refused as error:
        raise SpecError(error.message, hint=error.hint) from error


def _allowed(what: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise SpecError(f"{what} is {value!r}", hint=f"allowed: {', '.join(allowed)}")


def launch_of(spec: RunSpec, folder: RunFolder, workspace: WorkspaceFolder) -> tuple[dict[str, Any], dict[str, str]]:
    """What the node does for the run's data, empty for none; and the variables that are known already."""
    if not spec.data and not spec.outputs:
        return {}, {}
    asked = {**spec.environment.variables, **spec.environment_variables}
    variables: dict[str, str] = {}
    inputs = {name: _told(workspace, name, given, asked) for name, given in spec.data.items()}
    for name, given in spec.data.items():
        variables.update(dict.fromkeys(inputs[name]["variables"], path) if (path := path_of(given)) else {})
    outputs = {}
    for name, output in spec.outputs.items():
        names = [f"AZURE_ML_OUTPUT_{name}", f"AZUREML_DATAREFERENCE_{name}"]
        path = written_path(folder, name, output)
        upload = output_path(folder.id, name, output) if output.mode == "upload" else ""
        rest = {"globs": list(output.globs), "overwrite": output.overwrite, "target": output.target, "variables": names}
        outputs[name] = {"path": path, "upload": upload, "type": output.type, **rest}
        variables.update({} if output.target else dict.fromkeys(names, path))
    return {"inputs": inputs, "outputs": outputs}, variables


def _told(workspace: WorkspaceFolder, name: str, given: DataInput, asked: Mapping[str, str]) -> dict[str, Any]:
    names = [f"AZURE_ML_INPUT_{name}", f"AZUREML_DATAREFERENCE_{name}"]
    if name not in asked and name not in os.environ and not _TAKEN.fullmatch(name):
        names.append(name)
    return {
        "path": whole_path(given),
        "paths": list(given.paths),
        "root": given.root,
        "mode": given.mode,
        "target": given.target,
        "size": given.size,
        "manifest": str(manifest_path(workspace, given.manifest)) if given.manifest else "",
        "variables": names,
    }
