"""A sign of life from every node of an attempt: Slurm notices only after minutes that a node is cut off.

It comes from a process of its own beside the first rank of each node, which is nobody's child: no program
of the user's ever waits for it. It also ends a rank that was left behind on such a node when the run has
started again elsewhere, before both write to the same outputs.
"""

import os
import select
import signal
import time

from hpcest.onnode import processes

BEAT_S = 15.0
_GRACE_S = 10.0


def start(folder, attempt):
    """Have this process, which is about to become a rank, watched from beside it. Never raises."""
    try:
        rank = processes.identity()
        child = os.fork()
    except OSError:
        return  # no sign of life is no reason not to run
    if child:
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            processes.detach()
            _watch(os.path.join(folder, "state"), attempt, rank)
    finally:
        os._exit(0)


def _watch(state, attempt, rank):
    """Touch this node's file until the rank has ended, or another attempt has begun."""
    mark = os.path.join(state, "pulse.%d.%s" % (attempt, rank["host"]))
    wait = _waiter(rank["pid"])
    while processes.alive(rank) is not False:
        _touch(mark)
        if _is_replaced(state, attempt):
            processes.send([rank["pid"]], signal.SIGTERM)
            wait(_GRACE_S)
            if processes.alive(rank) is not False:
                processes.send([rank["pid"]], signal.SIGKILL)
            return
        wait(BEAT_S)


def _waiter(pid):
    """A function that returns after so many seconds, or as soon as the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
        return lambda seconds: select.select([descriptor], [], [], seconds)
    except (AttributeError, OSError):  # Python 3.8, or an old kernel
        return lambda seconds: time.sleep(min(seconds, 2.0))


def _touch(path):
    try:
        with open(path, "ab"):
            os.utime(path)
    except OSError:
        pass  # the file system is what is cut off


def _is_replaced(state, attempt):
    """Whether a later attempt was claimed. What can't be read says nothing."""
    try:
        names = os.listdir(state)
    except OSError:
        return False
    later = [name.split(".")[1] for name in names if name.startswith("claim.") and name.endswith(".json")]
    return any(number.isdigit() and int(number) > attempt for number in later)
