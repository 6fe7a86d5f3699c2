"""How fast the history's index is: ``python benchmarks/bench_history.py [--runs 10000]``.

Everything is measured in one go on the file system of the temporary directory, each figure beside
the limit that the machine sets: bare Python, parsing the same lines without an index, a bare stat of
every file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hpcest.history import ingest, query
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.record import encode

DAY = 86400.0
HERE = Path(__file__).resolve().parent.parent


def make_run(workspace: WorkspaceFolder, number: int, *, running: bool = False, metrics: int = 20, now: float) -> None:
    """A run as one leaves it behind: three event files, 20 metric events, a few tags; a day old unless it runs."""
    folder = workspace.run(f"r{number:07d}")
    os.makedirs(folder.events)
    begin = now - DAY + number / 1000
    arguments = ["--lr", str(0.1 / (1 + number % 7)), "--batch-size", str(2 ** (number % 6)), "--epochs", "10", "--amp"]
    spec = {
        "experiment": f"exp{number % 20}",
        "command": {"script": "train.py", "arguments": arguments},
        "tags": {"team": f"t{number % 5}"},
    }
    header = {"schema": 1, "id": folder.id, "kind": "run", "created": begin, "user": "me", "host": "login1", "spec": spec}
    folder.header.write_text(json.dumps(header))
    submit = [{"t": begin, "e": "status", "v": "Queued", "by": "submit"}, {"t": begin, "e": "job", "id": str(number), "backend": "slurm"}]
    control = [{"t": begin + 5, "e": "status", "v": "Running", "by": "controller"}]
    rank: list[dict[str, object]] = [{"t": begin + 6, "e": "tag", "k": "fold", "v": str(number % 3)}]
    for step in range(metrics // 2):
        rank.append({"t": begin + 7 + step, "e": "metric", "k": "loss", "v": 1 / (1 + step + number % 11), "s": step})
        rank.append({"t": begin + 7 + step, "e": "metric", "k": "acc", "v": 1 - 1 / (2 + step + number % 13), "s": step})
    if not running:
        control.append({"t": begin + 60, "e": "status", "v": "Completed", "by": "controller"})
        submit.append({"t": begin + 61, "e": "collected"})
    for name, events in ("submit-login1-1", submit), ("controller-n1-2", control), ("rank0.a0-n1-3", rank):
        path = f"{folder.events}/{name}.jsonl"
        with open(path, "wb") as stream:
            stream.write(b"".join(map(encode, events)))
        if not running:
            os.utime(path, (now - 3600, now - 3600))


def timed(action: Callable[[], object], times: int = 1) -> float:
    """The median of several measurements, in seconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def fresh(code: str, times: int = 7) -> float:
    """The median wall time of a new Python that runs ``code``, in seconds."""
    argv = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return timed(lambda: subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL), times)


def say(what: str, figure: str, limit: str = "", target: str = "") -> None:
    print(f"{what:62} {figure:>18}   {limit:38} {target}")


def bench_events(workspace: WorkspaceFolder, now: float) -> None:
    """A few long runs: what ingesting costs for each event, beside parsing the same lines alone."""
    runs, each = 20, 20_000
    for number in range(runs):
        make_run(workspace, number, running=True, metrics=each, now=now)
    files = [path for number in range(runs) for path in workspace.run(f"r{number:07d}").events.iterdir()]

    def parse() -> None:
        for path in files:
            with open(path, "rb") as stream:
                for line in stream:
                    json.loads(line)

    limit = timed(parse)
    took = timed(lambda: ingest.refresh(workspace))
    total = runs * each
    say(
        f"events ingested ({total:,} in {runs} runs)",
        f"{total / took:,.0f} /s",
        f"json.loads alone {total / limit:,.0f} /s",
        ">= 100,000 /s",
    )


