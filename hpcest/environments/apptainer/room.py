"""The surroundings in which Apptainer builds: a folder that containers can be shown, and variables that lead there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hpcest.contracts import Say
from hpcest.environments.room import place_of
from hpcest.errors import EnvironmentBuildError

#: Containers have their own: nothing of the host's can be bound below them.
_OWN = ("/dev", "/proc", "/sys")
_NOEXEC = "it is mounted noexec, so no program can be started there"
_ELSEWHERE = ("/tmp", "/var/tmp")  # noqa: S108 - folders are made in them, with names that nobody can guess


def place_for(wanted: str, variables: Mapping[str, str], say: Say) -> str:
    """Where ``scratch`` is to build for containers: in ``place_of(wanted)``, or elsewhere where that is no good for it.

    What is configured is refused then, and of TMPDIR it is said. Raises EnvironmentBuildError.
    """
    first = place_of(wanted, variables)
    why = _unfit(first)
    if not why:
        return first
    if not wanted:
        other = next((place for place in _ELSEWHERE if os.access(place, os.W_OK | os.X_OK) and not _unfit(place)), "")
        if other:
            say(f"built in {other}, not in {first}: {why}")
            return other
        if why == _NOEXEC:
            return first  # images of pip packages alone can be built all the same
    hint = "set environment: {scratch: DIR} in the configuration to a directory on a local disk"
    raise EnvironmentBuildError(f"containers can't be built in {first}: {why}", hint=hint)


def _unfit(place: str) -> str:
    """Why nothing for containers can be built in a directory; empty where it can, or where there is none."""
    path = os.path.abspath(place)
    for own in _OWN:
        if path == own or path.startswith(f"{own}/"):
            return f"containers have a {own} of their own"
    try:
        return _NOEXEC if os.statvfs(path).f_flag & os.ST_NOEXEC else ""
    except OSError:
        return ""


def tool_variables(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Apptainer builds: its temporary files in the scratch folder, nothing of an outer container."""
    aimed = ("APPTAINER_BIND", "SINGULARITY_BIND", "APPTAINERENV_", "SINGULARITYENV_")
    kept = {name: value for name, value in variables.items() if not name.startswith(aimed)}
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    return {**kept, "TMPDIR": str(temporary), "APPTAINER_TMPDIR": str(temporary), "SINGULARITY_TMPDIR": str(temporary)}
