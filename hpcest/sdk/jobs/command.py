"""``command()``: a job of Azure ML's SDK v2, as an object that is compiled the way a job file is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from hpcest.errors import SpecError, UnknownNameError
from hpcest.kit.codec import encode
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.sdk import azure
from hpcest.sdk.jobs.data import JobInput, JobOutput
from hpcest.sdk.jobs.file import JobFile, JobLimits, JobResources, form_of
from hpcest.sdk.jobs.types import DISTRIBUTIONS, Input, Output

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hpcest.model.spec import RunSpec
    from hpcest.sdk.workspace import Workspace

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
_RESOURCES, _LIMITS = tuple(JobResources.__dataclass_fields__), tuple(JobLimits.__dataclass_fields__)
_KEYS = tuple(JobFile.__dataclass_fields__)
_TEXTS = ("tags", "properties", "environment_variables")


class MoreKeywords(TypedDict, total=False):
    """What ``command()`` takes beyond Azure ML's: all that a job file can say."""

    script: str | None
    arguments: Sequence[Any] | None
    framework: str | None
    framework_version: str | None
    framework_options: Mapping[str, Any] | None
    procs_per_node: int | None
    cpus: int | None
    gpus: int | None
    memory: str | None
    slurm: Mapping[str, Any] | None
    launcher: str | None
    resume_from: str | None
    signal: str | None
    max_requeues: int | None
    is_deterministic: bool
    max_instance_count: int | None


