"""What becomes of the models that a run's program has registered: those that the workspace has not yet are taken in when it is collected.

A program registers in the workspace itself where that is on its machine; then nothing is left to do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hpcest.model.folders import RunFolder
from hpcest.onnode import models
from hpcest.onnode.artifacts import artifact_path
from hpcest.onnode.copying import share

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen


def register_models(context: Context, seen: Seen) -> list[str]:
    """Register what the run asked for and the workspace lacks; done again it changes nothing. Returns warnings."""
    warnings = []
    for key, facts in seen.state.models.items():
        if facts is None or models.has_key(str(context.workspace.models), str(facts.get("name")), key):
            continue
        try:
            _register(str(context.workspace.models), seen.folder, key, facts)
        except (OSError, ValueError, TypeError) as error:
            name = str(facts.get("name"))
            warnings.append(f"run {seen.folder.id}: the model {name!r} was not registered: {error}; see: hpcest models register --help")
    return warnings


def _register(registry: str, folder: RunFolder, key: str, facts: dict[str, Any]) -> None:
    path = artifact_path(str(folder.path), facts.get("path") or "outputs")
    if not os.path.exists(path):
        raise FileNotFoundError(f"the run has no file {facts.get('path')!r}")
    made_with = facts.get("framework"), facts.get("framework_version")
    said = models.facts(facts.get("tags"), facts.get("properties"), facts.get("description"), facts.get("datasets"), made_with)
    models.register(registry, facts.get("name"), path, models.by_run(said, str(folder.path), key), str(folder.path), share)
