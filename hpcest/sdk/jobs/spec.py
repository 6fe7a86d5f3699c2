"""From a job file's form to a run spec: the one way that YAML and ``command()`` both take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hpcest.errors import ConfigError, SpecError
from hpcest.kit.units import parse_memory, parse_signal, parse_time
from hpcest.kit.yamlfile import Document
from hpcest.model.spec import Command, DataInput, DataOutput, Distribution, EnvironmentSpec, Requeue, Resources, RunSpec
from hpcest.sdk.distributed import processes_of
from hpcest.sdk.jobs.assets import Assets, Nothing
from hpcest.sdk.jobs.data import Reader
from hpcest.sdk.jobs.environment import Named, environment_in
from hpcest.sdk.jobs.file import JobDistribution, JobFile
from hpcest.sdk.jobs.text import Texts, Value, Wrong

T = TypeVar("T")

#: The property of a run that has its job's ``name``.
NAME_PROPERTY = "hpcest.job_name"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPUTE = re.compile(r"(?:azureml:)?(?:/subscriptions/.*/computes/)?(?P<name>.*)")
_RAY = ("port", "address", "include_dashboard", "dashboard_port", "head_node_additional_args", "worker_node_additional_args")
#: Keys without effect → what to do instead.
_IGNORED = {
    "identity": "a run is the user who submits it",
    "services": "hpcest opens no services: reach the node by ssh -L, or see 'hpcest logs -f' and the logs folder",
    "queue_settings": "choose a compute target, or an option of sbatch: slurm: {qos: …}",
    "parent_job_name": "chain runs by 'hpcest submit --after RUN'",
    "resources.instance_type": "ask for cpus, gpus and memory in resources",
    "resources.max_instance_count": "instance_count is how many nodes it gets",
    "resources.shm_size": "a program here uses the machine's own /dev/shm",
    "resources.docker_args": "the configuration says what containers see: environment: {binds: […]}",
    "resources.locations": "choose a compute target",
    "resources.properties": "choose a compute target",
}


@dataclass(frozen=True)
class Compiling:
    """What a form is compiled with: where it was written, whom to warn, and who knows what is registered.

    With ``other_environment`` its own is only taken as far as it can be had: another one was asked for beside it.
    """

    document: Document
    warn: Callable[[str], None]
    named: Named
    assets: Assets | None = None
    other_environment: bool = False


def compile_job(job: JobFile, compiling: Compiling, *, default_compute: str, given: Mapping[str, str]) -> RunSpec:
    """The run spec of a form; ``given`` has inputs that go before its own. Raises ConfigError."""
    document = compiling.document
    _check(document, job)
    _tell_ignored(document, job, compiling.warn)
    read = _read(job, compiling, given)
    servers = job.distribution.parameter_server_count if job.distribution else 0
    workers = (job.distribution.worker_count if job.distribution else None) or job.resources.instance_count
    found = _COMPUTE.fullmatch(job.compute)
    compute = found["name"] if found else ""
    return RunSpec(
        experiment=job.experiment_name or Path(os.path.abspath(document.path)).parent.name or "root",
        command=_command(job, document, read),
        compute=default_compute if compute in ("", "serverless") else compute,
        framework=job.framework or ("tensorflow" if servers else "script"),
        framework_version=job.framework_version,
        framework_options={**({"parameter_servers": servers, "workers": workers} if servers else {}), **job.framework_options},
        display_name=job.display_name or job.name,
        description=job.description,
        source=_source(job, compiling),
        environment=_environment(job, compiling),
        environment_variables=read.variables,
        resources=_resources(document, job),
        distribution=Distribution(job.distribution.type.lower()) if job.distribution else None,
        launcher=job.launcher,
        resume_from=job.resume_from,
        requeue=_requeue(document, job),
        inputs=read.inputs,
        data=read.data,
        outputs=read.outputs,
        tags=job.tags,
        properties={**({NAME_PROPERTY: job.name} if job.name else {}), **job.properties},
        options=job.slurm,
    )


def _environment(job: JobFile, compiling: Compiling) -> EnvironmentSpec:
    try:
        return environment_in(compiling.document, job.environment, compiling.named)
    except ConfigError as error:
        if not compiling.other_environment:
            raise
        compiling.warn(f"{error.message}; the other environment takes its place")
        return EnvironmentSpec()


@dataclass(frozen=True)
class _Read:
    """What a form's inputs, outputs and variables come to; ``exported`` are variables that only a shell on the node can set."""

    texts: Texts
    inputs: dict[str, str]
    data: dict[str, DataInput]
    outputs: dict[str, DataOutput]
    variables: dict[str, str]
    exported: dict[str, str]


