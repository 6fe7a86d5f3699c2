"""What the tests of the store share."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


class Moments:
    """Lets things happen in the very moment before a step on the file system, as another process might just then."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []
        self._waiting: list[tuple[str, int, Path, Callable[[], object]]] = []

    def before(self, event: str, path: Path, action: Callable[[], object], *, argument: int = 0) -> None:
        """Call ``action`` once, before the first ``event`` (as ``os.rename``) whose ``argument`` is ``path``."""
        self._waiting.append((event, argument, path, action))

    def steps(self, event: str, path: Path) -> int:
        """How often ``event`` was begun on ``path``."""
        return self.seen.count((event, str(path)))

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("os.rename", "os.link", "os.mkdir", "os.scandir"):
            return
        paths = [os.fspath(one) if isinstance(one, (str, os.PathLike)) else "" for one in arguments]
        self.seen.append((event, paths[0]))
        for waiting in [*self._waiting]:
            if waiting in self._waiting and event == waiting[0] and paths[waiting[1]] == str(waiting[2]):
                self._waiting.remove(waiting)
                waiting[3]()

    @property
    def missed(self) -> int:
        """How many moments did not come."""
        return len(self._waiting)


_LISTENING: list[Moments] = []
_HOOKED: list[bool] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for one in [*_LISTENING]:
        one.hear(event, arguments)


@contextmanager
def moments() -> Iterator[Moments]:
    """What happens in the block is told by Python's audit events; at its end everything must have happened."""
    if not _HOOKED:
        sys.addaudithook(_hear)  # there is no way back: it stays, and hears nothing
        _HOOKED.append(True)
    one = Moments()
    _LISTENING.append(one)
    try:
        yield one
        assert one.missed == 0
    finally:
        _LISTENING.remove(one)
