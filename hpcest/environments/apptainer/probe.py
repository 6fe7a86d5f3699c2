"""What is in a base image: its C library, its Python. Asked once for each image."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcest.environments.apptainer.commands import to_build
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import read_json, write_json
from hpcest.kit.process import run
from hpcest.kit.userdirs import user_folder

_QUESTION = r"""
echo "libc $(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1)"
echo "machine $(uname -m)"
for name in python3 python python3.8 python3.9 python3.10 python3.11 python3.12 python3.13 python3.14; do
    path=$(command -v $name 2>/dev/null) || continue
    echo "python $path $($path -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
done
for name in cc gcc; do command -v $name >/dev/null 2>&1 && echo "compiler $name" && break; done
exit 0
"""


@dataclass(frozen=True)
class Contents:
    """``glibc`` is such as ``2.36``, empty for another C library; ``pythons`` are (path, version), the default one first."""

    glibc: str = ""
    machine: str = "x86_64"
    pythons: tuple[tuple[str, str], ...] = ()
    compiler: str = ""

    def python(self, wanted: str = "") -> tuple[str, str] | None:
        """The Python whose version begins with ``wanted``, as (path, version); None where there is no such one."""
        fits = [one for one in self.pythons if not wanted or f"{one[1]}.".startswith(f"{wanted}.")]
        return fits[0] if fits else None


@dataclass(frozen=True)
class Home:
    """What pip packages are chosen for: the C library of the image, and the path and the version of the Python in it."""

    glibc: str
    python: str
    version: str


def memory_of(digest: str, variables: Mapping[str, str]) -> Path:
    """The file that remembers what the image with this digest has."""
    return user_folder("XDG_CACHE_HOME", variables) / "bases" / f"{digest[:32]}.json"


def contents(program: str, base: str, memory: Path, shown: str) -> Contents:
    """What the image ``base`` has, which the user calls ``shown``; ``memory`` is the file that remembers it.

    Raises EnvironmentBuildError.
    """
    known = _remembered(memory)
    if known is None:
        known = _ask(program, base, shown)
        with contextlib.suppress(OSError):  # asked again next time
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_json(memory, asdict(known))
    return known


def _remembered(memory: Path) -> Contents | None:
    try:
        data = read_json(memory)
        return Contents(data["glibc"], data["machine"], tuple((str(a), str(b)) for a, b in data["pythons"]), data["compiler"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _ask(program: str, base: str, shown: str) -> Contents:
    done = run([*to_build(program, base, ()), "/bin/sh", "-c", _QUESTION], timeout=120)
    if re.search(r"/bin/sh\b.*(no such file|not found)", done.err):
        return Contents()  # it may hold no more than one program, which can be run
    if not done.ok:
        from hpcest.environments.apptainer.troubles import decisive, remedy

        words = decisive(done.err).replace(base, "it")
        raise EnvironmentBuildError(f"the image {shown} can't be started: {words}", hint=remedy(words))
    rows = [line.split() for line in done.out.splitlines()]
    pythons = {row[1]: row[2] for row in rows if row[:1] == ["python"] and len(row) == 3}
    libc = next((row for row in rows if row[:1] == ["libc"]), [])
    return Contents(
        glibc=libc[-1] if any(word.lower() in ("glibc", "glibc)", "libc)", "(gnu") for word in libc) else "",
        machine=next((row[1] for row in rows if row[:1] == ["machine"] and len(row) > 1), ""),
        pythons=tuple(pythons.items()),
        compiler=next((row[1] for row in rows if row[:1] == ["compiler"]), ""),
    )
