"""Entry points of installed distributions, remembered: looking through all of them is slow on shared storage.

What was found in a directory of ``sys.path`` holds until the directory changes, which every
installation does.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from hpcest.kit.files import write_text

SCHEMA = 1
_RACY_NS = 5_000_000_000  # a directory that changed this recently may change again with the same time stamp
_KEPT = 200


class EntryPoint(NamedTuple):
    """One entry point: ``name = value`` as the distribution ``dist`` of ``version`` declares it."""

    name: str
    value: str
    dist: str
    version: str

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.dist}:{self.name}"

    @property
    def origin(self) -> str:
        """The distribution and its version."""
        return f"{self.dist} {self.version}"

    def load(self) -> Any:
        """Import what it names, ``module`` or ``module:attribute``. Raises whatever that raises."""
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        found: Any = import_module(module.strip())
        for name in filter(None, attributes.strip().split(".")):
            found = getattr(found, name)
        return found


def entry_points(group: str, cache: Path | None, path: Iterable[str] | None = None) -> list[EntryPoint]:
    """The entry points of ``group`` in all distributions on ``path`` (sys.path), the first of each distribution's name.

    ``cache`` is a file that remembers them; one that is damaged, or can't be read or written, is no error.
    """
    known = _read(cache, group) if cache else {}
    fresh: dict[str, Any] = {}
    for folder in dict.fromkeys(os.path.abspath(entry) for entry in (sys.path if path is None else path)):
        stamp = _stamp(folder)
        if stamp is None:
            continue
        kept = known.get(folder)
        fresh[folder] = kept if kept and kept[0] == stamp else [stamp, _scan(folder, group)]
    if cache and any(known.get(folder) != kept for folder, kept in fresh.items()):
        _write(cache, group, known, fresh)
    return _first_of_each(fresh.values())


def _first_of_each(kept: Iterable[Any]) -> list[EntryPoint]:
    """As Python's imports do: a distribution that is found twice counts where it is found first."""
    points: dict[str, list[EntryPoint]] = {}
    for _, found in kept:
        here: dict[str, list[EntryPoint]] = {}
        for one in found:
            point = EntryPoint(*one)
            here.setdefault(re.sub(r"[-_.]+", "-", point.dist).lower(), []).append(point)
        points = {**here, **points}
    return sorted(point for several in points.values() for point in several)


def _stamp(folder: str) -> list[int] | None:
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return [facts.st_mtime_ns, facts.st_ino]


def _scan(folder: str, group: str) -> list[tuple[str, str, str, str]]:
    if not _has_distributions(folder):
        return []
    from importlib.metadata import distributions  # 20 ms, and not needed while the cache holds

    found: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for dist in distributions(path=[folder]):
        for point in dist.entry_points:
            if point.group == group:
                found.setdefault((dist.metadata["Name"], point.name), (point.name, point.value, dist.metadata["Name"], dist.version))
    return list(found.values())


def _has_distributions(path: str) -> bool:
    """Whether a look is worth while: a directory of scripts has none. What is no directory may be an archive."""
    try:
        return any(name.endswith((".dist-info", ".egg-info", ".egg")) for name in os.listdir(path))
    except NotADirectoryError:
        return True
    except OSError:
        return False


def _read(cache: Path, group: str) -> dict[str, Any]:
    """Folder → [stamp, entry points], of those lines of the cache that make sense."""
    try:
        data = json.loads(cache.read_bytes())
        if (data["schema"], data["group"]) != (SCHEMA, group):
            return {}
        return {folder: kept for folder, kept in data["folders"].items() if _is_sound(*kept)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _is_sound(stamp: Any, points: Any) -> bool:
    return len(stamp) == 2 and all(len(point) == 4 and all(isinstance(word, str) for word in point) for point in points)


def _write(cache: Path, group: str, known: Mapping[str, Any], fresh: Mapping[str, Any]) -> None:
    newest = time.time_ns() - _RACY_NS
    folders = {folder: kept for folder, kept in {**known, **fresh}.items() if kept[0][0] < newest}
    if len(folders) > _KEPT:
        folders = {folder: folders[folder] for folder in fresh if folder in folders}
    if folders == known:
        return
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(cache, json.dumps({"schema": SCHEMA, "group": group, "folders": folders}))
    except OSError:
        return  # a cache only saves time
