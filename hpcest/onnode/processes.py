"""Processes of a run: who is still the process it was, who belongs to the run, and how they end."""

import os
import signal
import socket
import time

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def boot_id():
    """Changes with every start of the machine; empty where the kernel doesn't tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def stat_fields(pid):
    """The fields of /proc/PID/stat from the state on, or None."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as stream:
            return stream.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return None


def _pids():
    """Names the numbering of processes that this one sees: inside a container it may be another."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def identity(pid=None):
    """What makes this process, or a child of it, that process: where its pid counts, and when it started."""
    pid = os.getpid() if pid is None else pid
    fields = stat_fields(pid)
    start = int(fields[19]) if fields else 0
    return {"host": socket.gethostname(), "boot": boot_id(), "pids": _pids(), "uid": os.getuid(), "pid": pid, "start": start}


def alive(who):
    """Whether the process that ``identity`` described still runs; None if that can't be seen from here.

    Another host would know, or somebody outside this container, or its own user where /proc hides
    the processes of others.
    """
    if who.get("host") != socket.gethostname():
        return None
    if who.get("boot") != boot_id():
        return False
    if who.get("pids", _pids()) != _pids():
        return None
    fields = stat_fields(who.get("pid", 0))
    if fields is None:
        return None if who.get("uid", os.getuid()) != os.getuid() and stat_fields(1) is None else False
    return int(fields[19]) == who.get("start") and fields[0] not in (b"Z", b"X")


def environ_of(pid):
    """The environment that a process was started with, as NAME=VALUE in bytes; empty if that can't be seen."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return []


def members(run_id, below=(), spare=()):
    """The pids that belong to the run ``run_id``: descendants of ``below``, and whoever carries its mark.

    The mark is HPCEST_RUN_ID in the environment, which a daemon that left its parents keeps. A
    descendant that carries another run's mark (a run submitted from inside this one) is left out,
    and so are the pids in ``spare``.
    """
    mark = os.fsencode("HPCEST_RUN_ID=" + run_id)
    children: dict = {}  # pid -> pids
    marks: dict = {}  # pid -> the marks in its environment
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields and fields[0] not in (b"Z", b"X"):
                children.setdefault(int(fields[1]), []).append(int(name))
                marks[int(name)] = [word for word in environ_of(int(name)) if word.startswith(b"HPCEST_RUN_ID=")]
    found, todo = set(), list(below)
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in found and (not marks[pid] or mark in marks[pid]):
                found.add(pid)
                todo.append(pid)
    found.update(pid for pid, words in marks.items() if mark in words)
    return found - set(spare) - {os.getpid()}


def on_node(pids, node):
    """Those of ``pids`` that are on Slurm's node ``node``: hosts may share one list of processes."""
    mark = os.fsencode("SLURMD_NODENAME=" + node)
    other = [pid for pid in pids if any(word.startswith(b"SLURMD_NODENAME=") and word != mark for word in environ_of(pid))]
    return set(pids) - set(other)


def send(pids, number):
    """Send a signal to each; those that are gone meanwhile don't matter."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def end_all(find, grace):
    """TERM to all that ``find()`` returns, then KILL after ``grace`` seconds, until it finds none twice in a row.

    Returns how many there were. Twice, because a process that forks or execs at this very moment can be
    missed once. Processes that fork while they are killed are found again.
    """
    told: set = set()
    empty, kill_at = 0, time.monotonic() + grace
    for _ in range(int(grace / 0.02) + 500):
        found = find()
        empty = 0 if found else empty + 1
        if empty == 2:
            break
        late = time.monotonic() >= kill_at
        send(found if late else found - told, signal.SIGKILL if late else signal.SIGTERM)
        told |= found
        reap()
        time.sleep(0.02)
    return len(told)


def reap():
    """Take the exit statuses of children that have ended; yields nothing, returns [(pid, status)]."""
    ended: list = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def exit_code(status):
    """A wait status as (exit code, signal number); a signal N counts as the code 128+N."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status), os.WTERMSIG(status)
    return os.WEXITSTATUS(status), 0


def _prctl(option, value):
    try:
        import ctypes

        return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0
    except Exception:  # no libc to be found this way: we do without
        return False


def detach(keep=()):
    """Hold nothing of whoever this came from but the descriptors ``keep``: srun waits for the end of a rank's output."""
    os.setsid()  # a terminal's signals are not for us
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    below = 3
    for descriptor in sorted(keep) + [4096]:
        os.closerange(below, descriptor)
        below = descriptor + 1


def adopt_orphans():
    """Become the parent of descendants whose own parent ends, so that none is out of sight."""
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent):
    """Have the kernel kill this process when its parent ``parent`` dies, also after an exec."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
