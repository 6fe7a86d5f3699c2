"""The wires: one bridge per cluster, and a network namespace with one leg on it for every node."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.commands import call
from tests.cluster.shape import Cluster


def connect(cluster: Cluster) -> None:
    """Make what is missing of the bridge and of the nodes' namespaces."""
    if not Path(f"/sys/class/net/{cluster.bridge}").exists():
        call(["ip", "link", "add", cluster.bridge, "type", "bridge"])
        call(["ip", "address", "add", f"{cluster.head_address}/24", "dev", cluster.bridge])
    call(["ip", "link", "set", cluster.bridge, "up"])
    for node in cluster.nodes:
        if not namespace(cluster, node).exists():
            _add_node(cluster, node)
        plug(cluster, node, up=True)


def namespace(cluster: Cluster, node: str) -> Path:
    return Path("/run/netns") / cluster.netns(node)


def plug(cluster: Cluster, node: str, *, up: bool) -> None:
    """Connect a node to the bridge, or pull its cable."""
    call(["ip", "link", "set", _leg(cluster, node), "up" if up else "down"])


def disconnect(cluster: Cluster) -> None:
    """Remove the namespaces and the bridge."""
    for node in cluster.nodes:
        if namespace(cluster, node).exists():
            call(["ip", "link", "delete", _leg(cluster, node)], check=False)
            call(["ip", "netns", "delete", cluster.netns(node)])
    if Path(f"/sys/class/net/{cluster.bridge}").exists():
        call(["ip", "link", "delete", cluster.bridge])


def _leg(cluster: Cluster, node: str) -> str:
    return f"{cluster.bridge}-{node}"


def _add_node(cluster: Cluster, node: str) -> None:
    netns, leg = cluster.netns(node), _leg(cluster, node)
    call(["ip", "netns", "add", netns])
    call(["ip", "link", "delete", leg], check=False)
    call(["ip", "link", "add", leg, "type", "veth", "peer", "name", "eth0", "netns", netns])
    call(["ip", "link", "set", leg, "master", cluster.bridge])
    inside = ["ip", "-n", netns]
    call([*inside, "address", "add", f"{cluster.address(node)}/24", "dev", "eth0"])
    call([*inside, "link", "set", "eth0", "up"])
    call([*inside, "link", "set", "lo", "up"])
    call([*inside, "route", "add", "default", "via", cluster.head_address])
