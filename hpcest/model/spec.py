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
class DataInput:
    """A named input of data: what the program of every rank finds at the path ``$AZURE_ML_INPUT_name``.

    ``paths`` are absolute: a file, a folder, or several of them and patterns such as ``/data/mnist/*.gz``; their names below
    ``root`` are what the program sees of several. ``mode`` is ``mount`` (the path itself, or links to several), ``download``
    (a copy on each node for as long as the attempt lasts) or ``direct`` (the path itself). ``target`` is where the program
    wants it, a path on the node. ``type`` is ``uri_file``, ``uri_folder`` or ``mltable``.

    ``dataset`` and ``version`` (0 is the latest) say which registered dataset it is, if any: without ``paths`` they and all
    that follows are filled in when the run is submitted. ``digest`` is the sha256 of names and contents, ``files`` and
    ``size`` (bytes) count them, ``manifest`` is the id of their list. ``table`` says how a table is read from the files.
    """

    paths: tuple[str, ...] = ()
    root: str = ""
    type: str = "uri_folder"
    mode: str = "mount"
    target: str = ""
    dataset: str = ""
    version: int = 0
    digest: str = ""
    files: int = 0
    size: int = 0
    manifest: str = ""
    table: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataOutput:
    """A named output of data: a folder (or file) that the program writes at the path ``$AZURE_ML_OUTPUT_name``.

    ``path`` is where it ends, absolute, with ``{run-id}`` and ``{output-name}`` replaced; empty for ``outputs/name`` of the run.
    With ``mode`` ``mount`` the program writes there, with ``upload`` what it wrote is copied there when the run has completed,
    or only what matches ``globs``; files that are there already are replaced if ``overwrite``. ``type`` is ``uri_folder`` or
    ``uri_file``, ``target`` is where the program wants it, a path on the node. When the run has completed, and only
    then, it becomes a new version of the dataset ``dataset``, or of the model ``model``, if that is not empty, with
    ``description`` and ``tags``.
    """

    path: str = ""
    type: str = "uri_folder"
    mode: str = "mount"
    target: str = ""
    globs: tuple[str, ...] = ()
    overwrite: bool = False
    dataset: str = ""
    model: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunSpec:
    """One run, described. ``snapshot`` is empty until the source directory has been frozen.

    ``options`` are the backend's own (sbatch options, say), ``framework_options`` the framework's. ``framework_version`` adds
    what that version needs to the environment when the run is submitted. ``environment`` is what was asked for, its lock is
    kept beside the spec. ``launcher`` is how ranks are started on a cluster (``srun``,
    ``srun:pmix``, ``mpirun``, ``single``); empty leaves it to the compute target. ``inputs`` are texts that the program is
    told, ``data`` and ``outputs`` the files that it reads and writes.
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
    data: dict[str, DataInput] = field(default_factory=dict)
    outputs: dict[str, DataOutput] = field(default_factory=dict)
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
