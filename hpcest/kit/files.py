"""Files that others read while we write: beside and renamed, never half."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: Seconds for which a file that somebody relies on is young. What sweeps a workspace takes nothing that is not much older.
YOUNG_S = 12 * 3600.0


def _beside(path: Path) -> Path:
    """A name in the same directory that nobody else has, short enough for any file system."""
    return path.with_name(f".{os.urandom(16).hex()}.tmp")  # uuid takes longer to import


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; renamed to ``path`` at the end, removed on an exception."""
    beside = _beside(path)
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def write_text(path: Path, text: str, *, sync: bool = False) -> None:
    """Write ``text`` to ``path`` atomically, and to the disk before returning where ``sync``."""
    with written_beside(path) as beside, open(beside, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())


def write_json(path: Path, value: Any, *, sync: bool = False) -> None:
    """Write ``value`` as JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n", sync=sync)


def write_private(path: Path, value: Any, *, indent: int | None = None, sync: bool = True) -> None:
    """Write ``value`` as JSON to ``path``, readable for its owner alone, on the disk before returning if ``sync``. Not atomic."""
    text = json.dumps(value, indent=indent)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        if sync:
            os.fsync(stream.fileno())


def sync_files(paths: Iterable[Path]) -> None:
    """Have files on the disk that were written before; missing ones are passed over. The first takes the others along mostly."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; None where there is no file. Raises ValueError for a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def create_exclusively(path: Path, text: str) -> bool:
    """Make ``path`` with ``text`` if it is not there yet; False if it is. Whole for every reader."""
    beside = _beside(path)
    beside.write_text(text, encoding="utf-8")
    try:
        os.link(beside, path)
        return True
    except FileExistsError:
        # On NFS the answer may get lost and the call be repeated: the count of links tells who won.
        return os.stat(beside).st_nlink == 2
    finally:
        beside.unlink()


def freshened(path: Path) -> bool:
    """Whether the file is there for who relies on it from now on: an old one is made young, so that no sweep takes it.

    Somebody else's file is replaced by a copy. One that can't be made young at all is relied on as it is. False for one that is
    not there, or can't be read.
    """
    try:
        found = os.stat(path)
        if found.st_mtime < time.time() - YOUNG_S:
            try:
                os.utime(path)
            except PermissionError:
                _renew(path, found.st_mode & 0o777)
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return os.access(path, os.R_OK)


def _renew(path: Path, mode: int) -> None:
    with written_beside(path) as beside, open(path, "rb") as old, open(beside, "xb") as new:
        while data := old.read(1 << 20):
            new.write(data)
        os.fchmod(new.fileno(), mode)
