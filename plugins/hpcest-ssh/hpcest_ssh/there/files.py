"""The files of a workspace that is not shared: taken in as a tar stream, sent back as far as the other side lacks them."""

from __future__ import annotations

import json
import os
import stat
import tarfile
import time
from typing import IO, Any

GROWING = ("user_logs", "system_logs", "events")  # only ever appended to; events last, since they tell the end
CHUNK = 1 << 22
SMALL = 1 << 24  # while a run goes on, larger files are left for its end
LONGEST_S = 10.0


def lacks(root: str, names: list[Any]) -> list[Any]:
    """Those of the paths below ``root`` that are not there."""
    return [name for name in names if not os.path.exists(os.path.join(root, name))]


def take(stream: Any, root: str) -> None:
    """Unpack what was sent; each file appears whole. A folder that is there in full stays as it is. Raises OSError."""
    os.makedirs(root, exist_ok=True)
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = os.path.join(root, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            elif member.issym() and not os.path.lexists(path):
                os.symlink(member.linkname, path)
            elif member.isfile():
                _write(archive.extractfile(member), path, member.mode)


def _write(source: Any, path: str, mode: int) -> None:
    beside = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as target:
            for data in iter(lambda: source.read(CHUNK), b""):
                target.write(data)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def sizes(folder: str) -> dict[str, Any]:
    """How long the event files are now. Taken before a run's end is looked for, so that no event tells it too early."""
    return {path: os.lstat(os.path.join(folder, path)).st_size for path in _below(folder, "events")}


def send(out: IO[bytes], run: dict[str, Any], over: bool, limits: dict[str, Any]) -> bool:
    """Send what changed in a run's folder; False where some of it has to wait for the next time."""
    folder, have, end = run["folder"], run["have"], time.monotonic() + LONGEST_S
    whole = ["outputs", "logs", "artifacts"] + (["work"] if over else [])
    for path in [path for part in whole for path in _below(folder, part)]:
        if time.monotonic() > end:
            return False
        _send_whole(out, run["id"], folder, path, have.get(path), over)
    for path in [path for part in GROWING[:2] for path in _below(folder, part)]:
        _send_rest(out, run["id"], folder, path, (have.get(path) or [0])[0], None)
    for name in ["claim.0.json"] + (["exit.0.json"] if over else []):
        _send_whole(out, run["id"], folder, "state/" + name, None, True)
    for path in _below(folder, "events"):
        _send_rest(out, run["id"], folder, path, (have.get(path) or [0])[0], None if over else limits.get(path, 0))
    return True


def _below(folder: str, part: str) -> list[Any]:
    """The paths of all that is no directory below a part of a run's folder."""
    found = []
    for place, folders, names in os.walk(os.path.join(folder, part)):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names + links]
    return sorted(found)


def _send_whole(out: IO[bytes], run: str, folder: str, path: str, have: Any, over: bool) -> None:
    full = os.path.join(folder, path)
    try:
        facts = os.lstat(full)
        if stat.S_ISLNK(facts.st_mode):
            _frame(out, {"run": run, "path": path, "link": os.readlink(full)}, b"")
        elif stat.S_ISREG(facts.st_mode) and have != [facts.st_size, facts.st_mtime_ns] and (over or facts.st_size <= SMALL):
            with open(full, "rb") as source:
                data, offset = source.read(CHUNK), 0
                while True:
                    more = source.read(CHUNK)
                    head = {"run": run, "path": path, "at": offset, "time": facts.st_mtime_ns, "mode": facts.st_mode & 0o777}
                    _frame(out, dict(head, last=not more), data)
                    data, offset = more, offset + len(data)
                    if not data:
                        break
    except OSError:
        pass  # the program has removed it, or lets nobody read it


def _send_rest(out: IO[bytes], run: str, folder: str, path: str, offset: int, limit: int | None) -> None:
    with open(os.path.join(folder, path), "rb") as source:
        size = os.fstat(source.fileno()).st_size if limit is None else limit
        shrunk = offset > size
        offset = 0 if shrunk else offset
        source.seek(offset)
        while offset < size:
            data = source.read(min(CHUNK, size - offset))
            if not data:
                break
            _frame(out, {"run": run, "path": path, "at": offset, "grows": True, "anew": shrunk and not offset}, data)
            offset += len(data)


def _frame(out: IO[bytes], head: dict[str, Any], data: bytes) -> None:
    out.write(json.dumps(dict(head, n=len(data))).encode() + b"\n" + data)
