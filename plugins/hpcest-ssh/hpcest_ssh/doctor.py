"""What ``hpcest doctor`` says of a machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcest.errors import BackendError
from hpcest.model.folders import WorkspaceFolder

from hpcest_ssh.connection import Connection

Finding = tuple[str, str, str, str]
_SKEW_S = 5.0
_LITTLE = 1 << 30


def findings(connection: Connection, folder: Path, root: str) -> Iterator[Finding]:
    """Whether the machine answers, sees the workspace, has room, and knows the time."""
    host, shared = connection.host, connection.options.shared
    asked = time.time()
    try:
        found = connection.ask({"do": "probe", "root": root, "make": not shared})
    except BackendError as error:
        yield "", "bad", error.message, error.hint
        return
    answered = time.time()
    yield "", "ok", f"{host} is {found['host']}, with Python {found['python']}; it answers in {(answered - asked) * 1000:.0f} ms", ""
    yield _workspace(host, found, folder, shared=shared)
    skew = max(asked - found["time"], found["time"] - answered, 0.0)
    if skew > _SKEW_S:
        yield "", "note", f"the clock of {host} is {skew:.0f} s off", "have it set by NTP: times of events are compared"


def _workspace(host: str, found: dict[str, Any] | Any, folder: Path, *, shared: bool) -> Finding:
    if shared and found["marker"] != json.loads(WorkspaceFolder(folder).header.read_text(encoding="utf-8")):
        remedy = "mount the file system there at the same path, or write 'shared: false' in the compute target"
        return "", "bad", f"{host} does not see this workspace in {found['root']}", remedy
    if found["writable"]:
        return "", "bad", f"{host}: {found['writable']}", "runs can't be written there: check permissions and room"
    state = "note" if found["free"] < _LITTLE else "ok"
    return "", state, f"{found['root']} on {host}, {found['free'] / 1e9:.1f} GB free", "make room there" if state == "note" else ""
