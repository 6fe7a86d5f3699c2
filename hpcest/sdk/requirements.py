"""Requirements files and conda specifications, as the lines that an environment spec holds."""

from __future__ import annotations

import re
from pathlib import Path

from hpcest.errors import SpecError

_INCLUDE = re.compile(r"^(-r|--requirement)[ =]\s*(.+)$")


def read_requirements(path: Path, *, _above: tuple[Path, ...] = ()) -> list[str]:
    """The lines of a requirements file, included files in their place, comments left out.

    Raises SpecError for a file that isn't there, or that includes itself.
    """
    if path.resolve() in _above:
        raise SpecError(f"the requirements file {path} includes itself")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"the requirements file {path} can't be read: {error.strerror}") from error
    lines: list[str] = []
    for raw in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s+)#.*$", "", raw).strip()
        included = _INCLUDE.match(line)
        if included:
            lines += read_requirements(path.parent / included.group(2).strip(), _above=(*_above, path.resolve()))
        elif line:
            lines.append(line)
    return lines


def read_conda_file(path: Path) -> tuple[list[str], list[str]]:
    """The conda and the pip packages of a conda environment YAML. Raises ConfigError, SpecError."""
    from hpcest.kit.yamlfile import load

    document = load(path).value
    listed = document.get("dependencies") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise SpecError(f"{path} is not a conda specification: it needs a list 'dependencies'")
    conda = [str(item) for item in listed if not isinstance(item, dict)]
    pip = [str(line) for item in listed if isinstance(item, dict) for line in item.get("pip") or ()]
    return [item for item in conda if item != "pip"], pip
