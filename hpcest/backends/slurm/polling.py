"""One query for all processes of the user on a host: shared answers, a rate limit, and patience with outages.

    node_local_dir/slurm/jobs-KEY.lock    whoever asks Slurm holds it (flock: the kernel gives it back)
    node_local_dir/slurm/jobs-KEY.json    the last answer, and when to ask again; for its owner alone

Somebody who waits for a run learns of its end from the run's own files; Slurm is asked for what these
can't tell, and so more and more rarely while nothing changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hpcest.backends.slurm import queries
from hpcest.backends.slurm.queries import JobView, QueryError
from hpcest.backends.slurm.states import End, meaning
from hpcest.errors import HpcestError
from hpcest.kit.localdir import node_local_dir

FLOOR_S, LONGEST_S = 5.0, 180.0
#: Whoever has just submitted or canceled something wants to see it: then the floor is no higher than this.
NEWS_S = 1.0
#: A look that comes after a while is likely a person's, not a loop's: its answer is at most so old (or as old as the floor).
FRESH_S, WHILE_S = 15.0, 20.0
#: After a failure: the first wait, and the longest.
RETRY_S, RETRY_MOST_S = 10.0, 60.0
#: So long the accounting is left alone after it failed; a cluster without one costs a call in two minutes.
UNACCOUNTED_S = 120.0
#: How long to wait for another process that is asking, with and without an older answer to fall back on.
WAIT_S, WAIT_FIRST_S = 4.0, 15.0
TIMEOUT_S, AGAIN_TIMEOUT_S, SACCT_TIMEOUT_S = 30.0, 10.0, 10.0
KEPT_S = 7 * 86400.0
#: Clocks of login nodes differ by less.
AHEAD_S = 60.0
_FORMAT = 1


class Wanted(NamedTuple):
    """A job that somebody asks about. ``id`` is empty where only the name is known; ``submitted`` in epoch seconds."""

    id: str
    name: str
    submitted: float = 0.0

    @property
    def key(self) -> str:
        """What it is remembered by: job ids come again, names don't."""
        return f"{self.id} {self.name}"


@dataclass(frozen=True)
class Answer:
    """What is known of jobs. ``asked`` is when Slurm answered last (epoch seconds, 0: never).

    ``problem`` is why it could not be asked since; empty if the last query worked. ``unaccounted`` is why
    the accounting could not be asked. ``views`` has every job by id, several where an id came again, and ``by_name`` by name.
    """

    views: Mapping[str, tuple[JobView, ...]] = field(default_factory=dict)
    by_name: Mapping[str, tuple[JobView, ...]] = field(default_factory=dict)
    asked: float = 0.0
    problem: str = ""
    unaccounted: str = ""

    def of(self, job_id: str, name: str = "") -> JobView | None:
        """The job with this id and this name; another job with the id is not it. An empty name takes any."""
        same = [view for view in self.views.get(job_id, ()) if not name or view.name == name]
        return same[0] if same else None

    def named(self, name: str) -> tuple[JobView, ...]:
        """All jobs, and tasks of an array, with this name."""
        return self.by_name.get(name, ())


def jobs(
    environ: Mapping[str, str],
    wanted: Iterable[Wanted],
    *,
    floor: float = FLOOR_S,
    newest: float = 0.0,
    cluster: str = "",
    accounting: bool = True,
) -> Answer:
    """What Slurm says of ``wanted``, by at most one squeue for all processes of the user, and sacct for what that lacks.

    ``floor`` is the least time between two queries in seconds; without changes they come up to 180 s apart. An answer
    from before ``newest`` (epoch seconds; a cancel, say), or from before a submission, is renewed as soon as the floor allows.
    Never raises for Slurm's troubles: see ``Answer.problem``.
    """
    asked_for = list(wanted)
    newest = max([newest, *(one.submitted for one in asked_for)])
    poll = Poll(environ, floor=floor, cluster=cluster)
    return poll.ask(asked_for, newest=newest, accounting=accounting)


