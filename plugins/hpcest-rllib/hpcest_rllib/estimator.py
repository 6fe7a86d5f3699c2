"""The estimators of the framework ``rllib``, in hpcest's words and in Azure ML's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest import FrameworkEstimator
from hpcest.errors import SpecError

if TYPE_CHECKING:
    from hpcest import Workspace
    from hpcest.model.spec import RunSpec

#: What the workers of a Ray cluster have in Azure ML, and share with the head here.
_SHARED = ("compute_target", "environment", "pip_packages", "conda_packages", "conda_dependencies_file", "pip_requirements_file")


@dataclass
class WorkerConfiguration:
    """``node_count`` nodes beside the one of the head. They are like it: of the same compute target, in the same environment.

    ``shm_size`` is the object store of every node, the head's too, unless the estimator says it. ``history`` has no effect.
    """

    node_count: int
    compute_target: Any = None
    environment: Any = None
    shm_size: str | None = None
    history: Any = None
    use_gpu: bool = False
    pip_packages: Sequence[str] | None = None
    conda_packages: Sequence[str] | None = None
    conda_dependencies_file: str | Path | None = None
    pip_requirements_file: str | Path | None = None


@dataclass
class Ray:
    """Which Ray: ``version``, by default the one of the presets, and further arguments of ``ray start``."""

    version: str | None = None
    framework_arguments: Sequence[str] | None = None

    @classmethod
    def default_framework_version(cls) -> str:
        """The version that is installed where none is named."""
        return RLlib.DEFAULT_VERSION

    @classmethod
    def supported_versions(cls) -> list[str]:
        """The versions that are known, the newest first."""
        return RLlib.get_supported_versions()

    @classmethod
    def is_supported_version(cls, version: str) -> bool:
        """Whether it is one of them."""
        return version in cls.supported_versions()


class RLlib(FrameworkEstimator):
    """Runs a program on the first of ``node_count`` nodes, in a Ray cluster of all of them: ``ray.init()`` finds it.

    ``dashboard``, ``head_cpus``, ``object_store_memory``, ``coordination_timeout`` and ``ray_arguments`` are the options of the
    framework. ``worker_configuration`` is another way to say how many nodes there are.
    """

    framework = "rllib"
    spreads = True  # Ray's nodes find each other without what distributed_training could say
    own = ("dashboard", "head_cpus", "object_store_memory", "coordination_timeout", "ray_arguments")
    #: Nodes beside the head's.
    worker_configuration: WorkerConfiguration | None

    def __init__(
        self,
        source_directory: str | Path = ".",
        *misplaced: NoReturn,
        worker_configuration: WorkerConfiguration | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(source_directory, *misplaced, **keywords)
        self.__dict__["worker_configuration"] = worker_configuration

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec that this estimator describes now. Raises SpecError, UnknownNameError."""
        workers = self.worker_configuration
        nodes = _nodes(self.node_count, workers)
        if workers:
            self._check_workers(workers)
        spec = super().to_spec(experiment, workspace)
        options = spec.framework_options
        if workers and workers.shm_size and "object_store_memory" not in options:
            options = {**options, "object_store_memory": workers.shm_size}
        return replace(spec, resources=replace(spec.resources, nodes=nodes), framework_options=options)

    def _check_workers(self, workers: WorkerConfiguration) -> None:
        """Refuse workers that are not like the head. Raises SpecError."""
        for name in _SHARED:
            asked, mine = getattr(workers, name), "environment_definition" if name == "environment" else name
            if asked and asked != getattr(self, mine):
                hint = f"give {mine} to the estimator, which all nodes share"
                raise SpecError(f"WorkerConfiguration: {name}={asked!r} for the workers alone can't be had", hint=hint)
        if workers.use_gpu and not (self.use_gpu or self.gpus):
            raise SpecError("WorkerConfiguration: GPUs for the workers alone can't be had", hint="give use_gpu=True to the estimator")


def _nodes(asked: int, workers: WorkerConfiguration | None) -> int:
    """The nodes of a run, the head's too. Raises SpecError."""
    count, least = (asked, 1) if workers is None else (workers.node_count, 0)
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise SpecError(f"node_count must be a whole number from {least} up, not {count!r}")
    if workers is None:
        return count
    if asked not in (1, count + 1):
        raise SpecError(f"{count} workers and the head are {count + 1} nodes, not {asked!r}", hint="say it in one place")
    return count + 1


class ReinforcementLearningEstimator(RLlib):
    """The same in the words of azureml.contrib.train.rl."""

    def __init__(
        self,
        source_directory: str | Path = ".",
        *misplaced: NoReturn,
        environment: Any = None,
        rl_framework: Ray | None = None,
        cluster_coordination_timeout_seconds: int | None = None,
        shm_size: str | None = None,
        **keywords: Any,
    ) -> None:
        ray = rl_framework or Ray()
        given = {
            "environment_definition": environment,
            "framework_version": ray.version,
            "ray_arguments": ray.framework_arguments and list(ray.framework_arguments),
            "coordination_timeout": cluster_coordination_timeout_seconds,
            "object_store_memory": shm_size,
        }
        for name, value in given.items():
            if value is not None and keywords.setdefault(name, value) != value:
                raise SpecError(f"ReinforcementLearningEstimator: {name} is said twice", hint="say it in one place")
        super().__init__(source_directory, *misplaced, **keywords)
