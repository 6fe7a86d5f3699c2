"""Slurm's own daemons: started, stopped, killed as by a power cut, and waited for until they answer."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from tests.cluster import network
from tests.cluster.commands import call, wait_for
from tests.cluster.daemons import Daemon
from tests.cluster.shape import Cluster

USABLE = {"IDLE", "MIXED", "ALLOCATED", "COMPLETING", "PLANNED"}
RESUMABLE = {"DOWN", "DRAIN", "FAIL"}


def daemon(cluster: Cluster, name: str) -> Daemon:
    """``slurmctld``, ``slurmdbd``, or a node's name for its slurmd."""
    return Daemon(name, cluster.folder / "run")


def answer(cluster: Cluster, *argv: str) -> str:
    """What one of Slurm's programs says; empty where it fails."""
    done = call(argv, env=cluster.environment(), check=False)
    return "" if done.returncode else done.stdout


def start_dbd(cluster: Cluster) -> None:
    """Start slurmdbd and wait until sacctmgr gets answers."""
    dbd = daemon(cluster, "slurmdbd")
    dbd.start(_on_head(cluster, "exec slurmdbd -D"), env=cluster.environment())
    wait_for(lambda: _dbd_answers(cluster), "slurmdbd", seconds=60, alive=dbd.running, logs=[cluster.log("slurmdbd"), dbd.output])


def _dbd_answers(cluster: Cluster) -> bool:
    return not call(["sacctmgr", "-nP", "list", "cluster"], env=cluster.environment(), check=False).returncode


def start_ctld(cluster: Cluster) -> None:
    """Start slurmctld and wait until it answers."""
    ctld = daemon(cluster, "slurmctld")
    ctld.start(_on_head(cluster, f"exec slurmctld -D -f {cluster.conf}"), env=cluster.environment())
    wait_for(
        lambda: "is UP" in answer(cluster, "scontrol", "ping"),
        "slurmctld",
        seconds=60,
        alive=ctld.running,
        logs=[cluster.log("slurmctld"), ctld.output],
    )


def _on_head(cluster: Cluster, command: str) -> list[str]:
    return ["unshare", "-u", "sh", "-c", f"hostname {cluster.head}; {command}"]


def launch_node(cluster: Cluster, node: str) -> None:
    """Start a node's slurmd in the node's namespaces, without waiting for it.

    One that lost its power is reported down first, as an admin would: back within SlurmdTimeout, slurmctld would believe for
    ever that the node's jobs still run.
    """
    if _killed(cluster, node).exists():
        _mark_down(cluster, node)
        _killed(cluster, node).unlink()
    network.plug(cluster, node, up=True)
    # Not "ip netns exec": it mounts /sys anew, and slurmd finds no cgroups there.
    inside = ["nsenter", f"--net={network.namespace(cluster, node)}", "unshare", "-m", "-u"]
    daemon(cluster, node).start([*inside, str(cluster.folder / "node.sh"), node, str(cluster.folder)], env=cluster.environment())


def await_node(cluster: Cluster, node: str, *, seconds: float = 60) -> None:
    """Wait until jobs can start on the node; one that Slurm holds for down or drained is resumed."""
    slurmd = daemon(cluster, node)
    asked = 0.0

    def usable() -> bool:
        nonlocal asked
        states, since = state_of(cluster, node)
        # Slurm may not have noticed yet that the slurmd it knew is gone.
        if slurmd.pid_file.exists() and since >= int(slurmd.pid_file.stat().st_mtime) - 1 and states <= USABLE:
            return True
        if states & RESUMABLE and time.monotonic() > asked + 2:
            asked = time.monotonic()
            resume(cluster, node)
        return False

    wait_for(usable, f"node {node}", seconds=seconds, alive=slurmd.running, logs=[cluster.log(node), slurmd.output])


def state_of(cluster: Cluster, node: str) -> tuple[set[str], int]:
    """The node's state and its flags (``{"IDLE", "DRAIN"}``), and when its slurmd started, in seconds since 1970."""
    text = answer(cluster, "scontrol", "-o", "show", "node", node)
    facts = dict(word.split("=", 1) for word in text.split() if "=" in word)
    since = facts.get("SlurmdStartTime", "")
    state = facts.get("State", "UNKNOWN").replace("*", "+NOT_RESPONDING")
    return set(state.split("+")), int(since) if since.isdigit() else 0


def resume(cluster: Cluster, node: str) -> None:
    call(["scontrol", "update", f"nodename={node}", "state=resume"], env=cluster.environment(), check=False)


def _mark_down(cluster: Cluster, node: str) -> None:
    states, _ = state_of(cluster, node)
    if "DOWN" not in states:
        call(["scontrol", "update", f"nodename={node}", "state=down", "reason=power"], env=cluster.environment())


def kill_node(cluster: Cluster, node: str) -> None:
    """A power cut: the cable goes first, so that nothing says goodbye, then every process of the node, slurmd before the jobs."""
    network.plug(cluster, node, up=False)
    _killed(cluster, node).touch()
    daemon(cluster, node).stop(number=signal.SIGKILL)
    kill_inside(cluster, node)


def _killed(cluster: Cluster, node: str) -> Path:
    """Exists from a power cut to the next start."""
    return cluster.folder / "run" / f"{node}.killed"


def kill_inside(cluster: Cluster, node: str) -> None:
    """Kill everything in the node's network namespace: job steps first, since they would report the death of their tasks."""

    def none_left() -> bool:
        pids = processes(cluster, node)
        for pid in sorted(pids, key=lambda pid: not _is_stepd(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    wait_for(none_left, f"the end of all processes of node {node}", seconds=20)


def processes(cluster: Cluster, node: str) -> list[int]:
    """All living processes in the node's network namespace."""
    try:
        wanted = network.namespace(cluster, node).stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == wanted:
                    found.append(int(entry.name))
    return found


def _is_stepd(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("slurmstepd")
    return False
