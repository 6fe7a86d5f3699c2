"""The pip section of a conda file: requirement lines, with the files that they include in their place."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hpcest.errors import SpecError

_INCLUDE = re.compile(r"(?:-r\s*|--requirement[ =]\s*)(.+)")
_LINKS = re.compile(r"((?:-f\s*|--find-links[ =]\s*))(?!/|~|\$\{|\w+://)(.+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")


def gathered(line: str, folder: Path, above: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """The requirement lines that one line stands for; paths in it count from ``folder`` and become absolute.

    Raises SpecError for an included file that can't be read, or that includes itself.
    """
    line = line.strip()
    included = _INCLUDE.fullmatch(line)
    if included:
        return _included(folder / os.path.expanduser(included[1].strip().strip("'\"")), above)
    if line.startswith(("./", "../")):
        return (os.path.abspath(folder / line),)
    links = _LINKS.fullmatch(line)
    return (f"{links[1]}{os.path.abspath(folder / links[2].strip())}",) if links else (line,)


def _included(path: Path, above: tuple[Path, ...]) -> tuple[str, ...]:
    real = path.resolve()
    if real in above:
        raise SpecError(f"the requirements file {str(path)!r} includes itself", hint="remove one of the -r lines")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise SpecError(
            f"the requirements file {str(path)!r} can't be read: {problem}", hint="a path after -r counts from the file that it stands in"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError(f"the requirements file {str(path)!r} is not UTF-8 text", hint="save it as UTF-8") from error
    bare = (_COMMENT.sub("", line).strip() for line in re.sub(r"\\[ \t]*\n", " ", text).splitlines())
    return tuple(one for line in bare if line for one in gathered(line, real.parent, (*above, real)))