class Named(dict[str, Any]):
    """A dict whose items are attributes too: ``job.inputs.lr``. Raises AttributeError that names what there is."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} here, but {', '.join(self) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)


class _Call(Document):
    """The place of what was said in Python: its keyword."""

    def where(self, key: str = "") -> str:
        """``command(): inputs.x``"""
        return f"command(): {key}" if key else "command()"


class CommandJob:
    """A command job: every key of a job file is an attribute, and may be changed until the job is submitted.

    Make one by ``command()`` or ``load_job()``; submit it by ``MLClient.jobs.create_or_update`` or ``Experiment.submit``.
    ``inputs``, ``outputs``, ``resources`` and ``limits`` are dicts whose items are attributes too.
    """

    type = "command"
    name: str | None
    display_name: str | None
    experiment_name: str | None
    description: str | None
    tags: dict[str, Any]
    properties: dict[str, Any]
    command: str | None
    code: str | Path | None
    compute: Any
    environment: Any
    environment_variables: dict[str, Any]
    inputs: Named
    outputs: Named
    distribution: Any
    resources: Named
    limits: Named

    def __init__(self, values: Mapping[str, Any], document: Document | None = None) -> None:
        """From what a job file has as a mapping; paths are relative to the file of ``document``, or to the current directory."""
        self.__dict__["_document"] = document
        self.__dict__["_base"] = document.path if document else Path.cwd() / "command()"
        given = {key: value for key, value in values.items() if value is not None}
        for key in _KEYS:
            if key != "type":
                self.__dict__[key] = copy.copy(given.get(key))
        for key in ("inputs", "outputs", "resources", "limits"):
            self.__dict__[key] = Named(given.get(key) or {})
        for key in (*_TEXTS, "framework_options", "slurm"):
            self.__dict__[key] = dict(given.get(key) or {})

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        if name not in self.__dict__:
            raise azure.unknown_keyword("command", name, _KEYS)
        self.__dict__[name] = Named(value or {}) if name in ("inputs", "outputs", "resources", "limits") else value

    def __call__(self, **inputs: Any) -> CommandJob:
        """A copy with other values of its inputs. Raises UnknownNameError for an input that it has not."""
        made = copy.copy(self)
        for key in ("inputs", "outputs", "resources", "limits", *_TEXTS, "framework_options", "slurm"):
            made.__dict__[key] = copy.copy(self.__dict__[key])
        for name, value in inputs.items():
            if name not in made.inputs:
                raise UnknownNameError("input of the job", name, made.inputs)
            made.inputs[name] = value
        made.__dict__["name"] = None  # which only one job can have
        return made

    # ------------------------------------------------------------------ Azure ML's setters
    def set_resources(
        self, *, instance_count: int | None = None, instance_type: Any = None, locations: Any = None, properties: Any = None,
        docker_args: Any = None, shm_size: Any = None,
    ) -> None:  # fmt: skip
        """Change the number of nodes. The others are Azure's."""
        given = {"instance_count": instance_count, "instance_type": instance_type, "locations": locations, "properties": properties,
                 "docker_args": docker_args, "shm_size": shm_size}  # fmt: skip
        self.resources.update({name: value for name, value in given.items() if value is not None})

    def set_limits(self, *, timeout: int) -> None:
        """Change the time limit, in seconds."""
        self.limits["timeout"] = timeout

    def set_queue_settings(self, *, job_tier: str | None = None, priority: str | None = None) -> None:
        """Azure's; told without effect when the job is submitted."""
        self.queue_settings = {name: value for name, value in (("job_tier", job_tier), ("priority", priority)) if value is not None}

    def sweep(self, *given: Any, **keywords: Any) -> NoReturn:
        """Refused: raises SpecError."""
        raise SpecError("hpcest has no sweeps yet", hint="submit the job once for each value: client.jobs.create_or_update(job(lr=0.1))")

    # ------------------------------------------------------------------ to a run spec
    def to_mapping(self) -> dict[str, Any]:
        """What a job file of it holds."""
        found = {key: _plain(key, self.__dict__[key]) for key in _KEYS if key != "type" and key not in _TEXTS}
        for key in _TEXTS:
            found[key] = {str(name): "" if value is None else str(value) for name, value in (self.__dict__[key] or {}).items()}
        return {key: value for key, value in found.items() if value is not None and value != {} and (key, value) != ("code", "")}

    def dump(self, dest: str | Path | None = None) -> str:
        """Write the job file to ``dest``, if that is given; returns its text. Raises SpecError."""
        import yaml

        values = {"$schema": _SCHEMA, "type": "command", **self.to_mapping()}
        text: str = yaml.safe_dump(encode(values), sort_keys=False, allow_unicode=True)
        if dest is not None:
            try:
                Path(dest).write_text(text, encoding="utf-8")
            except OSError as error:
                raise SpecError(f"{dest} can't be written: {error.strerror}") from error
        return text

    def compile(self, workspace: Workspace) -> RunSpec:
        """The run spec that the job is now; Azure's keywords without effect are warned of. Raises ConfigError, SpecError."""
        from functools import partial

        from hpcest.sdk import registered
        from hpcest.sdk.jobs.assets import WorkspaceAssets
        from hpcest.sdk.jobs.spec import Compiling, compile_job

        context, before = workspace.context, self.__dict__["_document"]
        values = {"$schema": _SCHEMA, **self.to_mapping()}
        document = replace(before, value=values) if before else _Call(self.__dict__["_base"], values)
        named = partial(registered.named, workspace.folder, context.plugins.names("environment"))
        compiling = Compiling(document, azure.warn_line, named, WorkspaceAssets(context))
        return compile_job(form_of(document), compiling, default_compute=context.config.default_compute, given={})

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec in an experiment: so ``Experiment.submit`` takes it. Raises ConfigError, SpecError."""
        return replace(self.compile(workspace), experiment=experiment)

    def __str__(self) -> str:
        return self.dump()

    def __repr__(self) -> str:
        shown = {key: self.__dict__[key] for key in ("name", "display_name", "command", "script", "compute") if self.__dict__[key]}
        return f"CommandJob({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def _plain(key: str, value: Any) -> Any:
    """A value as a job file has it. Raises SpecError for what none can hold."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(key, item) for item in value]
    return _of_object(key, value)


