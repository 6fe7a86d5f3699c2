"""The files in which people list packages, as environment specs: requirements files and conda environment files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import SpecError
from hpcest.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from hpcest.environments.conda.specfile import CondaFile

_LINKS = re.compile(r"(-f\s*|--find-links[ =]\s*)(/.*)")


def read_requirements(path: Path) -> list[str]:
    """The lines of a requirements file, included files in their place, comments left out, paths made absolute.

    Raises SpecError for a file that can't be read, or that includes itself.
    """
    from hpcest.environments.conda.piplines import gathered

    if not path.is_file():
        problem = "it is a directory" if path.is_dir() else "there is no such file"
        raise SpecError(f"the requirements file {str(path)!r} can't be read: {problem}", hint="a path counts from the current directory")
    return list(map(_quoted, gathered(f"-r {path.name}", path.parent)))


def _quoted(line: str) -> str:
    """An option with a path whose marks a reader of the line would take for quotes; such a path comes from here, made absolute."""
    found = _LINKS.fullmatch(line)
    return f"{found[1]}{shlex.quote(found[2])}" if found and set(found[2]) & set("'\"\\") else line


def of_requirements(path: Path) -> EnvironmentSpec:
    """The packages of a requirements file. Raises SpecError."""
    return EnvironmentSpec(pip=tuple(read_requirements(path)))


def of_conda_file(path: Path) -> EnvironmentSpec:
    """What a conda environment file asks for: channels, packages, its pip section, variables, its name as a label.

    Lines whose selectors are not for this machine are left out. Raises ConfigError, SpecError, with the line.
    """
    from hpcest.environments.conda.specfile import read_file

    return _of_conda(read_file(path))


def of_conda_mapping(value: Any, folder: Path, label: str) -> EnvironmentSpec:
    """The same for what a conda file would hold; ``label`` is what messages call it. Raises SpecError."""
    from hpcest.environments.conda.specfile import read_mapping

    if not isinstance(value, Mapping):
        raise SpecError(f"{label} is not a conda specification", hint="it needs a list 'dependencies'")
    return _of_conda(read_mapping(value, folder, label))


def _of_conda(file: CondaFile) -> EnvironmentSpec:
    pip = tuple(map(_quoted, file.pip))
    return EnvironmentSpec(name=file.name, conda=file.dependencies, pip=pip, channels=file.channels, variables={**file.variables})
