"""The framework ``sklearn``: one process on one node, that uses the cores which it was given and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.frameworks.script import Script
from hpcest.hookspecs import hookimpl
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

#: The most threads that OpenMP (and MKL, by it), OpenBLAS and NumExpr take. None of these is among the variables by which joblib
#: divides the cores among its workers, such as OMP_NUM_THREADS: if those were set, each worker would take all cores.
MOST_THREADS = ("OMP_THREAD_LIMIT", "GOTO_NUM_THREADS", "NUMEXPR_MAX_THREADS")


class SKLearn(Script):
    """Trains with scikit-learn. ``n_jobs=-1`` means the cores of the run, not those of the machine.

    joblib is told their number. Where the kernel would let the process have more than its cores, so are the libraries below
    NumPy and scikit-learn.
    """

    name = "sklearn"
    distributions: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets") / "sklearn.yaml"

    def check(self, spec: RunSpec) -> None:
        """As for a script, and there is one process. Raises SpecError."""
        super().check(spec)
        if spec.ranks > 1:
            raise SpecError(
                f"the framework 'sklearn' runs one process on one node, not {spec.resources.procs_per_node} on {spec.resources.nodes}",
                hint="ask for more cores (--cpus) and use n_jobs=-1, or take the framework 'script' with an MPI program",
            )

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv, with joblib's and the libraries' threads."""
        limits = dict.fromkeys(MOST_THREADS, "$HPCEST_CPU_LIMIT")
        return replace(super().program(spec, activation), rank_variables={"LOKY_MAX_CPU_COUNT": "$HPCEST_CPUS", **limits})


@hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [SKLearn]
