"""The store of snapshots: the content of every file once, under its sha256, never changed.

A file that is written to while it is read is read again, until one reading is whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hpcest.errors import HpcestError
from hpcest.kit.files import freshened, written_beside
from hpcest.model.folders import WorkspaceFolder

_TRIES = 5
_PAUSE_S = 0.05
_IN_MEMORY = 4 << 20  # bytes; larger files are read twice instead of being held
_CHUNK = 1 << 20


class KeepsChangingError(Exception):
    """A file was different each time it was read."""


class ObjectStore:
    """Where a workspace keeps the content of files. ``added`` are the objects that were not there before."""

    def __init__(self, workspace: WorkspaceFolder) -> None:
        self.workspace = workspace
        self.added: set[str] = set()

    def put(self, data: bytes, *, mode: int = 0o644) -> str:
        """Have ``data`` in the store; return its sha256. Raises HpcestError where it can't be written.

        ``mode`` is that of the file that it comes from: others may read the object if they may read that.
        """
        digest = hashlib.sha256(data).hexdigest()
        if not self._has(digest, len(data)):
            with self._new_object(digest, mode) as stream:
                stream.write(data)
        return digest

    def put_file(self, path: bytes) -> tuple[os.stat_result, str]:
        """Have the content of the regular file ``path`` in the store: what stat says of it, and its sha256.

        Raises KeepsChangingError, OSError where it can't be read (FileNotFoundError too where it is no regular
        file any more), HpcestError where it can't be stored.
        """
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(attempt * _PAUSE_S)
            with open(_opened(path), "rb", buffering=0) as stream:
                before = os.fstat(stream.fileno())
                digest = self._put_stream(stream, before)
                if digest:
                    return before, digest
        raise KeepsChangingError(path)

    def _put_stream(self, stream: IO[bytes], before: os.stat_result) -> str:
        """The sha256 of what was stored; empty if the file changed meanwhile."""
        if before.st_size <= _IN_MEMORY:
            data = stream.read(before.st_size + 1)
            unchanged = len(data) == before.st_size and _same(before, os.fstat(stream.fileno()))
            return self.put(data, mode=before.st_mode) if unchanged else ""
        digest = _digest_of(stream, before.st_size)
        if not _same(before, os.fstat(stream.fileno())):
            return ""
        if digest and not self._has(digest, before.st_size):
            stream.seek(0)
            try:
                with self._new_object(digest, before.st_mode) as out:
                    if _digest_of(stream, before.st_size, out) != digest:
                        raise KeepsChangingError
            except KeepsChangingError:
                return ""
        return digest

    def _has(self, digest: str, size: int) -> bool:
        """Whether the object is there, whole and readable, and stays: a machine that lost power may have cut it short."""
        path = self.workspace.object(digest)
        try:
            return os.stat(path).st_size == size and os.access(path, os.R_OK) and freshened(path)
        except OSError:
            return False

    @contextlib.contextmanager
    def _new_object(self, digest: str, mode: int) -> Iterator[_Writer]:
        path = self.workspace.object(digest)
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_beside(path) as beside:
                descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, (mode & 0o444) | 0o400)
                with open(descriptor, "wb", buffering=0) as stream:
                    yield _Writer(stream)
        self.added.add(digest)


class _Writer:
    """Writes all of what it is given; a raw file may take a part only."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the trouble of writing ``path`` into an HpcestError with the system's words for it."""
    try:
        yield
    except OSError as error:
        beside = str(error.filename or "").endswith(".tmp")  # a name that nobody knows
        where = error.filename if error.filename and not beside else path.parent
        raise HpcestError(
            f"can't store the snapshot in {str(where)!r}: {error.strerror or error}",
            hint="the workspace must be writable and have space (and files) left in its quota; nothing was submitted",
        ) from error


def _opened(path: bytes) -> int:
    """A descriptor to read the regular file ``path`` by; never waits for the other end of a FIFO."""
    try:
        reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            raise FileNotFoundError(errno.ENOENT, "no file any more", path) from error
        raise
    if not stat.S_ISREG(os.fstat(reading).st_mode):
        os.close(reading)
        raise FileNotFoundError(errno.ENOENT, "no file any more", path)
    return reading


def _digest_of(stream: IO[bytes], size: int, out: _Writer | None = None) -> str:
    """The sha256 of the next ``size`` bytes, also written to ``out``; empty where there are more or fewer."""
    digest = hashlib.sha256()
    while size >= 0 and (chunk := stream.read(_CHUNK)):
        size -= len(chunk)  # a file that grows as fast as it is read has no end
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
    return digest.hexdigest() if size == 0 else ""


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (after.st_size, after.st_mtime_ns, after.st_ctime_ns)
