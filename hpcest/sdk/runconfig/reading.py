"""Run configurations in files, in the YAML that Azure ML's SDK writes: read here, and where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from hpcest.errors import ConfigError, HpcestError, SpecError, UnknownNameError
from hpcest.kit.codec import decode
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk import azure
from hpcest.sdk.environment import Environment
from hpcest.sdk.requirements import of_conda_file, of_conda_mapping
from hpcest.sdk.runconfig.compiling import changed
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.data import Data, DataReferenceConfiguration, OutputData, part
from hpcest.sdk.runconfig.keys import EnvironmentKeys, FileKeys, ImageKeys, PythonKeys
from hpcest.sdk.runconfig.sections import CLOUD, CloudSection, EnvironmentReference
from hpcest.sdk.sections import ContainerRegistry, dockerfile_of, is_azures

FOLDERS = (".azureml", "aml_config", "")
EXTENSION = ".runconfig"
#: The limit that Azure ML gives to each run, 30 days: nobody asked for it.
AZURE_LIMIT = 2592000
T = TypeVar("T")


#: Keys whose words are not where their capitals are.
_SPELT = {"dataStoreName": "datastore_name", "pathOnDataStore": "path_on_datastore"}


def snake(key: str) -> str:
    """A key of the file as the attribute that it is: ``nodeCount`` → ``node_count``."""
    return _SPELT.get(key) or re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()


# ---------------------------------------------------------------------- where files lie
def found(path: Path, name: str | None) -> Path:
    """The file of the run configuration ``name`` of the project ``path``, or ``path`` itself. Raises UnknownNameError, SpecError."""
    if name is None:
        if path.is_file():
            return path
        known = _names(path)
        if len(known) != 1:
            raise UnknownNameError("run configuration", str(path), known, hint=_which(known))
        name = known[0]
    checked_name(name)
    for folder in FOLDERS:
        for candidate in (path / folder / name, path / folder / f"{name}{EXTENSION}", path / folder / name.removesuffix(EXTENSION)):
            if candidate.is_file():
                return candidate
    raise UnknownNameError("run configuration", name, _names(path))


def checked_name(name: str) -> str:
    """``name``, if a file can be called so. Raises SpecError."""
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name:
        raise SpecError(f"{name!r} can't be the name of a run configuration", hint="its folder is said by path=")
    return name


def _names(path: Path) -> list[str]:
    folders = [path / folder for folder in FOLDERS]
    return sorted({file.name.removesuffix(EXTENSION) for folder in folders if folder.is_dir() for file in folder.glob(f"*{EXTENSION}")})


def _which(known: list[str]) -> str:
    return "name one of " + ", ".join(known) if known else "RunConfiguration().save(path, name) writes one"


def project_of(file: Path) -> Path:
    """The folder that paths in a run configuration count from."""
    return file.parent.parent if file.parent.name in FOLDERS[:2] else file.parent


# ---------------------------------------------------------------------- reading
def loaded(path: Path, name: str | None) -> RunConfiguration:
    """The run configuration of that name. Raises UnknownNameError, ConfigError with the line."""
    file = found(path, name)
    document = load(file)
    if document.value is None:
        raise ConfigError(f"{file}:1: the file is empty", hint="RunConfiguration().save(path, name) writes one")
    keys = decode_document(FileKeys, document)
    project = project_of(file)
    config = RunConfiguration(_path=project if project != file.parent else file, _name=file.name if project != file.parent else None)
    for key in ("script", "arguments", "command", "target", "framework", "communicator", "nodeCount", "environmentVariables"):
        _set(config, document, key, getattr(keys, key))
    if keys.maxRunDurationSeconds != AZURE_LIMIT:
        config.max_run_duration_seconds = keys.maxRunDurationSeconds
    for section in ("history", "docker", "mpi", "pytorch", "tensorflow", "hpcest"):
        _fill(config if section == "hpcest" else getattr(config, section), getattr(keys, section))
    _nodes_agree(config)
    if keys.environment is not None:
        if keys.environment.docker and keys.environment.docker.arguments and not config.docker.arguments:
            config.docker.arguments = list(keys.environment.docker.arguments)
        config.environment = _environment(document, keys.environment, project, _in_docker(keys))
    config.data = {entry: _data(Data, given, project) for entry, given in (keys.data or {}).items()}
    config.output_data = {entry: _data(OutputData, given, project) for entry, given in (keys.outputData or {}).items()}
    references = (keys.dataReferences or {}).items()
    config.data_references = {entry: _data(DataReferenceConfiguration, given, project) for entry, given in references}
    _cloud(config, keys)
    _tell(config, document, keys)
    return config


def _set(config: RunConfiguration, document: Document, key: str, value: Any) -> None:
    """A value of the file, if there is one; what the attribute refuses has its line."""
    if value is None:
        return
    try:
        setattr(config, snake(key), value)
    except SpecError as error:
        raise ConfigError(f"{document.where(key)}: {error.message}", hint=error.hint) from error


def _fill(section: Any, keys: Any) -> None:
    if keys is not None:
        for one in fields(keys):
            value = getattr(keys, one.name)
            if value is not None:
                setattr(section, snake(one.name), value)


def _nodes_agree(config: RunConfiguration) -> None:
    """The number of nodes may stand in the section of the communicator alone, or beside it."""
    sections = {"OpenMpi": config.mpi, "IntelMpi": config.mpi, "Nccl": config.pytorch, "Gloo": config.pytorch}
    section: Any = sections.get(config.communicator)
    if section is not None and 1 in (config.node_count, section.node_count):
        config.node_count = max(config.node_count, section.node_count)


def _cloud(config: RunConfiguration, keys: FileKeys) -> None:
    """Sections that only a cloud has, as they are."""
    for one in fields(keys):
        name, value = snake(one.name), getattr(keys, one.name)
        if name not in CLOUD or value is None:
            continue
        section = getattr(config, name)
        if isinstance(section, CloudSection) and isinstance(value, Mapping):
            for key, item in value.items():
                section.__dict__[snake(str(key))] = item
        else:
            config.__dict__[name] = value


def _in_docker(keys: FileKeys) -> bool:
    image = keys.environment.docker if keys.environment else None
    return bool((image and image.enabled) or (keys.docker and keys.docker.useDocker))


def _azure_image(keys: FileKeys) -> bool:
    """Whether the image is Azure ML's own, and nothing is to run in it."""
    image = keys.environment.docker.baseImage if keys.environment and keys.environment.docker else None
    return is_azures(image) and not _in_docker(keys)


