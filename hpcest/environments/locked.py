"""Resolved packages: what uv and pip answer, and the lock text that is made of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_HASH = re.compile(r"--hash=(\S+)")
_CONTENT = re.compile(r"\s+# content=(\w+)$")


@dataclass(frozen=True)
class Pinned:
    """One package of a lock: ``name==version`` from an index, or ``name @ url``; without secrets.

    ``hashes`` are those of the archives that will do, sorted, as ``sha256:…``; ``content`` stands for them
    where the source is a local directory.
    """

    name: str
    version: str = ""
    url: str = ""
    hashes: tuple[str, ...] = ()
    content: str = ""

    @property
    def requirement(self) -> str:
        """As a requirement, without hashes."""
        if self.url:
            return f"{self.name} @ {self.url}" if self.name else self.url
        return f"{self.name}=={self.version}"

    def key(self) -> list[Any]:
        """What is installed, wherever it comes from."""
        if self.hashes:
            return [self.name, self.version, list(self.hashes)]
        return [self.name, self.version, self.url if not self.content else "", self.content]

    def __str__(self) -> str:
        words = [self.requirement, *(f"--hash={value}" for value in self.hashes)]
        return " ".join(words) + (f"  # content={self.content}" if self.content else "")


def text_of(packages: Iterable[Pinned]) -> str:
    """The lock text: one line for each package, by name."""
    return "".join(f"{package}\n" for package in sorted(packages, key=lambda one: (one.name, one.url)))


def read_text(text: str) -> list[Pinned]:
    """The packages of a lock text, or of what ``uv pip compile --generate-hashes`` writes.

    Raises ValueError for a line that is neither.
    """
    lines = re.sub(r"\\[ \t]*\n", " ", text).splitlines()
    return [_pinned(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _pinned(line: str) -> Pinned:
    from packaging.utils import canonicalize_name

    hashes = tuple(sorted(_HASH.findall(line)))
    content = "".join(_CONTENT.findall(line))
    bare = re.split(r"\s+(?:--hash=|#|;)", line)[0].strip()
    name, mark, url = bare.partition(" @ ")
    if mark:
        return Pinned(canonicalize_name(_without_extras(name)), "", url.strip(), hashes, content)
    if "://" in bare:
        return Pinned(_name_of_wheel(bare), "", bare, hashes, content)
    name, mark, version = bare.partition("==")
    if not mark:
        raise ValueError(f"no locked package: {line}")
    return Pinned(canonicalize_name(_without_extras(name)), version.strip(), "", hashes)


def _without_extras(name: str) -> str:
    return name.partition("[")[0].strip()


def _name_of_wheel(url: str) -> str:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return str(parse_wheel_filename(re.split(r"[?#]", url)[0].rpartition("/")[2])[0])
    except InvalidWheelFilename:
        return ""


def read_report(report: dict[str, Any]) -> list[Pinned]:
    """The packages of pip's installation report. Raises KeyError or TypeError for another format."""
    return [_reported(item) for item in report["install"]]


def _reported(item: dict[str, Any]) -> Pinned:
    from packaging.utils import canonicalize_name

    name, version = canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"]
    source = item["download_info"]
    archive = source.get("archive_info") or {}
    digest = (archive.get("hashes") or {}).get("sha256") or str(archive.get("hash") or "").partition("sha256=")[2]
    hashes = (f"sha256:{digest}",) if digest else ()
    if not item.get("is_direct"):
        return Pinned(name, version, "", hashes)
    url = source["url"].replace(" ", "%20")  # pip shows file URLs unquoted
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}@{source['vcs_info']['commit_id']}"
    if source.get("subdirectory"):
        url += f"#subdirectory={source['subdirectory']}"
    return Pinned(name, "", url, hashes)


def restricted(packages: Iterable[Pinned], wanted: dict[str, tuple[str, ...]]) -> list[Pinned]:
    """The packages with no other hashes than the ones asked for by name. Raises ValueError where none is left."""
    done = []
    for package in packages:
        asked = wanted.get(package.name, ())
        both = tuple(value for value in package.hashes if value in asked)
        if asked and not both:
            raise ValueError(f"{package.requirement} has none of the hashes that its requirement names")
        done.append(Pinned(package.name, package.version, package.url, both, package.content) if asked else package)
    return done


def cleared(packages: Iterable[Pinned], veil: Callable[[str], str], contents: dict[str, str]) -> list[Pinned]:
    """The packages without secrets in their URLs, local directories with the state of their ``contents``."""
    done = []
    for package in packages:
        url = veil(package.url)
        content = "" if package.hashes else contents.get(url, "")
        done.append(Pinned(package.name, package.version, url, package.hashes, content))
    return done
