"""What the tests of the store share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from hpcest.environments.store.entries import StoredImage

HOUSE = Path(__file__).parents[3]
Fill = Callable[..., StoredImage]
AsNobody = Callable[[str], str]


def key(text: str = "one") -> str:
    """A key as environments have them."""
    return hashlib.sha256(text.encode()).hexdigest()


def close(root: Path) -> None:
    """Take from others the right to write a store, whatever the umask was."""
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
