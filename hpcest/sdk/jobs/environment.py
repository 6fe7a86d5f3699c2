"""``environment:`` of a job file: a name, a mapping, or a file that holds one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hpcest.errors import ConfigError, UnknownNameError
from hpcest.kit.yamlfile import Document, decode_document, load
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.requirements import of_conda_file, of_conda_mapping

#: What environment a word names: a kind, or one that is registered.
Named = Callable[[str], EnvironmentSpec]

_REGISTRY = re.compile(r"azureml://registries/[^/]+/environments/(?P<name>[^/]+)(/(versions|labels)/(?P<version>[^/]+))?")
_COPIES = re.compile(r"(?im)^\s*(COPY|ADD)\s")


def of_kind(name: str) -> EnvironmentSpec:
    """The environment that a word names where none can be registered: a kind. Raises UnknownNameError."""
    if ":" in name or "@" in name:
        raise UnknownNameError("registered environment", name, ())
    return EnvironmentSpec(kind=name)


@dataclass(frozen=True)
class JobBuild:
    """``build:`` of an environment: the folder ``path`` with its Dockerfile."""

    path: str = "."
    dockerfile_path: str = "Dockerfile"


@dataclass(frozen=True)
class JobEnvironment(EnvironmentSpec):
    """``environment:`` as a mapping: a spec, and more ways to say it.

    ``conda_file`` (or what it would hold), ``pip_file`` and ``build`` are relative to the job file.

    ``name``, with a ``version`` or not, and nothing else is a registered environment. ``python`` and ``interpreter`` are the same.
    """

    version: str = ""
    python: str = ""
    pip_file: str = ""
    conda_file: Any = None
    build: JobBuild | None = None
    # Azure's own, without effect here:
    description: str = ""
    os_type: str = ""
    tags: dict[str, str] = field(default_factory=dict)


def environment_in(document: Document, given: Any, named: Named) -> EnvironmentSpec:
    """What ``environment:`` of a document asks for; ``named`` knows what a single word is. Raises ConfigError."""
    if given is None:
        return EnvironmentSpec()
    if isinstance(given, str):
        text = given.removeprefix("file:")
        if text != given or text.startswith(("./", "../", "/")) or text.endswith((".yml", ".yaml")):
            return _of_file(document, text)
        return _by_name(document, given, named)
    asked = decode_document(JobEnvironment, document, where="environment")
    if asked.name and set(given) <= {"name", "version"}:
        return _by_name(document, f"{asked.name}:{asked.version}" if asked.version else asked.name, named)
    return environment_of(document, asked, "environment.")


def _of_file(document: Document, text: str) -> EnvironmentSpec:
    """An environment that a file of its own describes, as Azure ML's are, or a conda YAML."""
    path = document.path.parent / text
    if not path.is_file():
        raise ConfigError(f"{document.where('environment')}: there is no file {str(path)!r}", hint="a path is relative to the job file")
    inner = load(path)
    if isinstance(inner.value, dict) and "dependencies" in inner.value:
        return of_conda_file(path)
    if isinstance(inner.value, dict):
        inner.value.pop("$schema", None)
    return environment_of(inner, decode_document(JobEnvironment, inner))


def _by_name(document: Document, text: str, named: Named) -> EnvironmentSpec:
    """The kind or the registered environment that is named; Azure's names too, where one is registered so."""
    kept, where = _REGISTRY.fullmatch(text), document.where("environment")
    if kept:
        name = f"{kept['name']}:{kept['version']}" if kept["version"] else kept["name"]
    else:
        name = text.removeprefix("azureml:")
    name = name.removesuffix("@latest").removesuffix(":latest")
    azures = text.startswith(("azureml:", "AzureML-"))
    try:
        spec = named(name)
        if azures and spec == EnvironmentSpec(kind=name):
            raise UnknownNameError("registered environment", name, ())
        return spec
    except UnknownNameError as error:
        if text.startswith("azureml:") and error.kind.startswith("version of"):
            hint = f"known here: {', '.join(error.known)}; versions are counted here: azureml:{name.partition(':')[0]}@latest is the newest"
            raise ConfigError(f"{where}: {error.message}", hint=hint) from None
        if azures:
            hint = "describe it: environment: {pip_file: requirements.txt}, or {image: …}; or give another: --env; or register it here"
            raise ConfigError(f"{where}: {text!r} is kept on Azure", hint=hint) from None
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def environment_of(document: Document, asked: JobEnvironment, within: str = "") -> EnvironmentSpec:
    """What an ``environment:`` mapping asks for, its files read; ``within`` is where in the document it stands. Raises ConfigError."""
    from hpcest.sdk.requirements import of_requirements

    folder = document.path.parent
    if asked.python and asked.interpreter and asked.python != asked.interpreter:
        raise ConfigError(f"{document.where(within + 'interpreter')}: python and interpreter mean the same", hint="keep one of them")
    spec = EnvironmentSpec(**{one.name: getattr(asked, one.name) for one in fields(EnvironmentSpec)})
    spec = replace(spec, interpreter=spec.interpreter or asked.python, image=_image(spec.image, folder))
    if asked.build:
        if asked.image:
            raise ConfigError(f"{document.where(within + 'build')}: build and image exclude each other", hint="keep one of them")
        spec = replace(spec, image=_built(document, asked.build, within))
    if asked.pip_file:
        spec = spec.merged(of_requirements(folder / asked.pip_file))
    if isinstance(asked.conda_file, str):
        found = of_conda_file(folder / asked.conda_file.removeprefix("file:"))
    elif asked.conda_file is not None:
        found = of_conda_mapping(asked.conda_file, folder, document.where(within + "conda_file"))
    else:
        return spec
    return replace(spec.merged(found), name=spec.name or found.name, variables={**found.variables, **spec.variables})


def _image(text: str, folder: Path) -> str:
    """An image; one that is a file beside the job file by its absolute path."""
    beside = folder / text
    return os.path.abspath(beside) if text and "://" not in text and beside.exists() else text


def _built(document: Document, build: JobBuild, within: str) -> str:
    """The Dockerfile of a build, which copies from its own folder here."""
    if "://" in build.path or build.path.startswith("git@"):
        where = document.where(within + "build.path")
        raise ConfigError(f"{where}: a build can't fetch {build.path!r}", hint="clone it, and give the folder's path")
    folder = document.path.parent / build.path
    path = Path(os.path.abspath(folder / build.dockerfile_path))
    if not path.is_file():
        where = document.where(within + "build.dockerfile_path")
        raise ConfigError(f"{where}: there is no Dockerfile {str(path)!r}", hint="its path is relative to the build's path")
    known = path.name.lower().startswith("dockerfile") or path.name.lower().endswith(".dockerfile")
    if known and path.parent == Path(os.path.abspath(folder)):
        return str(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    if _COPIES.search(text):
        where = document.where(within + "build.dockerfile_path")
        raise ConfigError(f"{where}: {path} copies files, from its own folder here", hint=f"put it into {folder} as Dockerfile")
    if known:
        return str(path)
    from hpcest.sdk.sections import dockerfile_of

    return dockerfile_of(text)
