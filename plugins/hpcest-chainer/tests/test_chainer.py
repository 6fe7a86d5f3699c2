"""The plugin keeps hpcest's contract, and a real ChainerMN trains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from hpcest.model.plan import Activation
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.testing import Bench, Contract, FrameworkContract

from hpcest_chainer import Chainer, framework

SPEC = RunSpec("contract", Command("train.py", ("--lr", "$RANK")), framework="chainer")
TWO = replace(SPEC, resources=Resources(procs_per_node=2), distribution=Distribution("mpi"))
TRAIN = """\
import os, sys

import chainer, chainermn
import chainer.functions as F, chainer.links as L
import numpy as np

from hpcest import Run

comm = chainermn.create_communicator("naive")
assert [str(comm.rank), str(comm.size)] == [os.environ["RANK"], os.environ["WORLD_SIZE"]]
assert sys.argv[1:] == [os.environ["RANK"]]
x = np.random.RandomState(0).rand(400, 8).astype(np.float32)
data = chainer.datasets.TupleDataset(x, (x.sum(axis=1) > 4).astype(np.int32))
mine = chainermn.scatter_dataset(data if comm.rank == 0 else None, comm, shuffle=True, seed=1)
model = L.Classifier(chainer.Sequential(L.Linear(8, 16), F.relu, L.Linear(16, 2)))
optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(0.01), comm)
optimizer.setup(model)
updater = chainer.training.StandardUpdater(chainer.iterators.SerialIterator(mine, 20), optimizer)
trainer = chainer.training.Trainer(updater, (20, "epoch"), out="outputs")
if comm.rank == 0:
    trainer.extend(chainer.training.extensions.snapshot())
trainer.run()
model(*chainer.dataset.concat_examples(data))
accuracy = float(model.accuracy.array)
Run.get_context().log(f"accuracy of {comm.rank}", accuracy)
print("rank", comm.rank, "trained on", len(mine))
"""
BROKEN = """\
from mpi4py import MPI
if MPI.COMM_WORLD.rank == 1:
    raise ValueError("the second rank is broken")
MPI.COMM_WORLD.barrier()
"""


class TestContract(FrameworkContract):
    """What hpcest expects of every framework."""

    framework = framework.Chainer
    estimator = Chainer
    files: ClassVar[Mapping[str, str]] = {"train.py": "import chainer\nprint('trained')\n"}
    broken: ClassVar[Mapping[str, str]] = {"train.py": "raise SystemExit(3)\n"}

    @pytest.fixture
    def interpreter(self, python_with_chainer: str) -> str:
        """One with Chainer and mpi4py."""
        return python_with_chainer

    def refused(self) -> Mapping[str, RunSpec]:
        """Chainer knows no other way."""
        return {
            "a distribution of others": replace(SPEC, distribution=Distribution("pytorch")),
            "several processes, and no MPI": replace(TWO, distribution=None),
        }


class TestChainer(Contract):
    """A real ChainerMN on this machine, by the mpirun that is on PATH."""

    pytestmark = pytest.mark.slow
    patience = 120.0
    plugin = "hpcest_chainer.framework"

    def spec(self, python: str, program: str, bench: Bench) -> RunSpec:
        """Two processes of ``program``."""
        bench.write({"train.py": program})
        return replace(TWO, command=Command("train.py", ("$RANK",)), environment=EnvironmentSpec("host", interpreter=python))

    def test_two_processes_train_one_model(self, bench: Bench, python_with_chainer: str) -> None:
        """Each on half of the data, with the same result, and each writes a log of its own; the snapshot can be resumed from."""
        ended = bench.run(self.spec(python_with_chainer, TRAIN, bench), self.patience)
        assert ended.status == "Completed", ended
        logs = [ended.folder.rank_log(rank, 0, ranks=2).read_text() for rank in (0, 1)]
        assert [log.splitlines()[-1] for log in logs] == ["rank 0 trained on 200", "rank 1 trained on 200"]
        assert ended.metrics["accuracy of 0"] == ended.metrics["accuracy of 1"] > 0.8
        found = framework.Chainer().checkpoint(ended.folder.outputs)
        assert found is not None
        assert found.name.startswith("snapshot_iter_")

    def test_a_process_that_fails_ends_the_other(self, bench: Bench, python_with_chainer: str) -> None:
        """Which waits for it in a barrier, and would for ever."""
        ended = bench.run(self.spec(python_with_chainer, BROKEN, bench), 60.0)
        assert ended.status == "Failed"
        assert "the second rank is broken" in ended.output


class TestChainerOnACluster(Contract):
    """On two hosts of the Slurm cluster that SLURM_CONF names, whose hosts see the folder for temporary files."""

    pytestmark = pytest.mark.slow
    patience = 120.0
    plugin = "hpcest_chainer.framework"
    needs = "sbatch"

    def _config(self) -> str:
        return "default_compute: hosts\ncompute: {hosts: {backend: slurm, cpus: 1, memory: 1G, time: 5}}\n"

    def test_two_hosts_train_one_model(self, bench: Bench, python_with_chainer: str) -> None:
        """As on one machine, without having said anything of MPI's launcher."""
        self._able()
        if "SLURM_CONF" not in os.environ:
            pytest.skip("SLURM_CONF names no cluster")
        bench.write({"train.py": TRAIN})
        spec = replace(TWO, command=Command("train.py", ("$RANK",)), resources=Resources(nodes=2), compute="hosts")
        ended = bench.run(replace(spec, environment=EnvironmentSpec("host", interpreter=python_with_chainer)), self.patience)
        assert ended.status == "Completed", ended
        assert ended.metrics["accuracy of 0"] == ended.metrics["accuracy of 1"] > 0.8


def test_one_process_is_a_script() -> None:
    assert framework.Chainer().program(SPEC, Activation("python")).argv == ("python", "train.py", "--lr", "$RANK")


def test_of_several_each_is_aborted_with_the_others() -> None:
    program = framework.Chainer().program(TWO, Activation("/env/python"))
    assert program.argv == ("/env/python", "-m", "mpi4py", "train.py", "--lr", "$RANK")


def test_the_newest_snapshot_is_the_checkpoint(tmp_path: Path) -> None:
    for age, name in enumerate(("snapshot_iter_100", "snapshot_iter_20", "log")):
        (tmp_path / name).write_text("something")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert framework.Chainer().checkpoint(tmp_path) == tmp_path / "snapshot_iter_100"