def _read(job: JobFile, compiling: Compiling, given: Mapping[str, str]) -> _Read:
    document = compiling.document
    reader = Reader(document, compiling.warn, compiling.assets or Nothing())
    known: dict[str, Value] = {}
    inputs: dict[str, str] = {}
    data: dict[str, DataInput] = {}
    for name, value in {**given, **job.inputs}.items():
        known[f"inputs.{name}"], found = reader.input(name, value, given.get(name))
        text = known[f"inputs.{name}"].text
        if found is not None:
            data[name] = found
        elif text is not None:
            inputs[name] = text
    outputs: dict[str, DataOutput] = {}
    for name, value in job.outputs.items():
        known[f"outputs.{name}"], outputs[name] = reader.output(name, value)
    texts = Texts(known)
    variables: dict[str, str] = {}
    exported: dict[str, str] = {}
    for name, text in job.environment_variables.items():
        wrong = wrong_in(document, f"environment_variables.{name}")
        plain = texts.plain(text, wrong)
        if plain is not None:
            variables[name] = plain
        elif job.command and _NAME.fullmatch(name):
            exported[name] = texts.line(f'"{_double_quoted(text)}"', wrong)
        else:
            wrong("its value", "is only known on the node", "the program finds it in AZURE_ML_INPUT_NAME or AZURE_ML_OUTPUT_NAME")
    return _Read(texts, inputs, data, outputs, variables, exported)


def _double_quoted(text: str) -> str:
    """``text`` for inside double quotes of a shell; placeholders stay."""
    parts = re.split(r"(\$\{\{.*?\}\})", text, flags=re.DOTALL)
    return "".join(part if part.startswith("${{") else re.sub(r'([\\"$`])', r"\\\1", part) for part in parts)


def _command(job: JobFile, document: Document, read: _Read) -> Command:
    if job.script:
        words = (read.texts.argument(word, wrong_in(document, f"arguments[{number}]")) for number, word in enumerate(job.arguments))
        return Command(job.script, tuple(words))
    line = read.texts.line(job.command, wrong_in(document, "command"))
    return Command(line="".join([*(f"export {name}={text}\n" for name, text in read.exported.items()), line]))


def wrong_in(document: Document, key: str) -> Wrong:
    """Raises for a piece of the text at ``key``, with the line that the piece is on."""

    def wrong(piece: str, problem: str, hint: str) -> NoReturn:
        raise ConfigError(f"{document.path}:{_line_of(document, key, piece)}: {piece} {problem}", hint=hint)

    def wrong_of_no_file(piece: str, problem: str, hint: str) -> NoReturn:
        raise ConfigError(f"{document.where(key)}: {piece} {problem}", hint=hint)

    return wrong if document.path.is_file() else wrong_of_no_file


def _line_of(document: Document, key: str, piece: str) -> int:
    """The line of a piece of the text at ``key``, which may go over many lines."""
    first = document.line(key)
    try:
        lines = document.path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return first
    after = sorted(line for path, line in document.lines.items() if line > first and not path.startswith(key))
    last = after[0] - 1 if after else len(lines)
    return next((number for number in range(first, last + 1) if piece in lines[number - 1]), first)


def _check(document: Document, job: JobFile) -> None:
    """Refuse what could not run as it is written."""
    if bool(job.command) == bool(job.script):
        both = "has both 'command' and 'script'" if job.script else "has neither 'command' nor 'script'"
        raise ConfigError(f"{document.where('script' if job.script else '')}: the job {both}", hint="it needs one of them")
    if job.arguments and job.command:
        raise ConfigError(f"{document.where('arguments')}: arguments go with a script", hint="write them into the command")
    if job.name and (not job.name.isprintable() or set(job.name) & set("/@\\") or len(job.name) > 255 or job.name.startswith(".")):
        raise ConfigError(
            f"{document.where('name')}: a job can't be called {job.name!r}", hint="use up to 255 letters, digits, '-', '_' and '.'"
        )
    if job.distribution:
        _check_distribution(document, job, job.distribution)


