"""The test clusters' command line, for root: ``python3 tests/cluster/cluster.py up``."""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: its neighbours' names must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import fcntl
import os
import pwd
import shutil
import time
from collections.abc import Callable

from tests.cluster import apptainer, bases, install, locks, operator_server, updown
from tests.cluster.commands import ClusterError, call
from tests.cluster.shape import CLUSTERS, ROOT, Cluster


def up(clusters: list[Cluster]) -> None:
    """Install, start and repair; returns when jobs can start on every node."""
    _only_root()
    install.ensure_installed()
    ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (ROOT / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for cluster in clusters:
            begin = time.monotonic()
            locks.make(cluster)
            with locks.hold(cluster, alone=False):  # what a running test broke is not for us to repair
                updown.up(cluster)
            print(f"cluster {cluster.name} is up after {time.monotonic() - begin:.1f} s: . {cluster.folder}/env")
        operator_server.ensure_running()
        begin = time.monotonic()
        program = apptainer.ensure_apptainer()
        bases.ensure_bases(program)
        print(f"apptainer is there after {time.monotonic() - begin:.1f} s: {program}, with images in {bases.IMAGES}")


def down(clusters: list[Cluster]) -> None:
    """End and remove the clusters; Apptainer and its images stay."""
    _only_root()
    for cluster in clusters:
        updown.down(cluster)
    if not any(cluster.folder.exists() for cluster in CLUSTERS.values()):
        operator_server.stop()
        shutil.rmtree(ROOT, ignore_errors=True)


def status(clusters: list[Cluster]) -> None:
    """Print what runs; fails where something doesn't."""
    ready = True
    for cluster in clusters:
        parts = operator_server.status(cluster)
        ready &= all(parts.values())
        print(f"{cluster.name}:", ", ".join(f"{name} {'runs' if runs else 'is down'}" for name, runs in parts.items()))
    operator = operator_server.process().running()
    print(f"operator: {'runs' if operator else 'is down'}")
    if not (ready and operator):
        raise ClusterError("not everything runs; start it as root: make cluster-up")


def shell(clusters: list[Cluster]) -> None:
    """A shell of an ordinary user, made if missing, who finds the cluster."""
    _only_root()
    user, cluster = os.environ.get("HPCEST_CLUSTER_USER", "alice"), clusters[0]
    try:
        pwd.getpwnam(user)
    except KeyError:
        call(["useradd", "--create-home", "--shell", "/bin/bash", user])
    up([cluster])  # knows the new user, too
    environment = {**cluster.environment(), "HOME": pwd.getpwnam(user).pw_dir, "USER": user, "LOGNAME": user}
    environment.pop("SLURM_TIME_FORMAT")
    os.execvpe("setpriv", ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "bash"], environment)


def _only_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("only root can start and stop the test clusters; ask root for: make cluster-up")


VERBS: dict[str, Callable[[list[Cluster]], None]] = {"up": up, "down": down, "status": status, "shell": shell}


def main() -> int:
    """Read the command line and do it; 1 and a message where that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=[*VERBS, *operator_server.NODE_VERBS, *operator_server.VERBS, "operator"])
    parser.add_argument("node", nargs="?", help="for kill-node, start-node and resume")
    parser.add_argument("--config", choices=[*CLUSTERS, "both"], default="both", help="which cluster; both unless told")
    parser.add_argument("--if-possible", action="store_true", help="succeed with a message where there can be no cluster")
    args = parser.parse_args()
    clusters = [*CLUSTERS.values()] if args.config == "both" else [CLUSTERS[args.config]]
    try:
        if args.verb == "operator":
            operator_server.serve()
        elif args.verb in VERBS:
            VERBS[args.verb](clusters)
        else:
            _fault(args.verb, args.node, clusters)
    except ClusterError as failure:
        print(f"test cluster: {failure}", file=sys.stderr)
        return 0 if args.if_possible else 1
    return 0


def _fault(verb: str, node: str | None, clusters: list[Cluster]) -> None:
    """The operator's verbs, by hand; a node's name says which cluster is meant."""
    _only_root()
    if node and not any(node in cluster.nodes for cluster in clusters):
        raise ClusterError(f"there is no node {node}; there are {', '.join(node for cluster in clusters for node in cluster.nodes)}")
    for cluster in clusters:
        if node is None or node in cluster.nodes:
            reply = operator_server.answer([cluster.name, verb, *([node] if node else [])], "")
            if not reply["ok"]:
                raise ClusterError(str(reply["result"]))
            print(f"{verb} {node or cluster.name}: done")


if __name__ == "__main__":
    sys.exit(main())
