"""Requirements files and conda specifications, as the lines that an environment spec holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError

_INCLUDE = re.compile(r"^(?:-r|--requirement)(?:[ =]\s*|(?<=-r))(.+)$")


def read_requirements(path: Path, *, _above: tuple[Path, ...] = ()) -> list[str]:
    """The lines of a requirements file, included files in their place, comments left out.

    Raises SpecError for a file that can't be read, or that includes itself.
    """
    if path.resolve() in _above:
        raise SpecError(f"the requirements file {path} includes itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"the requirements file {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"the requirements file {path} is not UTF-8 text", hint="save it as UTF-8") from error
    lines: list[str] = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s+)#.*$", "", raw).strip()
        included = _INCLUDE.match(line)
        if included:
            lines += read_requirements(path.parent / included.group(1).strip(), _above=(*_above, path.resolve()))
        elif line:
            lines.append(line)
    return lines


def read_conda_file(path: Path) -> tuple[list[str], list[str]]:
    """The conda and the pip packages of a conda environment YAML. Raises ConfigError, SpecError."""
    from hpcest.kit.yamlfile import load

    return conda_packages(load(path).value, path)


def conda_packages(value: Any, path: Path) -> tuple[list[str], list[str]]:
    """The conda and the pip packages of a conda specification that stands in ``path``. Raises SpecError."""
    listed = value.get("dependencies") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise SpecError(f"{path} is not a conda specification: it needs a list 'dependencies'")
    conda = [str(item) for item in listed if not isinstance(item, dict)]
    pip: list[str] = []
    for item in listed:
        if not isinstance(item, dict):
            continue
        if set(item) != {"pip"} or not isinstance(item["pip"] or [], list):
            raise SpecError(f"{path}: the dependency {item!r} can't be read", hint="a mapping there has one key, 'pip', with a list")
        for line in map(str, item["pip"] or ()):
            included = _INCLUDE.match(line)
            pip += read_requirements(path.parent / included.group(1).strip()) if included else [line]
    return [item for item in conda if not re.fullmatch(r"pip([ =<>!~].*)?", item)], pip
