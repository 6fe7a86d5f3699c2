"""The framework ``chainer``: Chainer in one process, and ChainerMN in those that MPI brings together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import hpcest
from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.frameworks.script import Script
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

HPCEST_INTERFACE = 1


class Chainer(Script):
    """Starts what ``script`` starts. Several processes are those of one MPI program."""

    name = "chainer"
    distributions: ClassVar[tuple[str, ...]] = ("mpi",)
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets.yaml")

    def check(self, spec: RunSpec) -> None:
        """As for a script, and several processes say that they mean MPI. Raises SpecError."""
        super().check(spec)
        if spec.ranks > 1 and spec.distribution is None:
            raise SpecError(
                f"{spec.ranks} processes of Chainer find each other by MPI alone",
                hint="add --distribution mpi, or distributed_training=Mpi()",
            )

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of a process. One of several that fails ends the others, which would wait for it for ever."""
        plain = replace(super().program(spec, activation), rank_variables={"OMP_NUM_THREADS": "$HPCEST_CPUS"})
        if spec.ranks == 1 or not spec.command.script.endswith(".py"):
            return plain
        return replace(plain, argv=(plain.argv[0], "-m", "mpi4py", *plain.argv[1:]))

    def checkpoint(self, outputs: Path) -> Path | None:
        """The newest snapshot of a trainer (``chainer.training.extensions.snapshot``), or of ChainerMN's checkpointer."""
        every = [path for pattern in ("snapshot_iter_*", "*.npz") for path in outputs.rglob(pattern)]
        found = [path for path in every if path.is_file() and path.stat().st_size]
        return max(found, key=lambda path: path.stat().st_mtime, default=None)


@hpcest.hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [Chainer]
