"""uv for a Python that only a container has: it resolves on the host, and installs inside, where the files will lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hpcest.environments.apptainer.commands import PREFIX, Mount, same, to_build
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.choosing import VersionedUv
from hpcest.environments.installers import OFFLINE, Bench
from hpcest.environments.sources import Sources
from hpcest.kit.userdirs import user_folder

#: Where uv lies in a container that is built in.
INSIDE = "/usr/local/bin/uv"
_FOR_TOOLS = ("UV_", "PIP_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
#: Where tools may write what they like: the home is not there.
_HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")


@dataclass(frozen=True)
class Container:
    """What is built in: an Apptainer, a base image, its glibc (such as ``2.36``), and the ``prefix`` that it sees at a fixed place."""

    apptainer: str
    base: str
    glibc: str
    prefix: Path


class ContainerUv(VersionedUv):
    """Builds the prefix of a container. ``folders`` are seen inside too; ``link_mode`` is how files get there from uv's cache.

    It is ``copy``, so that nothing that is done to the prefix reaches the cache.
    """

    compiles = False  # all is compiled at once at the end, in a way that does not depend on times
    link_mode = "copy"

    def __init__(self, bench: Bench, container: Container) -> None:
        super().__init__(bench)
        self._container, self.glibc = container, container.glibc
        self.folders: tuple[str, ...] = ()
        self._files = files_for_tools(bench.variables)
        self._cache = uv_cache(bench.variables)

    def _run(self, step: str, words: Sequence[str | Path], log: BuildLog, *, check: bool = True) -> None:
        if step == "resolve":
            super()._run(step, words, log, check=check)
        else:
            self.inside(step, [INSIDE, *words], log, check=check)

    def inside(self, step: str, argv: Sequence[str | Path], log: BuildLog, *, check: bool = True, more: Iterable[Mount] = ()) -> str:
        """Run a program of a step in the container, the prefix writable at its place, and ``more``. Returns what it printed."""
        self._cache.mkdir(parents=True, exist_ok=True)
        scratch = self.bench.scratch
        mounts = [
            Mount(str(self._container.prefix), PREFIX, writable=True),
            Mount(str(scratch / "tmp"), "/tmp", writable=True),  # noqa: S108 - Apptainer's own is 64 MB small
            same(scratch),
            same(self._cache),
            Mount(os.path.realpath(self.program), INSIDE),
            *(same(path, writable=False) for path in self._files.values()),
            *(same(path, writable=False) for path in local_folders(self.bench.sources)),
            *more,
            *(same(path) for path in self.folders),  # a package may write where it is built
        ]
        start = to_build(self._container.apptainer, self._container.base, mounts)
        return log.run(step, [*start, *argv], cwd=scratch, env=self._variables(ours=argv[0] == INSIDE), check=check)

    def _variables(self, *, ours: bool) -> dict[str, str]:
        """Apptainer hands on what is named so; on its command line everyone could read it. ``ours``: for uv as it is called here."""
        tools = {name: value for name, value in self.bench.env.items() if name.upper().startswith(_FOR_TOOLS)}
        if not ours:
            tools.pop(OFFLINE, None)  # a step may use uv for what nobody could fetch beforehand
        tools |= {**dict.fromkeys(_HOMES, "/tmp"), **self._files}  # noqa: S108 - the container's own, which is the scratch folder's
        tools |= {"UV_CACHE_DIR": str(self._cache), "UV_LINK_MODE": self.link_mode, "UV_NO_PROGRESS": "1"}
        return {**self.bench.env, **{f"APPTAINERENV_{name}": value for name, value in tools.items()}}


def uv_cache(variables: Mapping[str, str]) -> Path:
    """Where uv keeps what it has downloaded and built."""
    return Path(os.path.abspath(variables.get("UV_CACHE_DIR") or user_folder("XDG_CACHE_HOME", variables).parent / "uv"))


def files_for_tools(variables: Mapping[str, str]) -> dict[str, str]:
    """Files of the user that tools read on the host, and must read inside: certificates, passwords of indexes, settings of uv."""
    home = variables.get("HOME") or os.path.expanduser("~")
    settings = os.path.join(variables.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "uv", "uv.toml")
    found = {
        "SSL_CERT_FILE": certificates(variables),
        "NETRC": variables.get("NETRC") or os.path.join(home, ".netrc"),
        "UV_CONFIG_FILE": variables.get("UV_CONFIG_FILE") or settings,
    }
    return {name: path for name, path in found.items() if path and os.path.isfile(path)}


def certificates(variables: Mapping[str, str]) -> str:
    """The host's file of certificate authorities, which knows a proxy's too; empty where there is none."""
    return next((path for path in (variables.get("SSL_CERT_FILE", ""), *_CERTIFICATES) if path and os.path.isfile(path)), "")


def local_folders(sources: Sources) -> list[str]:
    """The folders of this machine that packages come from."""
    paths = [unquote(urlsplit(url).path) if url.startswith("file:") else url for url in sources.urls if url.startswith(("/", "file:"))]
    return [path for path in paths if os.path.isdir(path)]


def places_of(urls: Iterable[str]) -> list[str]:
    """The folders of this machine that packages named by URL lie in: a project's own, an archive's parent."""
    paths = [unquote(urlsplit(url.removeprefix("git+")).path) for url in urls if url.startswith(("file:", "git+file:"))]
    exact = [path if os.path.isdir(path) else os.path.dirname(path.rpartition("@")[0] or path) for path in paths]
    return list(dict.fromkeys(path for path in exact if os.path.isdir(path)))