def _of_object(key: str, value: Any) -> Any:
    if isinstance(value, (Input, Output)):
        return value.to_mapping()
    if isinstance(value, DISTRIBUTIONS):
        return {"type": value.type, **value.to_mapping()}
    if key == "environment" and hasattr(value, "to_spec"):
        spec = value.to_spec()
        return {"kind": spec.kind, **encode(spec)}
    for named, attribute in (("compute", "name"), ("resume_from", "id")):
        if key == named and isinstance(getattr(value, attribute, None), str):
            return getattr(value, attribute)
    if callable(getattr(value, "item", None)):
        return value.item()  # a number of NumPy's
    raise SpecError(f"command(): {key} can't be {value!r}", hint="give a text, a number, a path, an Input or an Output")


def command(
    *misplaced: NoReturn,
    name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    display_name: str | None = None,
    command: str | None = None,
    experiment_name: str | None = None,
    environment: Any = None,
    environment_variables: Mapping[str, Any] | None = None,
    distribution: Any = None,
    compute: Any = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    instance_count: int | None = None,
    instance_type: str | None = None,
    locations: Any = None,
    docker_args: Any = None,
    shm_size: str | None = None,
    timeout: int | str | None = None,
    code: str | Path | None = None,
    identity: Any = None,
    services: Any = None,
    job_tier: str | None = None,
    priority: str | None = None,
    parent_job_name: str | None = None,
    **more: Unpack[MoreKeywords],
) -> CommandJob:
    """A job that runs a shell line, in which ``${{inputs.x}}`` and ``${{outputs.y}}`` stand for its inputs and outputs.

    Everything is by keyword, and everything is an attribute of the job. ``environment`` is a name, an Environment, or a dict as
    a job file has it; ``code`` is the folder that is frozen with the run, without which a command runs in an empty one and a
    script in the current one. Beyond Azure ML's keywords there are those of ``MoreKeywords``. Raises SpecError for a keyword
    that there is not.
    """
    given = {key: value for key, value in locals().items() if key not in ("misplaced", "more")} | dict(more)
    if misplaced:
        raise SpecError(f"command() takes keywords alone, not {misplaced[0]!r}", hint="such as command(command='python train.py')")
    known = {*MoreKeywords.__annotations__, *locals()} - {"misplaced", "more", "given"}
    for key in more:
        if key not in known:
            raise azure.unknown_keyword("command", key, known)
    given.pop("is_deterministic", None)
    values = {key: value for key, value in given.items() if key in _KEYS}
    values["resources"] = {key: given[key] for key in _RESOURCES if key != "properties" and given.get(key) is not None}
    values["limits"] = {key: given[key] for key in _LIMITS if given.get(key) is not None}
    queue = {key: given[key] for key in ("job_tier", "priority") if given[key] is not None}
    return CommandJob({**values, "queue_settings": queue or None})


def load_job(
    source: str | Path,
    *,
    relative_origin: str | Path | None = None,
    params_override: Sequence[Mapping[str, Any]] | None = None,
) -> CommandJob:
    """The job of a job file, whose attributes may be changed; ``params_override`` has changes by dotted key.

    Paths in it stay relative to the file, or to ``relative_origin`` if that is given. Raises ConfigError with the line.
    """
    document = load(Path(source))
    if document.value is None:  # an empty file: compiling says what it lacks
        document = replace(document, value={})
    form_of(document)
    document.value.setdefault("code", ".")
    for one in params_override or ():
        for key, value in one.items():
            _put(document.value, key, value)
    for key, form, made in (("inputs", JobInput, Input), ("outputs", JobOutput, Output)):
        for name, value in (document.value.get(key) or {}).items():
            if isinstance(value, dict):
                decode_document(form, document, where=f"{key}.{name}")
                document.value[key][name] = _made(made, value)
    if relative_origin is not None:
        origin = Path(relative_origin)
        document = replace(document, path=(origin.parent if origin.is_file() else origin) / Path(source).name)
    return CommandJob(document.value, document)


def _made(kind: type[Any], value: dict[str, Any]) -> Any:
    """An Input or an Output, unless it says what they can't: then what was written, of which compiling tells the line."""
    try:
        return kind(**value)
    except (SpecError, TypeError):
        return value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for name in above:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise SpecError(f"params_override: {key!r} leads into {name!r}, which has no keys")
    values[last] = value
