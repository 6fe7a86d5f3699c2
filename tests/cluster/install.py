"""The Debian packages of the test cluster, installed without starting any of their services."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.cluster.commands import ClusterError, call

PROGRAMS = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "srun": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mpicc": "libopenmpi-dev",
    "mpirun": "openmpi-bin",
    "gcc": "gcc",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "sshd": "openssh-server",
    "mksquashfs": "squashfs-tools",
    "newuidmap": "uidmap",
    "debootstrap": "debootstrap",
    "patchelf": "patchelf",
    "/usr/share/lmod/lmod/libexec/lmod": "lmod",
}
"""What is looked for, and the package that has it."""

ALSO = ["libc6-dev", "debian-archive-keyring"]
"""Needed, and no program."""

POLICY = Path("/usr/sbin/policy-rc.d")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> list[str]:
    """The packages that this machine lacks."""
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)})


def ensure_installed() -> None:
    """Install what is missing.

    :raises ClusterError: This is no Debian, or apt failed.
    """
    if not (packages := missing()):
        return
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"the packages {', '.join(packages)} are missing and there is no apt-get: install Slurm, MUNGE and MariaDB by hand"
        )
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")  # Debian's way to say that no service may start
        POLICY.chmod(0o755)
    try:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        call(["apt-get", "update", "-q"], env=env, timeout=300)
        call(["apt-get", "install", "-qy", "--no-install-recommends", *packages, *ALSO], env=env, timeout=900)
    finally:
        if ours:
            POLICY.unlink()
    if packages := missing():
        raise ClusterError(f"still missing after apt-get install: {', '.join(packages)}")
