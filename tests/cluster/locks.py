"""Tests share a cluster, or have it alone to break it: a lock for many or one, in which nobody waits forever."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.commands import ClusterError
from tests.cluster.shape import Cluster

PATIENCE = 600.0
"""Seconds to wait for others."""


def make(cluster: Cluster) -> None:
    """The two files; everybody may lock them, nobody can write to them."""
    for name in ("gate", "use"):
        cluster.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        _path(cluster, name).touch(mode=0o644)


@contextlib.contextmanager
def hold(cluster: Cluster, *, alone: bool, seconds: float = PATIENCE) -> Iterator[None]:
    """Use the cluster with others, or alone.

    Whoever wants it alone closes the gate first: no new users come in, and those inside finish. Locks end with their process.

    :raises ClusterError: The others took longer than ``seconds``.
    """
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    end = time.monotonic() + seconds
    with _open(_path(cluster, "use")) as use:
        with _open(_path(cluster, "gate")) as gate:
            _lock(gate, kind, cluster=cluster, end=end)
            _lock(use, kind, cluster=cluster, end=end)
        yield


def _path(cluster: Cluster, name: str) -> Path:
    return cluster.folder / f"lock.{name}"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _lock(file: int, kind: int, *, cluster: Cluster, end: float) -> None:
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise ClusterError(
                    f"cluster {cluster.name} is still in use by other tests (see: fuser -v {cluster.folder}/lock.*)"
                ) from None
            time.sleep(0.02)
