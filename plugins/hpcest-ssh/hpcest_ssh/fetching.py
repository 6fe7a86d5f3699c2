"""The files of runs that come back from a machine that does not share the workspace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcest.errors import BackendError
from hpcest.model.folders import RunFolder

from hpcest_ssh.connection import Answer
from hpcest_ssh.troubles import BrokenError

_PARTS = ("outputs", "logs", "artifacts", "work", "user_logs", "system_logs", "events", "state")


def have(folder: RunFolder) -> dict[str, list[int]]:
    """What is here of a run: path → size and time stamp. The machine sends what differs."""
    found: dict[str, list[int]] = {}
    for part in _PARTS[:-1]:
        for place, _, names in os.walk(folder.path / part):
            for name in names:
                path = os.path.join(place, name)
                with contextlib.suppress(OSError):
                    facts = os.lstat(path)
                    found[os.path.relpath(path, folder.path)] = [facts.st_size, facts.st_mtime_ns]
    return found


def receive(answer: Answer, folders: Mapping[str, RunFolder]) -> Mapping[str, bool]:
    """Write what comes; returns of which runs all has come. Raises BackendError."""
    try:
        for head, data in answer.frames():
            if "error" in head:
                raise BackendError(f"{head['error'].get('path')}: {head['error'].get('text')}")
            if "end" in head:
                ended: Mapping[str, bool] = head["end"]
                return ended
            _write(folders[head["run"]].path, head, data)
    except OSError as error:
        raise BackendError(f"{error.filename or 'the run folder'}: {error.strerror or error}", hint="check its space") from error
    finally:
        for folder in folders.values():
            with contextlib.suppress(OSError):
                _incoming(folder.path).unlink()
    raise BrokenError("the connection broke")


def _write(folder: Path, head: Mapping[str, Any], data: bytes) -> None:
    path = folder / head["path"]
    if not _is_inside(path, folder) or path.relative_to(folder).parts[0] not in _PARTS:
        raise BackendError(f"a path that leads out of the run folder came: {head['path']!r}", hint="don't trust that machine")
    path.parent.mkdir(parents=True, exist_ok=True)
    if "link" in head:
        _link(path, head["link"], folder)
    elif head.get("grows"):
        _put(path, data, head["at"], anew=head["anew"])
    else:
        beside = _incoming(folder)
        _put(beside, data, head["at"], anew=not head["at"])
        if head["last"]:
            os.chmod(beside, head["mode"] | 0o600)
            os.utime(beside, ns=(head["time"], head["time"]))
            os.replace(beside, path)


def _incoming(folder: Path) -> Path:
    """Where a file grows until it is whole: not among the outputs."""
    return folder / "state" / f"incoming.{os.getpid()}"


def _put(path: Path, data: bytes, offset: int, *, anew: bool) -> None:
    """Have ``data`` stand at ``offset``. What another process puts there at the same time is the same."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if anew:
            os.ftruncate(descriptor, 0)
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(descriptor)


def _link(path: Path, target: str, folder: Path) -> None:
    """A link as it is there, if it stays inside the run."""
    if not os.path.isabs(target) and _is_inside(Path(path.parent, target), folder) and not os.path.lexists(path):
        os.symlink(target, path)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies in the run's folder, links on the way followed."""
    place = Path(os.path.realpath(path.parent), path.name)
    return ".." not in path.name and place.is_relative_to(os.path.realpath(folder)) and os.path.normpath(place) == str(place)
