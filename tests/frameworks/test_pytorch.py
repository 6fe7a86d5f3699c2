"""The framework pytorch: what it makes of a run, and training for real, in processes that keep each other's gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcest.errors import SpecError, UnknownNameError
from hpcest.frameworks.pytorch import _AGENT, PyTorch, PyTorchOptions
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Distribution, Resources, RunSpec
from tests.frameworks.envs import framework_env
from tests.lifecycle.conftest import Site

ACTIVATION = Activation(python="/env/bin/python")
TWO_BY_THREE = RunSpec(
    "e", Command("train.py", ("-x", "1")), resources=Resources(nodes=2, procs_per_node=3), distribution=Distribution("pytorch")
)
EXAMPLE = Path(__file__).parents[2] / "examples" / "pytorch"

#: Compares the gradients of a part of the data in each process with those of all of it in one.
GRADIENTS = """\
import os
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from hpcest import Run

dist.init_process_group(os.environ["HPCEST_BACKEND"])
rank, world = dist.get_rank(), dist.get_world_size()
assert (rank, world) == (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
x, y = torch.randn(24, 5, generator=torch.Generator().manual_seed(1)), torch.arange(24.0)[:, None]
torch.manual_seed(rank)
model = torch.nn.Linear(5, 1)


def gradient(of, part):
    of.zero_grad()
    ((of(x[part]) - y[part]) ** 2).mean().backward()
    return model.weight.grad.clone()


together = gradient(DistributedDataParallel(model), slice(rank, None, world))
difference = (together - gradient(model, slice(None))).abs().max().item()
own = (together - gradient(model, slice(rank, None, world))).abs().max().item()
run = Run.get_context()
run.log("difference", difference)
run.log("own", own)
run.log("rank", rank)
print("rank", rank, "of", world, flush=True)
dist.barrier()
dist.destroy_process_group()
os._exit(0)
"""

#: Trains six steps with a checkpoint after each; process 1 fails after the fourth: once, or always, or with exit code 5.
FAILS = """\
import os, sys, traceback
import torch
import torch.distributed as dist
from hpcest import Run

dist.init_process_group("gloo")
run, path = Run.get_context(), "outputs/checkpoint.pt"
first = torch.load(path)["step"] + 1 if os.path.exists(path) else 0
print("starts at step", first, flush=True)
for step in range(first, 6):
    dist.all_reduce(torch.ones(1))
    if dist.get_rank() == 0:
        torch.save({"step": step}, path)
        run.log("step", step)
    dist.barrier()
    if dist.get_rank() == 1 and step == 3 and (first == 0 or sys.argv[1] != "once"):
        try:
            raise ValueError("this one began it")
        except ValueError:
            if sys.argv[1] != "exit":
                raise
            traceback.print_exc()
            sys.exit(5)
print("done", flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def program(spec: RunSpec = TWO_BY_THREE, **options: Any) -> Program:
    """What the framework makes of a spec."""
    framework = PyTorch(PyTorchOptions(**options))
    framework.check(spec)
    return framework.program(spec, ACTIVATION)


def test_by_ranks_each_process_is_the_script() -> None:
    """They have met before they start, and share the cores of their node."""
    made = program()

    assert made.argv == ("/env/bin/python", "train.py", "-x", "1")
    assert (made.per, made.meets, made.rank_variables) == ("process", True, {"OMP_NUM_THREADS": "$HPCEST_CPUS"})
    assert not program(replace(TWO_BY_THREE, resources=Resources(), distribution=None)).meets
    assert not program(replace(TWO_BY_THREE, distribution=Distribution("mpi"))).meets


def test_by_torchrun_each_node_has_an_agent() -> None:
    """Its words are torchrun's own, then the script and its arguments; the processes have the cores that were asked for."""
    spec = replace(TWO_BY_THREE, resources=Resources(nodes=2, procs_per_node=3, cpus=4))
    made = program(spec, launcher="torchrun", max_restarts=2)

    assert made.argv[:2] == ("/env/bin/python", "$HPCEST_HELPERS/torchrun.py")
    assert made.argv[-3:] == ("train.py", "-x", "1")
    assert set(made.argv[2:-3]) == {
        "--log-dir=$HPCEST_RUN_DIR/user_logs/torchrun/$NODE_RANK.$HPCEST_ATTEMPT", "--nnodes=2", "--nproc-per-node=3",
        "--rdzv-backend=c10d", "--rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT", "--rdzv-id=$HPCEST_RUN_ID.$HPCEST_ATTEMPT",
        "--max-restarts=2", "--tee=3",
    }  # fmt: skip
    assert (made.per, made.meets, set(made.helpers)) == ("node", True, {"torchrun.py"})
    assert made.variables["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    ("backend", "gpus", "told"), [("", 0, "gloo"), ("", 2, "nccl"), ("gloo", 2, "gloo"), ("nccl", 2, "nccl"), ("mpi", 0, "mpi")]
)
def test_what_the_processes_talk_by(backend: str, gpus: int, told: str) -> None:
    """NCCL where there are GPUs, if nothing else is said."""
    spec = replace(TWO_BY_THREE, resources=Resources(nodes=2, procs_per_node=2, gpus=gpus), distribution=Distribution("pytorch", backend))

    for launcher in ("ranks", "torchrun"):
        assert program(spec, launcher=launcher).variables["HPCEST_BACKEND"] == told


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"launcher": "mpirun"}, "launcher of the framework 'pytorch' 'mpirun' is not known"),
        ({}, {"max_restarts": 1}, "max_restarts is for torchrun"),
        ({}, {"launcher": "torchrun", "max_restarts": -1}, "max_restarts must be a whole number from 0 up, not -1"),
        ({"command": Command("train.sh")}, {"launcher": "torchrun"}, "torchrun starts Python scripts alone"),
        ({"command": Command(line="python -c 1")}, {"launcher": "torchrun"}, "torchrun starts Python scripts alone"),
        ({"distribution": Distribution("mpi")}, {"launcher": "torchrun"}, "torchrun and MPI exclude each other"),
        ({"distribution": Distribution("pytorch", "nvlink")}, {}, "backend of torch.distributed 'nvlink' is not known"),
        ({"distribution": Distribution("tensorflow")}, {}, "the framework 'pytorch' can't do the distribution 'tensorflow'"),
    ],
)
def test_what_it_refuses(changes: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises((SpecError, UnknownNameError)) as refused:
        program(replace(TWO_BY_THREE, **changes), **options)

    assert refused.value.message.startswith(message)


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    """A file of torch.save or another library's, or a folder of torch.distributed.checkpoint; there may be none."""
    framework = PyTorch(PyTorchOptions())
    assert framework.checkpoint(tmp_path) is None
    for age, name in enumerate(("late/.metadata", "epoch=3.ckpt", "below/model.pt", "model.safetensors")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "metrics.csv").write_text("newest, and no checkpoint")

    assert framework.checkpoint(tmp_path) == tmp_path / "late"
    (tmp_path / "late" / ".metadata").unlink()
    assert framework.checkpoint(tmp_path) == tmp_path / "epoch=3.ckpt"


@pytest.fixture
def torch(tmp_path: Path) -> Site:
    """A workspace whose runs have PyTorch."""
    site = Site(tmp_path / "work space")
    site.cli("init", site.root).ok()
    site.configure(f"environment: {{kind: host, interpreter: {framework_env('torch')}}}\n")
    return site


def submit(site: Site, text: str, *options: str) -> RunFolder:
    """Run a program in two processes on this machine; its run when it has ended."""
    run = site.run(site.cli("submit", site.write(text), "--framework", "pytorch", "-p", "2", *options).ok().out.strip())
    site.wait(run)
    return run


def explained(site: Site, run: RunFolder) -> str:
    return site.cli("explain", run.id).out


def test_gradients_are_those_of_the_whole_batch(torch: Site) -> None:
    """Each process logs that, in a log of its own."""
    run = submit(torch, GRADIENTS)
    known = torch.show(run)

    assert known["status"] == "Completed", explained(torch, run)
    metrics = {name: [value for *_, value in series] for name, series in metrics_of(torch, run).items()}
    assert sorted(metrics["rank"]) == [0, 1]
    assert max(metrics["difference"]) < 1e-4
    assert min(metrics["own"]) > 0.1
    for rank in range(2):
        assert f"rank {rank} of 2" in run.rank_log(rank, ranks=2).read_text()


def metrics_of(site: Site, run: RunFolder) -> dict[str, list[tuple[Any, ...]]]:
    """Each metric's values."""
    from hpcest.onnode.events import read_run

    values = read_run(run.path)[1].to_dict()
    return {name: [(value,) for value in (found if isinstance(found, list) else [found])] for name, found in values.items()}


def test_the_rank_that_began_it_is_named(torch: Site) -> None:
    """Though the others fail in the collective that it has left, and may end before it does.

    After its traceback torch may abort while it tears itself down, so how it ended is not always the same.
    """
    run = submit(torch, FAILS, "--", "always")
    known = torch.show(run)

    assert known["status"] == "Failed"
    assert known["message"].startswith(("rank 1 exited with code 1", "rank 1 was ended by SIGABRT"))
    assert "ValueError: this one began it" in explained(torch, run)


def test_torchrun_starts_again_from_a_checkpoint(torch: Site) -> None:
    """The lines of its log are whole, and say whose they are."""
    run = submit(torch, FAILS, "-O", "launcher=torchrun", "-O", "max_restarts=1", "--", "once")
    lines = run.rank_log(0).read_text().splitlines()

    assert torch.show(run)["status"] == "Completed", lines
    for words in ("starts at step 0", "starts at step 4", "done"):
        assert sorted(line for line in lines if words in line) == [f"[default{rank}]:{words}" for rank in range(2)]
    assert [value for (value,) in metrics_of(torch, run)["step"]] == [0, 1, 2, 3, 4, 5]


NOISY = """\
import os, sys
for number in range(1000):
    print(os.environ["RANK"], number, "x" * 150)
    print(os.environ["RANK"], number, "y" * 150, file=sys.stderr)
"""


def test_processes_of_torchrun_that_print_at_once(torch: Site) -> None:
    """Every line is whole, and in order among those of its process."""
    lines = submit(torch, NOISY, "-O", "launcher=torchrun").rank_log(0).read_text().splitlines()

    for rank in range(2):
        for letter in "xy":
            printed = [line for line in lines if line.startswith(f"[default{rank}]:") and letter in line]
            assert printed == [f"[default{rank}]:{rank} {number} {letter * 150}" for number in range(1000)]


def test_torchrun_that_fails(torch: Site) -> None:
    """The run's exit code is that of the process that began it, which is named; its traceback is shown."""
    run = submit(torch, FAILS, "-O", "launcher=torchrun", "--", "exit")
    known, told = torch.show(run), explained(torch, run)

    assert (known["status"], known["reason"], known["exit_code"]) == ("Failed", "UserError", 5)
    assert "rank 1 failed first on this node: it exited with code 5" in told
    assert told.rstrip().endswith("ValueError: this one began it")


def test_who_is_aborted_because_another_has_left_did_not_begin_it(tmp_path: Path) -> None:
    """torchrun counts in whole seconds, and may find both dead at once; that can't be had on demand."""
    modules = {
        **dict.fromkeys(("__init__", "../__init__", "elastic/__init__", "elastic/multiprocessing/__init__"), ""),
        "run": "from torch.distributed.elastic.multiprocessing.errors import *\ndef main():\n    raise ChildFailedError()\n",
        "elastic/multiprocessing/errors": """
from types import SimpleNamespace
def failure(rank, code): return SimpleNamespace(timestamp=1, exitcode=code, local_rank=rank)
class ChildFailedError(Exception):
    failures = {0: failure(0, -6), 1: failure(1, 5), 2: failure(2, -6)}
""",
    }
    for name, text in modules.items():
        path = tmp_path / "torch" / "distributed" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", _AGENT, "--log-dir=nowhere"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, "rank 1 failed first on this node: it exited with code 5" in done.stderr) == (5, True), done.stderr


def test_the_example(torch: Site) -> None:
    """examples/pytorch, as it is: two processes that train, log and save; and a run that goes on where that one has ended."""
    here = ("--set", "framework_version=''")  # what it needs is there already
    run = torch.run(torch.cli("submit", EXAMPLE, *here).ok().out.strip())
    torch.wait(run)
    more = torch.run(torch.cli("submit", EXAMPLE, *here, "--resume-from", run.id, "--", "--epochs", "1").ok().out.strip())
    torch.wait(more)

    assert torch.show(run)["status"] == torch.show(more)["status"] == "Completed", (explained(torch, run), explained(torch, more))
    losses = [value for (value,) in metrics_of(torch, run)["loss"]]
    assert losses[-1] < losses[0] / 2
    assert metrics_of(torch, run)["accuracy"][0][0] > 0.9
    assert [path.name for path in run.outputs.iterdir()] == ["model.pt"]
    assert "goes on after epoch 5" in more.rank_log(0, ranks=2).read_text()
