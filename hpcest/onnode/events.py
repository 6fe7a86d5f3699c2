"""Reading a run folder's events while others still append to them."""

import json
import os
import time

from hpcest.onnode.metrics import Metrics
from hpcest.onnode.state import RunState

# NUL bytes that a file still shows this long after its last change are no data under way: a disk lost them.
HOLE_PATIENCE_S = 60.0
CHUNK = 1 << 24


def read_events(path, offset=0, limit=None):
    """Read the whole lines of ``path`` from byte ``offset``; return (events, new offset, bad lines).

    ``limit`` is how many bytes are read at most (a single longer line is read nonetheless): call again
    until the offset stays the same. A tail is never trusted: what follows the last newline, or a NUL
    byte that a network file system shows in place of data still under way, is left for the next time.
    A line that is no event is counted and skipped. Raises OSError.
    """
    with open(path, "rb", buffering=0) as stream:
        return read_stream(stream, offset, limit)


def read_stream(stream, offset=0, limit=None):
    """``read_events`` of a file that is open: unbuffered, in binary mode."""
    data, end = _whole_lines(stream, offset, limit)
    hole = data.find(b"\0", 0, end)
    if hole >= 0 and time.time() - os.fstat(stream.fileno()).st_mtime < HOLE_PATIENCE_S:
        end = data.rfind(b"\n", 0, hole) + 1
    if not end:
        return [], offset, 0
    events, bad = _parse(data[: end - 1])
    return events, offset + end, bad


def _whole_lines(stream, offset, limit):
    """What stands in ``stream`` from ``offset`` on, and the length up to its last newline."""
    stream.seek(offset)
    if limit is None:
        data = stream.readall()
        return data, data.rfind(b"\n") + 1
    data = stream.read(limit)
    end = data.rfind(b"\n") + 1
    while not end and data:
        more = stream.read(limit)
        if not more:
            break
        data += more
        end = data.rfind(b"\n") + 1
    return data, end


def _parse(data):
    """The events in the lines of ``data``, and how many lines are none."""
    try:  # all at once is several times faster than line by line; the zeros show that no line reached into another
        found = json.loads(b"[" + data.replace(b"\n", b",0,") + b"]")
        events, between = found[::2], found[1::2]
        if between.count(0) == len(between) == data.count(b"\n") and all(type(event) is dict for event in events):
            return events, 0
    except (ValueError, RecursionError):
        pass
    events, bad = [], 0
    for line in [line.strip(b"\0 \t\r") for line in data.split(b"\n")]:
        if line:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if isinstance(event, dict):
                events.append(event)
            else:
                bad += 1
    return events, bad


def event_files(folder):
    """The event files of the run folder, as paths in the order of their names."""
    events = os.path.join(str(folder), "events")
    try:
        names = sorted(os.listdir(events))
    except OSError:
        return []
    return [os.path.join(events, name) for name in names if name.endswith(".jsonl")]


def read_run(folder):
    """The (RunState, Metrics) of a run folder, read from its files."""
    state, metrics = RunState(), Metrics()
    for path in event_files(folder):
        writer, offset, before = os.path.basename(path), 0, -1
        while offset != before:
            before = offset
            try:
                events, offset, _ = read_events(path, offset, CHUNK)
            except OSError:
                break  # deleted between the listing and now
            for event in events:
                if not metrics.apply(event):
                    state.apply(event, writer)
    return state, metrics
