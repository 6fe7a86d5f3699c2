"""Copying what runs have made: names never lead out of the run folder, and links do so only to be refused.

A program may put any link into its outputs. One that stays within the run folder is as good as the file;
one that leads out of it is left alone, for who copies may read more than who wrote the link.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.files import written_beside
from hpcest.onnode.run import artifact_names, artifact_path

#: Puts the content of the first file at the second path, which is new or may be replaced.
Put = Callable[[Path, Path], object]
_FICLONE = 0x40049409  # of <linux/fs.h>


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


def why_not(path: Path, root: Path) -> str:
    """Why ``path`` can't be copied as a file that lies below ``root``; empty where it can."""
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError):  # RuntimeError: Python's word for a loop of links, before 3.13
        return "is a link that leads nowhere"
    if not real.is_relative_to(root.resolve()):
        return f"is a link that leads out of the run folder, to {real}"
    if stat.S_ISREG(mode):
        return ""
    return "is a folder" if stat.S_ISDIR(mode) else "is a pipe, a socket or a device"


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


def clone(source: Path, target: Path) -> object:
    """Copy a file; where the file system can, both share their blocks until one is written to (XFS, Btrfs, …)."""
    try:
        with open(source, "rb") as reading, open(target, "wb") as writing:
            return fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
    except OSError:
        return shutil.copyfile(source, target)


def share(source: Path, target: Path) -> object:
    """Have one file under both names, which nobody may write to any more; a clone where that can't be.

    Root may write to any file, and a file of somebody else can't be made read-only: these are cloned.
    """
    found = source.stat()
    if os.geteuid() != 0 and found.st_uid == os.geteuid():
        try:
            os.link(source.resolve(), target)
            target.chmod(stat.S_IMODE(found.st_mode) & ~0o222)
            return target
        except OSError:  # another file system, or one without links
            target.unlink(missing_ok=True)
    return clone(source, target)


def copy_whole(source: Path, target: Path, root: Path | None = None, *, put: Put = shutil.copyfile, _above: tuple[Path, ...] = ()) -> None:
    """Copy a file, or a folder with everything in it, to ``target``, which is new or a folder to add to.

    Links are copied as what they lead to, so that the copy is complete, unless they lead to something within
    the folder itself. With ``root`` nothing may lead out of it. Raises SpecError for that, for links that
    lead nowhere or in a circle, and for pipes and the like; OSError. ``put`` is how each file is copied.
    """
    _check(source, root)
    if not source.is_dir():
        put(source, target)
        return
    top = source.resolve()
    if top in _above:
        raise SpecError(f"the links in {str(_above[0])!r} lead in a circle, by {str(top)!r}", hint="remove one of them")
    target.mkdir(exist_ok=True)
    for path in _below(source):
        here = target / path.relative_to(source)
        _check(path, root)
        if path.is_symlink() and path.resolve().is_relative_to(top):
            here.unlink(missing_ok=True)
            here.symlink_to(os.path.relpath(path.resolve(), path.parent.resolve()))
            continue
        if not path.is_dir():
            put(path, here)
        elif path.is_symlink():
            copy_whole(path.resolve(), here, root, put=put, _above=(*_above, top))
        else:
            here.mkdir(exist_ok=True)


def _below(folder: Path) -> Iterator[Path]:
    """Everything below ``folder``, a folder before what is in it; links are named, not followed."""
    for where, folders, names in os.walk(folder):
        yield from (Path(where, name) for name in sorted(folders + names))


def _check(path: Path, root: Path | None) -> None:
    problem = why_not(path, root if root is not None else Path("/"))
    if problem and problem != "is a folder":
        raise SpecError(f"{str(path)!r} {problem}, so the copy would not be complete", hint="replace it by a plain file, or remove it")
