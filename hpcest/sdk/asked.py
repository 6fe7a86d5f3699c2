"""What a person names as an environment: a file, a folder, a kind, or a registered environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hpcest.errors import UsageError
from hpcest.kit.yamlfile import decode_document, load
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.jobs.file import FILE_NAME, JobEnvironment, Named, environment_of, environment_of_job, of_kind
from hpcest.sdk.requirements import of_conda_file, of_requirements

YAML = (".yaml", ".yml")
#: What a folder is looked through for, in this order.
USUAL = (FILE_NAME, "environment.yml", "environment.yaml", "conda.yml", "conda_dependencies.yml", "requirements.txt")


def environment_named(what: str, named: Named = of_kind, warn: Callable[[str], None] = lambda _: None) -> EnvironmentSpec:
    """The environment that ``what`` is.

    A conda YAML, a job file, a YAML of what stands below ``environment:`` in one, a requirements file, an image or a
    recipe of one, a folder with one of these; else a single word that ``named`` knows. Raises UsageError, ConfigError.
    """
    path = Path(what)
    if path.is_dir() and ("/" in what or what in (".", "..") or not _is_word(named, what)):
        path = _usual_file(path)
    elif not path.is_file():
        if "/" in what or what.endswith((".txt", *YAML)):
            raise missing("environment file", path)
        return named(what)
    if path.suffix.lower() in YAML:
        return _of_yaml(path, named, warn)
    if path.suffix.lower() in (".sif", ".simg", ".def", ".dockerfile") or path.name.lower().startswith("dockerfile"):
        return EnvironmentSpec(image=os.path.abspath(path))
    return of_requirements(path)


def _is_word(named: Named, what: str) -> bool:
    try:
        named(what)
    except UsageError:
        return False
    return True


def _usual_file(folder: Path) -> Path:
    for name in USUAL:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"the folder {str(folder)!r} describes no environment", hint=f"it would be in one of {', '.join(USUAL)}")


def _of_yaml(path: Path, named: Named, warn: Callable[[str], None]) -> EnvironmentSpec:
    document = load(path)
    keys = set(document.value) if isinstance(document.value, dict) else set()
    if keys & {"command", "script", "environment"}:
        return environment_of_job(path, warn=warn, named=named)
    if "dependencies" in keys or not keys & (set(JobEnvironment.__dataclass_fields__) - {"name", "channels", "variables", "prefix"}):
        return of_conda_file(path)
    return environment_of(document, decode_document(JobEnvironment, document))


def missing(kind: str, what: Path) -> UsageError:
    """The error for a path that is not there, with the nearest one that is."""
    from difflib import get_close_matches

    try:
        there = [str(what.parent / entry.name) for entry in os.scandir(what.parent)][:1000]
    except OSError:
        there = []
    near = get_close_matches(str(what), there, n=1)
    return UsageError(
        f"there is no {kind} {str(what)!r}", hint=f"did you mean {near[0]!r}?" if near else "a path is relative to the current directory"
    )


def with_packages(
    asked: EnvironmentSpec, pip: tuple[str, ...], conda: tuple[str, ...], channels: tuple[str, ...], image: str
) -> EnvironmentSpec:
    """``asked`` with single packages added; ``channels`` go before its own, and ``image`` instead of its own."""
    from dataclasses import replace

    return replace(
        asked,
        pip=(*asked.pip, *pip),
        conda=(*asked.conda, *conda),
        channels=(*channels, *(one for one in asked.channels if one not in channels)),
        image=image or asked.image,
    )
