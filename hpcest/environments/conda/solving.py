"""From match specs to the packages to install: py-rattler's solver, and what to say when it finds nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpcest.contracts import Say
from hpcest.environments.conda.channels import ALIAS, Channel, channels_of, hide, recorded
from hpcest.environments.conda.extra import require, wait
from hpcest.environments.conda.lockfile import CondaPackage
from hpcest.environments.conda.matchspecs import MatchSpec, parse
from hpcest.environments.room import scratch
from hpcest.errors import EnvironmentBuildError, SpecError

if TYPE_CHECKING:
    import rattler

#: What packages may take for the version of the kernel; they hardly ever ask.
_KERNEL = "5.10"
_ADVICE = (
    (r"__cuda", "it needs a GPU driver that was not announced: say which CUDA version the compute nodes have"),
    (r"__glibc", "it needs another C library than the base image has: choose a newer base image, or an older version of the package"),
    (r"\b(401|403)\b|Unauthorized|Forbidden", "the channel wants credentials: write its URL as https://${USER}:${TOKEN}@host/channel"),
    (r"\b404\b|could not find subdir|No such file", "there is no channel: check its name and its URL"),
    (r"certificate|UnknownIssuer", "a proxy that inspects traffic is likely: set SSL_CERT_FILE to the file with its certificate authority"),
    (
        r"dns error|tcp connect|Connection refused|timed? ?out|error sending request|unreachable|connection closed",
        "this machine can't reach the channel: check HTTPS_PROXY, or name a mirror or a folder as the channel",
    ),
    (r"No space left|quota exceeded", "free some space, or put the cache elsewhere"),
    (r"parse|invalid|expected|EOF", "the channel's repodata.json can't be read: have its owner index it again"),
)


@dataclass(frozen=True)
class CondaRequest:
    """What is asked for. ``specs`` are canonical (``matchspecs.normalise``), ``channels`` in order of priority.

    ``virtual`` are virtual packages of the machine or base image (``virtual_packages``). ``exclude_newer`` is
    an ISO date or time, in UTC where it says no other: packages made after it are not there. ``alias`` is
    where the channels of specs such as ``name::package`` lie.
    """

    channels: tuple[Channel, ...]
    specs: tuple[str, ...]
    platform: str = "linux-64"
    virtual: tuple[str, ...] = ()
    exclude_newer: str = ""
    alias: str = ALIAS

    def key(self) -> dict[str, Any]:
        """What makes it another request, without secrets."""
        newest = moment(self.exclude_newer)
        return {
            "channels": [channel.public for channel in self.channels],
            "specs": sorted(set(self.specs)),
            "platform": self.platform,
            "virtual": sorted(self.virtual),
            "newest": newest.isoformat() if newest else "",
            "priority": "strict",
        }


def virtual_packages(platform: str, *, glibc: str, cuda: str = "") -> tuple[str, ...]:
    """The virtual packages of a Linux machine: its C library's version, and the CUDA version of its driver if any."""
    machine = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}.get(platform, "")
    found = {"__unix": "0=0", "__linux": f"{_KERNEL}=0", "__glibc": f"{glibc}=0"}
    found.update({"__archspec": f"1={machine}"} if machine else {})
    found.update({"__cuda": f"{cuda}=0"} if cuda else {})
    return tuple(sorted(f"{name}={value}" for name, value in found.items()))


