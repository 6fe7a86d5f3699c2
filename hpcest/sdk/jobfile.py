"""Job files: Azure ML v2's command job in YAML, and what hpcest adds to it, compiled to a run spec."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from hpcest.errors import ConfigError, SpecError, UnknownNameError
from hpcest.kit.units import parse_memory, parse_signal, parse_time
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Requeue, Resources, RunSpec
from hpcest.sdk.distributed import processes_of
from hpcest.sdk.inputs import input_text
from hpcest.sdk.requirements import of_conda_file, of_conda_mapping, of_requirements

T = TypeVar("T")
#: What environment a word names: a kind, or one that is registered.
Named = Callable[[str], EnvironmentSpec]

FILE_NAME = "hpcest.yaml"
_PLACEHOLDER = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IGNORED = "has no effect off Azure"


def of_kind(name: str) -> EnvironmentSpec:
    """The environment that a word names where none can be registered: a kind. Raises UnknownNameError."""
    if ":" in name:
        raise UnknownNameError("registered environment", name, ())
    return EnvironmentSpec(kind=name)


@dataclass(frozen=True)
class JobEnvironment(EnvironmentSpec):
    """``environment:`` as a mapping: a spec, and more ways to say it.

    ``conda_file`` (or what it would hold) and ``pip_file`` are relative to the job file.

    ``name``, with a ``version`` or not, and nothing else is a registered environment. ``python`` and ``interpreter`` are the same.
    """

    version: str = ""
    python: str = ""
    pip_file: str = ""
    conda_file: Any = None
    # Azure's own, without effect here:
    description: str = ""
    os_type: str = ""
    tags: dict[str, str] = field(default_factory=dict)


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
    """``distribution:`` with v2's ``type`` and processes per node; ``worker_count`` are TensorFlow's processes on all nodes."""

    type: str
    process_count_per_instance: int = 1
    worker_count: int | None = None
    parameter_server_count: int = 0


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
) -> RunSpec:
    """The run spec of a job file. Raises ConfigError with the line of what is wrong.

    ``given`` has inputs that go before the file's; ``warn`` is told of each key without effect; ``named`` knows what
    environment a single word is.
    """
    document = load(path)
    if isinstance(document.value, dict):
        document.value.pop("$schema", None)
    job = decode_document(JobFile, document)
    _check(document, job)
    _tell_ignored(document, warn)
    inputs = {**{name: _input(document, name, value) for name, value in job.inputs.items()}, **(given or {})}
    outputs = {name: _output(document, name, value) for name, value in job.outputs.items()}
    known = {**{f"inputs.{name}": value for name, value in inputs.items()}, **{f"outputs.{name}": value for name, value in outputs.items()}}

    def filled(text: str, key: str) -> str:
        return _interpolated(text, known, document, key)

    servers = job.distribution.parameter_server_count if job.distribution else 0
    workers = (job.distribution.worker_count if job.distribution else None) or job.resources.instance_count
    line = filled(job.command, "command")
    if outputs and line:  # the program finds the folders, as it would on Azure
        line = f"mkdir -p {shlex.join(outputs.values())}\n{line}"
    variables = {name: filled(value, f"environment_variables.{name}") for name, value in job.environment_variables.items()}
    return RunSpec(
        experiment=job.experiment_name or Path(os.path.abspath(path)).parent.name,
        command=Command(
            script=job.script,
            arguments=tuple(filled(word, f"arguments[{number}]") for number, word in enumerate(job.arguments)),
            line=line,
        ),
        compute=job.compute.removeprefix("azureml:") or default_compute,
        framework=job.framework or ("tensorflow" if servers else "script"),
        framework_version=job.framework_version,
        framework_options={**({"parameter_servers": servers, "workers": workers} if servers else {}), **job.framework_options},
        display_name=job.display_name or job.name,
        description=job.description,
        source=os.path.abspath(path.parent / job.code),
        environment=_environment(document, job.environment, named),
        environment_variables={**{f"AZURE_ML_OUTPUT_{name}": value for name, value in outputs.items()}, **variables},
        resources=_resources(document, job),
        distribution=Distribution(job.distribution.type.lower()) if job.distribution else None,
        launcher=job.launcher,
        resume_from=job.resume_from,
        requeue=_requeue(document, job),
        inputs=inputs,
        tags=job.tags,
        properties=job.properties,
        options=job.slurm,
    )


def _check(document: Document, job: JobFile) -> None:
    """Refuse what could not run as it is written."""
    if job.type != "command":
        raise ConfigError(f"{document.where('type')}: a job of type {job.type!r} can't be run", hint="only command jobs can: type: command")
    if bool(job.command) == bool(job.script):
        both = "has both 'command' and 'script'" if job.script else "has neither 'command' nor 'script'"
        raise ConfigError(f"{document.where('script' if job.script else '')}: the job {both}", hint="it needs one of them")
    if job.arguments and job.command:
        raise ConfigError(f"{document.where('arguments')}: arguments go with a script", hint="write them into the command")


def _tell_ignored(document: Document, warn: Callable[[str], None]) -> None:
    """Say which keys were accepted for Azure ML's sake."""
    ignored = ["identity", "services", "queue_settings", "parent_job_name"]
    ignored += [
        f"resources.{name}" for name in ("instance_type", "max_instance_count", "shm_size", "docker_args", "locations", "properties")
    ]
    for key in ignored:
        if key in document.lines:
            warn(f"{document.where(key)}: {key} {_IGNORED}")


def _requeue(document: Document, job: JobFile) -> Requeue:
    name, seconds = _parsed(parse_signal, job.signal, document, "signal") or ("", None)
    return Requeue(job.max_requeues, name, seconds)