class Poll:
    """The shared answer for one cluster, and the right to renew it."""

    _looked: ClassVar[dict[str, float]] = {}  # when this process looked at which answer, by the monotonic clock
    _unshared: ClassVar[dict[str, Memory]] = {}  # what could not be written, because the disk is full, say

    def __init__(self, environ: Mapping[str, str], *, floor: float = FLOOR_S, cluster: str = "") -> None:
        self.environ, self.cluster = environ, cluster
        self.floor = max(0.0, floor)
        source = f"{environ.get('SLURM_CONF', '')}\0{cluster}\0{os.uname().nodename}"
        self.key = f"jobs-{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
        self.path: Path | None = None
        with contextlib.suppress(OSError, HpcestError):  # without a place on this host every process asks for itself
            folder = node_local_dir(environ) / "slurm"
            folder.mkdir(mode=0o700, exist_ok=True)
            self.path = folder / self.key
            self.key = str(self.path)

    def ask(self, wanted: list[Wanted], *, newest: float, accounting: bool = True) -> Answer:
        """See ``jobs``."""
        memory = self._memory()
        fresh = self._is_fresh()
        if wanted and (self._stale(memory, newest, fresh) or memory.lacks(wanted, accounting)):
            with self._turn(WAIT_S if memory.asked else WAIT_FIRST_S) as mine:
                memory = self._memory()  # another process may have asked while we waited
                if mine:
                    if self._stale(memory, newest, fresh):
                        self._squeue(memory, wanted)
                    if memory.lacks(wanted, accounting):
                        self._sacct(memory, wanted)
                    self._unshared[self.key] = memory
                    if memory.write(self.path):
                        del self._unshared[self.key]
                elif not memory.problem:
                    memory.problem = "another process of yours has been asking it for a while, and has no answer"
        return memory.answer()

    def _memory(self) -> Memory:
        shared, own = Memory.read(self.path), self._unshared.get(self.key)
        return own if own is not None and own.tried > shared.tried else shared

    def _is_fresh(self) -> bool:
        """Whether this process hasn't looked for a while."""
        now = time.monotonic()
        before, self._looked[self.key] = self._looked.get(self.key), now
        return before is None or now - before > WHILE_S

    def _stale(self, memory: Memory, newest: float, fresh: bool) -> bool:
        """Whether squeue may, and should, be called."""
        now, pause = time.time(), memory.pause
        if memory.tried > now + 1:  # the clock was set back
            return True
        if not memory.problem and memory.asked <= newest <= now + AHEAD_S:
            pause = 0.0
        elif not memory.problem and fresh:
            pause = min(pause, FRESH_S)
        return memory.tried + max(self.floor, pause) <= now

    @contextlib.contextmanager
    def _turn(self, patience: float) -> Iterator[bool]:
        """Hold the right to ask: False where another process has had it for longer than ``patience`` seconds."""
        try:
            lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if self.path else None
        except OSError:
            lock = None
        try:
            yield lock is None or _locked(lock, time.monotonic() + patience)
        finally:
            if lock is not None:
                os.close(lock)

    def _squeue(self, memory: Memory, wanted: list[Wanted]) -> None:
        memory.tried = time.time()
        try:
            found = queries.squeue(self.environ, cluster=self.cluster, timeout=AGAIN_TIMEOUT_S if memory.problem else TIMEOUT_S)
        except QueryError as error:
            memory.pause = min(memory.pause * 2, RETRY_MOST_S) if memory.problem else RETRY_S
            memory.problem, memory.tried = error.message, time.time()
            return
        before = memory.shape(wanted)
        memory.take(found, wanted)
        changed = memory.shape(wanted) != before
        memory.pause = self.floor or FLOOR_S if changed or memory.problem else min(memory.pause * 2, LONGEST_S)
        memory.problem, memory.asked = "", memory.tried

    def _sacct(self, memory: Memory, wanted: list[Wanted]) -> None:
        """Ask the accounting for what the queue doesn't have."""
        now = time.time()
        missing = memory.missing(wanted)
        since = min((one.submitted for one in missing if one.submitted), default=now - KEPT_S)
        ids, names = [one.id for one in missing if one.id], [one.name for one in missing if not one.id]
        try:
            found = queries.sacct(self.environ, ids, since, cluster=self.cluster, timeout=SACCT_TIMEOUT_S)
            found += queries.sacct_named(self.environ, names, since, cluster=self.cluster, timeout=SACCT_TIMEOUT_S)
        except QueryError as error:
            memory.unaccounted, memory.accounting_tried = error.message, now
            return
        memory.unaccounted, memory.accounting_tried = "", 0.0
        memory.note(missing, found, now)


