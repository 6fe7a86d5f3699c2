"""What is said where a source directory can't be frozen: the thing, its owner or its size, and the way out."""

from __future__ import annotations

import os
import time

from hpcest.errors import SnapshotError
from hpcest.lifecycle.ignore import AMLIGNORE, GITIGNORE, as_pattern, describe
from hpcest.lifecycle.tree import SIZE, Walk

_COUNTING_S = 2.0  # how long a directory that is too large is looked at, to say what makes it so


class Limits:
    """How much a snapshot may hold, and the message that says what is too much."""

    def __init__(self, max_files: int, max_bytes: int) -> None:
        self.max_files, self.max_bytes = max_files, max_bytes
        self._until = 0.0
        self._stopped = False

    def enough(self, walk: Walk) -> bool:
        """Whether to stop walking: some time after a limit is passed, so that there is something to tell."""
        if walk.files <= self.max_files and walk.size <= self.max_bytes:
            return False
        self._until = self._until or time.monotonic() + _COUNTING_S
        self._stopped = time.monotonic() > self._until
        return self._stopped

    def check(self, walk: Walk) -> None:
        """Raise SnapshotError if there is too much."""
        many = walk.files > self.max_files
        if not many and walk.size <= self.max_bytes:
            return
        limit, key = (f"{self.max_files:,} files", "snapshot.max_files") if many else (_size(self.max_bytes), "snapshot.max_bytes")
        worst = sorted(_tops(walk).items(), key=lambda item: item[1][0 if many else 1], reverse=True)[:4]
        blame = ", ".join(f"{name!r} ({count:,} {'file' if count == 1 else 'files'}, {_size(size)})" for name, (count, size) in worst)
        blame += ", counted so far" if self._stopped else ""
        name = worst[0][0]
        pattern = as_pattern(name.rstrip("/"), is_dir=name.endswith("/"))
        raise SnapshotError(
            f"the source directory {_text(walk.source)!r} has more than {limit}; most are in {blame}",
            hint=f"{_to_ignore(walk.source, pattern)}, or raise {key} in the configuration",
        )


def _tops(walk: Walk) -> dict[str, tuple[int, int]]:
    """Files and bytes of each entry at the root; a folder's name ends in a slash."""
    tops: dict[str, tuple[int, int]] = {}
    for path, folder in walk.tree.folders.items():
        for name, stamp in folder.files.items():
            top = path.split("/")[0] + "/" if path else name
            count, size = tops.get(top, (0, 0))
            tops[top] = (count + 1, size + stamp[SIZE])
    return tops


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def nothing_left(walk: Walk) -> SnapshotError:
    """Nothing is left to freeze: says by whom it was ignored, if by anybody."""
    again = Walk(walk.source, walk.rules).go()  # what was remembered does not say by whom
    environments = sum(folder.environment for folder in again.tree.folders.values())
    if not again.ignored and not environments:
        return SnapshotError(
            f"the source directory {_text(walk.source)!r} has no files in it", hint="name the directory that holds your program"
        )
    by = describe(again.ignored + ["holding a Python environment"] * environments)
    return SnapshotError(
        f"the source directory {_text(walk.source)!r} has no files left: everything in it was ignored, by {by}",
        hint="a line with '!' before a name brings it back",
    )


def changing(root: bytes, full: bytes) -> SnapshotError:
    """The file ``full`` was never the same twice."""
    name = _text(full[len(root) + 1 :])
    return SnapshotError(
        f"{name!r} in the source directory {_text(root)!r} keeps changing while it is read",
        hint=f"{_to_ignore(root, as_pattern(name))} if the run doesn't need it, or stop what writes to it",
    )


def unreadable(root: bytes, error: OSError) -> SnapshotError:
    """What can't be read, who owns it, and how to do without."""
    full = os.fsencode(error.filename or root)
    words = error.strerror or str(error)
    if not full.startswith(root + b"/"):
        return SnapshotError(
            f"the source directory {_text(root)!r} can't be read: {words}{_owner(full)}", hint="name a directory of your own"
        )
    name = _text(full[len(root) + 1 :])
    advice = _to_ignore(root, as_pattern(name, is_dir=os.path.isdir(full)))
    return SnapshotError(
        f"{name!r} in the source directory {_text(root)!r} can't be read: {words}{_owner(full)}",
        hint=f"{advice} if the run doesn't need it, or have it made readable for you",
    )


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _owner(path: bytes) -> str:
    from pwd import getpwuid

    try:
        found = os.lstat(path)
    except OSError:
        return ""
    try:
        owner = getpwuid(found.st_uid).pw_name
    except KeyError:
        owner = f"user {found.st_uid}"
    return f" (it belongs to {owner}, mode {found.st_mode & 0o7777:03o})"


def _to_ignore(root: bytes, pattern: str) -> str:
    """The advice to ignore ``pattern``, in the file that is in use: an .amlignore replaces all .gitignore files."""
    has = {name: os.path.exists(root + b"/" + name.encode()) for name in (AMLIGNORE, GITIGNORE)}
    if has[GITIGNORE] and not has[AMLIGNORE]:
        return f"add {pattern!r} to .gitignore (or to an .amlignore, which then replaces it)"
    return f"add {pattern!r} to .amlignore"
