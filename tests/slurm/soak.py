"""Hundreds of runs while things are killed at random: nothing may be lost, started twice, or told wrong.

By hand, as an ordinary user on the test cluster: ``python -m tests.slurm.soak --runs 200 --seed 1``. It takes minutes, and
what happens is never twice the same, so it is no test of ``make test``: what it finds becomes one there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = """\
import os, sys, time
rank, attempt = os.environ.get('RANK', '0'), os.environ['HPCEST_ATTEMPT']
def leave(what):
    with open(os.path.join(os.environ['TRACES'], os.environ['HPCEST_RUN_ID']), 'a') as trace:
        trace.write(f'{what} {attempt}.{rank}\\n')
leave('start')
time.sleep(float(sys.argv[1]))
leave('done')
"""
SHAPES: tuple[tuple[str, ...], ...] = ((), (), (), ("--max-requeues", "4"), ("--nodes", "2"), ("--nodes", "2", "--max-requeues", "4"))
FINISHED = ("Completed", "Failed", "Canceled")


def shell(*argv: str, check: bool = False) -> str:
    """What a program prints."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{argv}: {done.stderr}")
    return done.stdout


class Soak:
    """One workspace on the cluster, what was done to each of its runs, and what came of it."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        self.workspace, self.traces = root / "workspace", root / "traces"
        self.traces.mkdir()
        (root / "train.py").write_text(PROGRAM)
        self.hpcest("init", str(self.workspace))
        target = "{backend: slurm, cpus: 1, memory: 100M, time: 10, grace: 2, poll: 1, patience: 200}"
        (self.workspace / ".hpcest" / "config.yaml").write_text(f"default_compute: cpu\ncompute:\n  cpu: {target}\n")
        self.hits: dict[str, list[str]] = defaultdict(list)
        self._ids: set[str] = set()

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "hpcest", *words]

    def hpcest(self, *words: str) -> str:
        return shell(*self.argv(*words))

    # ------------------------------------------------------------------ what is done
    def submit(self, most: int) -> int:
        """Submit a run or a small array; now and then the submitter is killed in the middle of it. How many runs it makes."""
        shape, seconds = self.chance.choice(SHAPES), f"{self.chance.uniform(0, 12):.1f}"
        many = self.chance.randint(2, 6) if self.chance.random() < 0.2 and not shape else 1
        words = ["submit", str(self.root / "train.py"), "--env-var", f"TRACES={self.traces}", *shape]
        words += ["--array", f"0-{many - 1}"] if many > 1 else []
        child = subprocess.Popen(self.argv(*words, "--", seconds), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if self.chance.random() < 0.15:
            time.sleep(self.chance.uniform(0.05, 0.6))
            child.kill()
        child.wait()
        return min(many, most)

    def hit(self) -> None:
        """Do something bad to something."""
        self.chance.choice([self.kill_controller, self.kill_launcher, self.kill_program, self.scancel, self.requeue, self.cancel])()

    def _kill(self, what: str, pattern: str) -> None:
        found = [line.split() for line in shell("pgrep", "-u", str(os.getuid()), "-f", pattern).splitlines()]
        victims = [(int(pid[0]), run) for pid in found if (run := self._run_of(int(pid[0])))]
        if victims:
            pid, run = self.chance.choice(victims)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            self.hits[run].append(what)

    def _run_of(self, pid: int) -> str:
        try:
            text = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return ""
        match = re.search(rb"HPCEST_RUN_ID=(\w+)", text) or re.search(
            re.escape(os.fsencode(self.workspace)) + rb"/\.hpcest/runs/(\w+)", text
        )
        return match[1].decode() if match else ""

    def kill_controller(self) -> None:
        self._kill("controller", "boot.py controller")

    def kill_launcher(self) -> None:
        self._kill("srun", "srun .*--kill-on-bad-exit")

    def kill_program(self) -> None:
        self._kill("program", "train.py [0-9]")

    def _job(self) -> tuple[str, str]:
        rows = [line.split() for line in shell("squeue", "--me", "-h", "-r", "-o", "%i %j").splitlines()]
        known = [(job, name.rpartition(".")[2]) for job, name in rows]
        return self.chance.choice(known) if known else ("", "")

    def scancel(self) -> None:
        job, run = self._job()
        if job:
            self.hits[run].append("scancel")
            shell("scancel", job)

    def requeue(self) -> None:
        job, run = self._job()
        if job:
            self.hits[run].append("requeue")
            shell("scontrol", "requeue", job)

    def cancel(self) -> None:
        living = [run for run in self.known() if run["status"] not in FINISHED]
        if living:
            run = self.chance.choice(living)["id"]
            self.hits[run].append("cancel")
            self.hpcest("cancel", run)

    # ------------------------------------------------------------------ what came of it
    def known(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self.hpcest("runs", "--limit", "0", "--json") or "[]")
        return rows

    def wait(self, seconds: float) -> None:
        """Until every run has ended, and Slurm's queue is empty."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            living = [run for run in self.known() if run["status"] not in (*FINISHED, "NotStarted", "Preparing")]
            if not living and not shell("squeue", "--me", "-h").strip():
                return
            time.sleep(2)

    def problems(self) -> list[str]:
        """What must not be, a sentence each."""
        found = [f"still in the queue: {line}" for line in shell("squeue", "--me", "-h").splitlines()]
        runs = {run["id"]: run for run in self.known()}
        self._ids = set(runs)
        found += [f"{trace.name} has run, and nobody knows it" for trace in self.traces.iterdir() if trace.name not in runs]
        for run in runs.values():
            found += [f"{run['id']} {wrong}; {self._story(run)}" for wrong in self._wrong(run)]
        return found

    def _own_hits(self, run: dict[str, Any]) -> list[str]:
        """What was done to a run; all tasks of an array have the array's name in Slurm."""
        own = list(self.hits.get(run["id"], []))
        for array in [name for name in self.hits if name not in self._ids]:
            manifest = self.workspace / ".hpcest" / "arrays" / f"{array}.json"
            own += self.hits[array] if manifest.is_file() and run["id"] in manifest.read_text() else []
        return own

    def _wrong(self, run: dict[str, Any]) -> list[str]:
        trace = self.traces / run["id"]
        lines = trace.read_text().split("\n")[:-1] if trace.exists() else []
        twice = [line for line, count in Counter(lines).items() if count > 1]
        last, hits = run["attempt"] or 0, self._own_hits(run)
        ranks = (run.get("nodes") or 1) * (run.get("procs_per_node") or 1)
        done = {line for line in lines if line.startswith(f"done {last}.")}
        wrong = [f"ran twice: {line}" for line in twice]
        wrong += [f"started again later: {line}" for line in lines if int(line.split()[1].split(".")[0]) > last]
        if run["status"] == "Completed" and len(done) < ranks:
            wrong.append(f"is Completed, but only {len(done)} of {ranks} ranks have done their work")
        if run["status"] not in (*FINISHED, "NotStarted", "Preparing"):
            wrong.append("has not ended")
        if run["status"] in ("Failed", "Canceled") and not hits and run.get("reason") != "LaunchFailed":  # that of a killed submitter
            wrong.append("did not complete, though nothing was done to it")
        return wrong

    def _story(self, run: dict[str, Any]) -> str:
        words = [run["status"], run.get("reason") or "", repr(run.get("message") or ""), f"attempt {run['attempt']}"]
        return f"{' '.join(words)}, after {self._own_hits(run)}"

    def summary(self) -> str:
        """How many ended how, and whether something was done to them; after ``problems``."""
        runs = self.known()
        table = Counter((run["status"], run.get("reason") or "", "hit" if self._own_hits(run) else "left alone") for run in runs)
        return "\n".join(f"{count:5} {' '.join(what)}" for what, count in sorted(table.items()))


def main() -> None:
    """Submit, hit, wait, and say what must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--hits", type=float, default=0.5, help="how many for each run")
    asked = parser.parse_args()
    root, chance = Path(tempfile.mkdtemp(prefix="soak-")), random.Random(asked.seed)
    os.chdir(root)
    os.environ["HPCEST_WORKSPACE"] = str(root / "workspace")
    soak, made, hits = Soak(root, chance), 0, 0
    began = time.monotonic()
    while made < asked.runs:
        made += soak.submit(asked.runs - made)
        while hits < made * asked.hits:
            hits += 1
            act: Callable[[], None] = soak.hit
            act()
    soak.wait(900)
    found = soak.problems()
    print(f"seed {asked.seed}: {made} runs, {sum(map(len, soak.hits.values()))} hits, {time.monotonic() - began:.0f} s, in {root}")
    print(soak.summary())
    print("\n".join(found) or "nothing wrong")
    if not found:
        shutil.rmtree(root)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
