"""Which image a name in a registry means now: the digest of its manifest, by the OCI distribution specification.

Apptainer fetches images itself. What it makes of one differs from time to time, so that only the digest tells two machines
that they are built on the same.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode
from urllib.request import Request, urlopen

from hpcest.errors import EnvironmentBuildError

_TIMEOUT_S = 20
_LARGEST = 4 << 20  # what registries refuse to take as a manifest
_INDEX = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_PATH = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)*)(?::(?P<tag>[\w.-]+))?")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
#: Docker Hub: what its name stands for, where it answers, and what its password is kept under.
_HUB = ("docker.io", "registry-1.docker.io", "https://index.docker.io/v1/")
#: What has Apptainer use HTTP, for registries inside a cluster.
_PLAIN = ("APPTAINER_NOHTTPS", "APPTAINER_NO_HTTPS", "SINGULARITY_NOHTTPS", "SINGULARITY_NO_HTTPS")
#: What ``uname -m`` says → what registries call it.
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}


class UnreachableError(Exception):
    """A registry that can't be asked, in a sentence: Apptainer may still know a way."""


@dataclass(frozen=True)
class Name:
    """One image of a registry. ``login`` is ``user:password`` as the reference had it, or empty; ``digest`` too, in hex."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""
    login: str = field(default="", repr=False)

    @property
    def uri(self) -> str:
        """What Apptainer gets: without credentials, and with the digest alone where there is one, since it takes no tag beside it."""
        version = f"@sha256:{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return f"docker://{'' if self.host == _HUB[0] else f'{self.host}/'}{self._short}{version}"

    @property
    def pinned(self) -> str:
        """What names this very image on any machine, with the tag for people."""
        tag = f":{self.tag}" if self.tag else ""
        return f"docker://{'' if self.host == _HUB[0] else f'{self.host}/'}{self._short}{tag}@sha256:{self.digest}"

    @property
    def _short(self) -> str:
        return self.repository.removeprefix("library/") if self.host == _HUB[0] else self.repository

    def variables(self) -> dict[str, str]:
        """The credentials as Apptainer takes them apart from the command line, which everybody can read."""
        user, mark, password = self.login.partition(":")
        return {"APPTAINER_DOCKER_USERNAME": unquote(user), "APPTAINER_DOCKER_PASSWORD": unquote(password)} if mark else {}


def name_of(uri: str) -> Name | None:
    """The parts of ``docker://…``; None for what is none."""
    text, _, digest = uri.removeprefix("docker://").partition("@sha256:")
    login, _, text = text.rpartition("@")
    first, mark, rest = text.partition("/")
    is_machine = mark and ("." in first or ":" in first or first == "localhost")  # as it is for Docker
    host, text = (first, rest) if is_machine else (_HUB[0], text)
    found = _PATH.fullmatch(text)
    if found is None or not uri.startswith("docker://"):
        return None
    repository = found["name"] if host != _HUB[0] or "/" in found["name"] else f"library/{found['name']}"
    return Name(host, repository, found["tag"] or "", digest, login)


def look_up(name: Name, variables: Mapping[str, str] = os.environ, machine: str = "") -> str:
    """The SHA-256, in hex, of the manifest that ``name`` means for ``machine``, by default this one.

    Raises UnreachableError for a registry that doesn't answer, or doesn't let us in, and EnvironmentBuildError for an image that it
    doesn't have.
    """
    registry = _Registry(name, variables)
    wanted = f"sha256:{name.digest}" if name.digest else name.tag or "latest"
    body = registry.get(wanted)
    digest = hashlib.sha256(body).hexdigest()
    if name.digest and digest != name.digest:
        raise UnreachableError(f"{name.host} answers with another manifest than the one asked for")
    try:
        manifest = json.loads(body)
        listed = manifest.get("manifests")
        return _of_platform(listed, name, machine or os.uname().machine) if listed else digest
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnreachableError(f"{name.host} answers with something else than a manifest ({error})") from None


