"""Locked conda packages, and the text of a lock: conda's own explicit format, enough to install without solving."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_FILE = re.compile(r"(?P<name>[a-z0-9_][a-z0-9_.-]*)-(?P<version>[^-/\s]+)-(?P<build>[^-/\s]+)\.(conda|tar\.bz2)")
_URL = re.compile(r"(?P<url>\S+/(?P<subdir>[a-z0-9-]+)/[^/\s#]+)#(sha256:(?P<sha256>[0-9a-f]{64})|(?P<md5>[0-9a-f]{32}))")
_FACTS = re.compile(r"# .*?(?:, (?P<size>\d+) bytes)?(?:, md5 (?P<md5>[0-9a-f]{32}))?")


@dataclass(frozen=True)
class CondaPackage:
    """One archive of a channel. ``url`` and ``channel`` are without credentials; ``size`` is in bytes, 0 if unknown.

    ``sha256`` is empty for a package of a channel that lists MD5 only; one of both is always there.
    """

    name: str
    version: str
    build: str
    subdir: str
    channel: str
    url: str
    sha256: str = ""
    md5: str = ""
    size: int = 0

    @property
    def file_name(self) -> str:
        """The name of the archive."""
        return file_name_of(self.url)

    def key(self) -> list[str]:
        """What is installed, whichever channel it comes from."""
        return [self.file_name, self.sha256 or f"md5:{self.md5}"]

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.build}"


def file_name_of(url: str) -> str:
    """The last part of a URL's path, unquoted."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def key_of_packages(packages: Iterable[CondaPackage]) -> list[list[str]]:
    """The part of a lock's key that the conda packages are: names and digests of the archives, sorted."""
    return sorted(package.key() for package in packages)


def text_of(packages: Iterable[CondaPackage], platform: str) -> str:
    """The lock text. ``conda create --file`` and its like read it too."""
    lines = ["# conda packages, locked by hpcest", f"# platform: {platform}", "@EXPLICIT"]
    for package in sorted(packages, key=lambda one: (one.name, one.url)):
        size = f", {package.size} bytes" if package.size else ""
        md5 = f", md5 {package.md5}" if package.md5 and package.sha256 else ""
        lines.append(f"# {package}{size}{md5}")
        lines.append(f"{package.url}#{f'sha256:{package.sha256}' if package.sha256 else package.md5}")
    return "\n".join(lines) + "\n"


def read_text(text: str) -> tuple[CondaPackage, ...]:
    """The packages of a lock text, or of what ``conda list --explicit --sha256`` writes.

    Raises ValueError for a line that names no archive with its hash.
    """
    found: list[CondaPackage] = []
    facts = None
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line.startswith("#"):
            facts = _FACTS.fullmatch(line)
        elif line and line != "@EXPLICIT":
            found.append(_package(line, facts, number))
            facts = None
    return tuple(found)


def _package(line: str, facts: re.Match[str] | None, number: int) -> CondaPackage:
    parts = _URL.fullmatch(line)
    name = _FILE.fullmatch(file_name_of(parts["url"])) if parts else None
    if not parts or not name:
        raise ValueError(f"line {number} is no locked conda package: {line}")
    return CondaPackage(
        name=name["name"],
        version=name["version"],
        build=name["build"],
        subdir=parts["subdir"],
        channel=parts["url"].rsplit("/", 2)[0],
        url=parts["url"],
        sha256=parts["sha256"] or "",
        md5=parts["md5"] or (facts["md5"] if facts else "") or "",
        size=int(facts["size"] or 0) if facts else 0,
    )
