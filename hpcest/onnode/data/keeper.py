"""Keeps an attempt's data on one node: copies on its own disk, and links at places of its own, until its standard input ends.

``keeper.py keep ORDERS`` makes them, says so in one line of JSON, waits, and removes them again, also when it is told to end
by SIGTERM. ``keeper.py upload ORDERS`` copies outputs to where they go, and ends. Keepers that share a disk (hosts of a test,
say) make one copy.
"""

import errno
import fcntl
import filecmp
import fnmatch
import json
import os
import shutil
import signal
import stat
import sys
import threading
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))

from hpcest.onnode import processes
from hpcest.onnode.data.files import DataError, files_of
from hpcest.onnode.rank import read_launch
from hpcest.onnode.record import get_json
from hpcest.onnode.workdir import for_each

_CHUNK, _SPARE = 1 << 22, 16 << 20
_LOOK_S = 1.0


class Stopped(BaseException):
    """It is time to go."""


class Keeper:
    """One node's part of an attempt's data."""

    def __init__(self, orders):
        self.scratch, self.downloads, self.links = orders["scratch"], orders["downloads"], orders["links"]
        self.home = os.path.dirname(self.scratch)
        self.stopped = False
        self._made = []
        self._mine = ""

    # ------------------------------------------------------------------ making
    def make(self):
        """Returns notes of what is not as it was. Raises DataError, OSError, Stopped."""
        notes = []
        if self.downloads:
            self._own_folder(self.home)
            self._sweep()
            with self._locked():
                self._own_folder(self.scratch)
                self._own_folder(os.path.join(self.scratch, ".users"))
                self._mine = os.path.join(self.scratch, ".users", "%s.%d" % (os.uname()[1], os.getpid()))
                with open(self._mine, "w") as stream:
                    json.dump(processes.identity(), stream)
                for name, facts in self.downloads.items():
                    notes += self._download(name, facts)
        for target, place in self.links:
            self._link(target, place)
        return notes

    @staticmethod
    def _own_folder(path):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            found = os.lstat(path)
            if found.st_uid != os.getuid() or os.path.islink(path):  # somebody else was there first, in a folder for all
                raise DataError("%s on %s belongs to somebody else; set HPCEST_SCRATCH to another folder" % (path, os.uname()[1])) from None
        except OSError as error:
            message = "there is no room for copies in %s on %s: %s; set HPCEST_SCRATCH to a folder that is there on every node"
            raise DataError(message % (os.path.dirname(path), os.uname()[1], error.strerror)) from error

    def _locked(self):
        return _Lock(self.scratch + ".lock")

    def _download(self, name, facts):
        target = os.path.join(self.scratch, name)
        if os.path.isdir(target):
            return []  # by another keeper on this disk
        root, files = files_of(name, facts)
        size = sum(entry[1] for entry in files)
        room = os.statvfs(self.scratch)
        free = room.f_bavail * room.f_frsize
        if size + _SPARE > free:
            message = "input %r: to download it takes %s, and %s on %s has %s; use as_mount(), or set HPCEST_SCRATCH to a larger disk"
            raise DataError(message % (name, _amount(size), self.home, os.uname()[1], _amount(free)))
        changed: list = []
        beside = target + ".tmp"
        shutil.rmtree(beside, ignore_errors=True)  # of a keeper that was killed
        os.mkdir(beside)
        for folder in sorted({os.path.dirname(path) for path, _, _ in files} - {""}):
            os.makedirs(os.path.join(beside, folder), exist_ok=True)
        for_each(lambda entry: self._copy(name, os.path.join(root, entry[0]), os.path.join(beside, entry[0]), entry, changed), files)
        os.rename(beside, target)
        if changed:
            return ["input %r has changed since the run was submitted: %s (files in all: %d)" % (name, changed[0], len(changed))]
        return []

    def _copy(self, name, source, target, entry, changed):
        try:
            with _file(source) as reading, open(target, "wb", buffering=0) as writing:
                while not self.stopped:
                    data = reading.read(_CHUNK)
                    if not data:
                        break
                    while data:
                        data = data[writing.write(data) :]
                found = os.fstat(reading.fileno())
            os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))
        except (FileNotFoundError, IsADirectoryError):
            raise DataError("input %r: the file %s is gone; it was there when the run was submitted" % (name, source)) from None
        except OSError as error:
            raise DataError("input %r: %s can't be copied to %s: %s" % (name, source, self.home, error.strerror)) from error
        if self.stopped:
            raise Stopped
        if (found.st_size, found.st_mtime_ns) != (entry[1], entry[2]):
            changed.append(source)

    def _link(self, target, place):
        if os.path.islink(target) and os.readlink(target) == place:
            self._made.append(target)  # by another keeper
            return
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(place, target)
        except OSError as error:
            message = "%s can't be put at %s on %s: %s; leave out path_on_compute, the program is told the path"
            raise DataError(message % (place, target, os.uname()[1], error.strerror)) from error
        self._made.append(target)

    # ------------------------------------------------------------------ removing
    def remove(self):
        """Take away what was made; of copies that others still use only the own mark."""
        for link in self._made:
            _quietly(os.unlink, link)
        if not self._mine:
            return
        with self._locked():
            if _users(self.scratch) == [self._mine]:
                _clear(self.scratch)
            else:
                _quietly(os.unlink, self._mine)
        _quietly(os.rmdir, self.home)

    def _sweep(self):
        """Remove what keepers have left that were killed with their whole job."""
        for name in os.listdir(self.home):
            path = os.path.join(self.home, name[:-5] if name.endswith(".lock") else name)
            if path == self.scratch:
                continue
            _unmark_dead(path)
            if _is_left(path):
                try:
                    with _Lock(path + ".lock", wait=False):
                        if _is_left(path):
                            _clear(path)
                except OSError:
                    pass  # it is being made now