def _resources(document: Document, job: JobFile) -> Resources:
    asked, ranks = job.resources, job.distribution
    per_node = max(asked.procs_per_node, ranks.process_count_per_instance if ranks else 1)
    if ranks and (ranks.worker_count is not None or ranks.parameter_server_count):
        servers = ranks.parameter_server_count
        needed = processes_of(ranks.worker_count or asked.instance_count, servers)
        if needed % asked.instance_count and not servers:
            where = document.where("distribution.worker_count")
            raise ConfigError(f"{where}: {needed} workers can't be spread evenly over {asked.instance_count} nodes")
        per_node = -(-needed // asked.instance_count)
    memory = _parsed(parse_memory, asked.memory, document, "resources.memory")
    limit = _parsed(parse_time, job.limits.timeout, document, "limits.timeout")
    return Resources(asked.instance_count, per_node, asked.cpus, asked.gpus, memory, limit)


def _parsed(parse: Callable[[str], T], text: str, document: Document, key: str) -> T | None:
    try:
        return parse(text) if text else None
    except SpecError as error:
        raise ConfigError(f"{document.where(key)}: {error.message}", hint=error.hint) from error


def _input(document: Document, name: str, value: Any) -> str:
    """An input's value: a literal, or the path of a file or folder, relative to the job file."""
    where, base = document.where(f"inputs.{name}"), document.path.parent
    if value is None or isinstance(value, list):
        raise ConfigError(f"{where}: input {name!r} must be a value, or a mapping with 'path', not {value!r}")
    if not isinstance(value, dict):
        return _literal(value)
    if value.get("path") is None:
        if value.get("default") is None:
            raise ConfigError(f"{where}: input {name!r} has no path")
        return _literal(value["default"])
    path = str(value["path"])
    if path.startswith("azureml:"):
        raise ConfigError(f"{where}: {path!r} is kept on Azure", hint="name a file or folder that the nodes can read")
    found = input_text(path, base)
    if found == path and "://" not in path and not path.startswith("/"):
        raise ConfigError(f"{where}: there is no file or folder {str(base / path)!r}", hint="a path is relative to the job file")
    return found


def _literal(value: Any) -> str:
    """A value of YAML as a program's argument: true and false as YAML spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _output(document: Document, name: str, value: Any) -> str:
    """Where an output belongs, seen from the program: a folder of its own among the run's outputs, or the path that is given."""
    where = document.where(f"outputs.{name}")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: {name!r} can't be the name of an output", hint="use letters, digits and _")
    path = value.get("path") if isinstance(value, dict) else None
    if path is None or "://" in str(path) or str(path).startswith("azureml:"):
        return f"outputs/{name}"
    return os.path.abspath(document.path.parent / str(path))


def _interpolated(text: str, known: Mapping[str, str], document: Document, key: str) -> str:
    """``${{inputs.x}}`` and ``${{outputs.x}}`` replaced; anything else in ``${{…}}`` is an error, never left over."""

    def value(match: re.Match[str]) -> str:
        if match.group(1) not in known:
            raise ConfigError(f"{document.where(key)}: {match.group(0)} is not known", hint="known: " + (", ".join(known) or "none"))
        return known[match.group(1)]

    return _PLACEHOLDER.sub(value, text)


def _environment(document: Document, given: Any, named: Named) -> EnvironmentSpec:
    if given is None:
        return EnvironmentSpec()
    if isinstance(given, str):
        return _by_name(document, given, named)
    asked = decode_document(JobEnvironment, document, where="environment")
    if asked.name and set(given) <= {"name", "version"}:
        return _by_name(document, f"{asked.name}:{asked.version}" if asked.version else asked.name, named)
    return environment_of(document, asked, "environment.")


def _by_name(document: Document, text: str, named: Named) -> EnvironmentSpec:
    """The kind or the registered environment that is named; Azure's ``azureml:NAME:VERSION`` too, where one is registered so."""
    name = text.removeprefix("azureml:").removesuffix("@latest")
    try:
        spec = named(name)
        if text.startswith("azureml:") and spec == EnvironmentSpec(kind=name):
            raise UnknownNameError("registered environment", name, ())
        return spec
    except UnknownNameError as error:
        if text.startswith("azureml:"):
            hint = "describe it: environment: {pip_file: requirements.txt}, or {image: …}; or register one of that name here"
            raise ConfigError(f"{document.where('environment')}: {text!r} is kept on Azure", hint=hint) from None
        raise ConfigError(f"{document.where('environment')}: {error.message}", hint=error.hint) from None


def environment_of(document: Document, asked: JobEnvironment, within: str = "") -> EnvironmentSpec:
    """What an ``environment:`` mapping asks for, its files read; ``within`` is where in the document it stands. Raises ConfigError."""
    folder = document.path.parent
    if asked.python and asked.interpreter and asked.python != asked.interpreter:
        raise ConfigError(f"{document.where(within + 'interpreter')}: python and interpreter mean the same", hint="keep one of them")
    spec = EnvironmentSpec(**{one.name: getattr(asked, one.name) for one in fields(EnvironmentSpec)})
    spec = replace(spec, interpreter=spec.interpreter or asked.python, image=_image(spec.image, folder))
    if asked.pip_file:
        spec = spec.merged(of_requirements(folder / asked.pip_file))
    if isinstance(asked.conda_file, str):
        found = of_conda_file(folder / asked.conda_file)
    elif asked.conda_file is not None:
        found = of_conda_mapping(asked.conda_file, folder, document.where(within + "conda_file"))
    else:
        return spec
    return replace(spec.merged(found), name=spec.name or found.name, variables={**found.variables, **spec.variables})


def _image(text: str, folder: Path) -> str:
    """An image; one that is a file beside the job file by its absolute path."""
    beside = folder / text
    return os.path.abspath(beside) if text and "://" not in text and beside.exists() else text
