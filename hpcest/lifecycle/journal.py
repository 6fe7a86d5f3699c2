"""What the login side adds to a run's record: a line or two at a time, on the disk when it returns."""

from __future__ import annotations

import os
import time
from typing import Any

from hpcest.model.folders import RunFolder
from hpcest.onnode.record import EventWriter, encode


def append(folder: RunFolder, role: str, *events: dict[str, Any], sync: bool = True) -> None:
    """Append events (``e`` is the kind; None fields are left out) to this process's file in the run folder.

    Unlike the writer of a program, which goes on whatever happens, it raises OSError where the disk
    refuses. Without ``sync`` a crash of the machine may still lose them. Events get the present time, unless they have a ``t``.
    """
    now = round(time.time(), 6)
    lines = [encode({"t": now, **{key: value for key, value in event.items() if value is not None}}) for event in events]
    descriptor = os.open(EventWriter(folder.path, role).path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        data = b"".join(lines)
        if os.write(descriptor, data) != len(data):
            os.write(descriptor, b"\n")  # ends the half line, which readers skip
            raise OSError(28, os.strerror(28))
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
