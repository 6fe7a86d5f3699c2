"""From what is named on a command line to a run spec: a script, a job file or a folder, and options on top."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError, UsageError
from hpcest.kit.codec import decode, encode
from hpcest.kit.units import parse_memory, parse_signal, parse_time
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Requeue, Resources, RunSpec
from hpcest.sdk.asked import environment_named, missing, with_packages
from hpcest.sdk.data.binding import data_named
from hpcest.sdk.inputs import input_text
from hpcest.sdk.jobs.assets import Assets
from hpcest.sdk.jobs.file import FILE_NAME, Named, load_job, of_kind

_HOST = EnvironmentSpec(kind="host")


def spec_of(
    what: Path,
    default_compute: str,
    source: Path | None = None,
    *,
    inputs: Mapping[str, str] | None = None,
    warn: Callable[[str], None] = lambda _: None,
    named: Named = of_kind,
    assets: Assets | None = None,
    other_environment: bool = False,
) -> RunSpec:
    """The run spec of a script, a job file, or a folder with ``hpcest.yaml``. Raises UsageError, ConfigError.

    ``warn`` is told of keys of a job file that have no effect; ``named`` knows what environment a single word is.
    """
    if what.is_dir():
        if not (what / FILE_NAME).exists():
            raise UsageError(f"the folder {str(what)!r} has no {FILE_NAME}", hint=f"name a script: hpcest submit {what / 'train.py'}")
        what = what / FILE_NAME
    if not what.is_file():
        raise missing("file or folder", what)
    if what.suffix in (".yaml", ".yml"):
        given = {name: input_text(value, Path.cwd()) for name, value in (inputs or {}).items()}
        spec = load_job(
            what, default_compute=default_compute, given=given, warn=warn, named=named, assets=assets, other_environment=other_environment
        )
        return replace(spec, source=os.path.abspath(source)) if source else spec
    script = Path(os.path.abspath(what))
    folder = source_of_script(script, source)
    return RunSpec(folder.name or "root", Command(script=str(script.relative_to(folder))), default_compute, source=str(folder))


def source_of_script(script: Path, source: Path | None) -> Path:
    """What is frozen with a script: ``source``, else the current directory if the script is below it, else its own folder.

    ``script`` is an absolute path without ``..``. Raises UsageError for one that is not in ``source``.
    """
    if source is not None:
        folder = Path(os.path.abspath(source))
        if not script.is_relative_to(folder):
            raise UsageError(f"the script {str(script)!r} is not in the source directory {str(source)!r}")
        return folder
    here = Path.cwd()
    below = script.is_relative_to(here) and here not in (Path(os.path.expanduser("~")), Path("/"))
    return here if below else script.parent


def with_choices(spec: RunSpec, arguments: tuple[str, ...], options: Mapping[str, Any], named: Named = of_kind) -> RunSpec:
    """``spec`` with the command line's arguments and options on top of it. Raises SpecError.

    ``named`` knows what environment a single word is.
    """
    if arguments:
        if spec.command.line:
            raise SpecError("arguments after -- go with a script; this job has a command line", hint="use inputs: and --input NAME=VALUE")
        spec = replace(spec, command=replace(spec.command, arguments=(*spec.command.arguments, *arguments)))
    plain = {"compute": "compute", "experiment": "experiment", "name": "display_name", "launcher": "launcher"}
    plain.update((name, name) for name in ("framework", "framework_version", "resume_from"))
    changes: dict[str, Any] = {field: options[name] for name, field in plain.items() if options.get(name)}
    for name, field in {"variables": "environment_variables", "tags": "tags", "sbatch": "options"}.items():
        if options.get(name):
            changes[field] = {**getattr(spec, field), **options[name]}
    if options.get("inputs"):
        changes.update(_inputs(spec, options["inputs"]))
    if options.get("distribution"):
        kind = options["distribution"]
        changes["distribution"] = None if kind == "none" else Distribution(kind)
    if options.get("framework_options"):
        changes["framework_options"] = {**spec.framework_options, **read(options["framework_options"], "-O")}
    if options.get("after"):
        changes["after"] = (*spec.after, *options["after"])
    changes["requeue"] = _requeue(spec.requeue, options)
    spec = replace(spec, **changes, resources=_resources(spec, options), environment=_environment(spec.environment, options, named))
    return with_settings(spec, options.get("settings") or {})


def _inputs(spec: RunSpec, given: Mapping[str, str]) -> dict[str, Any]:
    """Registered data by its name, anything else as a text. What a job file declares as data it has taken from here already."""
    data, inputs = dict(spec.data), dict(spec.inputs)
    for name, value in given.items():
        named = data_named(value)
        if named is not None:
            data[name] = named
            inputs.pop(name, None)
        elif name not in data:
            inputs[name] = input_text(value, Path.cwd())
    return {"data": data, "inputs": inputs}


def _resources(spec: RunSpec, options: Mapping[str, Any]) -> Resources:
    names = {"nodes": "nodes", "procs_per_node": "procs_per_node", "cpus": "cpus", "gpus": "gpus"}
    changes = {field: options[name] for name, field in names.items() if options.get(name) is not None}
    if options.get("mem"):
        changes["memory"] = parse_memory(options["mem"])
    if options.get("time"):
        changes["time"] = parse_time(options["time"], bare="min")
    return replace(spec.resources, **changes)


def _requeue(asked: Requeue, options: Mapping[str, Any]) -> Requeue:
    if options.get("max_requeues") is not None:
        asked = replace(asked, max_requeues=options["max_requeues"])
    if options.get("signal"):
        name, seconds = parse_signal(options["signal"])
        asked = replace(asked, signal=name, warn=asked.warn if seconds is None else seconds)
    return asked


def _environment(asked: EnvironmentSpec, options: Mapping[str, Any], named: Named) -> EnvironmentSpec:
    """A file's packages and single ones are added to what a job file asks for; a registered environment takes its place.

    So does ``host``, which gives no packages and no image: of a job file's environment its Python and its variables stay.
    """
    if options.get("env"):
        found = environment_named(options["env"], named)
        if found == _HOST:
            asked = replace(_HOST, interpreter=asked.interpreter, variables=asked.variables)
        elif found.name and not os.path.exists(options["env"]):
            asked = found
        else:
            asked = asked.merged(found)
    pip, conda, channels = (tuple(options.get(name) or ()) for name in ("pip", "conda", "channel"))
    return with_packages(asked, pip, conda, channels, options.get("image") or "")


def with_settings(spec: RunSpec, settings: Mapping[str, str]) -> RunSpec:
    """``spec`` with single fields replaced: dotted path → value, read as in a job file. Raises UsageError."""
    if not settings:
        return spec
    data = encode(spec)
    for key, value in read(settings, "--set").items():
        *above, last = key.split(".")
        place = data
        for name in above:
            if place.get(name) is None:
                place[name] = {}
            place = place[name]
            if not isinstance(place, dict):
                raise SpecError(f"--set {key}: {name!r} has no fields")
        place[last] = value
    return decode(RunSpec, data)


def read(texts: Mapping[str, str], option: str) -> dict[str, Any]:
    """Values as a job file has them: ``2`` is a number, ``true`` a truth value. Raises UsageError that names the option."""
    from hpcest.kit.yamlfile import parse

    return {name: parse(text, Path(f"{option} {name}")).value for name, text in texts.items()}
