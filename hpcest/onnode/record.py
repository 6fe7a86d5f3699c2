"""The format of a run folder's events: one append-only JSON-lines file for each writer.

Every line is an object with ``t`` (seconds since the epoch) and ``e`` (its kind); docs/run-folder.md
lists the kinds. One file has one writer, so no lock is ever needed, also on a network file system.
"""

import errno
import json
import os
import sys
import threading
import time
import weakref

SCHEMA = 1
KEPT_LINES = 10000
SYNC_EVERY_S = 5.0


def put_json(path, value, sync=True):
    """Write ``value`` to ``path`` so that a reader sees all of it or nothing, on the disk if ``sync``. Raises OSError."""
    beside = "%s.%s.%d.tmp" % (path, os.uname()[1], os.getpid())
    try:
        with open(beside, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(value))  # unlike dump, in C
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        try:
            os.unlink(beside)
        except OSError:
            pass
        raise


def get_json(path):
    """The object in the JSON file ``path``, or None where there is no readable one."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def encode(event):
    """One event as the bytes of its line."""
    return (json.dumps(event, separators=(",", ":"), allow_nan=True) + "\n").encode("utf-8")


def announce(edits, run_id):
    """Tell every index, in the workspace's folder ``edits``, that a run has changed that may have ended.

    Returns the OSError that prevented it, or None.
    Call it when the event is in the run folder. One file for each host and user: on a network file system
    only appends of the same host keep apart.
    """
    try:
        os.makedirs(edits, exist_ok=True)
        path = os.path.join(edits, "%s-%d.jsonl" % (os.uname()[1], os.getuid()))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        return error
    try:
        os.write(descriptor, encode({"run": run_id}))
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None


def warn(message):
    """Tell the user on stderr; where that is a log on a full disk, go on without."""
    try:
        sys.stderr.write("hpcest: %s\n" % message)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # no room, closed, or none at all
        pass


class EventWriter:
    """Appends events to a file of its own; never raises for trouble of the storage.

    The file is made at the first event: ``FOLDER/events/ROLE-HOST-PID.jsonl``. Every line has reached
    the kernel when ``write`` returns, so killing the process loses nothing; it reaches the disk at the
    latest ``SYNC_EVERY_S`` seconds later, when something more is written, or at ``flush``. While the
    storage refuses (full disk, stale handle) up to ``KEPT_LINES`` lines are kept and tried again; a
    warning is printed once, and ``lost`` counts what had to be dropped.
    """

    def __init__(self, folder, role):
        self.folder = str(folder)
        self.role = role
        self.lost = 0
        self._kept = []
        self._warned = False
        self._torn = False
        self._lock = threading.Lock()
        self._forget()
        if hasattr(os, "register_at_fork"):
            this = weakref.ref(self)  # the hook can't be taken back, and must not keep the writer

            def forget():
                writer = this()
                if writer is not None:
                    writer._forget()

            os.register_at_fork(after_in_child=forget)

    def _forget(self):
        """A forked child is another writer: it opens a file of its own."""
        self._fd = -1
        self._kept = []
        self._lock = threading.Lock()
        self._synced = time.monotonic()

    @property
    def path(self):
        name = "%s-%s-%d.jsonl" % (self.role, os.uname()[1], os.getpid())
        return os.path.join(self.folder, "events", name)

    def event(self, kind, **fields):
        """Append one event of ``kind``; fields that are None are left out."""
        line = {"t": round(time.time(), 6), "e": kind}
        line.update((key, value) for key, value in fields.items() if value is not None)
        self.write(encode(line))

    def write(self, data):
        """Append ``data``, whole lines as bytes."""
        if not self._kept:
            try:  # the quick way: one system call, and whole or nothing on any file system that has room
                if os.write(self._fd, data) == len(data):
                    if time.monotonic() - self._synced > SYNC_EVERY_S:
                        self._sync()
                    return
                self._torn = True
            except OSError:
                pass  # not open yet, or the storage refuses: the careful way finds out
        with self._lock:
            self._kept.append(data)
            self._drain()

    def _drain(self):
        try:
            if self._fd < 0:
                os.makedirs(os.path.join(self.folder, "events"), exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
                self._fd = os.open(self.path, flags, 0o666)
            data = b"".join(self._kept)
            if self._torn:  # half a line got out before the disk was full: end it, readers skip it
                data = b"\n" + data
            written = os.write(self._fd, data)
            self._torn = False
            if written == len(data):
                self._kept = []
                return
            done = data[:written].count(b"\n")
            self._kept = [line + b"\n" for line in data.split(b"\n")[done:] if line]
            self._torn = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._complain(error)
            if error.errno == errno.ESTALE:
                self._fd = -1
            if len(self._kept) > KEPT_LINES:
                self.lost += len(self._kept) - KEPT_LINES
                self._kept = self._kept[-KEPT_LINES:]

    def _complain(self, error):
        if not self._warned:
            self._warned = True
            where = os.path.join(self.folder, "events")
            warn("can't record in %s: %s; your program goes on, and hpcest tries again" % (where, error))

    def _sync(self):
        self._synced = time.monotonic()
        try:
            os.fsync(self._fd)
        except OSError:
            pass

    def flush(self):
        """Try what is kept once more, and have the file on disk. True if nothing is left over."""
        with self._lock:
            if self._kept:
                self._drain()
        if self._fd >= 0:
            self._sync()
        if self.lost and not self._kept:
            lost, self.lost = self.lost, 0
            self.event("lost", n=lost)
        return not self._kept

    def close(self):
        """Flush, and give the file back."""
        if self._kept or self._fd >= 0:
            self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
