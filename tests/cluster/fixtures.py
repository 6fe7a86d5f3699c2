"""The fixtures with which a test runs on a real Slurm: ``slurm``, ``bare_slurm`` (no accounting) and ``alone``."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import locks
from tests.cluster.commands import ClusterError
from tests.cluster.operator_client import Operator
from tests.cluster.shape import BARE, FULL, Cluster

REQUIRED = bool(os.environ.get("CI"))
"""Where CI runs a cluster must be there; elsewhere tests that need one are skipped."""


@dataclass(frozen=True)
class Slurm:
    """A running cluster, which SLURM_CONF names for the time of the test."""

    name: str
    conf: Path
    nodes: tuple[str, ...]
    operator: Operator

    def run(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        """What a program says on stdout.

        :raises AssertionError: It failed (with ``check``); the message has its stderr.
        """
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
        assert not (check and done.returncode), f"{argv} ended with {done.returncode}: {done.stderr}"
        return done.stdout


@pytest.fixture
def alone() -> None:
    """Beside ``slurm`` or ``bare_slurm``: nobody else uses the cluster meanwhile, and what the test breaks is mended after it."""


@pytest.fixture
def slurm(own_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """Four nodes with fake GPUs, cgroups and accounting."""
    with _using(FULL, monkeypatch, alone="alone" in request.fixturenames) as cluster:
        yield cluster


@pytest.fixture
def bare_slurm(own_home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Slurm]:
    """Two nodes without accounting: sacct fails. It replaces ``slurm`` as the cluster that SLURM_CONF names."""
    with _using(BARE, monkeypatch, alone="alone" in request.fixturenames) as cluster:
        yield cluster


@contextmanager
def _using(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, alone: bool) -> Iterator[Slurm]:
    if why := _unreachable(cluster):
        (pytest.fail if REQUIRED else pytest.skip)(why)
    operator = Operator(cluster.name)
    try:
        with locks.hold(cluster, alone=alone):
            monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
            yield Slurm(cluster.name, cluster.conf, cluster.nodes, operator)
            if alone:
                operator.restore()
    except ClusterError as failure:
        pytest.fail(str(failure))


@functools.cache
def _unreachable(cluster: Cluster) -> str:
    """Why there is no cluster for the tests of this process; empty if there is one."""
    try:
        Operator(cluster.name).status()
    except ClusterError as failure:
        return f"no test cluster, start it as root with: make cluster-up ({failure})"
    return ""
