"""What hpcest adds to Slurm: submitting, arrays, status, the way from the job's start to the program's first line.

Needs a Slurm where this user may submit (``make cluster-up`` gives one; then ``. DIR/full/env``), and leaves
nothing in its queue. Jobs that are only submitted are held, so that none of them disturbs what is measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, Table, options
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.together import indexed, submit_together
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.spec import Command, RunSpec

RUNS = 1000


def silent(line: str) -> None:
    """Progress that nobody wants to see here."""


def timed(action: Callable[[], object]) -> float:
    """How many milliseconds ``action`` takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def scancel() -> None:
    """Take everything of this user out of the queue."""
    subprocess.run(["scancel", "--me", "--state=PENDING"], check=True)


@contextmanager
def context(folder: Path) -> Iterator[Context]:
    """A workspace whose default compute target is Slurm."""
    (folder / "source").mkdir()
    (folder / "source" / "train.py").write_text("print('hello', flush=True)\n")
    workspace = create_workspace(folder / "workspace")
    targets = f"  cpu: {{backend: slurm, poll: 0}}\n  timed: {{backend: slurm, setup: ['{_MARK_START.format(folder)}']}}\n"
    workspace.config.write_text(f"default_compute: cpu\ncompute:\n{targets}")
    try:
        yield Context(workspace)
    finally:
        scancel()


def spec_of(folder: Path, **held: object) -> RunSpec:
    """A run of one process."""
    return RunSpec("bench", Command("train.py"), "cpu", source=str(folder / "source"), options=held)


def bench_one(table: Table, folder: Path, made: Context) -> None:
    """One submit beside sbatch with an equal script, and beside submitit's own."""
    from submitit import SlurmExecutor

    script = folder / "raw.sbatch"
    script.write_text("#!/bin/bash\n#SBATCH --hold --nodes=1 --ntasks-per-node=1 --output=/dev/null\nexec true\n")
    theirs = SlurmExecutor(folder / "submitit")
    theirs.update_parameters(time=5, additional_parameters={"hold": True})
    raw: list[float] = []
    own: list[float] = []
    submitit: list[float] = []
    for number in range(15):
        raw.append(timed(lambda: subprocess.run(["sbatch", "--parsable", str(script)], check=True, stdout=subprocess.DEVNULL)))
        own.append(timed(lambda: submit(made, spec_of(folder, hold=True), silent)))
        if number < 5:
            submitit.append(timed(lambda: theirs.submit(print, 1)))
    table.add("submit one run", median(own[1:]), beside=("raw sbatch", median(raw[1:])), target=1.5)
    table.add("submit one run", median(own[1:]), beside=("submitit.submit", median(submitit[1:])), target=0.1)
    scancel()


def bench_array(table: Table, folder: Path, made: Context) -> None:
    """A thousand runs as an array beside submitit's map_array, and their status."""
    from submitit import SlurmExecutor

    theirs = SlurmExecutor(folder / "submitit")
    theirs.update_parameters(time=5, additional_parameters={"hold": True})
    own: list[float] = []
    submitit: list[float] = []
    for _ in range(3):
        specs, _limit = indexed(spec_of(folder, hold=True), f"0-{RUNS - 1}")
        own.append(timed(partial(submit_together, made, specs, silent)))
        submitit.append(timed(lambda: theirs.map_array(print, range(RUNS))))
    table.add(f"submit {RUNS:,} runs as an array", median(own), beside=("submitit.map_array", median(submitit)), target=1.0)
    scancel()


def bench_status(table: Table, folder: Path, made: Context) -> None:
    """The status of a thousand unfinished runs: one squeue, and what reading the record takes."""
    from hpcest.lifecycle.watch import look

    specs, _ = indexed(spec_of(folder, hold=True), f"0-{RUNS - 1}")
    folders = [passage.folder for passage in submit_together(made, specs, silent)]
    look(made, folders)
    took = [timed(lambda: look(made, folders)) for _ in range(3)]
    squeue = [timed(lambda: subprocess.run(["squeue", "--me", "-h", "-r"], check=True, stdout=subprocess.DEVNULL)) for _ in range(3)]
    table.add(f"status of {RUNS:,} unfinished runs", median(took), beside=f"one squeue {median(squeue):.0f} ms", target=500)
    scancel()


def bench_first_line(table: Table, folder: Path, made: Context) -> None:
    """From the job's start to the program's first line, beside srun in a batch script of one's own."""
    program = folder / "source" / "first.py"
    program.write_text("import os, time\nopen(os.environ['MARK'], 'w').write(repr(time.time()))\n")
    own, bare = [], []
    for number in range(7):
        ours, theirs = folder / f"own{number}", folder / f"bare{number}"
        spec = RunSpec("bench", Command("first.py"), "timed", source=str(folder / "source"), environment_variables={"MARK": str(ours)})
        passage = submit(made, spec, silent)
        own.append((_moment(ours) - _moment(folder / f"begun.{passage.job['id']}")) * 1000)
        script = folder / "bare.sbatch"
        script.write_text(f"#!/bin/bash\n{_MARK_START.format(folder)}\nMARK={theirs} srun {sys.executable} {program}\n")
        done = subprocess.run(["sbatch", "--parsable", "--output=/dev/null", str(script)], check=True, capture_output=True, text=True)
        bare.append((_moment(theirs) - _moment(folder / f"begun.{done.stdout.strip()}")) * 1000)
    more = median(own) - median(bare)
    table.add("job's start to the first line, beyond srun's own", more, beside=f"srun python {median(bare):.0f} ms", target=500)


#: What both batch scripts do first.
_MARK_START = "date +%s.%N > {}/begun.$SLURM_JOB_ID"


def _moment(path: Path) -> float:
    """The time in a file that a job writes, once it is there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text().strip()):
            return float(text)
        time.sleep(0.02)
    raise SystemExit(f"no job ever wrote {path}")


def main() -> None:
    """Measure and print."""
    given = options(__doc__ or "").parse_args()
    if not shutil.which("sbatch") or subprocess.run(["sinfo"], check=False, capture_output=True).returncode:
        print("no Slurm to be measured here: start one with 'make cluster-up', and set SLURM_CONF")
        return
    table = Table("Beside Slurm and submitit", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-", dir=os.environ.get("HPCEST_BENCH_DIR")) as name:
        folder = Path(name)
        with context(folder) as made:
            bench_one(table, folder, made)
            bench_array(table, folder, made)
            bench_status(table, folder, made)
            bench_first_line(table, folder, made)
    table.end()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
