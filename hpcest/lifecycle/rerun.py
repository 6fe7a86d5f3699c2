"""The spec of a recorded run, to be submitted again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from hpcest.errors import HpcestError, UsageError
from hpcest.kit.codec import decode
from hpcest.lifecycle.secrets import MASK, is_secret
from hpcest.model.folders import RunFolder
from hpcest.model.spec import RunSpec
from hpcest.onnode.record import get_json


def spec_of_run(folder: RunFolder, variables: Mapping[str, str]) -> RunSpec:
    """The spec that the run was submitted with, its snapshot included; ``variables`` go on top.

    Secrets were not recorded: they are taken from ``variables``, else from this process's environment.
    Raises UsageError if one is missing, or if the run was not submitted but made by a program.
    """
    header = get_json(str(folder.header))
    if header is None:
        raise HpcestError(f"the record of run {folder.id} can't be read: {folder.header}")
    if header.get("kind") == "interactive":
        raise UsageError(f"run {folder.id} was logged by a process of its own, not submitted", hint="start that program again")
    if header.get("kind") != "run":
        raise UsageError(f"run {folder.id} was made by a program, not submitted; rerun its parent")
    data = dict(header.get("spec") or {})
    if data.get("schema", 1) > 1:
        raise HpcestError(f"run {folder.id} was recorded by a newer version of hpcest", hint="upgrade hpcest")
    data.pop("schema", None)
    spec = decode(RunSpec, data)
    return replace(
        spec,
        environment=replace(spec.environment, variables=_with_secrets(spec.environment.variables, variables)),
        environment_variables={**_with_secrets(spec.environment_variables, variables), **variables},
        properties={**spec.properties, "hpcest.rerun_of": folder.id},
    )


def _with_secrets(recorded: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """``recorded`` with the values of its secrets as they are ``given``, or set in this process."""
    known = dict(recorded)
    for name, value in known.items():
        if value == MASK and is_secret(name):
            found = given.get(name, os.environ.get(name))
            if found is None:
                raise UsageError(f"the value of {name} was not recorded, because it is a secret", hint=f"give it again: --env-var {name}=…")
            known[name] = found
    return known