def _check_distribution(document: Document, job: JobFile, asked: JobDistribution) -> None:
    kind, given = asked.type.lower(), [name for name in _RAY if getattr(asked, name) is not None]
    if given and kind != "ray":
        raise ConfigError(f"{document.where(f'distribution.{given[0]}')}: {given[0]} goes with the distribution ray, not {asked.type}")
    if kind == "ray" and job.framework in ("", "script"):
        raise ConfigError(
            f"{document.where('distribution.type')}: Ray is started by a framework that knows it",
            hint="name one, such as framework: rllib; or start Ray in the command, on each node by its NODE_RANK",
        )


def _tell_ignored(document: Document, job: JobFile, warn: Callable[[str], None]) -> None:
    """Say which keys were accepted for Azure ML's sake."""
    for key, instead in _IGNORED.items():
        place: Any = job
        for name in key.split("."):
            place = getattr(place, name)
        if place is not None and (place not in ({}, []) or key in document.lines):
            warn(f"{_named(document, key)} has no effect off Azure: {instead}")
    for name in _RAY:
        if job.distribution and getattr(job.distribution, name) is not None:
            warn(f"{_named(document, f'distribution.{name}')} has no effect: see framework_options")


def _named(document: Document, key: str) -> str:
    """A key with its place, unless the place is its name."""
    where = document.where(key)
    return where if where.endswith(f": {key}") else f"{where}: {key}"


def _source(job: JobFile, compiling: Compiling) -> str:
    """The directory that is frozen with the run: an empty one of the workspace for a job of Azure ML's without code."""
    document, code = compiling.document, job.code
    if code == "":
        _tell_missing(document, job.command, compiling.warn)
        return (compiling.assets or Nothing()).no_code() or str(document.path.parent.absolute())
    if not isinstance(code, str):
        raise ConfigError(f"{document.where('code')}: code must be the path of a folder, not {code!r}")
    text = code.removeprefix("file://") if code.startswith("file:///") else code.removeprefix("file:")
    where = document.where("code")
    _refuse_remote(where, code, text)
    folder = os.path.abspath(document.path.parent / os.path.expanduser(text))
    if os.path.isfile(folder):
        compiling.warn(f"{where}: {folder!r} is a file: the folder that it is in is frozen with the run")
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise ConfigError(f"{where}: there is no folder {folder!r}", hint="a path is relative to the job file")
    return folder


def _refuse_remote(where: str, code: str, text: str) -> None:
    """Code that would have to be fetched."""
    if text.startswith(("git+", "git@", "git:")) or "github.com" in text or text.endswith(".git"):
        raise ConfigError(f"{where}: code can't be fetched from git: {code!r}", hint="clone it, and give the folder's path: code: FOLDER")
    if text.startswith("azureml:"):
        raise ConfigError(f"{where}: the code {code!r} is kept on Azure", hint="give the folder that it was uploaded from: code: FOLDER")
    if "://" in text:
        raise ConfigError(f"{where}: code can't be fetched from {code!r}", hint="download it, and give the folder's path: code: FOLDER")


def _tell_missing(document: Document, line: str, warn: Callable[[str], None]) -> None:
    """A command that names a file beside the job file will not find it."""
    words = re.split(r"[\s'\";|&<>()=]+", line)
    beside = next((word for word in words if word and not os.path.isabs(word) and (document.path.parent / word).is_file()), "")
    if beside:
        warn(f"{document.where('command')}: {beside!r} will not be there: the job has no code; write code: . to have this folder with it")


def _requeue(document: Document, job: JobFile) -> Requeue:
    name, seconds = _parsed(parse_signal, job.signal, document, "signal") or ("", None)
    return Requeue(job.max_requeues, name, seconds)


def _resources(document: Document, job: JobFile) -> Resources:
    asked, ranks = job.resources, job.distribution
    per_node = max(asked.procs_per_node, (ranks.process_count_per_instance if ranks else None) or 1)
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
