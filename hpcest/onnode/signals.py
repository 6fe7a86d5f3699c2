"""Signals for the user's programs alone: not for the launcher, a container's helpers, or a shell in between.

``boot.py signal RUN ATTEMPT NAME`` runs once on each node of a job and signals the ranks of that node. A
signal that Slurm sends to a step reaches every process of it, among them the one that serves a
container's file system; that is why this is done here.
"""

import os
import signal
import time

from hpcest.onnode import processes

#: A rank that is not there yet, or that began so little ago that it may still be about to catch a signal, is given
#: this long. Outside of a container the signal would end it; Apptainer's own processes would swallow it.
_PATIENCE_S, _YOUNG_S, _LOOK_S = 2.0, 10.0, 0.03
#: Few programs catch what is only to end them, and one that has not come as far has nothing to lose by it.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)
_CONTAINER = (b"APPTAINER_CONTAINER", b"SINGULARITY_CONTAINER")
#: What these are, by the files that they run: the command, then what prepares the container and waits for the program.
_STARTERS = ("apptainer", "singularity", "starter", "starter-suid")


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
    """Send ``number`` once to the program of each rank of an attempt on this node; returns how many got it.

    Ranks that have run for a while get it at once. For the others it waits until they have caught it for a moment, or for
    two seconds: a container that still starts, a program that still imports. What is only to end a program waits for
    containers alone. ``node`` is Slurm's name of this node, for hosts that share one list of processes.
    """
    told: set = set()
    ready: set = set()  # who has only just begun to catch it may be on the way into a call that would not notice
    count, expected = 0, 1
    first, end = True, time.monotonic() + (0.0 if number in _UNCATCHABLE else _PATIENCE_S)
    while True:
        late = time.monotonic() >= end
        ranks = _ranks(run, attempt, node)
        for name in set(ranks) - told:
            able = ranks[name].is_ready(number, first)
            if able and name not in ready and ranks[name].is_young() and not late:
                ready.add(name)
            elif able or late:
                targets = ranks[name].receivers(number)
                processes.send(targets, number)
                count += len(targets)
                told.add(name)
        # Beside a rank that has run for long those that are not there have ended.
        expected = max([expected] + [rank.beside for rank in ranks.values() if rank.is_young()])
        if late or (told.issuperset(ranks) and len(told) >= expected):
            return count
        first = False
        time.sleep(_LOOK_S)


def _ranks(run, attempt, node):
    """The ranks of an attempt that are on this node, by the file that each has for its events."""
    found: dict = {}
    mark, kth = os.fsencode("HPCEST_RUN_ID=" + run), os.fsencode("HPCEST_ATTEMPT=%d" % attempt)
    here = os.fsencode("SLURMD_NODENAME=%s" % node) if node else None
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = processes.stat_fields(int(name))
            words = processes.environ_of(int(name)) if fields and fields[0] not in (b"Z", b"X") else []
            if mark in words and kth in words and (here is None or here in words):
                # only the rank launcher sets it
                rank = next((word for word in words if word.startswith(b"HPCEST_EVENTS=")), None)
                if rank is not None:
                    found.setdefault(rank, _Rank()).add(int(name), fields, words)
    return found


class _Rank:
    """The processes of one rank: the tree, and what each of them is. ``beside``: how many ranks the node has."""

    def __init__(self):
        self.beside = 1
        self._parent = {}  # pid -> pid, of the user's own programs
        self._inside = set()  # those of them that are in a container
        self._starters = {}  # pid -> pid, of the processes that are a container's own
        self._oldest = float("inf")  # ticks of the clock

    def add(self, pid, fields, words):
        """A process of the rank, with its fields of /proc/PID/stat from the state on and its environment."""
        if _is_starter(pid):
            self._starters[pid] = int(fields[1])
        else:
            self._parent[pid] = int(fields[1])
            if any(word.partition(b"=")[0] in _CONTAINER for word in words):
                self._inside.add(pid)
        if int(fields[19]) < self._oldest:  # further down another launcher may have its own words for it
            self._oldest = int(fields[19])
            self.beside = next((int(word[17:]) for word in words if word.startswith(b"LOCAL_WORLD_SIZE=") and word[17:].isdigit()), 1)

    def is_young(self):
        """Whether it began less than ten seconds ago."""
        return 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - self._oldest / os.sysconf("SC_CLK_TCK") < _YOUNG_S

    def is_ready(self, number, first):
        """Whether the signal would reach whom it is meant for; at the ``first`` look also if more time would not help."""
        if any(self._handling(root, number) for root in self._roots() if root not in self._starters):
            return True
        if self._starters and not self._inside:
            return False
        return number in _ENDING or (first and not self.is_young())

    def receivers(self, number):
        """The pids that a signal is meant for: the first process that handles it, else the rank's first.

        A shell that waits for the program it started handles nothing, and would only die of the signal.
        """
        found: list = []
        for root in self._roots():
            found += self._handling(root, number) or [root]
        return found

    def _roots(self):
        """The first process of the rank; in a container the first one inside."""
        first = [pid for pid in self._inside if self._parent[pid] not in self._inside]
        return first or _topmost(self._parent) or _topmost(self._starters)

    def _handling(self, pid, number):
        """The processes nearest to ``pid`` that catch the signal, one at most on each branch."""
        if _catches(pid, number):
            return [pid]
        children = [child for child, parent in self._parent.items() if parent == pid]
        return [found for child in children for found in self._handling(child, number)]


def _topmost(parents):
    return [pid for pid, parent in parents.items() if parent not in parents]


def _is_starter(pid):
    try:
        folder, name = os.path.split(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        return False
    # "starter" alone may be anything
    return name in _STARTERS[:2] or (name in _STARTERS[2:] and folder.endswith(("/apptainer/bin", "/singularity/bin")))


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
