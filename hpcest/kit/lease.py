"""An advisory lease on any shared file system, so that two people don't do the same long work at once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

WAIT_SAID_EVERY_S = 15.0
LONGEST_NAP_S = 2.0
#: Taking over a stale lease takes milliseconds.
STEALING_S = 10.0


@dataclass(frozen=True)
class Holder:
    """Who has a lease. ``started`` is in seconds since the epoch, 0 where the lease can't be read yet."""

    user: str = "someone"
    host: str = ""
    pid: int = 0
    started: float = 0.0
    describe: str = ""

    @classmethod
    def me(cls, describe: str = "") -> Holder:
        """This process."""
        return cls(_user(), socket.gethostname(), os.getpid(), time.time(), describe)

    @property
    def is_dead(self) -> bool:
        """True where the process is known to have ended: it ran on this host and has gone."""
        if self.host != socket.gethostname() or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # another user's process: it is there
        return False

    def __str__(self) -> str:
        return self.describe or (f"{self.user}@{self.host}" if self.host else self.user)


Waiting = Callable[[Holder], None]


@contextlib.contextmanager
def lease(
    path: Path,
    *,
    ttl: float = 60.0,
    describe: str = "",
    done: Callable[[], bool] = lambda: False,
    waiting: Waiting = lambda holder: None,
) -> Iterator[bool]:
    """Hold ``path`` while the block runs: True where we do, False where ``done()`` became true meanwhile.

    Correctness must never depend on a lease: where a holder hangs for longer than ``ttl`` and goes on,
    two processes hold it. It only saves work; what the block makes has to be
    published by one atomic step (``kit.files.create_exclusively``, a rename), and the loser's thrown away.

    The holder touches the file every ``ttl / 5`` seconds. A lease that was not touched for ``ttl``
    seconds of the file server's clock is taken over, at once where the holder's process ran on this host
    and has gone. Others wait: ``waiting(holder)`` is called at first and then every 15 s. Raises OSError
    where the lease can't be written.
    """
    me = Holder.me(describe)
    try:
        stream = _acquire(path, me, ttl, done, waiting)
        if stream is None:
            yield False
            return
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(stream, stop, ttl / 5), name=f"lease {path.name}", daemon=True)
        try:
            heart.start()
            yield True
        finally:
            stop.set()
            try:
                if heart.ident:
                    heart.join()
            finally:  # also where Ctrl-C comes while we wait
                _release(path, stream)
    except BaseException:
        _forsake(path, me)  # Ctrl-C may have come when the lease was there and nobody had its descriptor yet
        raise


def wait_notice(say: Callable[[str], None]) -> Waiting:
    """A ``waiting`` for people: says ``waiting for alice@n3 (started 2 min ago)``."""

    def waiting(holder: Holder) -> None:
        say(f"waiting for {holder}" + (f" (started {span(time.time() - holder.started)} ago)" if holder.started else ""))

    return waiting


def span(seconds: float) -> str:
    """A length of time in one word for people: ``40 s``, ``2 min``, ``5 h``, ``12 days``."""
    seconds = max(0.0, seconds)
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= (2 if size == 86400 else 1) * size:
            return f"{seconds // size:.0f} {word}"
    return f"{seconds:.0f} s"


def server_now(folder: Path) -> float:
    """The time by the clock that dates the files in ``folder``, which may not be ours. Raises OSError."""
    probe = folder / f".clock.{uuid.uuid4().hex[:12]}.tmp"
    fd = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return os.fstat(fd).st_mtime
    finally:
        os.close(fd)
        probe.unlink()


def _acquire(path: Path, me: Holder, ttl: float, done: Callable[[], bool], waiting: Waiting) -> int | None:
    """The open file of our lease, or None where there is nothing left to do."""
    nap, said, ahead = 0.05, 0.0, None
    while not done():
        fd = _create(path, me)
        if fd is not None:
            if not done():  # published between the look and the lease
                return fd
            _release(path, fd)
            return None
        if ahead is None:  # of the file server's clock before the one that can't be set
            ahead = server_now(path.parent) - time.monotonic()
        found, holder = _look(path)
        if found is None:
            continue  # given back: the next try gets it
        stale = _is_stale(found, holder, time.monotonic() + ahead - ttl)
        if stale and _take_away(path, found):
            continue
        if not stale and (not said or time.monotonic() - said >= WAIT_SAID_EVERY_S):
            said = time.monotonic()
            waiting(holder)
        time.sleep(nap)
        nap = min(nap * 1.5, LONGEST_NAP_S, ttl / 5)
    return None


def _create(path: Path, me: Holder) -> int | None:
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return None
    try:
        os.write(fd, json.dumps(asdict(me)).encode())
    except OSError:
        _release(path, fd)
        raise
    return fd


def _look(path: Path) -> tuple[os.stat_result | None, Holder]:
    """The lease and who holds it: someone unknown while the name is being written, None where it has gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None, Holder()
    try:
        return found, Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return found, Holder()


def _is_stale(found: os.stat_result, holder: Holder, oldest: float) -> bool:
    return found.st_mtime < oldest or holder.is_dead


def _take_away(path: Path, stale: os.stat_result) -> bool:
    """Remove a stale lease; False where another process is about to.

    Only who makes the file that is named after it may, so that no newer lease is hit.
    """
    right = path.with_name(f".{path.name}.{stale.st_ino:x}-{stale.st_mtime_ns:x}.stale")
    try:
        os.close(os.open(right, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            if server_now(path.parent) - os.stat(right).st_mtime > STEALING_S:
                right.unlink()  # whoever had the right died with it
        return False
    with contextlib.suppress(FileNotFoundError):
        now = os.stat(path)
        if (now.st_ino, now.st_mtime_ns) == (stale.st_ino, stale.st_mtime_ns):
            path.unlink()
    right.unlink(missing_ok=True)
    return True


def _beat(fd: int, stop: threading.Event, every: float) -> None:
    while not stop.wait(every):
        with contextlib.suppress(OSError):
            os.utime(fd)  # by descriptor: never the lease of whoever took ours over


def _release(path: Path, fd: int) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            path.unlink()
    os.close(fd)


def _forsake(path: Path, me: Holder) -> None:
    """Remove the lease if it is ours still, by what is written in it."""
    with contextlib.suppress(OSError):
        if _look(path)[1] == me:
            path.unlink()


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a uid without a name
        return f"uid {os.getuid()}"
