"""What packages an environment spec asks for, conda's and pip's, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpcest.environments import locked
from hpcest.environments.locked import Pinned
from hpcest.environments.requirements import Request, read
from hpcest.environments.secrets import Veil
from hpcest.environments.sources import Sources, gather
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from hpcest.environments.conda.channels import Channel
    from hpcest.environments.conda.lockfile import CondaPackage

_PIP = "# pip packages, locked by hpcest"


@dataclass(frozen=True)
class Wish:
    """Canonical match specs for ``channels``, and pip's requirement lines with where they come from."""

    conda: tuple[str, ...]
    channels: tuple[Channel, ...]
    pip: Request
    sources: Sources
    variables: Mapping[str, str]

    def key(self) -> dict[str, Any]:
        """What makes it another request: no names, no order of conda specs, no secrets."""
        conda = {"specs": list(self.conda), "channels": [channel.public for channel in self.channels]} if self.conda else {}
        pip = {"wanted": [one.key() for one in self.pip.wanted], "sources": self.sources.key()} if self.pip.wanted else {}
        return {"conda": conda, "pip": pip}

    @cached_property
    def veil(self) -> Veil:
        """What hides the secrets of the request."""
        urls = [*(one.url for one in self.pip.wanted if one.url), *self.sources.urls]
        return Veil(urls, self.variables)

    def hide(self, text: str) -> str:
        """``text``, a line of a tool say, without the secrets of the request."""
        text = self.veil(text)
        if self.channels:
            from hpcest.environments.conda.channels import hide

            text = hide(text, self.channels)
        return text

    @property
    def hashes(self) -> dict[str, tuple[str, ...]]:
        """The hashes that pip requirements name, by package."""
        return {_name(one.text): one.hashes for one in self.pip.wanted if one.hashes}

    @property
    def contents(self) -> dict[str, str]:
        """The states of local directories, by URL."""
        return {one.url: one.content for one in self.pip.wanted if one.content}


def _name(text: str) -> str:
    import re

    return re.split(r"[^a-z0-9-]", text)[0]


def wish_of(spec: EnvironmentSpec, settings: EnvironmentSettings, variables: Mapping[str, str]) -> Wish:
    """The packages that ``spec`` asks for. With conda packages Python is one of them where pip or a version asks for it.

    Raises SpecError.
    """
    request = read(spec.pip, variables)
    if not spec.conda:
        return Wish((), (), request, gather(request.options, variables), variables)
    from hpcest.environments.conda.channels import channels_of
    from hpcest.environments.conda.matchspecs import normalise, parse

    specs = list(normalise(spec.conda))
    if not any(parse(one).name == "python" for one in specs) and (request.wanted or spec.interpreter):
        specs = list(normalise([*spec.conda, f"python {spec.interpreter}.*" if spec.interpreter else "python"]))
    channels = channels_of(spec.channels or settings.channels, variables)
    return Wish(tuple(specs), tuple(channels), request, gather(request.options, variables), variables)


@dataclass(frozen=True)
class Packages:
    """What a wish came to. ``python`` is the version of the Python that they are for, ``platform`` conda's name of the machine."""

    conda: tuple[CondaPackage, ...] = ()
    pip: tuple[Pinned, ...] = ()
    python: str = ""
    platform: str = "linux-64"

    def key(self) -> dict[str, Any]:
        """The same for the same bits, wherever they came from."""
        pip = sorted(package.key() for package in self.pip)
        conda = sorted(package.key() for package in self.conda)
        return {"conda": conda, "pip": pip, "python": self.python, "platform": self.platform}

    @cached_property
    def text(self) -> str:
        """The lock text, one package a line; ``read_text`` reads it."""
        parts = []
        if self.conda:
            from hpcest.environments.conda.lockfile import text_of

            parts.append(text_of(self.conda, self.platform))
        parts += [f"{_PIP} for Python {self.python}\n{locked.text_of(self.pip)}"] if self.pip else []
        return "".join(parts)

    @property
    def names(self) -> list[str]:
        """``name==version`` of all, conda's first."""
        return [f"{one.name}=={one.version}" for one in self.conda] + [one.requirement for one in self.pip]

    def __str__(self) -> str:
        counts = [f"{len(some)} {kind}" for some, kind in ((self.conda, "conda"), (self.pip, "pip")) if some]
        return f"{' and '.join(counts) or 'no'} package{'' if len(self.conda) + len(self.pip) == 1 else 's'}"


def read_text(text: str, python: str, platform: str = "linux-64") -> Packages:
    """The packages of a lock text. Raises ValueError."""
    conda, mark, pip = text.partition(_PIP)
    found: tuple[CondaPackage, ...] = ()
    if conda.strip():
        from hpcest.environments.conda import lockfile

        found = lockfile.read_text(conda)
    return Packages(found, tuple(locked.read_text(pip.partition("\n")[2])) if mark else (), python, platform)
