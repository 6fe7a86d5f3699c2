"""What becomes of the outputs of a run that has completed: datasets and models, where the run said so. Uploads are the node's business."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.errors import HpcestError
from hpcest.kit.codec import decode
from hpcest.model.datapaths import final_path
from hpcest.model.folders import RunFolder
from hpcest.model.spec import DataInput, DataOutput
from hpcest.model.status import Status
from hpcest.onnode import models
from hpcest.onnode.copying import Refused, clone, share
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen


def register_outputs(context: Context, seen: Seen) -> list[str]:
    """Make datasets and models of the outputs of a run that has completed; done again it changes nothing. Returns warnings.

    The run gets a property ``hpcest.output.NAME`` for each, with the version, and the digest of a dataset.
    """
    if seen.status is not Status.COMPLETED:
        return []
    declared = ((get_json(str(seen.folder.header)) or {}).get("spec") or {}).get("outputs") or {}
    warnings = []
    for name, facts in declared.items():
        if not isinstance(facts, dict) or not (facts.get("dataset") or facts.get("model")):
            continue
        register = _register_dataset if facts.get("dataset") else _register_model
        try:
            made = register(context, seen.folder, name, decode(DataOutput, facts))
        except (HpcestError, Refused, OSError) as error:
            warnings.append(f"run {seen.folder.id}: output {name!r} was not registered: {getattr(error, 'message', error)}")
            continue
        if made:
            _note(seen.folder, name, made)
    return warnings


def _note(folder: RunFolder, name: str, made: str) -> None:
    from hpcest.lifecycle.journal import append

    with contextlib.suppress(OSError):
        append(folder, "watch", {"e": "property", "k": f"hpcest.output.{name}", "v": made})


def _register_dataset(context: Context, folder: RunFolder, name: str, output: DataOutput) -> str:
    from hpcest.lifecycle.data import datasets

    path = os.path.abspath(final_path(folder, name, output))
    data = DataInput((path,), type=output.type, table=output.table)
    tags = {**output.tags, "run_id": folder.id, "output": name}
    kind = "tabular" if output.table else "file"
    made = datasets.register(context.workspace, output.dataset, data, kind=kind, description=output.description, tags=tags)
    return f"{made.id} {made.data.digest}"


def _register_model(context: Context, folder: RunFolder, name: str, output: DataOutput) -> str:
    """The version that was made, or empty where there was one of this output already."""
    registry, key = str(context.workspace.models), f"{folder.id}/{name}/"
    if models.has_key(registry, output.model, key):
        return ""
    path = os.path.abspath(final_path(folder, name, output))
    if not any(files for _, _, files in os.walk(path)) and not os.path.isfile(path):
        raise HpcestError(f"nothing was written to {path}")
    inside = Path(path).is_relative_to(folder.path)
    facts = models.facts(output.tags, {"hpcest.output": name}, output.description)
    whole = models.by_run(facts, str(folder.path), key)
    number = models.register(registry, output.model, path, whole, str(folder.path if inside else path), share if inside else clone)
    return f"{output.model}:{number}"