class Memory:
    """What is kept between queries. ``tried`` is the last query, ``asked`` the last one that worked, ``pause`` the time to the next."""

    def __init__(self) -> None:
        self.tried = self.asked = self.accounting_tried = 0.0
        self.pause = FLOOR_S
        self.problem = self.unaccounted = ""
        self.queue: list[JobView] = []
        #: key of a wanted job → [its rows from the accounting or of its end, when asked, how often]
        self.known: dict[str, list[Any]] = {}

    @classmethod
    def read(cls, path: Path | None) -> Memory:
        """What is kept in ``path``; nothing where that is missing, damaged, or of another version."""
        memory = cls()
        try:
            data = json.loads(path.read_bytes()) if path else {}
            if data.pop("format") == _FORMAT:
                data["queue"] = [JobView(*row) for row in data["queue"]]
                data["known"] = {key: [[JobView(*row) for row in rows], when, n] for key, (rows, when, n) in data["known"].items()}
                for name in ("tried", "asked", "accounting_tried", "pause"):
                    data[name] = float(data[name])
                vars(memory).update({name: data[name] for name in vars(memory)})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()
        return memory

    def write(self, path: Path | None) -> bool:
        """Keep it for the other processes; False where that can't be done."""
        if path is None:
            return False
        beside = path.with_suffix(".tmp")  # only who holds the lock writes
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as stream:
                json.dump({"format": _FORMAT, **vars(self)}, stream)
            os.replace(beside, path)
            return True
        except OSError:
            return False

    def take(self, found: list[JobView], wanted: list[Wanted]) -> None:
        """Replace the queue; remember how those ended that were asked for, because the queue forgets them."""
        self.queue = found
        now = time.time()
        here = {f"{view.id} {view.name}": view for view in found}
        for one in wanted:
            if one.id and one.key in here:
                self.known.pop(one.key, None)
                if meaning(here[one.key].state).end is not End.NO:
                    self.known[one.key] = [[here[one.key]], now, 0]
        self.known = {key: kept for key, kept in self.known.items() if kept[1] > now - KEPT_S}

    def note(self, missing: list[Wanted], found: list[JobView], now: float) -> None:
        """Remember what the accounting said, also that it had nothing; an end that was seen before is kept.

        What it calls pending or running, and the queue doesn't have, is out of date: it is asked again soon.
        """
        by_id: dict[str, list[JobView]] = {}
        by_name: dict[str, list[JobView]] = {}
        for view in found:
            by_id.setdefault(view.id, []).append(view)
            by_name.setdefault(view.name, []).append(view)
        for one in missing:
            rows = by_id.get(one.id, []) if one.id else by_name.get(one.name, [])
            same = [view for view in rows if view.name == one.name or not one.name]
            rows, _, times = self.known.get(one.key, [[], 0.0, 0])
            ends = [view for view in rows if _is_over(view)]
            self.known[one.key] = [same or ends, now, times + 1 if all(map(_is_over, same)) else 0]

    def missing(self, wanted: list[Wanted]) -> list[Wanted]:
        """Which the accounting should be asked for: not in the queue, no end known, and not asked for just now."""
        here = {key for view in self.queue for key in (f"{view.id} {view.name}", f"{view.id} ", f" {view.name}")}
        now = time.time()
        found = []
        for one in wanted:
            rows, when, times = self.known.get(one.key, ((), 0.0, 0))
            lately = when <= now < when + min(FLOOR_S * 2 ** min(times, 10), LONGEST_S)
            if not (lately or one.key in here or (rows and all(map(_is_over, rows)))):
                found.append(one)
        return [one for one in found if one.id or one.name]

    def lacks(self, wanted: list[Wanted], accounting: bool) -> bool:
        """Whether the accounting is to be asked for something."""
        silent = self.accounting_tried <= time.time() < self.accounting_tried + UNACCOUNTED_S
        return bool(accounting and self.asked and not self.problem and not silent and self.missing(wanted))

    def shape(self, wanted: list[Wanted]) -> list[tuple[str, str, int | None]]:
        """What changes when something happens to the wanted jobs."""
        ids, names = {one.id for one in wanted}, {one.name for one in wanted if not one.id}
        return sorted((view.id, view.state, view.restarts) for view in self.queue if view.id in ids or view.name in names)

    def answer(self) -> Answer:
        """What is known, the queue's word before the accounting's."""
        views: dict[str, tuple[JobView, ...]] = {}
        by_name: dict[str, tuple[JobView, ...]] = {}
        have = {(view.id, view.name) for view in self.queue}
        rest = [view for rows, _, _ in self.known.values() for view in rows if (view.id, view.name) not in have]
        for view in [*self.queue, *rest]:
            views[view.id] = (*views.get(view.id, ()), view)
        for view in {(view.id, view.name): view for view in [*rest, *self.queue]}.values():
            by_name[view.name] = (*by_name.get(view.name, ()), view)
        return Answer(views, by_name, self.asked, self.problem, self.unaccounted)


def _is_over(view: JobView) -> bool:
    """Whether nothing can come after this. What the queue has forgotten Slurm doesn't start again."""
    end = meaning(view.state).end
    return end is End.YES or (end is End.MAYBE and view.source == "sacct")


def _locked(lock: int, until: float) -> bool:
    """Whether the lock could be taken before ``until`` (of the monotonic clock)."""
    nap = 0.01
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > until:
                return False
        time.sleep(nap)
        nap = min(nap * 1.5, 0.2)
