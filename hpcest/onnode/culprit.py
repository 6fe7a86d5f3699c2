"""Which rank failed first, where several have: the one that the launcher names first is not always the one that began it.

A program with a traceback may take a second to tear itself down, and those that lose it in a collective can be faster. What a
rank printed last tells more: the cause came before what followed from it.
"""

import os
import signal
import time

from hpcest.onnode.rank import log_path

_TAIL = 65536
_SOON_S = 5.0  # less than any KillWait: what ended within it by SIGKILL was not made to by Slurm
_TRACEBACK = b"Traceback (most recent call last)"


def first_failed(launch, attempt, named, ended):
    """(rank, exit code, signal) of the rank that failed first; the first of ``named`` where its log tells nothing else.

    ``named`` are the ranks that ended before any was made to, ``ended`` is rank -> (exit code, signal), signal 0 for none.
    Of all others those count that show a traceback, or were ended by a signal that nobody had sent them by then: what was ended
    because of the first one has neither, or a later traceback.
    """
    soon = time.time() - _written(launch, attempt, named[0]) < _SOON_S
    suspects = [(_written(launch, attempt, rank), number, rank) for number, rank in enumerate(named)]
    for rank, (code, number) in sorted(ended.items()):
        by_itself = soon and number not in (0, signal.SIGTERM)
        if code and rank not in named and (by_itself or _has_traceback(log_path(launch, rank, attempt))):
            suspects.append((_written(launch, attempt, rank), len(named), rank))
    rank = min(suspects)[2]
    code, number = ended[rank]
    # Ended while it tore itself down: the code is the one that it was about to end with.
    return (rank, code, number) if rank in named or number != signal.SIGTERM else (rank, 1, 0)


def _written(launch, attempt, rank):
    """When the rank wrote last; late where nobody knows."""
    try:
        return os.stat(log_path(launch, rank, attempt)).st_mtime
    except OSError:
        return float("inf")


def _has_traceback(path):
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL))
            return _TRACEBACK in stream.read()
    except OSError:
        return False
