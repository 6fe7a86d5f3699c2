"""What each rank is among the ranks that have met: its role, the addresses of the others, TensorFlow's TF_CONFIG."""

import fcntl
import glob
import json
import os
import socket
import struct
import sys

from hpcest.onnode import meeting, ports
from hpcest.onnode.events import read_events
from hpcest.onnode.record import EventWriter, warn

_GET_ADDRESS = 0x8915  # SIOCGIFADDR of <linux/sockios.h>


def meet(launch, attempt, told, env):
    """Meet the other ranks; returns (variables, the connection to keep or None). Ends the process if somebody is missing.

    A rank beyond those that have a role ends well at once.
    """
    rank, count = int(told["RANK"]), int(told["WORLD_SIZE"])
    port, held = ports.hold(launch["run"], attempt, "rank", rank)
    os.set_inheritable(held.fileno(), True)
    _KEPT.append(held)  # the program inherits it: the port is its own for as long as it runs
    name = "127.0.0.1" if env["MASTER_ADDR"] == "127.0.0.1" else socket.gethostname()
    seconds = meeting.timeout(dict(env, **(launch.get("variables") or {})))
    try:
        if rank == 0:
            meeting.open_beside(env, count, {one for one in range(count) if _serves(launch, one)}, seconds)
        everyone, connection = meeting.come(env, rank, {"host": name, "port": port}, seconds)
    except (meeting.MissingError, OSError) as error:
        _give_up(launch, attempt, rank, error)
    if not role_of(launch, rank)[0] and launch.get("roles"):
        warn("rank %d has nothing to do (%s)" % (rank, _listed(launch)))
        os._exit(0)
    variables = {"HPCEST_PEERS": ",".join("%s:%d" % (one["host"], one["port"]) for one in everyone)}
    if launch.get("roles"):
        variables["TF_CONFIG"] = json.dumps(_cluster(launch, rank, everyone))
    interface = _interface([one["host"] for one in everyone], name)
    if interface:
        variables.setdefault("GLOO_SOCKET_IFNAME", env.get("GLOO_SOCKET_IFNAME") or interface)
    if launch.get("servers"):
        return variables, connection
    connection.close()
    return variables, None


_KEPT: list = []


def _give_up(launch, attempt, rank, error):
    """Say who is missing, with the hosts that they should be on."""
    message = "the ranks did not meet: %s" % error
    missing = getattr(error, "ranks", [])
    if missing:
        per_node = launch["procs_per_node"] if launch.get("per") != "node" else 1
        message += " (node%s %s)" % ("s" if len(missing) > 1 else "", ", ".join(sorted({_node(one // per_node) for one in missing})))
    EventWriter(launch["folder"], "rank%d.a%d" % (rank, attempt)).event("launch", a=attempt, m=message)
    warn(message)
    sys.stdout.flush()
    os._exit(os.EX_TEMPFAIL)


def why_apart(folder, attempt):
    """Why the ranks of an attempt did not meet, as the first of them has written it; empty where they did."""
    found = []
    for path in glob.glob(os.path.join(glob.escape(folder), "events", "rank*.a%d-*.jsonl" % attempt)):
        try:
            found += [(event["t"], event["m"]) for event in read_events(path)[0] if event.get("e") == "launch" and event.get("m")]
        except (OSError, KeyError, TypeError):
            continue
    return min(found)[1] if found else ""


def _node(number):
    """The name of the node with this number in the job, as far as that can be told."""
    import subprocess

    try:
        done = subprocess.run(["scontrol", "show", "hostnames"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=False)
        return done.stdout.decode().split()[number]
    except (OSError, IndexError, subprocess.SubprocessError):
        return "%d" % number


def role_of(launch, rank):
    """(role, number in it) of a rank; ("", 0) for one without."""
    for role, count in (launch.get("roles") or {}).items():
        if rank < count:
            return role, rank
        rank -= count
    return "", 0


def _serves(launch, rank):
    return role_of(launch, rank)[0] in (launch.get("servers") or ())


def serves(launch, told):
    """Whether this rank is there for the others, and ends with them."""
    return _serves(launch, int(told["RANK"]))


def _listed(launch):
    return ", ".join("%s: %d" % one for one in launch["roles"].items())


def _cluster(launch, rank, everyone):
    """TF_CONFIG, as tf.distribute.cluster_resolver.TFConfigClusterResolver reads it."""
    cluster, first = {}, 0
    for role, count in launch["roles"].items():
        if count:
            cluster[role] = ["%s:%d" % (one["host"], one["port"]) for one in everyone[first : first + count]]
        first += count
    role, index = role_of(launch, rank)
    return {"cluster": cluster, "task": {"type": role, "index": index}}


def _interface(hosts, name):
    """The network interface for gloo, where it would find none: it takes the address of the host's own name.

    On many machines /etc/hosts has that name for 127.0.1.1, and then the others are told to look there.
    """
    others = [host for host in hosts if host != name]
    try:
        if not others or not socket.gethostbyname(name).startswith("127."):
            return ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((others[0], 9))  # sends nothing: the kernel chooses the way
            address = probe.getsockname()[0]
            for _, interface in socket.if_nameindex():
                if _address(probe, interface) == address:
                    return interface
    except OSError:
        pass
    return ""


def _address(probe, interface):
    try:
        answer = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, struct.pack("256s", interface.encode()[:15]))
        return socket.inet_ntoa(answer[20:24])
    except OSError:
        return ""
