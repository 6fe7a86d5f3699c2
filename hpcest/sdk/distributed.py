"""How the processes of a run find each other, in Azure ML's words: what ``distributed_training`` takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hpcest.errors import SpecError
from hpcest.model.spec import Distribution, Resources


class Distributed:
    """How processes find each other: one of the classes below, or a plugin's own, which derives from this and names its ``kind``.

    ``kind`` and ``backend`` are what the run spec has; ``framework`` is the one that it is for, empty for any.
    """

    kind = "mpi"
    framework = ""

    @property
    def backend(self) -> str:
        """What the processes talk by; empty leaves the choice to the program."""
        return ""

    @property
    def distribution(self) -> Distribution:
        """The same in a run spec."""
        return Distribution(self.kind, self.backend)

    def laid_out(self, resources: Resources) -> Resources:
        """``resources`` with the nodes and processes that are asked for here. Raises SpecError where both differ."""
        return resources

    @property
    def options(self) -> dict[str, Any]:
        """What the framework is told beyond that."""
        return {}

    def _agreed(self, resources: Resources, name: str, value: int) -> Resources:
        """A number that may stand in two places, 1 where nobody said anything."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SpecError(f"{type(self).__name__}: {name} must be a whole number from 1 up, not {value!r}")
        before = getattr(resources, name)
        if 1 not in (before, value) and before != value:
            raise SpecError(f"{type(self).__name__} asks for {name}={value}, and the run for {before}", hint="say it in one place")
        return replace(resources, **{name: max(before, value)})


@dataclass
class Mpi(Distributed):
    """Processes that find each other by MPI, so many on each node."""

    process_count_per_node: int = 1

    def laid_out(self, resources: Resources) -> Resources:
        """So many processes on each node."""
        return self._agreed(resources, "procs_per_node", self.process_count_per_node)


@dataclass
class MpiConfiguration(Mpi):
    """The same with the number of nodes."""

    node_count: int = 1

    def laid_out(self, resources: Resources) -> Resources:
        """So many nodes with so many processes."""
        return self._agreed(super().laid_out(resources), "nodes", self.node_count)


@dataclass
class PyTorchConfiguration(Distributed):
    """torch.distributed. ``process_count`` is all processes together, by default one on each node.

    ``communication_backend`` is ``Nccl`` or ``Gloo``; the program finds it in HPCEST_BACKEND.
    """

    communication_backend: str = "Nccl"
    process_count: int | None = None
    node_count: int = 1
    kind = framework = "pytorch"

    @property
    def backend(self) -> str:
        """Lower case."""
        return str(self.communication_backend).lower()

    def laid_out(self, resources: Resources) -> Resources:
        """The processes, spread evenly over the nodes."""
        resources = self._agreed(resources, "nodes", self.node_count)
        if self.process_count is None:
            return resources
        count, rest = divmod(self.process_count, resources.nodes)
        if rest or count < 1:
            raise SpecError(
                f"PyTorchConfiguration: {self.process_count} processes can't be spread evenly over {resources.nodes} nodes",
                hint="process_count is the number of all processes together",
            )
        return self._agreed(resources, "procs_per_node", count)


@dataclass
class Nccl(PyTorchConfiguration):
    """torch.distributed over NCCL, between GPUs."""


@dataclass
class Gloo(PyTorchConfiguration):
    """torch.distributed over gloo, between CPUs."""

    communication_backend: str = "Gloo"


def processes_of(workers: int, servers: int) -> int:
    """How many processes that is together: with parameter servers goes one that coordinates."""
    return workers + servers + (servers > 0)


@dataclass
class TensorflowConfiguration(Distributed):
    """TensorFlow's workers, and its parameter servers: with those one more process coordinates the others.

    There are as many nodes as the estimator's ``node_count`` says, by default one for each worker.
    """

    worker_count: int = 1
    parameter_server_count: int = 1
    kind = framework = "tensorflow"

    @property
    def options(self) -> dict[str, Any]:
        """The number of each."""
        return {"workers": self.worker_count, "parameter_servers": self.parameter_server_count}

    def laid_out(self, resources: Resources) -> Resources:
        """The processes that are needed, spread over the nodes; those that are left over end at once."""
        nodes = resources.nodes if resources.nodes > 1 else self.worker_count
        needed = processes_of(self.worker_count, self.parameter_server_count)
        resources = self._agreed(resources, "nodes", nodes)
        return replace(resources, procs_per_node=max(resources.procs_per_node, -(-needed // resources.nodes)))


@dataclass
class ParameterServer(TensorflowConfiguration):
    """The older name."""