def _environment(document: Document, keys: EnvironmentKeys, project: Path, in_docker: bool) -> Environment | EnvironmentReference:
    version = int(keys.version) if keys.version and keys.version.isdigit() else keys.version or None
    if keys.name and not any((keys.python, keys.docker, keys.environmentVariables, keys.hpcest)):
        return EnvironmentReference(keys.name, version)
    python, image = keys.python or PythonKeys(), keys.docker or ImageKeys()
    if keys.hpcest:
        made = Environment.from_spec(_located(document, "environment.hpcest", decode, EnvironmentSpec, keys.hpcest))
        made.name = keys.name or made.name
    else:
        made = Environment(keys.name or "", environment_variables=keys.environmentVariables)
        if not python.userManagedDependencies:
            _packages(document, made, python, project)
        made.python.interpreter_path = python.interpreterPath or ""
        made.prefix = python.baseCondaEnvironment or ""
        _image(document, made, image, project, in_docker)
    made.registry = ContainerRegistry(*(part(image.baseImageRegistry, key) for key in ("address", "username", "password")))
    made.user_managed = bool(python.userManagedDependencies)
    made.version = version if isinstance(version, int) else None
    return made


def _packages(document: Document, made: Environment, keys: PythonKeys, project: Path) -> None:
    where = "environment.python.condaDependencies"
    if keys.condaDependencies is not None:
        spec = _located(document, where, of_conda_mapping, keys.condaDependencies, project, document.where(where))
    elif keys.condaDependenciesFile:
        beside = [folder / keys.condaDependenciesFile for folder in (project, document.path.parent)]
        file = next((one for one in beside if one.is_file()), None)
        if file is None:
            raise ConfigError(
                f"{document.where(f'{where}File')}: there is no file {str(beside[0])!r}",
                hint="it counts from the folder above .azureml; the packages may stand in condaDependencies: instead",
            )
        spec = of_conda_file(file)
    else:
        return
    made.pip_packages, made.conda_packages, made.channels = list(spec.pip), list(spec.conda), list(spec.channels)
    made.environment_variables = {**spec.variables, **made.environment_variables}


def _image(document: Document, made: Environment, keys: ImageKeys, project: Path, in_docker: bool) -> None:
    if keys.buildContext is not None:
        where = document.where("environment.docker.buildContext")
        raise ConfigError(f"{where}: a build context is kept on Azure", hint="give a baseDockerfile")
    if keys.baseDockerfile:
        beside = project / keys.baseDockerfile if "\n" not in keys.baseDockerfile else None
        given = str(beside) if beside and beside.is_file() else keys.baseDockerfile
        made.image = _located(document, "environment.docker.baseDockerfile", dockerfile_of, given)
    elif keys.baseImage and (in_docker or not is_azures(keys.baseImage)):
        beside = project / keys.baseImage
        made.image = os.path.abspath(beside) if beside.is_file() else keys.baseImage


def _located(document: Document, key: str, do: Any, *given: Any) -> Any:
    """What ``do`` makes of a part of the file; its errors have the line."""
    try:
        return do(*given)
    except ConfigError:
        raise
    except HpcestError as error:
        raise ConfigError(f"{document.where(key)}: {error.message}", hint=error.hint) from error


def _data(kind: type[T], keys: Any, project: Path) -> T:
    """An entry of ``data``, ``outputData`` or ``dataReferences``; the path of a file is an absolute one from now on."""
    made = kind()
    _fill(made, keys)
    uri = part(getattr(made, "data_location", None) or getattr(made, "output_location", None), "uri")
    for key in uri if isinstance(uri, dict) else ():
        if str(key).lower() == "path" and uri[key] and "://" not in str(uri[key]):
            uri[key] = os.path.abspath(project / str(uri[key]))
    return made


def _tell(config: RunConfiguration, document: Document, keys: FileKeys) -> None:
    """Say once, with their lines, which parts of the file have no effect here."""
    spelt = {snake(one.name): one.name for one in fields(keys)}
    found_here = {spelt[name]: CLOUD[name] for name in changed(config)}
    config.__dict__["_told"].update(map(snake, found_here))
    if _azure_image(keys):
        found_here["environment.docker.baseImage"] = "Azure ML's own image is used where docker says enabled: true"
    for name in ("r", "assetId"):
        if keys.environment and getattr(keys.environment, name):
            found_here[f"environment.{name}"] = "list the packages as conda packages"
    if found_here:
        azure.warn(str(document.path), {f"{key} in line {document.line(key)}": reason for key, reason in found_here.items()})
