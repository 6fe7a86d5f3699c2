"""Reading what is new in run folders: which there are, which files grew, and what their events add up to."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from hpcest.history.fold import Fold
from hpcest.history.header import clean
from hpcest.onnode.events import CHUNK, read_stream


class Source(NamedTuple):
    """How far one event file has been read: ``bad`` lines of it were no events."""

    inode: int
    offset: int
    bad: int = 0


class Reading(NamedTuple):
    """What was found in a run folder: ``fold`` is None where nothing is new.

    ``sources`` are those that were read on, ``fresh`` says that the run was read from its beginning, and
    ``newest`` is when one of its event files last changed.
    """

    fold: Fold | None
    sources: dict[str, Source]
    fresh: bool
    newest: float


class _ReplacedError(Exception):
    """A file is not the one that was read, or shorter."""


def inode_of(facts: os.stat_result) -> int:
    """The inode as a number that SQLite takes: it has no unsigned ones."""
    return facts.st_ino & 0x7FFF_FFFF_FFFF_FFFF


def run_names(runs: str) -> set[str]:
    """The ids of all runs in the folder. Raises OSError."""
    with os.scandir(runs) as entries:
        return {entry.name for entry in entries if entry.name[0] != "." and entry.is_dir() and _speakable(entry.name)}


def _speakable(name: str) -> bool:
    return clean(name) == name


def read_run(folder: str, known: dict[str, Source] | None, sum_so_far: Callable[[bool], Fold], *, network: bool) -> Reading | None:
    """Read what ``folder`` has beyond ``known`` (None: from the beginning); None if it can't be read now.

    ``sum_so_far(fresh)`` is called if there is something to add: the sum of what was read before, or an
    empty one. A file that was replaced, cut or removed makes the run be read from the beginning.
    """
    try:
        with os.scandir(os.path.join(folder, "events")) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".jsonl"))
    except FileNotFoundError:
        names = []
        if not os.path.isdir(folder):
            return None
    except OSError:
        return None
    if known is not None and known.keys() <= {clean(name) for name in names}:
        try:
            return _Reader(folder, sum_so_far, network).read(names, known, fresh=False)
        except _ReplacedError:
            pass
    try:
        return _Reader(folder, sum_so_far, network).read(names, {}, fresh=True)
    except _ReplacedError:  # again, just now: the next time then
        return None


class _Reader:
    def __init__(self, folder: str, sum_so_far: Callable[[bool], Fold], network: bool) -> None:
        self.folder, self.sum_so_far, self.network = folder, sum_so_far, network
        self.fold: Fold | None = None
        self.sources: dict[str, Source] = {}
        self.newest = 0.0

    def read(self, names: list[str], known: dict[str, Source], *, fresh: bool) -> Reading:
        if fresh:
            self.fold = self.sum_so_far(True)
        for name in names:
            path = f"{self.folder}/events/{name}"
            try:
                source = known.get(clean(name))
                # Only opening a file makes a network file system tell its true size.
                if source is None or self.network or self._grown(path, source):
                    self._read_file(path, clean(name), source)
            except OSError:
                continue  # removed just now, or a server that is away: the next time
        return Reading(self.fold, self.sources, fresh, self.newest)

    def _grown(self, path: str, source: Source) -> bool:
        facts = os.stat(path)
        self.newest = max(self.newest, facts.st_mtime)
        return facts.st_size != source.offset or inode_of(facts) != source.inode

    def _read_file(self, path: str, name: str, source: Source | None) -> None:
        with open(path, "rb", buffering=0) as stream:
            facts = os.fstat(stream.fileno())
            inode = inode_of(facts)
            self.newest = max(self.newest, facts.st_mtime)
            _, offset, bad = source or (0, 0, 0)
            if source and (inode != source.inode or facts.st_size < offset):
                raise _ReplacedError
            before = -1
            while offset != before and facts.st_size > offset:
                before = offset
                events, offset, unreadable = read_stream(stream, offset, CHUNK)
                bad += unreadable
                if offset != before:
                    self.fold = self.fold or self.sum_so_far(False)
                    self.fold.add(events, name)
            if offset != (source.offset if source else 0):
                self.sources[name] = Source(inode, offset, bad)
