"""The framework ``pytorch``: distributed training by ranks that the cluster starts, or by torchrun on each node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from hpcest.contracts import Framework
from hpcest.errors import SpecError, UnknownNameError
from hpcest.frameworks.checkpoints import newest
from hpcest.frameworks.script import Script, command_argv
from hpcest.hookspecs import hookimpl
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import RunSpec

BACKENDS = ("nccl", "gloo", "mpi", "ucc", "xccl")
LAUNCHERS = ("ranks", "torchrun")


@dataclass(frozen=True)
class PyTorchOptions:
    """What a run may say beyond its distribution."""

    launcher: str = field(
        default="ranks", metadata={"help": "ranks: the cluster starts every process; torchrun: it starts one agent on each node"}
    )
    max_restarts: int = field(default=0, metadata={"help": "torchrun: how often it starts all processes again after one has failed"})
    min_nodes: int = field(default=0, metadata={"help": "torchrun: go on with so many nodes when others are lost; 0: with all or none"})


class PyTorch(Script):
    """Every process has what ``init_process_group()`` reads: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT."""

    name = "pytorch"
    distributions: ClassVar[tuple[str, ...]] = ("pytorch", "mpi")
    Options = PyTorchOptions
    options: PyTorchOptions
    presets: ClassVar[Path | None] = Path(__file__).with_name("presets") / "pytorch.yaml"

    def check(self, spec: RunSpec) -> None:
        """As for a script; and torchrun starts scripts alone. Raises SpecError."""
        super().check(spec)
        options, backend = self.options, spec.distribution.backend if spec.distribution else ""
        if backend and backend not in BACKENDS:
            raise UnknownNameError("backend of torch.distributed", backend, BACKENDS)
        if options.launcher not in LAUNCHERS:
            raise UnknownNameError("launcher of the framework 'pytorch'", options.launcher, LAUNCHERS)
        if options.launcher == "torchrun":
            self._check_torchrun(spec)
        elif options.max_restarts or options.min_nodes:
            name = "max_restarts" if options.max_restarts else "min_nodes"
            raise SpecError(f"{name} is for torchrun, and this run starts its ranks itself", hint="add the option launcher=torchrun")

    def _check_torchrun(self, spec: RunSpec) -> None:
        if not spec.command.script.endswith(".py"):
            raise SpecError("torchrun starts Python scripts alone", hint="give an entry script, or write torchrun into the command line")
        if spec.distribution and spec.distribution.kind != "pytorch":
            raise SpecError("torchrun and MPI exclude each other", hint="leave one of them out")
        if not 0 <= self.options.min_nodes <= spec.resources.nodes:
            raise SpecError(f"min_nodes={self.options.min_nodes} does not fit a run on {spec.resources.nodes} nodes")
        if self.options.max_restarts < 0:
            raise SpecError(f"max_restarts must be a whole number from 0 up, not {self.options.max_restarts}")

    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of a rank, or of torchrun on a node."""
        plain = super().program(spec, activation)
        is_mpi = spec.distribution is not None and spec.distribution.kind == "mpi"
        backend = spec.distribution.backend if spec.distribution else ""
        told = {**plain.variables, "HPCEST_BACKEND": backend or ("nccl" if spec.resources.gpus else "gloo")}
        if self.options.launcher == "torchrun":
            threads = {"OMP_NUM_THREADS": str(spec.resources.cpus)} if spec.resources.cpus else {}
            return replace(plain, argv=self._torchrun(spec, activation), variables={**told, **threads}, per="node", meets=True)
        threads = {"OMP_NUM_THREADS": "$HPCEST_CPUS"}
        return replace(plain, variables=told, rank_variables=threads, meets=spec.ranks > 1 and not is_mpi)

    def _torchrun(self, spec: RunSpec, activation: Activation) -> tuple[str, ...]:
        nodes, least = spec.resources.nodes, self.options.min_nodes
        agent = {
            "nnodes": f"{least}:{nodes}" if 0 < least < nodes else str(nodes),
            "nproc-per-node": str(spec.resources.procs_per_node),
            "rdzv-backend": "c10d",
            "rdzv-endpoint": "$MASTER_ADDR:$MASTER_PORT",
            "rdzv-id": "$HPCEST_RUN_ID.$HPCEST_ATTEMPT",
            "max-restarts": str(self.options.max_restarts),
            # Each line of the log begins with its process; without this they would be mixed.
            "log-dir": "$HPCEST_RUN_DIR/user_logs/torchrun",
            "tee": "3",
        }
        words = [f"--{name}={value}" for name, value in agent.items()]
        script = command_argv(spec.command, "")[1:]
        return (activation.python, "-m", "torch.distributed.run", *words, *script)

    def checkpoint(self, outputs: Path) -> Path | None:
        """The newest file that torch.save, Lightning or safetensors wrote, or a folder of torch.distributed.checkpoint."""
        return newest(outputs, files=("*.pt", "*.pth", "*.ckpt", "*.safetensors"), folders=("*/.metadata",))


@hookimpl
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """The classes of this module."""
    return [PyTorch]
