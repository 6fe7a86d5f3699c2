"""How fast the history's index is, on the file system of the temporary directory.

    python -m benchmarks.bench_history [--runs 10000] [--json]

Each figure stands beside the limit that the machine sets: bare Python, parsing the same lines without
an index, a bare stat of every file.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, Table, make_run, options, own_environment, program, side_by_side
from hpcest.history import ingest, query
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.record import encode


def timed(action: Callable[[], object], times: int = 1) -> float:
    """The median of several measurements, in milliseconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        took.append(1e3 * (time.perf_counter() - began))
    return median(took)


def bench_events(workspace: WorkspaceFolder, table: Table, now: float) -> None:
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
    bare = f"json.loads alone {1e3 * total / limit:,.0f} /s"
    table.add(f"events ingested ({total:,} in {runs} runs)", 1e3 * total / took, "/s", beside=bare, target=-100_000)


def bench_many(workspace: WorkspaceFolder, table: Table, runs: int, now: float) -> None:
    """Many short runs: build, nothing new, some running, some changed."""
    for number in range(runs):
        make_run(workspace, number, now=now)
    files = [path for number in range(runs) for path in _events(workspace, number)[:2]]
    limit = timed(lambda: [Path(path).read_bytes() for path in files])
    took = timed(lambda: ingest.reindex(workspace))
    table.add(f"the index of {runs:,} runs built", took, beside=f"reading 2 files of each {limit:.0f} ms", target=5000)
    ingest.refresh(workspace)
    table.add(f"nothing new, {runs:,} have ended", timed(lambda: ingest.refresh(workspace), 9), target=200)
    running = runs // 10
    for number in range(runs, runs + running):
        make_run(workspace, number, running=True, now=now)
    table.add(f"{running:,} new runs found and read", timed(lambda: ingest.refresh(workspace)))
    some = [path for number in range(runs, runs + running) for path in _events(workspace, number)]
    both = side_by_side({"refresh": lambda: ingest.refresh(workspace), "stat": lambda: [os.stat(path) for path in some]}, 5)
    table.add(f"nothing new, {running:,} of them go on", both["refresh"], beside=("a stat of their files", both["stat"]))
    for number in range(runs, runs + 50):
        with open(_events(workspace, number)[1], "ab") as stream:
            stream.write(encode({"t": now, "e": "metric", "k": "loss", "v": 0.5, "s": 99}))
    table.add("50 of them have changed", timed(lambda: ingest.refresh(workspace)))
    table.add("size of the index", workspace.index.stat().st_size / 1e6, "MB")


def _events(workspace: WorkspaceFolder, number: int) -> list[str]:
    folder = workspace.run(f"r{number:07d}").events
    return [f"{folder}/{name}.jsonl" for name in ("submit-login1-1", "rank0.a0-n1-3", "controller-n1-2")]


def bench_listing(workspace: WorkspaceFolder, table: Table) -> None:
    """Listings and searches, in this process and from a new one."""
    where = "metrics.acc > 0.9 and params.lr = '0.1' and tags.fold != '1'"
    table.add("latest 50, all columns, in process", timed(lambda: query.list_runs(workspace), 9))
    search = timed(lambda: query.list_runs(workspace, where=where, sort="-metrics.acc", limit=20), 9)
    table.add("search by metric, parameter, tag; sorted; 20", search)
    table.add("all runs with everything", timed(lambda: query.list_runs(workspace, limit=None)))
    head = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from hpcest.model.folders import WorkspaceFolder as W; "
    head += f"from hpcest.history import query, ingest; w = W({str(workspace.root)!r}); "
    codes = {
        "latest 50 from a new process": "print(*(r.id for r in query.list_runs(w)))",
        "the same after a refresh": "ingest.refresh(w); print(*(r.id for r in query.list_runs(w)))",
        "search from a new process": f"print(*(r.id for r in query.list_runs(w, where={where!r}, sort='-metrics.acc')))",
    }
    env = own_environment(workspace.root)
    programs = {what: program((sys.executable, "-c", head + code), env) for what, code in codes.items()}
    took = side_by_side({"bare": program((sys.executable, "-c", "pass"), env), **programs}, 7)
    for what in codes:
        table.add(what, took[what], beside=f"python -c pass {took['bare']:.0f} ms", target=150)


@contextmanager
def workspace() -> Iterator[WorkspaceFolder]:
    """A workspace that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as root:
        folder = WorkspaceFolder(root)
        folder.runs.mkdir(parents=True)
        yield folder


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "")
    parser.add_argument("--runs", type=int, default=10_000, help="how many runs the history has (default: 10,000)")
    given = parser.parse_args()
    table = Table("The history's index", as_json=given.as_json)
    now = time.time()
    with workspace() as few:
        bench_events(few, table, now)
    with workspace() as many:
        bench_many(many, table, given.runs, now)
        bench_listing(many, table)
    table.end()


if __name__ == "__main__":
    main()
