"""How a test, as any user, asks the operator to break a test cluster and to mend it."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

from tests.cluster.commands import ClusterError
from tests.cluster.shape import ROOT

SOCKET = ROOT / "operator.sock"
PATIENCE = 200.0
"""Seconds within which the operator answers: it has shorter deadlines of its own."""


@dataclass(frozen=True)
class Operator:
    """The operator of one cluster. Each call returns when what it asked for is done and Slurm is ready again.

    :raises ClusterError: (all methods) It didn't work; the message ends with the log of the daemon that is to blame.
    """

    cluster: str

    def stop_ctld(self) -> None:
        """Stop slurmctld; jobs run on."""
        self._ask("stop-ctld")

    def start_ctld(self) -> None:
        """Start slurmctld, and wait for it and for the nodes."""
        self._ask("start-ctld")

    def restart_ctld(self) -> None:
        self._ask("restart-ctld")

    def stop_dbd(self) -> None:
        """Stop slurmdbd: sacct fails."""
        self._ask("stop-dbd")

    def start_dbd(self) -> None:
        self._ask("start-dbd")

    def kill_node(self, node: str) -> None:
        """A power cut: the node leaves the network and all its processes are gone.

        Slurm notices after some 45 s; ``start_node`` before that tells it.
        """
        self._ask("kill-node", node)

    def start_node(self, node: str) -> None:
        """Start a killed node and wait until Slurm uses it again; jobs that it lost are requeued, or fail with NODE_FAIL."""
        self._ask("start-node", node)

    def restart_node(self, node: str) -> None:
        """A new slurmd on a running node; its jobs live on."""
        self._ask("restart-node", node)

    def resume(self, node: str) -> None:
        """Wait until a running node is usable; a drained or down one is resumed."""
        self._ask("resume", node)

    def restore(self) -> None:
        """Start whatever doesn't run."""
        self._ask("restore")

    def status(self) -> dict[str, bool]:
        """Which daemon runs, by its name: slurmctld, slurmdbd, or the node's."""
        result = self._ask("status")
        assert isinstance(result, dict)
        return result

    def version(self) -> str:
        """What code the operator runs; empty if there is no operator."""
        try:
            return str(self._ask("version"))
        except ClusterError:
            return ""

    def _ask(self, *words: str) -> object:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(PATIENCE)
                connection.connect(str(SOCKET))
                connection.sendall(" ".join([self.cluster, *words]).encode() + b"\n")
                reply = json.loads(connection.makefile().readline())
        except (OSError, ValueError) as failure:
            raise ClusterError(f"the operator of the test clusters at {SOCKET} doesn't answer: {failure}") from failure
        if not reply["ok"]:
            raise ClusterError(f"{' '.join(words)} on cluster {self.cluster}: {reply['result']}")
        result: object = reply["result"]
        return result