def _of_platform(listed: list[dict[str, Any]], name: Name, machine: str) -> str:
    wanted = _MACHINES.get(machine, machine)
    for one in listed:
        platform = one.get("platform") or {}
        if platform.get("os", "linux") == "linux" and platform.get("architecture", wanted) == wanted:
            return str(one["digest"]).removeprefix("sha256:")
    have = ", ".join(sorted({str((one.get("platform") or {}).get("architecture")) for one in listed} - {"unknown"}))
    raise EnvironmentBuildError(f"the image {name.uri} is not made for {wanted}: it is for {have}", hint="name another image")


class _Registry:
    """One registry, and who we are there."""

    def __init__(self, name: Name, variables: Mapping[str, str]) -> None:
        self._name, self._variables = name, variables
        plain = next(filter(None, map(variables.get, _PLAIN)), "")
        host = _HUB[1] if name.host == _HUB[0] else name.host
        self._root = f"http{'' if plain.lower() in ('1', 'true', 'yes') else 's'}://{host}/v2/{name.repository}"

    def get(self, version: str) -> bytes:
        """The manifest of a tag or a digest. Raises UnreachableError, EnvironmentBuildError."""
        url = f"{self._root}/manifests/{version}"
        headers = {"Accept": ", ".join((*_INDEX, *_MANIFEST))}
        try:
            return _fetch(url, headers)
        except HTTPError as error:
            if error.code != 401:
                raise self._refused(error) from None
            challenge = str(error.headers.get("WWW-Authenticate", ""))
        try:
            return _fetch(url, headers, self._credentials(challenge))
        except HTTPError as error:
            raise self._refused(error) from None

    def _refused(self, error: HTTPError) -> Exception:
        if error.code == 404:
            hint = "look at its name and its tag; of a private image a registry says the same"
            return EnvironmentBuildError(f"the registry {self._name.host} has no image {self._name.uri}", hint=hint)
        return UnreachableError(f"{self._name.host} answers with {error.code} {error.reason}")

    def _credentials(self, challenge: str) -> str:
        """What answers the challenge, as the specification's ``Bearer`` or ``Basic`` has it. Raises UnreachableError, HTTPError."""
        login = self._login()
        basic = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() != "bearer":
            return basic
        asked = dict(_CHALLENGE.findall(rest))
        scope = asked.get("scope") or f"repository:{self._name.repository}:pull"
        query = urlencode({key: value for key, value in (("service", asked.get("service", "")), ("scope", scope)) if value})
        try:
            answer = json.loads(_fetch(f"{asked['realm']}?{query}", {}, basic))
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UnreachableError(f"{self._name.host} asks for a login in a way that is not known") from None

    def _login(self) -> str:
        """``user:password``: of the reference, of Apptainer's variables, or of the files of ``apptainer`` and ``docker login``."""
        if self._name.login:
            return unquote(self._name.login)
        for prefix in ("APPTAINER", "SINGULARITY"):
            user, password = (self._variables.get(f"{prefix}_DOCKER_{part}", "") for part in ("USERNAME", "PASSWORD"))
            if user:
                return f"{user}:{password}"
        home = Path(self._variables.get("HOME") or Path.home())
        files = (home / ".apptainer/docker-config.json", Path(self._variables.get("DOCKER_CONFIG") or home / ".docker") / "config.json")
        host = _HUB[2] if self._name.host == _HUB[0] else self._name.host
        for file in files:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
                return base64.b64decode(json.loads(file.read_bytes())["auths"][host]["auth"]).decode()
        return ""


def _fetch(url: str, headers: Mapping[str, str], credentials: str = "") -> bytes:
    """What ``url`` has. Raises UnreachableError, and HTTPError for an answer other than yes."""
    try:
        request = Request(url, headers=dict(headers))  # noqa: S310  ours, or a registry's own
        if not url.startswith(("https://", "http://")):
            raise UnreachableError(f"{url!r} is no address of the web")
        if credentials:
            request.add_unredirected_header("Authorization", credentials)  # meant for this host alone
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            body: bytes = answer.read(_LARGEST + 1)
    except HTTPError as error:
        error.close()  # it holds the connection
        raise
    except (OSError, ValueError) as error:  # URLError is one
        reason = error.reason if isinstance(error, URLError) else error
        raise UnreachableError(f"{url.split('/')[2]} can't be reached: {reason}") from None
    if len(body) > _LARGEST:
        raise UnreachableError(f"{url.split('/')[2]} answers with more than a manifest")
    return body
