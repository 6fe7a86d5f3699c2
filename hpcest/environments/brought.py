"""The Python packages that conda brings, as pip knows them: nothing that pip installs may replace one of them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Brought:
    """One Python package of conda's. ``name`` is normalised; ``extras`` are the lines of its metadata about extras."""

    name: str
    version: str
    extras: tuple[str, ...] = ()

    @property
    def pin(self) -> str:
        """The constraint that keeps it as it is."""
        return f"{self.name}=={self.version}"


def brought_by(prefix: Path) -> tuple[Brought, ...]:
    """What is installed in ``prefix``. Names of conda packages don't tell: its ``tzdata`` is none of Python's, its ``pytorch`` is torch."""
    found = {}
    for place in sorted(prefix.glob("lib/python3*/site-packages")):
        for path in (*place.glob("*.dist-info/METADATA"), *place.glob("*.egg-info/PKG-INFO"), *place.glob("*.egg-info")):
            one = _read(path) if path.is_file() else None
            if one:
                found[one.name] = one
    return tuple(found[name] for name in sorted(found))


def _read(path: Path) -> Brought | None:
    """None for what has no version that pip can compare."""
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    head = path.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    facts = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in reversed(head)}
    extras = [line for line in head if line.startswith("Provides-Extra:") or re.match(r"Requires-Dist:.*;.*\bextra\s*==", line)]
    try:
        return Brought(canonicalize_name(facts["name"]), str(Version(facts["version"])), tuple(extras))
    except (KeyError, InvalidVersion):
        return None


def write_stubs(folder: Path, packages: Iterable[Brought]) -> None:
    """Write a wheel for each that holds its metadata alone: indexes don't have every version that conda has.

    They say nothing of what the packages need, conda has seen to that already.
    """
    folder.mkdir(exist_ok=True)
    for one in packages:
        stem = f"{one.name.replace('-', '_')}-{one.version}"
        files = {
            "METADATA": "\n".join(["Metadata-Version: 2.1", f"Name: {one.name}", f"Version: {one.version}", *one.extras, ""]),
            "WHEEL": "Wheel-Version: 1.0\nGenerator: hpcest\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for name, text in files.items():
                wheel.writestr(f"{stem}.dist-info/{name}", text)


def named_in(words: str, packages: Sequence[Brought]) -> str:
    """Which of them a tool's complaint is about, as ``numpy 1.26.4, pandas 2.2.0``; empty for none."""
    spelt = words.lower()
    return ", ".join(f"{one.name} {one.version}" for one in packages if re.search(rf"(?<![\w.-]){re.escape(one.name)}(?![\w-])", spelt))
