"""Waiting for a run, and showing its logs while they grow."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hpcest.lifecycle.collect import collect
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.watch import Seen, look_at
from hpcest.model.folders import RunFolder

SHORTEST_S, LONGEST_S = 0.1, 2.0


class LogTail:
    """The text that was added to one log since the last look; bytes that aren't UTF-8 are replaced.

    The file is opened anew each time: on a network file system that is what makes fresh data visible.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, *, most: int = 1 << 20) -> str:
        """At most ``most`` bytes of what is new; empty where there is nothing."""
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self._offset)
                data = stream.read(most)
        except OSError:
            return ""
        self._offset += len(data)
        return self._decoder.decode(data)


def log_paths(folder: RunFolder) -> dict[int, list[Path]]:
    """The logs of each rank, by attempt: rank → paths."""
    found: dict[int, list[Path]] = {}
    for path in sorted(folder.user_logs.glob("std_log*.txt"), key=lambda path: (attempt_of(path), path.name)):
        stem = path.name.split(".")[0].removeprefix("std_log").strip("_")
        found.setdefault(int(stem or 0), []).append(path)
    return found


def wait(context: Context, folder: RunFolder, *, timeout: float | None = None, show: Callable[[Seen], None] | None = None) -> Seen:
    """Wait until the run has ended, and collect it. After ``timeout`` seconds return what is true then.

    ``show`` is called with every look, at first each tenth of a second, later each two seconds.
    """
    pause, end = SHORTEST_S, None if timeout is None else time.monotonic() + timeout
    while True:
        seen = look_at(context, folder)
        if show:
            show(seen)
        if seen.finished:
            return _collected(context, seen)
        if end is not None and time.monotonic() >= end:
            return seen
        time.sleep(pause if end is None else max(0.0, min(pause, end - time.monotonic())))
        pause = min(pause * 1.3, LONGEST_S)


def follow(context: Context, folder: RunFolder, *, rank: int | None = None) -> Iterator[str | Seen]:
    """The run's logs as they grow, as texts, and each change of its status as a ``Seen``; the last item is its end.

    With several ranks every line starts with ``[RANK]``, unless ``rank`` picks one.
    """
    tails = Tails(folder, rank=rank)
    shown, pause = "", SHORTEST_S
    while True:
        seen = look_at(context, folder)
        if str(seen.status) + seen.message != shown and not seen.finished:
            shown = str(seen.status) + seen.message
            yield seen
        grown = list(tails.grown())
        yield from grown
        if seen.finished:
            yield from tails.rest()
            yield _collected(context, seen)
            return
        pause = SHORTEST_S if grown else min(pause * 1.3, LONGEST_S / 2)
        time.sleep(pause)


def _collected(context: Context, seen: Seen) -> Seen:
    warnings = collect(context, seen)
    return replace(look_at(context, seen.folder), warnings=tuple(warnings))


class Tails:
    """What is new in the logs of a run's ranks; of all attempts, or of one."""

    def __init__(self, folder: RunFolder, *, rank: int | None = None, attempt: int | None = None) -> None:
        self.folder, self.rank, self.attempt = folder, rank, attempt
        self._tails: dict[Path, tuple[LogTail, str, list[str]]] = {}

    def grown(self, *, last: bool = False) -> Iterator[str]:
        """The texts that were added. With several ranks whole lines only, each with its rank, so that none are mixed."""
        for number, paths in log_paths(self.folder).items():
            for path in paths if self.rank is None or number == self.rank else ():
                if self.attempt is None or attempt_of(path) == self.attempt:
                    yield from self._of(path, number, last=last)

    def rest(self) -> Iterator[str]:
        """All that is left when the ranks have ended, unfinished lines too."""
        while more := list(self.grown(last=True)):
            yield from more

    def _of(self, path: Path, number: int, *, last: bool) -> Iterator[str]:
        alone = self.rank is not None or path.name.startswith("std_log.")
        tail, prefix, rest = self._tails.setdefault(path, (LogTail(path), "" if alone else f"[{number}] ", []))
        text = tail.read()
        if not prefix:
            if text:
                yield text
            return
        whole, newline, part = ("".join(rest) + text).rpartition("\n")
        rest[:] = [part]
        if last and part and not text:
            whole, newline, rest[:] = whole + newline + part, "\n", []
        if whole or newline:
            yield "".join(f"{prefix}{line}\n" for line in whole.split("\n"))


def attempt_of(log: Path) -> int:
    """Which attempt a rank's log is of."""
    _, _, number = log.name.removesuffix(".txt").partition(".attempt")
    return int(number or 0)
