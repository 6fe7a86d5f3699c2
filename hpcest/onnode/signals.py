"""Signals for the user's programs alone: not for the launcher, a container's helpers, or a shell in between.

``boot.py signal RUN ATTEMPT NAME`` runs once on each node of a job and signals the ranks of that node. A
signal that Slurm sends to a step reaches every process of it, among them the one that serves a
container's file system; that is why this is done here.
"""

import os
import signal

from hpcest.onnode import processes

_CONTAINER = (b"APPTAINER_CONTAINER", b"SINGULARITY_CONTAINER")


def number_of(name):
    """The number of ``USR1``, ``SIGUSR1`` or ``10``. Raises ValueError."""
    text = str(name).upper()
    if text.isdigit():
        return int(signal.Signals(int(text)))
    try:
        return int(signal.Signals["SIG" + text.replace("SIG", "", 1)] if text.startswith("SIG") else signal.Signals["SIG" + text])
    except KeyError:
        raise ValueError("there is no signal %r" % name) from None


def deliver(run, attempt, number, node=None):
    """Send ``number`` to the program of each rank of an attempt on this node; returns how many got it."""
    targets = receivers(run, attempt, number, node)
    processes.send(targets, number)
    return len(targets)


def receivers(run, attempt, number, node=None):
    """The pids that a signal is meant for: of each rank the first process that handles it, else the rank's first.

    A shell that waits for the program it started handles nothing, and would only die of the signal.
    ``node`` is Slurm's name of this node, for hosts that share one list of processes.
    """
    everyone = _Everyone(run, attempt, node)
    found: list = []
    for root in everyone.roots():
        handling = everyone.handling(root, number)
        found += handling or [root]
    return found


class _Everyone:
    """The processes of the ranks of an attempt: the tree, and what each has in its environment."""

    def __init__(self, run, attempt, node):
        self.inside = {}  # pid -> whether it is in a container
        self.parent = {}
        self.children: dict = {}
        mark, kth = os.fsencode("HPCEST_RUN_ID=" + run), os.fsencode("HPCEST_ATTEMPT=%d" % attempt)
        here = os.fsencode("SLURMD_NODENAME=%s" % node) if node else None
        for name in os.listdir("/proc"):
            if name.isdigit():
                fields = processes.stat_fields(int(name))
                words = processes.environ_of(int(name)) if fields and fields[0] not in (b"Z", b"X") else []
                if mark in words and kth in words and (here is None or here in words) and _of_a_rank(words):
                    self.inside[int(name)] = any(word.partition(b"=")[0] in _CONTAINER for word in words)
                    self.parent[int(name)] = int(fields[1])
                    self.children.setdefault(int(fields[1]), []).append(int(name))

    def roots(self):
        """The first process of each rank; in a container the first one inside."""
        first = [pid for pid in self.inside if self.inside[pid] and not self.inside.get(self.parent[pid])]
        return first or [pid for pid in self.inside if self.parent[pid] not in self.inside]

    def handling(self, pid, number):
        """The processes nearest to ``pid`` that catch the signal, one at most on each branch."""
        if _catches(pid, number):
            return [pid]
        return [found for child in self.children.get(pid, ()) for found in self.handling(child, number)]


def _of_a_rank(words):
    return any(word.startswith(b"HPCEST_EVENTS=") for word in words)  # only the rank launcher sets it


def _catches(pid, number):
    try:
        with open("/proc/%d/status" % pid) as stream:
            caught = next(line for line in stream if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
    except (OSError, StopIteration, ValueError):
        return False


def main(run, attempt, name):
    """Signal this node's ranks and say how many there were."""
    node = os.environ.get("SLURMD_NODENAME")
    print(node or os.uname()[1], deliver(run, int(attempt), number_of(name), node))