def moment(text: str) -> datetime | None:
    """The time that ISO ``text`` says, in UTC; a date is its first second. None for no text. Raises SpecError."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text.strip()))
    except ValueError:
        raise SpecError(f"exclude_newer {text!r} is not a date", hint="write it as 2026-05-31 or 2026-05-31T12:00:00") from None
    return when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when.astimezone(timezone.utc)


def solve(request: CondaRequest, cache: Path, say: Say) -> tuple[CondaPackage, ...]:
    """Every package that the request comes to, by name. ``cache`` keeps the channels' indexes between calls.

    Raises EnvironmentBuildError with the solver's own tree, or the nearest names of an unknown package, or
    what is wrong with a channel; and where py-rattler is not installed.
    """
    require()
    began = time.monotonic()
    question = _Question(request, cache)
    try:
        with question:
            records = wait(question.answer())
    except Exception as error:  # a panic of the solver's has a class that can't be imported
        raise question.failure(error) from error
    packages = tuple(sorted((_package(record, question.channels) for record in records), key=lambda one: (one.name, one.url)))
    say(f"solve: {len(packages)} conda package{'s'[: len(packages) != 1]}, {time.monotonic() - began:.1f} s")
    return packages


class _Question:
    """One request, in the solver's terms."""

    def __init__(self, request: CondaRequest, cache: Path) -> None:
        self._request, self._cache = request, cache
        self._to_close = ExitStack()
        self._known: set[str] | None = None
        self._newest = moment(request.exclude_newer)
        self._specs = [parse(spec) for spec in request.specs]
        self.channels = request.channels
        for spec in self._specs:  # conda, too, looks into a channel that only a spec names
            if spec.channel and not self._channel_of(spec):
                self.channels += channels_of([spec.channel], alias=request.alias)

    def _channel_of(self, spec: MatchSpec) -> Channel | None:
        (wanted,) = channels_of([spec.channel], alias=self._request.alias)[:1]
        return next((one for one in self.channels if spec.channel == one.name or one.public == wanted.public), None)

    def __enter__(self) -> None:
        """Make the folder for the indexes: py-rattler writes URLs there as they are, so those with secrets get one for a while."""
        self._cache.mkdir(parents=True, exist_ok=True)
        if any(channel.real != channel.public for channel in self.channels):
            self._cache = self._to_close.enter_context(scratch(str(self._cache)))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if type(error).__name__ == "SolverError":
            self._known = self._names_or_none()
        self._to_close.close()

    def _gateway(self) -> rattler.Gateway:
        from rattler import Gateway

        return Gateway(cache_dir=self._cache)

    async def answer(self) -> Sequence[rattler.RepoDataRecord]:
        from rattler import solve as rattler_solve
        from rattler.channel import ChannelPriority

        return await rattler_solve(
            sources=[channel.real for channel in self.channels],
            specs=[self._spec(spec) for spec in self._specs],
            gateway=self._gateway(),
            platforms=[self._request.platform, "noarch"],  # type: ignore[list-item]  # a literal type there
            virtual_packages=[_virtual(text) for text in self._request.virtual],
            channel_priority=ChannelPriority.Strict,
            exclude_newer=self._newest,
            channel_relations="disabled",
        )

    def _spec(self, spec: MatchSpec) -> rattler.MatchSpec:
        import rattler
        from rattler.exceptions import InvalidMatchSpecError

        channel = self._channel_of(spec) if spec.channel else None
        text = str(spec)
        if channel:
            plain = str(MatchSpec(spec.name, spec.version, spec.build, "", spec.subdir, spec.others))
            pair = f'channel="{channel.real}"'
            text = f"{plain[:-1]},{pair}]" if plain.endswith("]") else f"{plain}[{pair}]"
        try:
            return rattler.MatchSpec(text, strict=True)
        except InvalidMatchSpecError as error:
            raise SpecError(f"conda package {str(spec)!r} can't be read: {hide(str(error), self.channels)}") from None

    def failure(self, error: Exception) -> EnvironmentBuildError | SpecError:
        """What to tell the user: a problem of the request, of a channel, or a contradiction."""
        if isinstance(error, SpecError):
            return error
        words = hide(str(error), self.channels).removeprefix("Cannot solve the request because of: ").strip()
        if isinstance(error, OSError) and error.filename:
            return EnvironmentBuildError(f"{error.filename}: {error.strerror}", hint="the cache of conda packages must be writable")
        if type(error).__name__ == "SolverError":
            unknown = self._unknown()
            if unknown:
                return unknown
            hint = _advice(words, _ADVICE[:2]) or "loosen or remove one of the packages named above"
            if self._newest:
                hint += f"; nothing newer than {self._request.exclude_newer} is looked at"
            return EnvironmentBuildError(f"the conda packages can't be had together: {words}", hint=hint)
        names = ", ".join(channel.name for channel in self.channels)
        return EnvironmentBuildError(f"the conda channels ({names}) can't be used: {words}", hint=_advice(words, _ADVICE[2:]))

    def _unknown(self) -> EnvironmentBuildError | None:
        """The error for a package that no channel has under any version; None where all are known."""
        known = self._known
        if known is None:
            return None
        for spec in self._specs:
            if spec.name not in known:
                near = get_close_matches(spec.name, known, n=3, cutoff=0.6)
                hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "check the name, or add the channel that has it"
                where = ", ".join(channel.name for channel in self.channels)
                return EnvironmentBuildError(
                    f"conda package {spec.name!r} is in none of the channels ({where}) for {self._request.platform}", hint=hint
                )
        return None

    def _names_or_none(self) -> set[str] | None:
        try:
            return set(wait(self._names()))
        except Exception:  # noqa: BLE001 - the solver's own words will do then
            return None

    async def _names(self) -> list[str]:
        sources = [channel.real for channel in self.channels]
        platforms: Any = [self._request.platform, "noarch"]
        return [name.normalized for name in await self._gateway().names(sources, platforms, channel_relations="disabled")]


def _advice(words: str, table: Sequence[tuple[str, str]]) -> str:
    return next((advice for pattern, advice in table if re.search(pattern, words, re.IGNORECASE)), "")


def advice(words: str) -> str:
    """The next step after a failure of py-rattler that is known by its words; empty for others."""
    return _advice(words, _ADVICE)


def _virtual(text: str) -> rattler.GenericVirtualPackage:
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version

    name, version, build = text.split("=")
    return GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))


def _package(record: rattler.RepoDataRecord, channels: Sequence[Channel]) -> CondaPackage:
    url = recorded(record.url, channels)
    if not record.sha256 and not record.md5:
        raise EnvironmentBuildError(
            f"the conda channel has no hash of {record.file_name}", hint="have its owner index it again, with a current tool"
        )
    return CondaPackage(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        subdir=record.subdir,
        channel=url.rsplit("/", 2)[0],
        url=url,
        sha256=record.sha256.hex() if record.sha256 else "",
        md5=record.md5.hex() if record.md5 else "",
        size=record.size or 0,
    )
