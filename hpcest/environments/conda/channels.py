"""Conda channels: from the names that people write to URLs, their credentials kept apart from what is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcest.environments.secrets import SHORTEST_SECRET, expand, strip
from hpcest.errors import SpecError

#: Where the channel NAME lies: at ALIAS/NAME.
ALIAS = "https://conda.anaconda.org"
#: The channels of a request that names none.
DEFAULT = ("conda-forge",)
_MAIN = "https://repo.anaconda.com/pkgs"
_SUBDIR = re.compile(r"(noarch|(linux|osx|win|emscripten|wasi|freebsd|zos)-[a-z0-9]+)")
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class Channel:
    """A channel. ``public`` is its URL as it may be recorded, ``real`` the one to fetch from; neither ends in a slash."""

    name: str
    public: str
    real: str = field(repr=False)


def channels_of(
    names: Iterable[str], variables: Mapping[str, str] = os.environ, *, alias: str = ALIAS, folder: Path | None = None
) -> tuple[Channel, ...]:
    """The channels that names, URLs and paths stand for, the first one first; those of DEFAULT where there are none.

    ``alias`` is put in front of a mere name; paths count from ``folder`` (the current directory);
    ``${NAME}`` stands for an environment variable. Raises SpecError that names the channel.
    """
    written = [name.strip() for name in names if name.strip() != "nodefaults"]
    found: dict[str, Channel] = {}
    for name in written or DEFAULT:
        for url in _urls(name, alias, folder or Path.cwd()):
            channel = Channel(strip(name), strip(url), expand(url, variables))
            found.setdefault(channel.public, channel)
    return tuple(found.values())


def _urls(name: str, alias: str, folder: Path) -> list[str]:
    if name == "defaults":
        return [f"{_MAIN}/main", f"{_MAIN}/r"]
    if "://" in name:
        if re.search(r"[\s'\"]", name) or name.endswith("://"):
            raise SpecError(f"channel {strip(name)!r} is not a URL", hint="write it as https://host/channel, without quotes or spaces")
        return [_trimmed(name)]
    if name.startswith(("/", "./", "../", "~")) or name in (".", ".."):
        path = os.path.abspath(folder / os.path.expanduser(name))
        return [_trimmed(Path(path).as_uri())]
    if name == "local":
        raise SpecError("channel 'local' is a folder of conda's own, which is not known here", hint="give the path of the folder")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"channel {strip(name)!r} can't be read",
            hint="write a name (conda-forge), a URL (https://host/channel) or a path (./channel)",
        )
    return [_trimmed(f"{alias.rstrip('/')}/{name}")]


def _trimmed(url: str) -> str:
    """``url`` without the slash at its end, and without the platform that people copy along."""
    url = url.rstrip("/")
    head, _, tail = url.rpartition("/")
    return head if _SUBDIR.fullmatch(tail) else url


def split_subdir(channel: str) -> tuple[str, str]:
    """A channel and the platform after its last slash, empty where there is none: ``conda-forge/noarch``."""
    head, _, tail = channel.rpartition("/")
    return (head, tail) if head and _SUBDIR.fullmatch(tail) else (channel, "")


def recorded(url: str, channels: Iterable[Channel]) -> str:
    """A URL in one of the channels as it may be recorded."""
    for channel in channels:
        if url.startswith(f"{channel.real}/"):
            return channel.public + url[len(channel.real) :]
    return strip(url)


def fetched(url: str, channels: Iterable[Channel], variables: Mapping[str, str] = os.environ) -> str:
    """The URL to fetch what was recorded as ``url`` from: with the credentials of its channel."""
    for channel in channels:
        if url.startswith(f"{channel.public}/"):
            return channel.real + url[len(channel.public) :]
    return expand(url, variables)


def hide(text: str, channels: Iterable[Channel]) -> str:
    """``text``, a message of a tool say, without the credentials of the channels."""
    for channel in channels:
        text = text.replace(channel.real, channel.public)
        for word in _secrets(channel):
            text = text.replace(word, "***")
    return strip(text)


def _secrets(channel: Channel) -> list[str]:
    """What is in the real URL and not in the public one: password, token, and each on its own."""
    user = re.findall(r"://([^/\s]+)@", channel.real)
    token = re.findall(r"/t/([^/]+)", channel.real)
    words = [*token, *(word for pair in user for word in (pair, pair.partition(":")[2]))]
    return sorted((word for word in words if len(word) >= SHORTEST_SECRET), key=len, reverse=True)
