"""Job files: Azure ML v2's command job in YAML, and what hpcest adds to it. Here is their form; ``jobspec`` compiles it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import ConfigError
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.sdk.jobs.early import modernise
from hpcest.sdk.jobs.environment import JobEnvironment, Named, environment_in, environment_of, of_kind

if TYPE_CHECKING:
    from hpcest.model.spec import EnvironmentSpec, RunSpec
    from hpcest.sdk.jobs.assets import Assets

__all__ = ["FILE_NAME", "JobEnvironment", "JobFile", "Named", "environment_of", "environment_of_job", "form_of", "load_job", "of_kind"]

FILE_NAME = "hpcest.yaml"
#: Kinds of YAML that Azure ML v2 has beside the command job → what to do with one.
_OTHERS = {
    "pipeline": "make a job file of each of its steps, and chain them: hpcest submit STEP.yml --after RUN",
    "sweep": "submit its trial as a job of its own, once for each value: --input NAME=VALUE",
    "parallel": "make it a command job, whose program divides the work by its RANK",
    "automl": "hpcest trains what you write; write a training script and submit that",
    "spark": "make it a command job that calls spark-submit",
    "data": "it describes data: hpcest data register",
    "environment": "it describes an environment: hpcest env build FILE, or name it in a job file: environment: file:FILE",
    "model": "it describes a model: hpcest models register",
    "component": "make it a job file: give its inputs their values, and name its compute target",
}
_ONLY = "only command jobs can: type: command"
#: What Azure ML says of a job that it has, and no job file sets.
_READ_ONLY = ("id", "status", "creation_context", "log_files", "parameters")


@dataclass(frozen=True)
class JobResources:
    """``resources:``: ``instance_count`` nodes; per process ``cpus``, per node ``gpus`` and ``memory``."""

    instance_count: int = 1
    procs_per_node: int = 1
    cpus: int | None = None
    gpus: int | None = None
    memory: str = ""
    # Azure's own, without effect here:
    instance_type: Any = None
    max_instance_count: Any = None
    shm_size: Any = None
    docker_args: Any = None
    locations: Any = None
    properties: Any = None


@dataclass(frozen=True)
class JobDistribution:
    """``distribution:`` with v2's ``type`` and processes per node; ``worker_count`` are TensorFlow's processes on all nodes.

    The others are Ray's, for a framework that knows them.
    """

    type: str
    process_count_per_instance: int | None = None
    worker_count: int | None = None
    parameter_server_count: int = 0
    port: Any = None
    address: Any = None
    include_dashboard: Any = None
    dashboard_port: Any = None
    head_node_additional_args: Any = None
    worker_node_additional_args: Any = None


@dataclass(frozen=True)
class JobLimits:
    """``limits:``: ``timeout`` in seconds, or such as 2:00:00."""

    timeout: str = ""


@dataclass(frozen=True)
class JobFile:
    """The keys of a job file. Either ``command`` (a shell line) or ``script`` with ``arguments``."""

    command: str = ""
    script: str = ""
    arguments: tuple[str, ...] = ()
    type: str = "command"
    name: str = ""
    display_name: str = ""
    experiment_name: str = ""
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    code: Any = "."  # empty for none
    compute: str = ""
    framework: str = ""
    framework_version: str = ""
    framework_options: dict[str, Any] = field(default_factory=dict)
    environment: Any = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    distribution: JobDistribution | None = None
    resources: JobResources = field(default_factory=JobResources)
    limits: JobLimits = field(default_factory=JobLimits)
    slurm: dict[str, Any] = field(default_factory=dict)
    launcher: str = ""
    resume_from: str = ""
    signal: str = ""
    max_requeues: int | None = None
    # Azure's own, without effect here:
    identity: Any = None
    services: Any = None
    queue_settings: Any = None
    parent_job_name: Any = None


def load_job(
    path: Path,
    *,
    default_compute: str = "local",
    given: Mapping[str, str] | None = None,
    warn: Callable[[str], None] = lambda _: None,
    named: Named = of_kind,
    assets: Assets | None = None,
    other_environment: bool = False,
) -> RunSpec:
    """The run spec of a job file. Raises ConfigError with the line of what is wrong.

    ``given`` has inputs that go before the file's; ``warn`` is told of each key without effect; ``named`` knows what
    environment a single word is, and ``assets`` what else is registered by name. With ``other_environment`` it is no error
    that its own can't be had.
    """
    from hpcest.sdk.jobs.spec import Compiling, compile_job

    document = load(path)
    job = form_of(document, warn)
    return compile_job(job, Compiling(document, warn, named, assets, other_environment), default_compute=default_compute, given=given or {})


def environment_of_job(path: Path, *, warn: Callable[[str], None] = lambda _: None, named: Named = of_kind) -> EnvironmentSpec:
    """The environment of a job file alone: its inputs need not be there. Raises ConfigError."""
    document = load(path)
    return environment_in(document, form_of(document, warn).environment, named)


def form_of(document: Document, warn: Callable[[str], None] = lambda _: None) -> JobFile:
    """The form that a document fills in. Raises ConfigError, also for what is no command job."""
    if isinstance(document.value, dict):
        _refuse_others(document)
        if document.value.pop("$schema", None) and document.value.get("code") is None and "script" not in document.value:
            document.value["code"] = ""  # a job of Azure ML's has no code but what it names
        for key in _READ_ONLY:
            if document.value.pop(key, None) is not None:
                warn(f"{document.where(key)}: {key} is what Azure says of a job, and has no effect")
        modernise(document)
    return decode_document(JobFile, document)


def _refuse_others(document: Document) -> None:
    """A YAML of another kind is told by its name, rather than by the first key that a command job has not."""
    value, key = document.value, "type"
    kind = str(value.get("type") or "command")
    schema = str(value.get("$schema") or "").rpartition("/")[2].partition(".")[0].lower().removeprefix("command")
    if "type" not in value or kind in ("command", "uri_file", "uri_folder", "mltable"):  # the last three are of data
        kind, key = next((other for other in _OTHERS if schema.startswith(other)), kind), "$schema"
    if "type" not in value and kind == "command" and "command" not in value and {"jobs", "trial"} & set(value):
        key = "jobs" if "jobs" in value else "trial"
        kind = {"jobs": "pipeline", "trial": "sweep"}[key]
    if kind != "command":
        raise ConfigError(f"{document.where(key)}: a job of type {kind!r} can't be run", hint=_OTHERS.get(kind, _ONLY))
