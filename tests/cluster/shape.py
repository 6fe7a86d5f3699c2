"""What the two test clusters look like: their names, nodes, addresses, ports, and where their files lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.environ.get("HPCEST_CLUSTER_DIR", "/var/lib/hpcest-cluster"))
"""Everything of both clusters lies here, and nothing of them anywhere else."""


@dataclass(frozen=True)
class Cluster:
    """One Slurm cluster whose hosts are network, UTS and mount namespaces of this machine."""

    name: str
    prefix: str
    size: int
    subnet: str
    bridge: str
    first_port: int
    accounting: bool
    proctrack: str
    """"cgroup", what most sites use, or "linuxproc"; they differ in what signals reach and in how memory is limited."""

    @property
    def folder(self) -> Path:
        return ROOT / self.name

    @property
    def conf(self) -> Path:
        """The slurm.conf; SLURM_CONF in a user's environment names it."""
        return self.folder / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}{number}" for number in range(1, self.size + 1))

    @property
    def range(self) -> str:
        """All nodes in Slurm's own spelling: ``n[1-4]``."""
        return f"{self.prefix}[1-{self.size}]"

    @property
    def head(self) -> str:
        """The host name under which slurmctld and slurmdbd run."""
        return f"hpcest-{self.name}"

    @property
    def head_address(self) -> str:
        return f"{self.subnet}.1"

    @property
    def ctld_port(self) -> int:
        return self.first_port

    @property
    def slurmd_port(self) -> int:
        return self.first_port + 1

    @property
    def dbd_port(self) -> int:
        return self.first_port + 2

    @property
    def database_port(self) -> int:
        return self.first_port + 3

    def address(self, node: str) -> str:
        return f"{self.subnet}.1{self.number(node)}"

    def number(self, node: str) -> int:
        return self.nodes.index(node) + 1

    def netns(self, node: str) -> str:
        """The name of the node's network namespace in /run/netns."""
        return f"hpcest-{node}"

    def log(self, daemon: str) -> Path:
        return self.folder / "log" / f"{daemon}.log"

    def environment(self) -> dict[str, str]:
        """The environment in which Slurm's programs find this cluster."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_"))}
        return kept | {"SLURM_CONF": str(self.conf), "SLURM_TIME_FORMAT": "%s"}


FULL = Cluster("full", "n", 4, "10.77.0", "hpcest0", 16817, accounting=True, proctrack="cgroup")
BARE = Cluster("bare", "b", 2, "10.78.0", "hpcest1", 17817, accounting=False, proctrack="linuxproc")
CLUSTERS = {cluster.name: cluster for cluster in (FULL, BARE)}
