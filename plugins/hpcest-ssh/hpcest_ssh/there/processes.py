"""Who is still the process that it was, and what is left of a run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import Any


def boot_id() -> str:
    """Changes with every start of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _stat(pid: int) -> list[Any]:
    """The fields of /proc/PID/stat from the state on; empty where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return stream.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return []


def identity(pid: int) -> dict[str, Any]:
    """What makes a process that process, in the words of a run's claim."""
    fields = _stat(pid)
    return {"host": socket.gethostname(), "boot": boot_id(), "pid": pid, "start": int(fields[19]) if fields else 0}


def alive(who: dict[str, Any]) -> bool | None:
    """Whether the process that a claim describes still runs; None where another host would have to be asked."""
    if who.get("host") != socket.gethostname():
        return None
    fields = _stat(int(who.get("pid") or 0)) if who.get("boot") == boot_id() else []
    return bool(fields) and int(fields[19]) == who.get("start") and fields[0] not in (b"Z", b"X")


def end_leftovers(run: str) -> None:
    """Kill what carries the mark of a run whose controller is gone."""
    mark = b"HPCEST_RUN_ID=" + run.encode()
    for _ in range(50):
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid() and mark in _environ(pid)]
        for pid in left:
            with contextlib.suppress(OSError):  # it has just ended, or is another user's
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.02)


def _environ(pid: int) -> list[Any]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return []
