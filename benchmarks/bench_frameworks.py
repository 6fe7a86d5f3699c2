"""What framework plugins cost: planning a run beside the framework ``script``, and DDP on two nodes beside a hand-written srun.

The second part needs a Slurm where this user may submit, and ``--python``: an interpreter with PyTorch that the nodes have too.
Each round has one job of hpcest and one of sbatch with the same script, one after the other on the same nodes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.common import ROOT, Table, options
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec

FRAMEWORKS = ("sklearn", "pytorch", "tensorflow")
MEMORY_MB = 3000

#: Steps per second of a network of 2.1 million weights: the best of ten times 20 steps, which other load disturbs least.
TRAIN = """\
import os, time
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
layers = [layer for _ in range(8) for layer in (torch.nn.Linear(512, 512), torch.nn.ReLU())]
model = DistributedDataParallel(torch.nn.Sequential(*layers))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(64, 512)
best = 0.0
for window in range(11):  # the first doesn't count
    dist.barrier()
    began = time.monotonic()
    for _ in range(20):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    dist.barrier()
    best = max(best, 20 / (time.monotonic() - began)) if window else 0.0
if dist.get_rank() == 0:
    with open(os.environ["RESULT"] + ".part", "w") as result:
        result.write(str(best))
    os.rename(os.environ["RESULT"] + ".part", os.environ["RESULT"])
dist.barrier()
dist.destroy_process_group()
os._exit(0)
"""
BY_HAND = """\
#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --nodelist={nodes} --mem={memory} --time=10 --output={result}.log
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT=29512 RESULT={result}
srun bash -c 'RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS exec {python} {script}'
"""


def silent(line: str) -> None:
    """Progress that nobody wants to see here."""


def timed(action: Callable[[], object]) -> float:
    """How many milliseconds ``action`` takes."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def bench_plan(table: Table, made: Context, source: Path, rounds: int) -> None:
    """Everything but the record and the hand-over, for each framework in turn."""
    took: dict[str, list[float]] = {name: [] for name in ("script", *FRAMEWORKS)}
    for _ in range(rounds + 1):
        for name, times in took.items():
            distribution = Distribution(name) if name in ("pytorch", "tensorflow") else None
            resources = Resources(procs_per_node=2 if distribution else 1)
            spec = RunSpec(
                "bench", Command("train.py"), "local", framework=name, distribution=distribution, resources=resources, source=str(source)
            )
            times.append(timed(partial(submit, made, spec, silent, dry=True)))
    plain = median(took["script"][1:])
    for name in FRAMEWORKS:
        more = median(took[name][1:]) - plain
        table.add(f"plan of a run, framework {name}, beyond script's", more, beside=f"script {plain:.1f} ms", target=20)
    loaded = [name for name in ("sklearn", "torch", "tensorflow") if name in sys.modules]
    table.add("frameworks imported meanwhile", len(loaded), "", beside=", ".join(loaded), target=0)


def bench_ddp(table: Table, made: Context, folder: Path, python: str, rounds: int) -> None:
    """Steps per second on two nodes, by hpcest and by hand."""
    nodes = _nodes()
    environment = EnvironmentSpec("host", interpreter=python)
    own: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        result = folder / f"own{number}"
        spec = RunSpec(
            "bench", Command("train.py"), "cluster", framework="pytorch", distribution=Distribution("pytorch", "gloo"),
            resources=Resources(nodes=2, memory=MEMORY_MB), environment=environment, environment_variables={"RESULT": str(result)},
            source=str(folder / "source"), options={"nodelist": nodes},
        )  # fmt: skip
        submit(made, spec, silent)
        own.append(_figure(result))
        result, script = folder / f"hand{number}", folder / "hand.sbatch"
        words = {"nodes": nodes, "memory": MEMORY_MB, "python": python, "script": folder / "source" / "train.py"}
        script.write_text(BY_HAND.format(result=result, **words))
        subprocess.run(["sbatch", "--parsable", str(script)], check=True, stdout=subprocess.DEVNULL)
        theirs.append(_figure(result))
    table.add("DDP on two nodes, gloo", median(own), "steps/s", beside=("srun by hand", median(theirs)), target=-0.95)


def _nodes() -> str:
    """Two nodes that are idle now."""
    argv = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    names = sorted(set(subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()))
    if len(names) < 2:
        raise SystemExit("two idle nodes are needed")
    return ",".join(names[:2])


def _figure(path: Path) -> float:
    """What a job writes, once it is there; and a moment for the job to leave its nodes."""
    end = time.monotonic() + 180
    while not path.exists():
        if time.monotonic() > end:
            raise SystemExit(f"no job ever wrote {path}")
        time.sleep(0.2)
    time.sleep(3)
    return float(path.read_text())


def main() -> None:
    """Measure and print."""
    parser = options(__doc__ or "", rounds=7)
    parser.add_argument("--python", help="an interpreter with PyTorch, for the second part")
    given = parser.parse_args()
    table = Table("Frameworks", as_json=given.as_json)
    with tempfile.TemporaryDirectory(prefix="hpcest-bench-", dir=os.environ.get("HPCEST_BENCH_DIR")) as name:
        folder = Path(name)
        (folder / "source").mkdir()
        (folder / "source" / "train.py").write_text(TRAIN)
        workspace = create_workspace(folder / "workspace")
        workspace.config.write_text("compute:\n  cluster: {backend: slurm, poll: 1}\n")
        made = Context(workspace)
        bench_plan(table, made, folder / "source", given.rounds)
        if given.python and shutil.which("sbatch"):
            bench_ddp(table, made, folder, given.python, given.rounds)
    table.end()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
