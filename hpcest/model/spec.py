"""The run spec: the immutable description of a run that every front door compiles to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Command:
    """What each rank runs: an entry ``script`` of the snapshot with ``arguments``, or a shell ``line``.

    ``$NAME`` in an argument is replaced on the node, for each rank, where the rank has that variable.
    """

    script: str = ""
    arguments: tuple[str, ...] = ()
    line: str = ""

    def __str__(self) -> str:
        from shlex import join

        return self.line or join((self.script, *self.arguments))


@dataclass(frozen=True)
class Resources:
    """What a run needs. None leaves the choice to the compute target.

    ``cpus`` is cores per process, ``gpus`` per node, ``memory`` megabytes per node, ``time`` seconds.
    """

    nodes: int = 1
    procs_per_node: int = 1
    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    time: int | None = None


@dataclass(frozen=True)
class Distribution:
    """How the ranks of a run find each other: ``kind`` is ``mpi``, ``pytorch``, ``tensorflow``, ``ray`` or a plugin's.

    ``backend`` is what they talk by, such as ``nccl`` or ``gloo``; the program is told, and chooses.
    """

    kind: str = "mpi"
    backend: str = ""


@dataclass(frozen=True)
class Requeue:
    """What happens when a scheduler wants the run's nodes back: before its time limit, at a preemption, a node failure.

    ``signal`` (such as ``USR1``) reaches the program of every rank ``warn`` seconds before the time limit.
    ``max_requeues`` is how often the run may start again, as a new attempt; None leaves that to the compute
    target, 0 is never.
    """

    max_requeues: int | None = None
    signal: str = ""
    warn: int | None = None


@dataclass(frozen=True)
class Upstream:
    """A run that has to end first: ``condition`` is ``ok`` (completed), ``any`` (ended) or ``failed``."""

    run: str
    condition: str = "ok"


@dataclass(frozen=True)
class EnvironmentSpec:
    """What a run's program needs around it, before it is resolved.

    ``kind`` names an environment plugin, or ``auto``. ``interpreter`` is the Python to use or to build
    with (a path, or a version such as ``3.11``). ``pip`` holds requirement lines in their order, ``conda``
    match specs for the ``channels``. ``image`` is what it is built on, or runs as it is where nothing is to be
    built: a file, or a reference such as ``docker://debian:12``. ``system`` are shell lines that root runs in that
    image, ``steps`` those that run in the environment when its packages are there. ``prefix`` is an environment that
    exists (a path or the name of a conda environment), ``modules`` are what ``module load`` gets. ``layout`` is how
    an image is stored: ``split``, ``single``, ``flat``. ``variables`` are set for the program.
    """

    kind: str = "auto"
    name: str = ""
    interpreter: str = ""
    pip: tuple[str, ...] = ()
    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    image: str = ""
    system: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    prefix: str = ""
    modules: tuple[str, ...] = ()
    layout: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def merged(self, more: EnvironmentSpec) -> EnvironmentSpec:
        """What ``more`` asks for added to this: lists are joined, and what ``more`` says once counts."""
        changes: dict[str, Any] = {}
        for one in fields(EnvironmentSpec):
            mine, theirs = getattr(self, one.name), getattr(more, one.name)
            if isinstance(mine, tuple):
                changes[one.name] = (*mine, *(item for item in theirs if item not in mine))
            elif isinstance(mine, dict):
                changes[one.name] = {**mine, **theirs}
            elif theirs and theirs != "auto":
                changes[one.name] = theirs
        return replace(self, **changes)


@dataclass(frozen=True)
class GitFacts:
    """Where the source directory stood in git. ``patch`` is the snapshot object that holds the diff."""

    commit: str = ""
    branch: str = ""
    remote: str = ""
    dirty: bool = False
    patch: str = ""


@dataclass(frozen=True)
class RunSpec:
    """One run, described. ``snapshot`` is empty until the source directory has been frozen.

    ``options`` are the backend's own (sbatch options, say), ``framework_options`` the framework's. ``framework_version`` adds
    what that version needs to the environment when the run is submitted. ``environment`` is what was asked for, its lock is
    kept beside the spec. ``launcher`` is how ranks are started on a cluster (``srun``,
    ``srun:pmix``, ``mpirun``, ``single``); empty leaves it to the compute target.
    """

    experiment: str
    command: Command
    compute: str = "local"
    framework: str = "script"
    framework_version: str = ""
    framework_options: dict[str, Any] = field(default_factory=dict)
    display_name: str = ""
    description: str = ""
    source: str = ""
    snapshot: str = ""
    git: GitFacts | None = None
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    environment_variables: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    distribution: Distribution | None = None
    launcher: str = ""
    requeue: Requeue = field(default_factory=Requeue)
    after: tuple[Upstream, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    resume_from: str = ""
    schema: int = SCHEMA

    @property
    def ranks(self) -> int:
        """How many processes the run has on all nodes together."""
        return self.resources.nodes * self.resources.procs_per_node
