"""What a local source of a package contains, as one digest: changed code is another environment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_LEFT_OUT = frozenset(("__pycache__", "node_modules"))
#: Built beside the source by some build tools, so they would change the digest each time.
_BUILT = frozenset(("build", "dist"))
#: A larger file, data most likely, is told by its size and date instead of its bytes.
LARGEST_READ = 16 << 20


def digest_of(path: Path) -> str:
    """A hex digest of an archive (by size and date) or of a source directory (by content).

    Hidden directories, caches and what build tools leave behind don't count. Raises OSError.
    """
    if path.is_file():
        return hashlib.sha256(_dated(path)).hexdigest()
    whole = hashlib.sha256()
    for file in _files(path):
        name = os.fsencode(file.relative_to(path))
        content = file.read_bytes() if file.stat().st_size <= LARGEST_READ else _dated(file)
        whole.update(b"%d %d %s" % (len(name), len(content), name))
        whole.update(content)
    return whole.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        top = _BUILT if folder == str(root) else frozenset()
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in _LEFT_OUT | top and not name.endswith(".egg-info")
        )
        for name in sorted(names):
            file = Path(folder, name)
            if not name.endswith(".pyc") and file.is_file():
                yield file


def _dated(path: Path) -> bytes:
    found = path.stat()
    return b"%d %d" % (found.st_size, found.st_mtime_ns)
