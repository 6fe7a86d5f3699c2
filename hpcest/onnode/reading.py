"""What a run's events say beside its metrics, read fast: a million points are passed over, not parsed."""

import json
import os
import re
import time

from hpcest.onnode.events import CHUNK, HOLE_PATIENCE_S, event_files
from hpcest.onnode.metrics import KINDS
from hpcest.onnode.state import RunState

# A scalar as ``Run.log`` writes it. A quotation mark within a text has a backslash before it, so nothing else looks like this.
_POINT = re.compile(rb'^\{"t":[0-9.]+,"e":"metric",[^\n]*\n', re.MULTILINE)


def read_state(folder):
    """The RunState of a run folder: the same as ``read_run(folder)[0]``."""
    state = RunState()
    for path in event_files(folder):
        writer = os.path.basename(path)
        try:
            with open(path, "rb", buffering=0) as stream:
                for event in _others(stream):
                    if event.get("e") not in KINDS:
                        state.apply(event, writer)
        except OSError:
            continue  # deleted between the listing and now
    return state


def _others(stream):
    """The events in ``stream`` that are no scalars, up to its last whole line."""
    rest = b""
    while True:
        more = stream.read(CHUNK)
        data = rest + more
        end = data.rfind(b"\n") + 1
        left, rest = _POINT.sub(b"", data[:end]), data[end:]
        hole = left.find(b"\0")
        fresh = hole >= 0 and time.time() - os.fstat(stream.fileno()).st_mtime < HOLE_PATIENCE_S
        if fresh:  # data under way on a network file system: for the next time
            left = left[: left.rfind(b"\n", 0, hole) + 1]
        for line in left.split(b"\n"):
            try:
                event = json.loads(line.strip(b"\0 \t\r") or b"0")
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event
        if fresh or not more:
            return
