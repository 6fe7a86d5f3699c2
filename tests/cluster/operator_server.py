"""The operator: a root process that stops, kills and starts parts of the test clusters for tests that are nobody special."""

from __future__ import annotations

import hashlib
import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.cluster import slurm, updown
from tests.cluster.commands import ClusterError, wait_for
from tests.cluster.daemons import Daemon
from tests.cluster.operator_client import SOCKET, Operator
from tests.cluster.shape import CLUSTERS, ROOT, Cluster

LOCKS = {name: threading.Lock() for name in CLUSTERS}


def process() -> Daemon:
    return Daemon("operator", ROOT / "run")


def ensure_running() -> None:
    """Start the operator, anew where it runs other code than this."""
    daemon = process()
    client = Operator("full")
    if daemon.running() and client.version() == code_version():
        return
    daemon.stop()
    SOCKET.unlink(missing_ok=True)
    daemon.start([sys.executable, str(Path(__file__).with_name("cluster.py")), "operator"])
    wait_for(lambda: bool(client.version()), "the operator", seconds=20, alive=daemon.running, logs=[daemon.output])


def code_version() -> str:
    """Changes when a file of this folder does."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def stop_ctld(cluster: Cluster) -> None:
    slurm.daemon(cluster, "slurmctld").stop()


def start_ctld(cluster: Cluster) -> None:
    """Ready when the nodes that run are usable again."""
    slurm.start_ctld(cluster)
    for node in cluster.nodes:
        if slurm.daemon(cluster, node).running():
            slurm.await_node(cluster, node)


def restart_ctld(cluster: Cluster) -> None:
    stop_ctld(cluster)
    start_ctld(cluster)


def stop_dbd(cluster: Cluster) -> None:
    slurm.daemon(cluster, "slurmdbd").stop()


def start_node(cluster: Cluster, node: str) -> None:
    slurm.launch_node(cluster, node)
    slurm.await_node(cluster, node)


def restart_node(cluster: Cluster, node: str) -> None:
    """A new slurmd; the node's jobs live on."""
    slurm.daemon(cluster, node).stop()
    start_node(cluster, node)


def restore(cluster: Cluster) -> None:
    """Everything runs again, whatever a test left behind."""
    updown.start(cluster)


VERBS: dict[str, Callable[[Cluster], None]] = {
    "stop-ctld": stop_ctld,
    "start-ctld": start_ctld,
    "restart-ctld": restart_ctld,
    "stop-dbd": stop_dbd,
    "start-dbd": slurm.start_dbd,
    "restore": restore,
}
NODE_VERBS: dict[str, Callable[[Cluster, str], None]] = {
    "kill-node": slurm.kill_node,
    "start-node": start_node,
    "restart-node": restart_node,
    "resume": slurm.await_node,
}


def status(cluster: Cluster) -> dict[str, bool]:
    """Which daemon runs."""
    names = ["slurmctld", *(["slurmdbd"] if cluster.accounting else []), *cluster.nodes]
    return {name: slurm.daemon(cluster, name).running() for name in names}


def serve() -> None:
    """Answer on the socket until killed."""
    SOCKET.unlink(missing_ok=True)
    version = code_version()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline(1000).decode(errors="replace").split()
            self.wfile.write((json.dumps(answer(words, version)) + "\n").encode())

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    with Server(str(SOCKET), Handler) as server:
        os.chmod(SOCKET, 0o666)
        server.serve_forever()


def answer(words: list[str], version: str) -> dict[str, object]:
    """Do what the words ask for: ``[cluster, verb]`` or ``[cluster, verb, node]``, and nothing else."""
    try:
        match words:
            case [_, "version"]:
                return {"ok": True, "result": version}
            case [name, "status"] if name in CLUSTERS:
                return {"ok": True, "result": status(CLUSTERS[name])}
            case [name, verb] if name in CLUSTERS and verb in VERBS:
                with LOCKS[name]:
                    VERBS[verb](CLUSTERS[name])
            case [name, verb, node] if name in CLUSTERS and verb in NODE_VERBS and node in CLUSTERS[name].nodes:
                with LOCKS[name]:
                    NODE_VERBS[verb](CLUSTERS[name], node)
            case _:
                allowed = ", ".join([*VERBS, *NODE_VERBS, "status", "version"])
                return {"ok": False, "result": f"{words} is not CLUSTER VERB [NODE] with one of {allowed}"}
    except (ClusterError, OSError) as failure:
        return {"ok": False, "result": str(failure)}
    return {"ok": True, "result": ""}


def stop() -> None:
    process().stop()
    SOCKET.unlink(missing_ok=True)
