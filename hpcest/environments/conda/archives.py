"""The archives of conda packages in a cache: fetched, checked against the lock, and looked into before they are used."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from hpcest.environments.conda.lockfile import CondaPackage
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import written_beside

if TYPE_CHECKING:
    from rattler.networking import Client

_AT_ONCE = 8
_CHUNK = 1 << 20
_LOCK_IS_WRONG = (
    "a file of the channel is not the one that was locked: find out who changed it before you trust it, then resolve the environment again"
)


class Archives:
    """The folder of archives in a cache, by digest. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, package: CondaPackage) -> Path:
        """Where the archive of ``package`` lies once it was fetched."""
        return self._folder / (package.sha256 or package.md5) / package.file_name

    async def fetch(self, packages: Sequence[tuple[CondaPackage, str]]) -> int:
        """Have the archives, each with the URL to get it from; returns how many bytes had to be fetched.

        What lies there already is checked again. Raises EnvironmentBuildError for one that is not as locked.
        """
        import asyncio

        from rattler.networking import Client

        client, gate = Client.default_client(), asyncio.Semaphore(_AT_ONCE)

        async def one(package: CondaPackage, url: str) -> int:
            async with gate:
                return await self._have(package, url, client)

        tasks = [asyncio.ensure_future(one(package, url)) for package, url in packages]
        try:
            return sum(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _have(self, package: CondaPackage, url: str, client: Client) -> int:
        from asyncio import to_thread

        path = self.path(package)
        if await to_thread(_is_as_locked, path, package):
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as beside:
            if url.startswith("file://"):
                await to_thread(shutil.copyfile, unquote(urlsplit(url).path), beside)
            else:
                from rattler.package_streaming import download_to_path

                await download_to_path(client, url, beside)
            if not await to_thread(_is_as_locked, beside, package):
                raise EnvironmentBuildError(
                    f"the archive {package.url} has another {'SHA-256' if package.sha256 else 'MD5'} than the lock", hint=_LOCK_IS_WRONG
                )
            return os.path.getsize(beside)


def _is_as_locked(path: Path, package: CondaPackage) -> bool:
    digest = hashlib.sha256() if package.sha256 else hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except FileNotFoundError:
        if path.name.startswith("."):
            raise
        return False
    return digest.hexdigest() == (package.sha256 or package.md5)


async def refuse_escapes(packages: Sequence[tuple[CondaPackage, Path]]) -> None:
    """Raise EnvironmentBuildError where linking the archives would write outside of the prefix.

    The linker takes the paths that an archive announces as they are: ``../``, absolute ones, and paths
    through a symbolic link that leads out. Paths through the link of another package are refused wherever it
    leads: packages are linked at once, and it is chance whether the link or a folder is there first.
    """
    from asyncio import gather

    from rattler.package_streaming import PackageArchive

    links: dict[str, CondaPackage] = {}
    paths: list[tuple[CondaPackage, str]] = []
    opened = await gather(*(PackageArchive.from_path(path) for _, path in packages))
    archives = {package: archive for (package, _), archive in zip(packages, opened, strict=True)}
    infos = await gather(*(_info(archive, package) for package, archive in archives.items()))
    for package, info in zip(archives, infos, strict=True):
        for path, is_link in _announced(info):
            if _leads_out(path):
                raise _escape(package, path)
            paths.append((package, posixpath.normpath(path)))
            if is_link:
                links[posixpath.normpath(path)] = package
    for package, path in paths:
        through = next((link for link in _above(path) if link in links), "")
        if through and await _target_leads_out(archives[links[through]], through):
            raise _escape(package, path)
        if through and links[through] != package:
            raise EnvironmentBuildError(
                f"the conda packages {links[through]} and {package} can't be linked together: {through!r} is a symbolic link in the first "
                "and a folder in the second",
                hint="ask for another version or build of one of them",
            )


async def _info(archive: Any, package: CondaPackage) -> dict[str, bytes | None]:
    try:
        found: dict[str, bytes | None] = await archive.read_files(["info/paths.json", "info/link.json", "info/files"])
    except Exception as error:
        outside = str(error).partition("invalid package-relative archive path: ")[2]
        if outside:
            raise _escape(package, outside) from error
        raise
    return found


def _announced(info: dict[str, bytes | None]) -> list[tuple[str, bool]]:
    """The paths that an archive will have in the prefix, and whether each is a symbolic link."""
    listed = json.loads(info["info/paths.json"] or b"{}").get("paths", [])
    found = [(str(entry["_path"]), entry.get("path_type") == "softlink") for entry in listed]
    found += [(line, True) for line in (info["info/files"] or b"").decode("utf-8", "replace").splitlines() if line and not listed]
    noarch = json.loads(info["info/link.json"] or b"{}").get("noarch") or {}
    return found + [(f"bin/{re.split(r'[=:]', str(point))[0].strip()}", False) for point in noarch.get("entry_points") or ()]


def _leads_out(path: str) -> bool:
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


async def _target_leads_out(archive: Any, link: str) -> bool:
    for section in ("pkg", "info"):
        async for entry in archive.stream(section):
            if posixpath.normpath(entry.name) == link and entry.is_symlink:
                target = entry.link_target or ""
                return target.startswith("/") or _leads_out(posixpath.normpath(posixpath.join(posixpath.dirname(link), target)))
    return False


def _escape(package: CondaPackage, path: str) -> EnvironmentBuildError:
    return EnvironmentBuildError(
        f"the conda package {package} would write outside of the environment: {path!r}",
        hint=f"it is broken or hostile: don't use it, and tell the owner of {package.channel}",
    )
