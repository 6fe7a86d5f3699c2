"""Job files: Azure ML v2's command job in YAML, and what hpcest adds to it, compiled to a run spec."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.errors import ConfigError, SpecError
from hpcest.kit.units import parse_memory, parse_time
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.sdk.requirements import read_conda_file, read_requirements

FILE_NAME = "hpcest.yaml"
_PLACEHOLDER = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass(frozen=True)
class JobEnvironment:
    """``environment:`` as a mapping. ``conda_file`` and ``pip_file`` are relative to the job file."""

    kind: str = "auto"
    name: str = ""
    python: str = ""
    pip: tuple[str, ...] = ()
    pip_file: str = ""
    conda: tuple[str, ...] = ()
    conda_file: str = ""
    image: str = ""
    variables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobResources:
    """``resources:``: ``instance_count`` nodes; per process ``cpus``, per node ``gpus`` and ``memory``."""

    instance_count: int = 1
    procs_per_node: int = 1
    cpus: int | None = None
    gpus: int | None = None
    memory: str = ""


@dataclass(frozen=True)
class JobDistribution:
    """``distribution:`` with v2's ``type`` and processes per node."""

    type: str
    process_count_per_instance: int = 1


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
    code: str = "."
    compute: str = ""
    framework: str = "script"
    environment: Any = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    distribution: JobDistribution | None = None
    resources: JobResources = field(default_factory=JobResources)
    limits: JobLimits = field(default_factory=JobLimits)
    slurm: dict[str, Any] = field(default_factory=dict)


def load_job(path: Path, *, default_compute: str = "local") -> RunSpec:
    """The run spec of a job file. Raises ConfigError with the line of what is wrong."""
    document = load(path)
    if isinstance(document.value, dict):
        document.value.pop("$schema", None)
    job = decode_document(JobFile, document)
    if job.type != "command":
        raise ConfigError(f"{document.where('type')}: a job of type {job.type!r} can't be run; this is a command job's place")
    if bool(job.command) == bool(job.script):
        raise ConfigError(f"{path}: a job needs either 'command' or 'script'")
    inputs = {name: _input(path, name, value) for name, value in job.inputs.items()}

    def filled(text: str, key: str) -> str:
        return _interpolated(text, inputs, document, key)

    per_node = max(job.resources.procs_per_node, job.distribution.process_count_per_instance if job.distribution else 1)
    return RunSpec(
        experiment=job.experiment_name or path.absolute().parent.name,
        command=Command(
            script=job.script,
            arguments=tuple(filled(word, f"arguments[{number}]") for number, word in enumerate(job.arguments)),
            line=filled(job.command, "command"),
        ),
        compute=job.compute.removeprefix("azureml:") or default_compute,
        framework=job.framework,
        display_name=job.display_name or job.name,
        description=job.description,
        source=str((path.parent / job.code).absolute()),
        environment=_environment(document, path, job.environment),
        environment_variables={name: filled(value, f"environment_variables.{name}") for name, value in job.environment_variables.items()},
        resources=_resources(document, job, per_node),
        distribution=Distribution(job.distribution.type.lower()) if job.distribution else None,
        inputs=inputs,
        tags=job.tags,
        properties=job.properties,
        options=job.slurm,
    )


def _resources(document: Document, job: JobFile, per_node: int) -> Resources:
    asked = job.resources
    try:
        memory = parse_memory(asked.memory) if asked.memory else None
        limit = parse_time(job.limits.timeout, bare="s") if job.limits.timeout else None
    except SpecError as error:
        raise ConfigError(f"{document.where('resources')}: {error.message}", hint=error.hint) from error
    return Resources(asked.instance_count, per_node, asked.cpus, asked.gpus, memory, limit)


def _input(path: Path, name: str, value: Any) -> str:
    """An input's value: a literal, or the path of a file or folder, relative to the job file."""
    if isinstance(value, dict):
        value = value.get("path", value.get("default"))
        if value is None:
            raise ConfigError(f"{path}: input {name!r} has no path")
        local = path.parent / str(value)
        return str(local.absolute()) if local.exists() else str(value)
    return str(value)


def _interpolated(text: str, inputs: dict[str, str], document: Document, key: str) -> str:
    """``${{inputs.x}}`` replaced; anything else in ``${{…}}`` is an error, never left over."""

    def value(match: re.Match[str]) -> str:
        kind, _, name = match.group(1).partition(".")
        if kind != "inputs" or name not in inputs:
            known = ", ".join(f"inputs.{known}" for known in inputs) or "none"
            raise ConfigError(f"{document.where(key)}: {match.group(0)} is not known", hint=f"known: {known}")
        return inputs[name]

    return _PLACEHOLDER.sub(value, text)


def _environment(document: Document, path: Path, given: Any) -> EnvironmentSpec:
    if given is None:
        return EnvironmentSpec()
    if isinstance(given, str):
        return EnvironmentSpec(kind=given)
    asked = decode_document(JobEnvironment, document, where="environment")
    conda, pip = list(asked.conda), list(asked.pip)
    if asked.pip_file:
        pip += read_requirements(path.parent / asked.pip_file)
    if asked.conda_file:
        from_conda, from_pip = read_conda_file(path.parent / asked.conda_file)
        conda, pip = conda + from_conda, pip + from_pip
    return EnvironmentSpec(asked.kind, asked.name, asked.python, tuple(pip), tuple(conda), asked.image, asked.variables)
