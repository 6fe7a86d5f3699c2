"""What a run costs from end to end: submitting, the way to Completed, the controller's memory, many at once.

    python -m benchmarks.bench_run [--python .venv/bin/python] [--submits 50] [--processes 10] [--json]

Everything goes through the ``hpcest`` command and the compute target ``local``, in the host environment,
with an empty script: what is measured is hpcest, its reference the same script started by hand.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import Table, options, own_environment, program, side_by_side
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.onnode.events import read_run

PATIENCE_S = 120.0


class Bench:
    """A workspace, a script, and the command that submits it."""

    def __init__(self, python: Path, folder: Path, table: Table) -> None:
        self.python, self.hpcest, self.table = python, str(python.parent / "hpcest"), table
        self.env = own_environment(folder)
        self.workspace: WorkspaceFolder = create_workspace(folder / "work")
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "empty.py").write_text("pass\n")
        (self.source / "nap.py").write_text("import time; time.sleep(3600)\n")

    def command(self, *words: str) -> Callable[[], str]:
        """The ``hpcest`` command with these words, in the workspace."""
        return program((self.hpcest, *words), self.env, self.workspace.root)

    def submit(self, script: str) -> RunFolder:
        """Submit a script of ours."""
        return self.workspace.run(self.command("submit", str(self.source / script))().strip())

    def one(self, rounds: int) -> None:
        """One run at a time: how long the command takes, and how long it is until the record says Completed."""
        submitted, completed, ran = [], [], []
        for _ in range(rounds + 1):
            began = time.monotonic()
            run = self.submit("empty.py")
            submitted.append(1e3 * (time.monotonic() - began))
            wait_for(lambda run=run: bool(status(run) == "Completed"), f"run {run.path}")  # type: ignore[misc]
            completed.append(1e3 * (time.monotonic() - began))
            state = read_run(run.path)[0]
            ran.append(1e3 * (state.ended - state.queued))
        by_hand = program((str(self.python), str(self.source / "empty.py")), self.env)
        click = program((str(self.python), "-c", "import click"), self.env)
        limits = side_by_side({"hand": by_hand, "click": click}, rounds)
        median = statistics.median
        self.table.add("hpcest submit of an empty script", median(submitted[1:]), beside=("import click", limits["click"]))
        self.table.add("from the command to Completed", median(completed[1:]), beside=("the script by hand", limits["hand"]))
        self.table.add("of that, from Queued to Completed", median(ran[1:]), beside=("the script by hand", limits["hand"]))
        files = sum(len(names) for _, _, names in os.walk(run.path))
        self.table.add("files of a run that has ended", files, "")

    def many(self, submits: int, processes: int) -> None:
        """Several processes submit at once; every run must be recorded, and end."""
        each = submits // processes
        loop = f"for i in $(seq {each}); do {self.hpcest} submit {self.source / 'empty.py'} || exit 1; done"
        began = time.monotonic()
        shells = [
            subprocess.Popen(
                ["sh", "-c", loop], env=self.env, cwd=self.workspace.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]
        printed = [shell.communicate() for shell in shells]
        took = time.monotonic() - began
        runs = [self.workspace.run(name) for out, _ in printed for name in out.split()]
        for shell, (_, errors) in zip(shells, printed, strict=True):
            if shell.returncode:
                sys.stderr.write(errors)
        wait_for(lambda: all(status(run) in ("Completed", "Failed", "Canceled") for run in runs), "the runs")
        ended = time.monotonic() - began
        failed = each * processes - len({run.id for run in runs if status(run) == "Completed"})
        total = each * processes
        self.table.add(f"{total} submits from {processes} processes", 1e3 * took, beside=f"{total / took:.1f} /s, all together")
        self.table.add(f"until all {total} are Completed", 1e3 * ended, beside=f"{total / ended:.1f} runs/s")
        self.table.add("of them not recorded as Completed", failed, "", target=0)

    def memory(self) -> None:
        """The processes that stay beside the user's program as long as it runs."""
        run = self.submit("nap.py")
        claim = run.claim(0)
        wait_for(lambda: claim.exists() and status(run) == "Running", f"run {run.path}")
        who = json.loads(claim.read_text())
        pids = {"the controller": who["pid"], "its guardian": who["guardian"]["pid"]}
        for name, pid in pids.items():
            self.table.add(f"memory of {name}, resident", memory(pid, "Rss"), "MB", target=40)
        both = sum(memory(pid, "Pss") for pid in pids.values())
        self.table.add("memory of both, proportional", both, "MB", target=40)
        self.command("cancel", run.id)()
        wait_for(lambda: status(run) == "Canceled" and not Path(f"/proc/{who['pid']}").exists(), f"run {run.path}")


def memory(pid: int, kind: str) -> float:
    """Megabytes of a process, by the kernel's account: Rss counts shared pages whole, Pss in shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"the kernel does not say the {kind} of process {pid}")


def status(run: RunFolder) -> str:
    return str(read_run(run.path)[0].status)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until it holds. Raises SystemExit after two minutes."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"bench_run: waited {PATIENCE_S:.0f} s for {what} in vain")
        time.sleep(0.005)


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "", rounds=11)
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="an interpreter with hpcest installed (default: this one)"
    )
    parser.add_argument("--submits", type=int, default=50, help="how many runs are submitted at once (default: 50)")
    parser.add_argument("--processes", type=int, default=10, help="from how many processes (default: 10)")
    given = parser.parse_args()
    table = Table("A run from end to end", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-") as name:
        bench = Bench(given.python.absolute(), Path(name), table)
        bench.one(given.rounds)
        bench.memory()
        bench.many(given.submits, given.processes)
    table.end()


if __name__ == "__main__":
    main()
