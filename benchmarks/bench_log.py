"""What ``Run.log`` costs a training loop, beside a bare ``os.write`` of an equally long line.

    python -m benchmarks.bench_log [--rounds 301] [--json]

Each call's line is with the kernel when the call returns, on both sides; both files are on the file
system of the temporary directory.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.common import Table, options
from hpcest.onnode.events import event_files, read_events
from hpcest.onnode.record import put_json
from hpcest.onnode.run import Run

NAMES = ("loss", "acc", "val/loss", "val/acc", "lr")
CALLS = 1_000  # about a millisecond: short enough to fall between two other programs on a busy machine
#: As a loss comes out of a computation: 16 or 17 digits.
VALUES = tuple(1 / (1 + 0.37 * number) for number in range(CALLS))
#: As a learning rate is written: 3 digits.
SHORT = tuple((number % 1000) / 1000 for number in range(CALLS))
ABOUT = {"": "5 names", "step": "with step=", "short": "values of 3 digits", "int": "whole numbers"}


def values_of(kind: str) -> Sequence[float]:
    return {"short": SHORT, "int": range(CALLS)}.get(kind, VALUES)


def logging(run: Run, kind: str) -> Callable[[], None]:
    """``CALLS`` calls of ``run.log``, a fifth of them for each name."""
    values = values_of(kind)

    def with_step() -> None:
        for first, name in enumerate(NAMES):
            for value in values[first :: len(NAMES)]:
                run.log(name, value, step=first)

    def without() -> None:
        for first, name in enumerate(NAMES):
            for value in values[first :: len(NAMES)]:
                run.log(name, value)

    return with_step if kind == "step" else without


def writing(descriptor: int, line: bytes) -> Callable[[], None]:
    """The reference: ``CALLS`` lines by nothing but the system call."""

    def run() -> None:
        for _ in VALUES:
            os.write(descriptor, line)

    return run


def flushing(path: Path, line: bytes) -> Callable[[], None]:
    """What a program does that writes its metrics with a file object: write, flush."""
    stream = open(path, "ab")  # noqa: SIM115  # it is open as long as this process

    def run() -> None:
        for _ in VALUES:
            stream.write(line)
            stream.flush()

    return run


def measured(actions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median microseconds per call of each, in turn."""
    took: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            took[name].append(1e6 * (time.perf_counter() - began) / CALLS)
    return {name: statistics.median(times) for name, times in took.items()}


def line_of(kind: str, folder: Path) -> bytes:
    """A line such as ``Run.log`` writes for this kind of values, of median length."""
    run = new_run(folder / f"sample{kind}")
    logging(run, kind)()
    lines = Path(event_files(run.folder)[0]).read_bytes().splitlines(keepends=True)
    return sorted(lines, key=len)[len(lines) // 2]


def new_run(folder: Path) -> Run:
    folder.mkdir()
    put_json(str(folder / "run.json"), {"id": folder.name, "spec": {}})
    return Run(folder)


def check(run: Run, kind: str, times: int) -> None:
    """Every call has its line, and every value is the one that was logged."""
    events, _, bad = read_events(event_files(run.folder)[0])
    logged = [value for first in range(len(NAMES)) for value in values_of(kind)[first :: len(NAMES)]]
    if bad or [event["v"] for event in events] != logged * times:
        raise SystemExit(f"bench_log: the lines in {run.folder} are not what was logged")


def main() -> None:
    """Measure and print."""
    given = options(__doc__ or "", rounds=301).parse_args()
    table = Table("Run.log: one scalar", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        folder = Path(name)
        for kind, about in ABOUT.items():
            line, run = line_of(kind, folder), new_run(folder / f"run{kind}")
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            bare = writing(os.open(folder / f"bare{kind}", flags, 0o600), line)
            flush = flushing(folder / f"flush{kind}", line)
            took = measured({"log": logging(run, kind), "write": bare, "flush": flush}, given.rounds)
            check(run, kind, given.rounds)
            target = None if kind == "int" else 2.5
            table.add(f"Run.log, {about}", took["log"], "us", beside=("os.write", took["write"]), target=target)
            table.add(f"Run.log, {about}", took["log"], "us", beside=("stream.write and flush", took["flush"]))
    table.end()


if __name__ == "__main__":
    main()
