"""A queue for one machine without a daemon: tickets in order of arrival, and slots held by locks.

    FOLDER/lock                    whoever changes the queue holds it (flock: a node-local file system)
    FOLDER/slot.N                  locked for as long as a run occupies slot N
    FOLDER/slot.OUTER.N            the same, of the runs that the run OUTER submits: slots of their own, because
                                   OUTER may wait for them while it holds one itself
    FOLDER/NUMBER-RUN.json         a ticket: how to start the run's controller, and its environment
    FOLDER/NUMBER-RUN.started.PID  the same, started; its controller removes it once it has the claim

A slot's lock is inherited by the controller and by its guardian, so the kernel gives it back when
both are gone, however they went. Everyone who comes by (a submit, a run that ends, a look at the
history) calls ``dispatch``. A ticket may be started twice after a crash; a run never, because its
controller must win the claim first.
"""

import contextlib
import fcntl
import json
import os
import re
import subprocess

from hpcest.onnode import processes
from hpcest.onnode.record import EventWriter, get_json, put_json

MOST_STARTS = 3  # a controller that ends before it has its claim does so for a reason
_TICKET = re.compile(r"(\d+)-([^.]+)\.(?:json|started\.(\d+))\Z")
_STARTED: list = []  # controllers that this process started: kept so that none stays a zombie while it lives


