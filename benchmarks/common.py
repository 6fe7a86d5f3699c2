"""What the benchmarks share: a figure beside its reference in the same minute, one table, runs to list.

A figure without its reference says more about the machine than about hpcest. Both are taken in turn,
round after round, so that whatever else the machine does falls on both; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcest.history.location import filesystem
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode.record import encode

DAY_S = 86400.0
ROOT = Path(__file__).resolve().parents[1]


class Row(NamedTuple):
    """One figure. ``ratio`` is to the reference; ``target`` limits the ratio, or the figure where there is no reference."""

    what: str
    measured: float
    unit: str
    reference: float | None
    against: str
    ratio: float | None
    target: float | None
    verdict: str


class Table:
    """Prints rows as they are measured; with ``as_json`` one document at the end instead."""

    def __init__(self, title: str, *, as_json: bool = False) -> None:
        self.title, self.as_json = title, as_json
        self.rows: list[Row] = []
        if not as_json:
            print(f"{title}\n{machine()}\n{'what':60} {'measured':>11} {'reference':>34} {'ratio':>6} {'target':>8}", flush=True)

    def add(
        self, what: str, measured: float, unit: str = "ms", *, beside: tuple[str, float] | str = "", target: float | None = None
    ) -> None:
        """Add a figure. ``beside`` is its reference and what that is, or a remark; ``target`` is what it may be at most.

        A target below zero is a minimum: -100 asks for at least 100.
        """
        against, reference = beside if isinstance(beside, tuple) else (beside, None)
        ratio = measured / reference if reference else None
        limited = measured if ratio is None else ratio
        verdict = "" if target is None else "ok" if (limited >= -target if target < 0 else limited <= target) else "over"
        row = Row(what, measured, unit, reference, against, ratio, target, verdict)
        self.rows.append(row)
        if not self.as_json:
            print(_line(row), flush=True)

    def end(self) -> None:
        """The JSON document, where it was asked for."""
        if self.as_json:
            print(json.dumps({"title": self.title, "machine": machine(), "rows": [row._asdict() for row in self.rows]}, indent=1))
        else:
            print(flush=True)


def _line(row: Row) -> str:
    reference = f"{row.against} {_figure(row.reference)} {row.unit}" if row.reference is not None else row.against
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    target = "" if row.target is None else f"{'>=' if row.target < 0 else '<='} {abs(row.target):g}"
    return f"{row.what:60} {_figure(row.measured) + ' ' + row.unit:>11} {reference:>34} {ratio:>6} {target:>8} {row.verdict}".rstrip()


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> str:
    """The machine in general words, with what else it does."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{filesystem(os.path.realpath(tempfile.gettempdir())) or 'unknown file system'}, load {os.getloadavg()[0]:.1f}"
    )


def options(doc: str, *, rounds: int = 15) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON document")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each thing is measured (default: {rounds})")
    return parser


def side_by_side(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median duration of each action in milliseconds, all measured in turn, after one round that doesn't count."""
    took: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            if number:
                took[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(times) for name, times in took.items()}


def program(argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> Callable[[], str]:
    """A program to start and wait for; returns what it printed. Raises SystemExit with its words if it fails."""

    def run() -> str:
        done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)} returned {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    return run


def own_environment(folder: Path) -> dict[str, str]:
    """This environment without what belongs to the user's own hpcest, with bytecode: as an installed program finds it."""
    ours = ("HPCEST_", "PYTHON", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    (folder / "local").mkdir(exist_ok=True)
    return {
        **env,
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HPCEST_SITE_CONFIG": str(folder / "no-site.yaml"),
        "HPCEST_LOCAL_DIR": str(folder / "local"),
    }


def make_run(workspace: WorkspaceFolder, number: int, *, running: bool = False, metrics: int = 20, now: float) -> None:
    """A run as one leaves it behind: three event files, metric events, a few tags; a day old unless it runs."""
    folder = workspace.run(f"r{number:07d}")
    os.makedirs(folder.events)
    begin = now - DAY_S + number / 1000
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
