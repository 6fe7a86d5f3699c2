"""Which files data is made of: paths and patterns to the names, sizes and times of what is there."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcest.errors import SpecError
from hpcest.model.datapaths import is_pattern

#: Name below the root, size in bytes, time of the last change in nanoseconds.
File = tuple[str, int, int]


@dataclass(frozen=True)
class Found:
    """Files, sorted by name. ``root`` is the folder that their names are relative to."""

    root: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """How many bytes they have together."""
        return sum(size for _, size, _ in self.files)


def find(paths: Sequence[str], root: str = "") -> Found:
    """The files of absolute ``paths``: files, all below folders, all that match patterns such as ``/data/*.gz`` or ``/data/**``.

    The names are relative to ``root``; without one, to the folder if there is one path alone, else to what the paths share.
    Links are followed; those that lead nowhere, pipes and devices are no data. Raises SpecError where there is nothing.
    """
    root = os.path.normpath(root) if root else root_of(paths)
    found: dict[str, File] = {}
    for path in paths:
        for file in _files(path):
            facts = _facts(file)
            if facts is not None:
                found[file] = (_below(file, root), *facts)
    if not found:
        raise SpecError(f"there is no file in {', '.join(paths)}", hint="name a folder that holds the data, or a file")
    return Found(root, tuple(sorted(found.values())))


def look_again(root: str, names: Iterable[str]) -> Found:
    """Those of the files ``names`` below ``root`` that are still there."""
    facts = ((name, _facts(os.path.join(root, name))) for name in names)
    return Found(root, tuple(sorted((name, *one) for name, one in facts if one is not None)))


def root_of(paths: Sequence[str]) -> str:
    """The folder that names are relative to where nothing else is said. Raises SpecError for none."""
    if not paths:
        raise SpecError("no path of data is given", hint="name a file, a folder or a pattern")
    return os.path.commonpath([_static(path) for path in paths])


def _static(path: str) -> str:
    """The folder that ``path`` is certain to be in, or is."""
    if is_pattern(path):
        parts = path.split(os.sep)
        plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        return os.path.normpath(os.sep.join(parts[:plain]) or os.sep)
    return os.path.normpath(path if os.path.isdir(path) else os.path.dirname(path))


def _files(path: str) -> Iterable[str]:
    if not is_pattern(path):
        return _expanded(path)
    matches = [match for match in glob.glob(path, recursive=True) if match.rstrip(os.sep) != _static(path)]
    if not matches:
        where = _static(path)
        raise SpecError(f"nothing matches {path!r}", hint=f"{where} {_what_is_in(where)}")
    # What ** matches are folders and what is in them too.
    return dict.fromkeys(file for match in matches for file in ([match] if os.path.isfile(match) else _walked(match, ())))


def _expanded(path: str) -> Iterable[str]:
    if not os.path.exists(path):
        above = os.path.dirname(path.rstrip(os.sep))
        while above and not os.path.isdir(above):
            above = os.path.dirname(above)
        raise SpecError(f"there is no file or folder {path!r}", hint=f"{above} {_what_is_in(above)}")
    return _walked(path, ()) if os.path.isdir(path) else [os.path.normpath(path)]


def _what_is_in(folder: str) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return f"can't be read: {error.strerror}"
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"has {shown}" if names else "is empty"


def _walked(folder: str, above: tuple[tuple[int, int], ...]) -> Iterable[str]:
    """All files below ``folder``; folders that links lead to as well, but not in a circle."""
    try:
        here = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except NotADirectoryError:
        return
    except OSError as error:
        raise SpecError(f"the data folder {folder!r} can't be read: {error.strerror}", hint="check its permissions") from error
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        raise SpecError(f"the links in the data lead in a circle, by {folder!r}", hint="remove one of them")
    for entry in entries:
        try:
            is_folder = entry.is_dir()
        except OSError:
            continue
        if is_folder:
            yield from _walked(entry.path, (*above, identity))
        else:
            yield entry.path


def _facts(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SpecError(f"the data {path!r} can't be read: {error.strerror}", hint="check its permissions") from error
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _below(path: str, root: str) -> str:
    name = os.path.relpath(path, root)
    if name.startswith(".."):
        raise SpecError(f"the data {path!r} is not below {root!r}", hint="leave out the root, or choose one that holds it all")
    return name
