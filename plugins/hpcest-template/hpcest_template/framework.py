"""The framework ``template``: a script whose numerical libraries use as many threads as the run says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import hpcest
from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.frameworks.script import Script
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

#: The interface that this plugin was written for; an hpcest with an older one refuses it with a reason.
HPCEST_INTERFACE = 1


@dataclass(frozen=True)
class TemplateOptions:
    """What a run may say: ``hpcest submit -O threads=4``, or a keyword of the estimator."""

    threads: int = field(default=0, metadata={"help": "threads of each process; 0: one for each core that it was given"})


class Template(Script):
    """Starts what ``script`` starts, and tells each process how many threads to use."""

    name = "template"
    distributions = ("mpi",)
    Options = TemplateOptions
    options: TemplateOptions
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets.yaml")

    def check(self, spec: RunSpec) -> None:
        """As for a script, and the threads must be a number that there can be. Raises SpecError."""
        super().check(spec)
        if self.options.threads < 0:
            raise SpecError(f"threads must be a whole number from 0 up, not {self.options.threads}", hint="leave it out for all cores")

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of one rank, and its number of threads; ``$HPCEST_CPUS`` is replaced by each rank's own."""
        threads = str(self.options.threads) if self.options.threads else "$HPCEST_CPUS"
        return replace(super().program(spec, activation), rank_variables={"OMP_NUM_THREADS": threads})


@hpcest.hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """Called once, when frameworks are first needed."""
    return [Template]
