"""One ingester at a time: the others wait a moment for its work, or read what is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from hpcest.history.location import Place

_POLL_S = 0.01


@contextlib.contextmanager
def taken(place: Place, *, wait_s: float, anew: bool = False) -> Iterator[bool]:
    """Whether this process may change the index, within the block.

    False if another one has been at it for ``wait_s`` seconds, or has meanwhile read all that was there
    when we asked (unless ``anew``), or if the place can't be written. Nothing depends on the lock but
    speed: see ``Ledger``.
    """
    try:
        descriptor = os.open(f"{place.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        asked = time.time()
        waited = _wait(descriptor, place, asked + wait_s)
        if waited is None or (waited and not anew and _done_since(descriptor, asked)):
            yield False
            return
        began = time.time()
        yield True
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"{os.uname().nodename} {began:.6f}".ljust(300).encode(), 0)
    finally:
        os.close(descriptor)  # gives the lock back


def _wait(descriptor: int, place: Place, end: float) -> bool | None:
    """Take the lock; whether that took waiting, None if it was in vain."""
    # Across the nodes of a network file system POSIX locks are passed on; flock often is not.
    take = fcntl.lockf if place.network else fcntl.flock
    waited = False
    while True:
        try:
            take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except (BlockingIOError, PermissionError):
            waited = True
        except OSError:  # a file system without locks: go on without
            return False
        if time.time() >= end:
            return None
        time.sleep(_POLL_S)


def _done_since(descriptor: int, asked: float) -> bool:
    """Whether a process of this host, and so of this clock, began after ``asked`` and finished."""
    try:
        host, began = os.pread(descriptor, 300, 0).decode().split()
        return host == os.uname().nodename and asked <= float(began) <= time.time()
    except (OSError, ValueError):
        return False