def bench_listing(workspace: WorkspaceFolder) -> None:
    """Listings and searches, in this process and from a new one."""
    count = query.list_runs(workspace, limit=1)[0]
    assert count
    where = "metrics.acc > 0.9 and params.lr = '0.1' and tags.fold != '1'"
    say("latest 50, all columns, in process", f"{1e3 * timed(lambda: query.list_runs(workspace), 9):.1f} ms")
    say(
        "search by metric, parameter, tag; sorted; 20",
        f"{1e3 * timed(lambda: query.list_runs(workspace, where=where, sort='-metrics.acc', limit=20), 9):.1f} ms",
    )
    say("all runs with everything", f"{1e3 * timed(lambda: query.list_runs(workspace, limit=None)):.0f} ms")
    bare = fresh("pass")
    head = (
        f"from hpcest.model.folders import WorkspaceFolder as W; from hpcest.history import query, ingest; w = W({str(workspace.root)!r}); "
    )
    tail = "print(*(r.id for r in query.list_runs(w)))"
    listing, whole = fresh(head + tail), fresh(head + "ingest.refresh(w); " + tail)
    searching = fresh(head + f"print(*(r.id for r in query.list_runs(w, where={where!r}, sort='-metrics.acc')))")
    say(
        "latest 50 from a new process",
        f"{1e3 * listing:.0f} ms",
        f"python -c pass {1e3 * bare:.0f} ms, ratio {listing / bare:.1f}",
        "<= 150 ms",
    )
    say("the same after a refresh (what `hpcest runs` does)", f"{1e3 * whole:.0f} ms", f"ratio {whole / bare:.1f}", "<= 150 ms")
    say("search from a new process", f"{1e3 * searching:.0f} ms", f"ratio {searching / bare:.1f}", "<= 150 ms")


def bench_many(workspace: WorkspaceFolder, runs: int, now: float) -> None:
    """Ten thousand short runs: build, nothing new, some running, some changed."""
    for number in range(runs):
        make_run(workspace, number, now=now)
    files = [
        f"{workspace.run(f'r{number:07d}').events}/{name}"
        for number in range(runs)
        for name in ("submit-login1-1.jsonl", "rank0.a0-n1-3.jsonl")
    ]
    limit = timed(lambda: [open(path, "rb").read() for path in files])  # noqa: SIM115
    took = timed(lambda: ingest.reindex(workspace))
    say(f"index of {runs:,} runs built", f"{took:.2f} s", f"reading two files of each {limit:.2f} s, ratio {took / limit:.1f}", "< 5 s")
    ingest.refresh(workspace)
    quiet = timed(lambda: ingest.refresh(workspace), 9)
    say(f"nothing new, {runs:,} finished", f"{1e3 * quiet:.1f} ms", "", "< 200 ms")
    running = runs // 10
    for number in range(runs, runs + running):
        make_run(workspace, number, running=True, now=now)
    say(f"{running:,} new runs found and read", f"{1e3 * timed(lambda: ingest.refresh(workspace)):.0f} ms")
    some = [
        f"{workspace.run(f'r{number:07d}').events}/{name}"
        for number in range(runs, runs + running)
        for name in ("submit-login1-1.jsonl", "controller-n1-2.jsonl", "rank0.a0-n1-3.jsonl")
    ]
    limit = timed(lambda: [os.stat(path) for path in some], 5)
    took = timed(lambda: ingest.refresh(workspace), 5)
    say(
        f"nothing new, {running:,} of them running",
        f"{1e3 * took:.1f} ms",
        f"a stat of their files {1e3 * limit:.1f} ms, ratio {took / limit:.1f}",
    )
    for number in range(runs, runs + 50):
        with open(f"{workspace.run(f'r{number:07d}').events}/rank0.a0-n1-3.jsonl", "ab") as stream:
            stream.write(encode({"t": now, "e": "metric", "k": "loss", "v": 0.5, "s": 99}))
    say("50 of them changed", f"{1e3 * timed(lambda: ingest.refresh(workspace)):.1f} ms")
    say("size of the index", f"{workspace.index.stat().st_size / 1e6:.1f} MB")


@contextlib.contextmanager
def workspace() -> Iterator[WorkspaceFolder]:
    """A workspace that is gone afterwards."""
    with tempfile.TemporaryDirectory() as root:
        folder = WorkspaceFolder(root)
        folder.runs.mkdir(parents=True)
        yield folder


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10_000)
    runs = options.parse_args().runs
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {tempfile.gettempdir()}")
    now = time.time()
    with workspace() as few:
        bench_events(few, now)
    with workspace() as many:
        bench_many(many, runs, now)
        bench_listing(many)


if __name__ == "__main__":
    main()
