"""What has become of a run on this machine, its start and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from typing import Any

from hpcest_ssh.there import processes, queue

VISIBLE_WITHIN_S = 10.0
LAST_WORDS_S = 3.0
LITTLE = 1 << 14


def read(path: str) -> Any:
    """The JSON in a file, or None."""
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def start(run: dict[str, Any]) -> None:
    """Start a run, or have it wait for a slot, unless that was done before. Raises OSError."""
    launch = os.path.join(run["folder"], "launch.json")
    end = time.monotonic() + VISIBLE_WITHIN_S
    while not os.path.exists(launch):  # a network file system may show it later
        if time.monotonic() > end or not os.path.isdir(os.path.dirname(run["folder"])):
            raise FileNotFoundError(2, "the run's folder is not to be seen", run["folder"])
        time.sleep(0.1)
        os.listdir(os.path.dirname(run["folder"]))
    os.makedirs(os.path.join(run["folder"], "state"), exist_ok=True)
    where = queue.folder()
    with queue.locked(where):
        known = (
            _state(run, "claim.0.json") or _state(run, "exit.0.json") or _is_starting(run) or "canceled" in (_state(run, "ssh.json") or {})
        )
        if known or run["id"] in [waiting for waiting, _ in queue.tickets(where)]:
            return
        if run["slots"]:
            queue.add(where, run)
        else:
            queue.start(run)
    queue.have_kept(where)


def _state(run: dict[str, Any], name: str) -> Any:
    return read(os.path.join(run["folder"], "state", name))


def _is_starting(run: dict[str, Any]) -> bool:
    mark = _state(run, "ssh.json")
    return bool(mark) and bool(processes.alive(mark))


def cancel(run: dict[str, Any]) -> bool:
    """Have a run end; True where it was only waiting, and does no more. A second time nothing happens. Raises OSError."""
    path = os.path.join(run["folder"], "state", "cancel")
    if queue.remove(queue.folder(), run["id"]):
        queue.note(run["folder"], {"canceled": True})
        return True
    claim = _state(run, "claim.0.json")
    if not run["told"] or not os.path.exists(path):
        with open(path, "a"):
            pass
        if claim and processes.alive(claim) and claim.get("pid"):
            os.kill(claim["pid"], signal.SIGTERM)
    return False


def facts(run: dict[str, Any]) -> dict[str, Any]:
    """What there is to know of a run, for ``evidence.of`` on the other side."""
    where = queue.folder()
    if not os.path.isdir(run["folder"]):
        return {"visible": False}
    waiting = [name for name, _ in queue.tickets(where)]  # before the rest: a ticket goes when its controller was started
    found: dict[str, Any] = {"visible": True, "ahead": waiting.index(run["id"]) if run["id"] in waiting else None}
    if waiting:
        queue.have_kept(where)
    found["mark"], starting = _state(run, "ssh.json"), _is_starting(run)
    found["claim"] = claim = _state(run, "claim.0.json")
    found["sentinel"] = _state(run, "exit.0.json")
    found["starting"] = starting and not claim
    if claim:
        living = [processes.alive(who) for who in (claim, claim.get("guardian")) if who]
        found["alive"] = True if True in living else None if None in living else False
        found["restarted"] = found["alive"] is False and claim.get("boot") != processes.boot_id()
    if claim and found["alive"] is False and not found["sentinel"]:
        _bury(run, found)
    elif claim and found["sentinel"]:
        _hear_out(claim)
    elif not claim and not starting:
        found["claim"] = _state(run, "claim.0.json")  # it came while we looked
        found["alive"] = bool(found["claim"])
        found["said"] = _last_line(os.path.join(run["folder"], "system_logs", "controller.log")) or _lack_of_room(run["folder"])
    return found


def _bury(run: dict[str, Any], found: dict[str, Any]) -> None:
    """Its controller is gone: what it said last, and an end to what it left."""
    found["sentinel"] = _state(run, "exit.0.json")
    if not found["sentinel"]:
        processes.end_leftovers(run["id"])
        noted = _state(run, "exit.0.json.tmp")
        found["sentinel"] = noted if isinstance(noted, dict) and "status" in noted else None


def _hear_out(claim: dict[str, Any]) -> None:
    """A controller that has written its verdict has an event or two to add."""
    end = time.monotonic() + LAST_WORDS_S
    while processes.alive(claim) and time.monotonic() < end:
        time.sleep(0.02)


def _last_line(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 2000))
            return stream.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
    except OSError:
        return ""


def _lack_of_room(folder: str) -> str:
    return "no space left on its disk" if shutil.disk_usage(folder).free < LITTLE else ""


def is_over(found: dict[str, Any]) -> bool:
    """Whether nothing more will come of the run."""
    return bool(found.get("sentinel")) or (bool(found.get("claim")) and found.get("alive") is False)
