"""From locked packages to a prefix that is valid at another path, with the same bytes for everyone who links them."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.contracts import Say
from hpcest.environments.conda.archives import Archives, refuse_escapes
from hpcest.environments.conda.channels import Channel, fetched, hide
from hpcest.environments.conda.extra import require, wait
from hpcest.environments.conda.lockfile import CondaPackage
from hpcest.environments.conda.solving import advice
from hpcest.errors import EnvironmentBuildError

if TYPE_CHECKING:
    import rattler

# Hard links into the cache would let whoever edits the prefix edit the cache. Symbolic links stay allowed: without
# them py-rattler copies what the links of a package lead to, files of this machine too, and makes none to the cache.
_SETTINGS = "allow-hard-links = false\n"
_PERSONAL = ("extracted_package_dir", "package_tarball_full_path", "link")
_SCRIPT = re.compile(r"bin/\.(.+)-post-link\.sh")
_OTHER_ADVICE = (
    (r"cannot be longer than the placeholder", "the environment must lie at a shorter path"),
    (r"Permission denied|Read-only file system", "the folder of the environment and the cache must be writable"),
)


def link(
    packages: Sequence[CondaPackage], folder: Path, *, target_prefix: str, cache: Path, say: Say, channels: Sequence[Channel] = ()
) -> None:
    """Install ``packages`` into ``folder``, which is empty or missing, for use at ``target_prefix``.

    ``cache`` keeps archives and what was unpacked of them, for any number of links at once; ``channels`` give
    the URLs their credentials back. Post-link scripts are not run, which is said. What is in ``folder``
    depends on the packages and ``target_prefix`` alone: not on the user, the umask or the cache.
    Raises EnvironmentBuildError; ``folder`` is to be thrown away then.
    """
    require()
    try:
        wait(_Link(packages, folder, Path(target_prefix), cache).run(channels, say))
        scripts = _made_equal(packages, folder)
    except EnvironmentBuildError:
        raise
    except Exception as error:  # a panic of the linker's has a class that can't be imported
        raise _failure(error, channels) from error
    for name in scripts:
        say(f"warning: the conda package {name} has a post-link script, which is not run")


class _Link:
    """One prefix to be made."""

    def __init__(self, packages: Sequence[CondaPackage], folder: Path, target: Path, cache: Path) -> None:
        self._packages, self._folder, self._target, self._cache = packages, folder, target, cache
        self._archives = Archives(cache / "archives")

    async def run(self, channels: Sequence[Channel], say: Say) -> None:
        from asyncio import gather

        began, count = time.monotonic(), f"{len(self._packages)} package{'s'[: len(self._packages) != 1]}"
        fetched_bytes = await self._archives.fetch([(one, fetched(one.url, channels)) for one in self._packages])
        say(f"download: {count}, {_size(fetched_bytes)}, {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        await refuse_escapes([(one, self._archives.path(one)) for one in self._packages])
        await self._install(await gather(*map(self._record, self._packages)))
        say(f"link: {count}, {time.monotonic() - began:.1f} s")

    async def _record(self, package: CondaPackage) -> rattler.RepoDataRecord:
        """What the archive says of itself: what a channel says of it in another year makes no difference."""
        from rattler import RepoDataRecord

        record = await RepoDataRecord.from_package_archive(self._archives.path(package))
        if (record.name.normalized, str(record.version), str(record.build)) != (package.name, package.version, package.build):
            raise EnvironmentBuildError(
                f"the archive {package.url} holds {record.name.normalized} {record.version} {record.build}, not {package}",
                hint=f"the channel is broken: tell its owner, {package.channel}",
            )
        return record

    async def _install(self, records: list[rattler.RepoDataRecord]) -> None:
        from rattler import Config, install
        from rattler.package_cache import PackageCache, PackageCacheLayer, ValidationMode

        unpacked = self._cache / "packages"
        unpacked.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        layer = PackageCacheLayer(unpacked).with_validation_mode(ValidationMode.full())  # what was changed there is unpacked again
        await install(
            records,
            self._folder,
            package_cache=PackageCache.from_layers([layer]),
            alternative_target_prefix=self._target,
            config=Config.from_toml(_SETTINGS),
            execute_link_scripts=False,
            show_progress=False,
        )


def _made_equal(packages: Sequence[CondaPackage], folder: Path) -> list[str]:
    """Take the user's own traces out of the prefix; returns the packages that have a post-link script."""
    scripts: list[str] = []
    for package in packages:
        path = folder / "conda-meta" / f"{package.name}-{package.version}-{package.build}.json"
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name in _PERSONAL:
            record.pop(name, None)
        record.update(url=package.url, channel=package.channel, fn=package.file_name, sha256=package.sha256, md5=package.md5)
        record["files"] = sorted(record.get("files", ()))
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        scripts += [package.name for file in record["files"] if _SCRIPT.fullmatch(file)]
    (folder / "CACHEDIR.TAG").unlink(missing_ok=True)  # backups and rsync would pass the environment over
    _set_modes(folder)
    return sorted(set(scripts))


def _set_modes(folder: Path) -> None:
    """Give all below ``folder`` the modes that a umask of 022 gives. Who may enter is up to ``folder`` itself."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(path, 0o755 if mode & 0o100 or stat.S_ISDIR(mode) else 0o644)


def _failure(error: Exception, channels: Sequence[Channel]) -> EnvironmentBuildError:
    if type(error).__name__ == "RustPanic":
        return EnvironmentBuildError(
            "linking the conda packages failed: py-rattler crashed on them",
            hint="two of the packages may contradict each other; report this",
        )
    if isinstance(error, OSError) and error.filename:
        words = f"{error.filename}: {error.strerror or error}"
    else:
        words = hide(str(error), channels)
    hint = next((text for pattern, text in _OTHER_ADVICE if re.search(pattern, words)), "") or advice(words)
    return EnvironmentBuildError(f"linking the conda packages failed: {words}", hint=hint)


def _size(count: int) -> str:
    if not count:
        return "all in the cache"
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
