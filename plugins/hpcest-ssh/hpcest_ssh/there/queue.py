"""Starts controllers, at once or when there is a slot: a queue of one machine, without a daemon.

lock              whoever changes the queue holds it
keeper            held by the one process that starts what waits; it goes when nothing waits any more
slot.N            held by the controller of a run, for as long as it lives
NUMBER-RUN.json   a ticket: a run that waits
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from hpcest_ssh.there import processes

PAUSE_S = 0.3
_USUAL = ["/var/tmp", "/tmp"]  # noqa: S108  # what is made there is private


def folder() -> str:
    """This user's own directory on a disk of this machine. Raises OSError."""
    problem = None
    for base in [os.environ["HPCEST_LOCAL_DIR"]] if os.environ.get("HPCEST_LOCAL_DIR") else _USUAL:
        path = os.path.join(base, f"hpcest-{os.getuid()}")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            facts = os.lstat(path)
            if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
                raise PermissionError(13, "is not a directory of this user alone", path)
            os.makedirs(os.path.join(path, "ssh"), mode=0o700, exist_ok=True)
            return os.path.join(path, "ssh")
        except OSError as error:
            problem = error
    assert problem is not None
    raise problem


@contextlib.contextmanager
def locked(queue: str) -> Iterator[None]:
    """Nobody else changes the queue meanwhile."""
    descriptor = _held(os.path.join(queue, "lock"), wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _held(path: str, wait: bool = False) -> int:
    """A descriptor that holds the lock of ``path``; -1 where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return descriptor
    except OSError:
        os.close(descriptor)
        return -1


def tickets(queue: str) -> list[Any]:
    """(run, path) of what waits, the first one first."""
    names = sorted(name for name in os.listdir(queue) if name[:1].isdigit() and name.endswith(".json"))
    return [(name[:-5].partition("-")[2], os.path.join(queue, name)) for name in names]


def add(queue: str, run: dict[str, Any]) -> None:
    """Have a run wait for a slot. Only for who holds the lock."""
    path = os.path.join(queue, f"{time.time_ns():020d}-{run['id']}.json")
    with open(path + ".tmp", "w") as stream:
        json.dump(run, stream)
    os.rename(path + ".tmp", path)


def remove(queue: str, run: str) -> bool:
    """Take a run out of the queue; False where it does not wait."""
    with locked(queue):
        for waiting, path in tickets(queue):
            if waiting == run:
                os.unlink(path)
                return True
    return False


def start(run: dict[str, Any], keep: tuple[int, ...] = ()) -> None:
    """Start a controller that outlives this connection, and note which process it is. Raises OSError."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
    os.makedirs(os.path.join(run["folder"], "system_logs"), exist_ok=True)
    with open(os.path.join(run["folder"], "system_logs", "controller.log"), "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", run["boot"], "controller", os.path.join(run["folder"], "launch.json")],
            env=dict(environ, HPCEST_RUN_ID=run["id"]), cwd=run["folder"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            pass_fds=keep, start_new_session=True,
        )  # fmt: skip
    child.returncode = 0  # it may well outlive us
    note(run["folder"], processes.identity(child.pid))


def note(folder: str, facts: dict[str, Any]) -> None:
    """Keep what became of a start in ``state/ssh.json``. Raises OSError."""
    path = os.path.join(folder, "state", "ssh.json")
    with open(path + ".tmp", "w") as stream:
        json.dump(facts, stream)
    os.rename(path + ".tmp", path)


def have_kept(queue: str) -> None:
    """See to it that somebody starts what waits."""
    if tickets(queue) and os.fork() == 0:
        try:
            if os.fork() == 0:
                os.setsid()
                null = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(null, descriptor)
                _keep(queue)
        finally:
            os._exit(0)


def _keep(queue: str) -> None:
    keeper = _held(os.path.join(queue, "keeper"))
    while keeper >= 0:
        with locked(queue):
            for _, path in tickets(queue):
                if not _started(queue, path):
                    break
            if not tickets(queue):
                os.close(keeper)  # while the queue is locked: who adds a ticket next finds that nobody keeps it
                return
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(PAUSE_S)


def _started(queue: str, path: str) -> bool:
    """Whether the ticket has served: False where no slot is free."""
    with open(path) as stream:
        run = json.load(stream)
    held = (_held(os.path.join(queue, f"slot.{number}")) for number in range(run["slots"]))
    slot = next((descriptor for descriptor in held if descriptor >= 0), -1)
    if slot < 0:
        return False
    try:
        start(run, (slot,))
    except OSError as error:
        with contextlib.suppress(OSError):
            note(run["folder"], {"error": str(error)})
    finally:
        os.close(slot)  # the controller has its own
    os.unlink(path)
    return True
