"""The SHA-256 of large files, remembered for as long as they look the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcest.kit.files import write_text
from hpcest.kit.userdirs import user_folder

_CHUNK = 1 << 20
#: A file that changed this lately can change again without a later date, so nothing is remembered of it.
_SETTLED_S = 2.0
_LARGEST_MEMO = 1 << 20


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's content, in hex. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        for chunk in chunks_of(stream.fileno()):
            digest.update(chunk)
    return digest.hexdigest()


def chunks_of(fd: int) -> Iterator[memoryview]:
    """The content of an open file, in pieces that are overwritten by the next one. Raises OSError."""
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    while True:
        count = os.readv(fd, [view])
        if not count:
            return
        yield view[:count]


class Digests:
    """A memo of digests: a file of JSON lines, by default in the user's cache folder.

    A digest is remembered for a path, a size, a modification time and an inode. A line that is torn, or not of
    ours, counts as none, and so does a whole memo that another user owns: who can write it could pass off any file.
    """

    def __init__(self, memo: Path | None = None, environ: Mapping[str, str] = os.environ) -> None:
        self.memo = memo or Path(environ.get("HPCEST_CACHE_DIR") or user_folder("XDG_CACHE_HOME", environ)) / "digests.jsonl"

    def of(self, path: Path | str) -> str:
        """The SHA-256 of a file, read only where it is not known yet. Raises OSError."""
        where = os.path.realpath(path)
        before = _look(where)
        known = self._known().get(json.dumps(before))
        if known:
            return known
        digest = sha256_of(where)
        if _look(where) == before and time.time() - before[2] / 1e9 > _SETTLED_S:
            self._keep(before, digest)
        return digest

    def _known(self) -> dict[str, str]:
        """The digests by what the file looked like; the last line about a file wins."""
        try:
            with open(self.memo, "rb") as stream:
                facts = os.fstat(stream.fileno())
                if facts.st_uid not in (0, os.getuid()) or stat.S_IMODE(facts.st_mode) & 0o022:
                    return {}
                lines = stream.read().split(b"\n")
        except OSError:
            return {}
        return dict(filter(None, map(_read, lines)))

    def _keep(self, looks: list[Any], digest: str) -> None:
        line = json.dumps([*looks, digest])
        with contextlib.suppress(OSError):  # a memo only saves time
            self.memo.parent.mkdir(parents=True, exist_ok=True)
            self._shorten()
            fd = os.open(self.memo, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, f"\n{line}\n".encode())  # the first newline ends a line that was torn
            finally:
                os.close(fd)

    def _shorten(self) -> None:
        """Leave out what was said of files before they changed, once the memo is long."""
        try:
            if os.stat(self.memo).st_size < _LARGEST_MEMO:
                return
        except FileNotFoundError:
            return
        latest = {json.loads(looks)[0]: (looks, digest) for looks, digest in self._known().items()}
        kept = [json.dumps([*json.loads(looks), digest]) for looks, digest in latest.values()]
        write_text(self.memo, "\n".join(kept[-2000:]) + "\n")
        os.chmod(self.memo, 0o600)


def _look(path: str) -> list[Any]:
    facts = os.stat(path)
    return [path, facts.st_size, facts.st_mtime_ns, facts.st_ino]


def _read(line: bytes) -> tuple[str, str] | None:
    """A line as (what the file looked like, its digest)."""
    try:
        path, size, mtime_ns, inode, digest = json.loads(line)
        if isinstance(path, str) and len(digest) == 64 and int(digest, 16) >= 0:
            return json.dumps([path, int(size), int(mtime_ns), int(inode)]), digest
    except (ValueError, TypeError):
        pass
    return None
