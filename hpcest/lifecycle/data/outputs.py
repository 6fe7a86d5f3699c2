"""What becomes of the outputs of a run that has completed: datasets, where the run said so. Uploads are the node's business."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from hpcest.errors import HpcestError
from hpcest.kit.codec import decode
from hpcest.model.datapaths import final_path
from hpcest.model.folders import RunFolder
from hpcest.model.spec import DataInput, DataOutput
from hpcest.model.status import Status
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen


def register_outputs(context: Context, seen: Seen) -> list[str]:
    """Make datasets of the outputs of a run that has completed; done again it changes nothing. Returns warnings.

    The run gets a property ``hpcest.output.NAME`` for each, with the version and the digest.
    """
    if seen.status is not Status.COMPLETED:
        return []
    declared = ((get_json(str(seen.folder.header)) or {}).get("spec") or {}).get("outputs") or {}
    warnings = []
    for name, facts in declared.items():
        if isinstance(facts, dict) and facts.get("dataset"):
            try:
                _register(context, seen.folder, name, decode(DataOutput, facts))
            except HpcestError as error:
                warnings.append(f"run {seen.folder.id}: output {name!r} was not registered: {error.message}")
    return warnings


def _register(context: Context, folder: RunFolder, name: str, output: DataOutput) -> None:
    from hpcest.lifecycle.data import datasets
    from hpcest.lifecycle.journal import append

    path = os.path.abspath(final_path(folder, name, output))
    data = DataInput((path,), type=output.type, table=output.table)
    tags = {**output.tags, "run_id": folder.id, "output": name}
    kind = "tabular" if output.table else "file"
    made = datasets.register(context.workspace, output.dataset, data, kind=kind, description=output.description, tags=tags)
    with contextlib.suppress(OSError):
        append(folder, "watch", {"e": "property", "k": f"hpcest.output.{name}", "v": f"{made.id} {made.data.digest}"})
