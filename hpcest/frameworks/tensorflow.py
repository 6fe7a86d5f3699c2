"""The framework ``tensorflow``: workers that mirror each other, or a coordinator with workers and parameter servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from hpcest.contracts import Framework
from hpcest.errors import SpecError
from hpcest.frameworks.checkpoints import newest
from hpcest.frameworks.script import Script
from hpcest.hookspecs import hookimpl
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec


@dataclass(frozen=True)
class TensorFlowOptions:
    """What the processes of a run are."""

    workers: int = field(default=0, metadata={"help": "how many processes are workers; 0: all that are nothing else"})
    parameter_servers: int = field(default=0, metadata={"help": "how many are parameter servers"})
    chief: bool | None = field(
        default=None, metadata={"help": "whether one process coordinates the others; by default where there are parameter servers"}
    )


class TensorFlow(Script):
    """Every process has TF_CONFIG, with the address of each other one and what it is itself.

    Ranks have their roles in the order chief, workers, parameter servers. Servers, and workers that a chief coordinates,
    wait for work for ever: they are ended when the others have ended.
    """

    name = "tensorflow"
    distributions: ClassVar[tuple[str, ...]] = ("tensorflow", "mpi")
    Options = TensorFlowOptions
    options: TensorFlowOptions
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets") / "tensorflow.yaml"

    def check(self, spec: RunSpec) -> None:
        """As for a script; and there are as many processes as roles need. Raises SpecError."""
        super().check(spec)
        roles, chief = self._roles(spec), self.options.chief
        if min(self.options.workers, self.options.parameter_servers) < 0 or roles["worker"] < 1 or sum(roles.values()) > spec.ranks:
            wanted = " + ".join(f"{count} {role}" for role, count in roles.items() if count > 0)
            raise SpecError(
                f"{spec.ranks} processes ({spec.resources.nodes} nodes with {spec.resources.procs_per_node} each) are too few for {wanted}"
                + ("" if roles["worker"] > 0 else " and a worker"),
                hint="ask for more nodes or processes on each, or for fewer parameter servers",
            )
        if chief and not self.options.parameter_servers:
            raise SpecError("a chief coordinates parameter servers, and there are none", hint="leave chief out: worker 0 leads the others")

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv, with what TensorFlow's resolver reads and the threads of a process."""
        plain = super().program(spec, activation)
        threads = {"OMP_NUM_THREADS": "$HPCEST_CPUS", "TF_NUM_INTRAOP_THREADS": "$HPCEST_CPUS"}
        kind = spec.distribution.kind if spec.distribution else "tensorflow" if spec.ranks > 1 else ""
        if kind != "tensorflow":
            return replace(plain, rank_variables=threads)
        roles = {role: count for role, count in self._roles(spec).items() if count}
        servers = ("worker", "ps") if "chief" in roles else ("ps",) if "ps" in roles else ()
        return replace(plain, rank_variables=threads, meets=True, roles=roles, servers=servers)

    def _roles(self, spec: RunSpec) -> dict[str, int]:
        servers = self.options.parameter_servers
        chief = int(servers > 0 if self.options.chief is None else self.options.chief)
        return {"chief": chief, "worker": self.options.workers or spec.ranks - servers - chief, "ps": servers}

    def checkpoint(self, outputs: Path) -> Path | None:
        """The newest of TensorFlow's checkpoints as ``tf.train.Checkpoint.restore`` takes it, without a suffix; else of Keras' files.

        A Keras file may be the model that was saved when the training had ended, so it is not taken for the newer checkpoint.
        Last comes the folder of a SavedModel.
        """
        own = newest(outputs, files=("*.index",), but=("variables/variables.index",))
        if own:
            return own.with_suffix("")
        return newest(outputs, files=("*.keras", "*.h5")) or newest(outputs, folders=("saved_model.pb",))


@hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [TensorFlow]