def _file(path):
    """The file, open to be read; a pipe, which would be waited for for ever, is none. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "no file any more", path)
    return os.fdopen(descriptor, "rb", buffering=0)


class _Lock:
    """Held by one keeper on a disk at a time. Where the disk knows no locks, by all. Raises BlockingIOError if it may not ``wait``."""

    def __init__(self, path, wait=True):
        self.path = path
        self.how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)

    def __enter__(self):
        while True:
            self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self.descriptor, self.how)
            except BlockingIOError:
                os.close(self.descriptor)
                raise
            except OSError:
                return
            if _is_file(self.descriptor, self.path):
                return
            os.close(self.descriptor)  # who held it has removed the file

    def __exit__(self, kind, error, traceback):
        os.close(self.descriptor)


def _is_file(descriptor, path):
    """Whether it is still this file that has the name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _unmark_dead(scratch):
    """Remove the marks of users that are known to be dead: other hosts of a shared disk can't tell."""
    for user in _users(scratch):
        if processes.alive(get_json(user) or {"host": ""}) is False:
            _quietly(os.unlink, user)


def _is_left(scratch):
    """Whether copies, or their lock, have no user any more."""
    if os.path.isdir(os.path.join(scratch, ".users")):
        return not _users(scratch)
    return not _names(scratch) and os.path.exists(scratch + ".lock")


def _clear(scratch):
    """Remove copies, and the marks of their users last: who is killed here leaves what is known as left."""
    for name in _names(scratch):
        if name != ".users":
            shutil.rmtree(os.path.join(scratch, name), ignore_errors=True)
    if set(_names(scratch)) <= {".users"}:
        shutil.rmtree(scratch, ignore_errors=True)
    if not os.path.lexists(scratch):
        _quietly(os.unlink, scratch + ".lock")


def _users(scratch):
    folder = os.path.join(scratch, ".users")
    return [os.path.join(folder, name) for name in _names(folder)]


def _names(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _amount(count):
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return "%.3g %s" % (count, unit)
        count /= 1024.0
    return "%.4g TB" % count


def _quietly(action, path):
    try:
        action(path)
    except OSError:
        pass


def upload(uploads):
    """Copy outputs to their ends, files whole or not at all. Raises DataError for what is there and may not be replaced."""
    for name, facts in uploads.items():
        source, target = facts["path"], facts["upload"]
        if os.path.isfile(source):
            pairs = [(source, target)]
        else:
            found = (os.path.join(where, file) for where, _, files in os.walk(source) for file in files)
            pairs = [(path, os.path.join(target, os.path.relpath(path, source))) for path in sorted(found)]
            pairs = [pair for pair in pairs if _is_asked(os.path.relpath(pair[0], source), facts["globs"])]
        pairs = [pair for pair in pairs if not _is_there(*pair)]  # by an attempt that was killed, say
        taken = [end for _, end in pairs if os.path.lexists(end)]
        if taken and not facts["overwrite"]:
            raise DataError("output %r: %s exists already, and may not be overwritten" % (name, taken[0]))
        for path, end in pairs:
            beside = "%s.%d.part" % (end, os.getpid())
            try:
                os.makedirs(os.path.dirname(end), exist_ok=True)
                shutil.copyfile(path, beside)
                os.replace(beside, end)
            except OSError as error:
                _quietly(os.unlink, beside)
                raise DataError("output %r: %s can't be uploaded to %s: %s" % (name, path, end, error.strerror)) from error


def _is_there(path, end):
    return os.path.isfile(end) and filecmp.cmp(path, end, shallow=False)


def _is_asked(path, globs):
    """Whether one of the patterns means the file: as a path, or as a name in any folder."""
    names = (path, os.path.basename(path))
    patterns = [pattern[3:] if pattern.startswith("**/") else pattern for pattern in globs]
    return not globs or any(fnmatch.fnmatch(name, pattern) for pattern in patterns for name in names)


def _say(**answer):
    sys.stdout.write(json.dumps(dict(answer, node=os.environ.get("SLURMD_NODENAME") or os.uname()[1])) + "\n")
    sys.stdout.flush()


def _stop_when_told(keeper):
    """Raise Stopped in this thread at SIGTERM, and at the end of the standard input, which may come while this handles the other."""

    def stop(number, frame):
        if not keeper.stopped:  # a plain flag: an Event that is set again while it is being set waits for ever
            keeper.stopped = True
            raise Stopped

    def listen():
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=listen, daemon=True).start()


def keep(orders):
    """Make, wait, remove. A problem is said, and waited with: the others are told to end then."""
    keeper = Keeper(orders)
    try:
        _stop_when_told(keeper)
        try:
            _say(notes=keeper.make())
        except (DataError, OSError) as error:
            _say(problem=str(error))
        while True:
            time.sleep(_LOOK_S)  # and not pause(), which waits on when a signal comes just before it
    except Stopped:
        keeper.remove()


def main(what, path):
    """``keep`` or ``upload``, with the orders in the file ``path``."""
    orders = read_launch(path)
    if what == "keep":
        keep(orders)
        return
    try:
        upload(orders["uploads"])
        _say()
    except (DataError, OSError) as error:
        _say(problem=str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
