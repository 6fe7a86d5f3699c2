"""The fixtures of the real parts: ``slurm``, ``bare_slurm`` (no accounting), ``alone``, and ``apptainer`` with its images."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import bases, image_files, locks
from tests.cluster.apptainer import find
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


@dataclass(frozen=True)
class Apptainer:
    """Apptainer, which is on PATH for the time of the test, and images to start from."""

    program: Path
    debian: Path
    """Debian 12 with Python 3.11 and venv."""

    mpi: Path
    """The same with Open MPI and mpi4py."""

    def exec(self, image: Path | str, *argv: str, options: Sequence[str] = (), timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program in an image and return how it ended, whatever that was."""
        return self._run("exec", *options, str(image), *argv, timeout=timeout)

    def build(self, image: Path, source: Path | str, *, timeout: float = 120) -> Path:
        """Make an image from a definition file or a reference, ``docker-archive:…`` for one.

        :raises AssertionError: It failed; the message has its stderr.
        """
        done = self._run("build", str(image), str(source), timeout=timeout)
        assert done.returncode == 0, f"apptainer build {image} {source} ended with {done.returncode}: {done.stderr}"
        return image

    def docker_archive(self, path: Path, root: Path | None = None, **env: str) -> Path:
        """Write what ``docker save`` writes, of the folder ``root`` or of a busybox, with ``env`` set in it: ``docker-archive:PATH``."""
        return image_files.write_docker_archive(path, [self._layer(root)], env=env)

    def oci_layout(self, folder: Path, root: Path | None = None, **env: str) -> Path:
        """Write an OCI layout with one image, as ``docker_archive`` does: ``oci:FOLDER`` (Apptainer 1.4 takes no tag)."""
        return image_files.write_oci_layout(folder, [self._layer(root)], env=env)

    def _layer(self, root: Path | None) -> bytes:
        return image_files.folder_layer(root) if root else image_files.tiny_layer(bases.BUSYBOX)

    def _run(self, *argv: str, timeout: float) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), "--quiet", *argv]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture
def apptainer(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Apptainer:
    """The real Apptainer. Root gets it with user namespaces: what builds without ``%post`` works, and everything else that users can do."""
    if why := _no_apptainer():
        (pytest.fail if REQUIRED else pytest.skip)(why)
    program = find()
    assert program
    for name in [*os.environ]:
        if name.startswith(("APPTAINER_", "APPTAINERENV_", "SINGULARITY_", "SINGULARITYENV_")):
            monkeypatch.delenv(name)
    if os.geteuid() == 0:
        monkeypatch.setenv("APPTAINER_USERNS", "1")  # where a container or a sandbox took capabilities from root, all else fails
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return Apptainer(program, bases.DEBIAN, bases.MPI)


@functools.cache
def _no_apptainer() -> str:
    """Why there is none for the tests of this process; empty if there is one that can start a container here."""
    program = find()
    if program is None or not bases.DEBIAN.exists():
        return "no Apptainer with base images, get it as root with: make cluster-up"
    user = {**os.environ, **({"APPTAINER_USERNS": "1"} if os.geteuid() == 0 else {})}
    done = subprocess.run([program, "-q", "exec", bases.DEBIAN, "true"], env=user, capture_output=True, text=True, timeout=60, check=False)
    return f"Apptainer can't start a container here: {done.stderr.strip()[-500:]}" if done.returncode else ""
