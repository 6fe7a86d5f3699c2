"""Run configurations written to files, in the YAML that Azure ML's SDK reads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError
from hpcest.kit.codec import encode
from hpcest.kit.files import write_text
from hpcest.kit.yamlfile import plain
from hpcest.model.spec import DataInput, DataOutput
from hpcest.sdk.environment import Environment
from hpcest.sdk.runconfig.compiling import Words
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.reading import EXTENSION, FOLDERS, checked_name
from hpcest.sdk.runconfig.sections import CLOUD, CloudSection, Section
from hpcest.sdk.sections import ContainerRegistry

_HEADER = "# A run configuration in Azure ML's format; RunConfiguration.load reads it.\n"
_BOUND = re.compile(r"\$AZURE_ML_(INPUT|OUTPUT)_(\w+)")
_SEPARATE = "environment.yml"


def saved(config: RunConfiguration, path: str | Path | None, name: str | None, *, separate: bool) -> str:
    """Write ``config``, as ``RunConfiguration.save`` says; returns the file's path. Raises SpecError."""
    project = Path(path or ".")
    if name is None and project.suffix and not project.is_dir():
        file, above = project, ""
    else:
        file, above = project / FOLDERS[0] / checked_name(name or f"{config.target or 'local'}{EXTENSION}"), f"{FOLDERS[0]}/"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if separate:
            _packages(config).save(file.parent / _SEPARATE)
        write_text(file, _HEADER + _yaml(contents(config, f"{above}{_SEPARATE}" if separate else "")))
    except OSError as error:
        raise SpecError(f"the run configuration can't be saved in {file}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise SpecError(f"the run configuration can't be saved in {file}: {error}", hint="a file holds UTF-8 text") from error
    return str(file)


def _yaml(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Puts texts in quotes that our own reader would take for something else, such as 1e5, and those with odd letters."""

    def text(dumper: Any, value: str) -> Any:
        quoted = '"' if not value.isprintable() else None if isinstance(plain(value), str) else "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=quoted)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(_plain(value), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return written


def _plain(value: Any) -> Any:
    """Values that YAML has; all else, such as numpy's numbers and paths, as its text. Raises UnicodeError for half a character."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or type(value) in (int, bool) or (type(value) is float and set(repr(value)) <= set("-.0123456789")):
        return value
    return str(value).encode().decode()


def _packages(config: RunConfiguration) -> Any:
    if not isinstance(config.environment, Environment):
        raise SpecError("the environment is registered, so there are no packages to save", hint="leave separate_environment_yaml out")
    return config.environment.python.conda_dependencies


def contents(config: RunConfiguration, conda_file: str = "") -> dict[str, Any]:
    """What the file holds. With ``conda_file`` the packages are in that file. Raises SpecError for what a file can't hold."""
    asked = config.distributed
    if asked is not None and config.communicator == "None":
        raise SpecError(
            f"a run configuration's file has no communicator for {type(asked).__name__}", hint="give it to the ScriptRunConfig instead"
        )
    data = Words()
    words = config.arguments
    if isinstance(words, Mapping):
        words = [word for pair in words.items() for word in pair if word not in (None, "")]
    arguments = [_word(data, word) for word in words]
    command = config.command if isinstance(config.command, str) else [_word(data, word) for word in config.command or ()]
    kept: dict[str, dict[str, Any]] = {}
    for section in ("data_references", "data", "output_data"):
        entries = getattr(config, section).items()
        kept[section] = {str(name): _keys(value) for name, value in entries if isinstance(value, Section)}
        for name, value in entries:
            if not isinstance(value, Section):
                data.add(section, str(name), value)
    own = {name: getattr(config, name) for name in ("cpus", "gpus", "memory", "backend_options")}
    own = {name: value for name, value in own.items() if value not in (None, {})}
    return {
        "script": config.script,
        "arguments": arguments,
        "command": command or "",
        "target": config.target,
        "framework": config.framework,
        "communicator": config.communicator,
        "maxRunDurationSeconds": config.max_run_duration_seconds,
        "nodeCount": config.node_count,
        "environment": _environment(config.environment, conda_file),
        "environmentVariables": {str(name): str(value) for name, value in config.environment_variables.items()},
        "history": _camel(vars(config.history)),
        "docker": _camel(vars(config.docker)),
        "tensorflow": _camel(asdict(config.tensorflow)),
        "mpi": _camel(asdict(config.mpi)),
        "pytorch": _camel(asdict(config.pytorch)),
        "dataReferences": kept["data_references"],
        "data": {**kept["data"], **{name: _input(name, one) for name, one in data.data.items()}, **_texts(data)},
        "outputData": {**kept["output_data"], **{name: _output(one) for name, one in data.outputs.items()}},
        **{camel(name): told for name in CLOUD if (told := _cloud(getattr(config, name))) != {} or name == "application_endpoints"},
        **({"hpcest": own} if own else {}),
    }


#: Attributes whose keys are not spelt by the rule.
_SPELT = {
    "datastore_name": "dataStoreName", "path_on_datastore": "pathOnDataStore", "data_path": "datapath",
    "dataset_id": "id", "dataset_name": "name", "dataset_version": "version",
}  # fmt: skip


def camel(name: str) -> str:
    """An attribute as the file spells it: ``node_count`` → ``nodeCount``."""
    first, *others = name.split("_")
    return _SPELT.get(name) or first + "".join(word.capitalize() for word in others)


def _camel(values: Mapping[str, Any]) -> dict[str, Any]:
    return {camel(name): value for name, value in values.items()}


def _keys(value: Any) -> Any:
    """A section as the file has it, with those in it."""
    return {camel(name): _keys(item) for name, item in vars(value).items()} if isinstance(value, Section) else value


def _cloud(value: Any) -> Any:
    return _camel(vars(value)) if isinstance(value, CloudSection) else value


def _word(data: Words, value: Any) -> Any:
    """An argument as the file has it; data by its name."""
    if not hasattr(value, "to_argument"):
        return value if value is not None else str(value)
    bound = _BOUND.fullmatch(data.word(value))
    if not bound:
        return data.word(value)
    return f"{'DatasetConsumptionConfig' if bound[1] == 'INPUT' else 'DatasetOutputConfig'}:{bound[2]}"


def _texts(data: Words) -> dict[str, Any]:
    return {name: {"dataLocation": {"uri": {"path": path}}, "mechanism": "direct"} for name, path in data.texts.items()}


def _input(name: str, one: DataInput) -> dict[str, Any]:
    if one.dataset:
        location: dict[str, Any] = {"dataset": {"name": one.dataset, "version": str(one.version or "latest")}}
    elif len(one.paths) == 1:
        location = {"uri": {"path": one.paths[0], "isFile": one.type == "uri_file"}}
    else:
        raise SpecError(f"the input {name!r} has several paths, which a run configuration can't hold", hint="register the dataset first")
    return {"dataLocation": location, "mechanism": one.mode, "environmentVariableName": name, "pathOnCompute": one.target or None}


def _output(one: DataOutput) -> dict[str, Any]:
    options: dict[str, Any] = {"pathOnCompute": one.target or None}
    if one.dataset:
        options["registrationOptions"] = {"name": one.dataset, "description": one.description, "tags": dict(one.tags)}
    if one.mode == "upload":
        options["uploadOptions"] = {"overwrite": one.overwrite, "sourceGlobs": {"globPatterns": list(one.globs)}}
    location = {"uri": {"path": one.path}} if one.path else None
    return {"outputLocation": location, "mechanism": one.mode, "additionalOptions": options}


def _environment(asked: Any, conda_file: str) -> dict[str, Any]:
    """An environment in Azure ML's keys, and whole below ``hpcest`` where those can't say all of it."""
    if not isinstance(asked, Environment):
        return {"name": asked.name, "version": None if asked.version is None else str(asked.version)}
    image = asked.image
    beside = os.path.abspath(image) if image and "://" not in image and os.path.exists(image) else image
    packages = {"condaDependenciesFile": conda_file} if conda_file else {"condaDependencies": asked.python.conda_dependencies.as_dict()}
    told = {
        "name": asked.name or None,
        "version": None if asked.version is None else str(asked.version),
        "environmentVariables": {str(name): str(value) for name, value in asked.environment_variables.items()},
        "python": {
            "userManagedDependencies": asked.user_managed,
            "interpreterPath": asked.python.interpreter_path,
            **packages,
            "baseCondaEnvironment": asked.prefix or None,
        },
        "docker": {
            "enabled": bool(image),
            "baseImage": beside if asked.docker.base_image else None,
            "baseDockerfile": beside if asked.docker.base_dockerfile else None,
            "baseImageRegistry": {"address": asked.registry.address, "username": asked.registry.username, "password": None},
        },
    }
    plain = asked.clone(asked.name)
    plain.registry = ContainerRegistry()
    for name, default in (("kind", "auto"), ("system", []), ("steps", []), ("modules", []), ("layout", "")):
        setattr(plain, name, default)
    whole = asked.clone(asked.name)
    whole.registry = ContainerRegistry()
    plain.image = whole.image = beside
    return told if plain.to_spec() == whole.to_spec() else {**told, "hpcest": encode(whole.to_spec())}
