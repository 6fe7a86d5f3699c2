"""Match specs, conda's way to ask for a package, in one spelling: ``numpy=1.26`` and ``NumPy 1.26.*`` are the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from hpcest.environments.conda.channels import split_subdir
from hpcest.environments.secrets import has_secret, strip
from hpcest.errors import SpecError

_HINT = "write it as conda does: name, name=1.2, 'name>=1,<2', name=1.2=build or channel::name"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BRACKETS = re.compile(r"(.*?)\s*\[([^\[]*)\]")
_PAIR = re.compile(r"\s*(\w+)\s*=\s*('[^']*'|\"[^\"]*\"|[^\s,'\"=]+)\s*(?:,|\s|$)")
_PART = re.compile(r"(==|=|>=|<=|!=|~=|>|<)?([A-Za-z0-9_.+!-]*[A-Za-z0-9_+](?:\.?\*)?|\*)")
_WITH_BUILD = re.compile(r"(.*[^<>=!~,|])=([^=<>!~,|]+)")
_BUILD = re.compile(r"[A-Za-z0-9_.*+-]+")
#: What may stand in brackets beside version, build, channel and subdir.
_OTHERS = ("build_number", "md5", "sha256", "fn")
_DIGITS = {"md5": 32, "sha256": 64}
_KEYS = ("version", "build", "channel", "subdir", *_OTHERS)


@dataclass(frozen=True)
class MatchSpec:
    """What is asked for, each part in its canonical spelling, empty where nothing is. ``str()`` is what solvers read."""

    name: str
    version: str = ""
    build: str = ""
    channel: str = ""
    subdir: str = ""
    others: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        where = f"{self.channel}{f'/{self.subdir}' if self.subdir else ''}::" if self.channel else ""
        words = [self.name, *filter(None, (self.version or ("*" if self.build else ""), self.build))]
        others = [*self.others, *([("subdir", self.subdir)] if self.subdir and not self.channel else [])]
        pairs = ",".join(f'{key}="{value}"' for key, value in others)
        return f"{where}{' '.join(words)}{f'[{pairs}]' if pairs else ''}"


def normalise(specs: Iterable[str]) -> tuple[str, ...]:
    """The canonical texts of some match specs, sorted, without duplicates. Raises SpecError that names the spec."""
    return tuple(sorted({str(parse(spec)) for spec in specs}))


def parse(text: str) -> MatchSpec:
    """What a match spec asks for. Raises SpecError that names it.

    A bare version is exact (``numpy 1.26``, as with ``==``), one after ``=`` a prefix (``1.26.*``), unless a
    build follows. Package names, versions and build numbers are in lower case.
    """
    bare = text.strip()
    if re.search(r"://\S+\.(conda|tar\.bz2)$", bare):
        _refuse(text, "is the URL of an archive", "name the package, and put its channel in front: https://host/channel::name=1.2")
    given: dict[str, str] = {}
    brackets = _BRACKETS.fullmatch(bare)
    if brackets:
        bare, given = brackets[1], _pairs(brackets[2], text)
    channel, mark, rest = bare.rpartition("::")
    if mark and not channel.strip():
        _refuse(text, "has no channel before the ::", _HINT)
    channel, subdir = split_subdir(channel.strip().rstrip("/") or given.get("channel", ""))
    if has_secret(channel):
        _refuse(text, "has credentials in it", "give them in the list of channels, and name the channel without them here")
    name = _NAME.match(rest.strip())
    if not name or rest.strip()[name.end() :][:1].strip("<>=!~( "):
        _refuse(text, "has no package name that can be read", _HINT)
    version, build = _version_and_build(rest.strip()[name.end() :], text)
    return MatchSpec(
        name=name[0].lower(),
        version=_version(given["version"], text) if "version" in given else version,
        build=_build(given["build"], text) if "build" in given else build,
        channel=channel,
        subdir=subdir or given.get("subdir", ""),
        others=tuple((key, given[key].lower()) for key in sorted(_OTHERS) if key in given),
    )


def _refuse(text: str, problem: str, hint: str) -> NoReturn:
    raise SpecError(f"conda package {strip(text)!r} {problem}", hint=hint)


def _pairs(inside: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = inside
    while rest.strip():
        pair = _PAIR.match(rest)
        if not pair:
            _refuse(text, f"can't be read at {rest.strip()!r}", "write pairs in the brackets: name[version='>=1,<2', build='py311*']")
        if pair[1] not in _KEYS:
            _refuse(text, f"has the key {pair[1]!r} in its brackets", f"known: {', '.join(_KEYS)}")
        found[pair[1]] = pair[2].strip("'\"").strip()
        digits = _DIGITS.get(pair[1])
        if digits and not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", found[pair[1]]):
            _refuse(text, f"has the {pair[1]} {found[pair[1]]!r}", f"it has {digits} hexadecimal digits")
        rest = rest[pair.end() :]
    return found


def _version_and_build(rest: str, text: str) -> tuple[str, str]:
    """Both parts of what follows the name: ``=1.2=py311_0``, `` >=1,<2``, `` 1.2.* py*``."""
    rest = re.sub(r"\s*([,|])\s*", r"\1", rest.strip())
    rest = re.sub(r"([<>=!~])\s+", r"\1", rest)
    if rest.startswith("(") and rest.endswith(")"):
        rest = rest[1:-1].strip()
    words = re.sub(r"\s+=(?!=)", "=", rest).split()
    if not words:
        return "", ""
    if len(words) > 1 and words[1][0] in "<>=!~":
        _refuse(text, f"has two conditions without a comma: {words[0]!r} {words[1]!r}", "put a comma between them: 'name>=1,<2'")
    if len(words) > 2:
        _refuse(text, f"has too many words: {words[2]!r}", _HINT)
    both = _WITH_BUILD.fullmatch(words[0])
    if both and len(words) == 1:
        single = both[1].startswith("=") and not both[1].startswith("==")
        return _version(both[1][1:] if single else both[1], text), _build(both[2], text)
    return _version(words[0], text), _build(words[1], text) if len(words) > 1 else ""


def _version(written: str, text: str) -> str:
    """The canonical form of the condition on the version, empty where every version will do."""
    written = re.sub(r"\s+", "", written).lower()
    # Backwards, so that >=1,<2 keeps its usual order.
    choices = {",".join(sorted({_part(part, text) for part in choice.split(",")} - {"*"}, reverse=True)) for choice in written.split("|")}
    return "" if "" in choices else "|".join(sorted(choices))


def _part(part: str, text: str) -> str:
    found = _PART.fullmatch(part)
    if not found or not (found[1] or found[2][0] in "0123456789*"):
        _refuse(text, f"has the version {part!r}, which can't be read" if part else "lacks a version after a comma or |", _HINT)
    operator, version = found[1] or "", found[2]
    if version == "*":
        return "*"
    prefix = version.endswith("*")
    version = version.rstrip("*").rstrip(".")
    if operator == "!=":
        return f"!={version}.*" if prefix else f"!={version}"
    if operator in ("", "=", "=="):
        return f"{version}.*" if prefix or operator == "=" else f"=={version}"
    return f"{operator}{version}"


def _build(written: str, text: str) -> str:
    if not _BUILD.fullmatch(written):
        _refuse(text, f"has the build {written!r}, which can't be read", "a build is like py311_0, with * for any text")
    return "" if written == "*" else written
