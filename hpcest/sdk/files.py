"""Copying what runs have made: names never lead out of the run folder, and links do so only to be refused.

A program may put any link into its outputs. One that stays within the run folder is as good as the file;
one that leads out of it is left alone, for who copies may read more than who wrote the link.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import written_beside
from hpcest.onnode import copying
from hpcest.onnode.copying import clone, share, why_not
from hpcest.onnode.run import artifact_names, artifact_path

#: Puts the content of the first file at the second path, which is new or may be replaced.
Put = Callable[[Path, Path], object]
__all__ = ["Put", "artifact", "clone", "copy_file", "copy_files", "copy_whole", "path_of", "share", "why_not"]


def path_of(folder: str, name: str) -> Path:
    """The place of the artifact ``name`` in a run folder, whether it is there or not. Raises SpecError if it would leave it."""
    try:
        found = Path(artifact_path(folder, name))
    except ValueError as error:
        raise SpecError(str(error), hint="the names that there are: get_file_names(), or hpcest artifacts list") from error
    if "\0" in str(name):
        raise SpecError(f"{name!r} can't be the name of a file")
    return found


def artifact(folder: str, name: str) -> Path:
    """The file that is the artifact ``name``. Raises UnknownNameError if there is none, SpecError for what is no file."""
    found = path_of(folder, name)
    run = os.path.basename(folder)
    if not os.path.lexists(found):
        raise UnknownNameError(f"file of run {run}", str(name), artifact_names(folder))
    problem = why_not(found, Path(folder))
    if problem:
        raise SpecError(f"{str(name)!r} of run {run} {problem}, not a file of the run")
    return found


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, its folders made: ``target`` appears whole, or is left as it was. Raises HpcestError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(target) as beside:
            shutil.copyfile(source, beside)
    except OSError as error:
        raise HpcestError(f"{source.name!r} can't be copied to {target}: {error.strerror or error}") from error


def copy_files(folder: str, pairs: Sequence[tuple[str, Path]]) -> list[str]:
    """Copy artifacts, each to its path; return a phrase for each that is no file of the run, and is left out."""
    left_out = []
    for name, target in pairs:
        source = path_of(folder, name)
        problem = why_not(source, Path(folder))
        if problem:
            left_out.append(f"{name!r} {problem}")
        else:
            copy_file(source, target)
    return left_out


def copy_whole(source: Path, target: Path, root: Path | None = None, *, put: Put = shutil.copyfile) -> None:
    """Copy a file, or a folder with everything in it, to ``target``, which is new or a folder to add to.

    Links are copied as what they lead to, so that the copy is complete, unless they lead to something within
    the folder itself. With ``root`` nothing may lead out of it. Raises SpecError for that, for links that
    lead nowhere or in a circle, and for pipes and the like; OSError. ``put`` is how each file is copied.
    """
    try:
        copying.copy_whole(source, target, root, put)
    except copying.Refused as error:
        raise SpecError(error.message, hint=error.hint) from error