class Queue:
    """The queue in ``folder``. ``slots`` is set by whoever submits; None keeps what was set last."""

    def __init__(self, folder, slots=None):
        self.folder = str(folder)
        self._given = slots

    @contextlib.contextmanager
    def _locked(self):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    @property
    def slots(self):
        """How many runs may go on at once."""
        return self._given or (get_json(os.path.join(self.folder, "slots.json")) or {}).get("slots", 1)

    def _tickets(self):
        """(number, run id, pid of its controller or 0, path) of all tickets, oldest first."""
        found = []
        for name in os.listdir(self.folder):
            parts = _TICKET.match(name)
            if parts:
                number, run, pid = parts.groups()
                found.append((int(number), run, int(pid or 0), os.path.join(self.folder, name)))
        return sorted(found)

    def add(self, run, ticket):
        """Put a run at the end of the queue, and start what may start. A run that is there stays there.

        ``ticket`` has ``argv``, ``environ``, ``folder`` (the run's), ``log`` and ``nested`` (the run that
        submits it, or nothing). The file is readable by its owner alone, because it holds the
        submitter's environment, and short-lived.
        """
        with self._locked():
            if self._given:
                put_json(os.path.join(self.folder, "slots.json"), {"slots": self._given})
            self._tidy()
            tickets = self._tickets()
            if run not in [waiting for _, waiting, _, _ in tickets] and not _claimed(ticket["folder"]):
                number = max([number for number, _, _, _ in tickets] + [self._last()]) + 1
                put_json(os.path.join(self.folder, "last.json"), number)
                _write(os.path.join(self.folder, "%012d-%s.json" % (number, run)), ticket)
            self._dispatch()

    def _tidy(self):
        """Remove what was half written by processes that were killed, and slots that nobody needs. Only for who holds the lock."""
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if name.endswith(".tmp"):
                _remove(path)
            elif name.startswith("slot.") and name.count(".") == 2:
                slot = _lock_of(path)
                if slot is not None:
                    _remove(path)
                    os.close(slot)

    def _last(self):
        return get_json(os.path.join(self.folder, "last.json")) or 0

    def dispatch(self):
        """Start the controllers of as many waiting runs as there are free slots, oldest first."""
        if os.path.isdir(self.folder):
            with self._locked():
                self._dispatch()

    def _dispatch(self):
        _STARTED[:] = [pid for pid in _STARTED if not _reaped(pid)]
        full = set()
        for number, run, pid, path in self._tickets():
            ticket = get_json(path) or {}
            if _claimed(ticket.get("folder", "")) or not ticket:
                _remove(path)
                continue
            if pid and processes.alive(ticket.get("started") or {}) is not False:
                continue
            if ticket.get("starts", 0) >= MOST_STARTS:
                last = _last_line(ticket["log"])
                _give_up(ticket["folder"], "its controller was started %d times and ended at once: %s" % (MOST_STARTS, last))
                _remove(path)
                continue
            outer = re.sub(r"\W", "_", str(ticket.get("nested") or ""))[:64]
            slot = self._free_slot(outer) if outer not in full else None
            if slot is None:
                full.add(outer)
                continue
            try:
                self._start(number, run, ticket, path, slot)
            finally:
                os.close(slot)  # the controller holds its own copy

    def _free_slot(self, outer):
        """A file descriptor that holds the lock of a free slot, or None."""
        for number in range(self.slots):
            name = "slot.%s.%d" % (outer, number) if outer else "slot.%d" % number
            slot = _lock_of(os.path.join(self.folder, name))
            if slot is not None:
                return slot
        return None

    def _start(self, number, run, ticket, path, slot):
        environ = dict(ticket["environ"], HPCEST_RUN_ID=run, HPCEST_SLOT_FD=str(slot))
        try:
            with open(ticket["log"], "ab") as log:
                child = subprocess.Popen(
                    ticket["argv"], env=environ, cwd=ticket["folder"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=[slot], start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            _give_up(ticket["folder"], "the controller could not be started: %s" % error)
            _remove(path)
            return
        child.returncode = 0  # we reap it ourselves; it may well outlive this process
        _STARTED.append(child.pid)
        ticket["started"] = processes.identity(child.pid)
        ticket["starts"] = ticket.get("starts", 0) + 1
        try:
            _write(path, ticket)
            os.replace(path, os.path.join(self.folder, "%012d-%s.started.%d" % (number, run, child.pid)))
        except OSError:
            pass  # a full disk, say: started again it would find the claim

    def remove(self, run):
        """Take a waiting run out of the queue; False if it isn't waiting (any more)."""
        if not os.path.isdir(self.folder):
            return False
        with self._locked():
            for _, waiting, pid, path in self._tickets():
                if waiting == run and not pid:
                    _remove(path)
                    return True
        return False

    def done(self, run):
        """Called by a controller that has its claim: its ticket has served."""
        try:
            tickets = self._tickets()
        except OSError:
            return
        for _, waiting, _, path in tickets:
            if waiting == run:
                _remove(path)

    def ahead(self, run):
        """How many runs wait before ``run``, -1 once it was started; None if it has no ticket here.

        Raises PermissionError for another user's queue.
        """
        before = 0
        try:
            tickets = self._tickets()
        except FileNotFoundError:
            return None
        for _, other, pid, _ in tickets:
            if other == run:
                return -1 if pid else before
            before += 0 if pid else 1
        return None


def _lock_of(path):
    """A file descriptor that holds the lock of ``path``; None where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except OSError:
        os.close(descriptor)
        return None


def _write(path, ticket):
    """Write a ticket for its owner alone, whole or not at all. Raises OSError."""
    beside = path + ".tmp"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(ticket, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        _remove(beside)
        raise


def _claimed(folder):
    return os.path.exists(os.path.join(folder, "state", "claim.0.json"))


def _give_up(folder, message):
    """Record that a run can't be started. Where its folder is gone, or can't be written, the others go on all the same."""
    verdict = {"attempt": 0, "rc": None, "why": "launch", "status": "Failed", "reason": "LaunchFailed", "message": message}
    try:
        put_json(os.path.join(folder, "state", "exit.0.json"), verdict)
    except OSError:
        if not os.path.isdir(folder):
            return
    writer = EventWriter(folder, "queue")
    writer.event("status", v="Failed", by="controller", a=0, r="LaunchFailed", m=message)
    writer.close()


def _last_line(path):
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 2000))
            return stream.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    except OSError:
        return "it said nothing"


def _reaped(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True  # somebody else has reaped it, or this is a forked child


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass
