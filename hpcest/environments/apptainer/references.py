"""What a user writes to name an image: a file, an archive, a reference to a registry, or a recipe to build one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpcest.environments.secrets import strip
from hpcest.errors import SpecError

#: What Apptainer fetches by itself.
REMOTE = ("docker", "oras", "library", "shub", "http", "https")
#: What lies there as the file that it is.
PULLED = ("oras", "library", "shub", "http", "https")
#: What it reads from this machine: a file or a folder after the colon.
LOCAL = ("docker-archive", "oci-archive", "oci", "sandbox")
_NAME = re.compile(r"[a-z0-9][\w.-]*(:\d+)?(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?")
#: A base image of a store, by its identity: what a lock file comes to.
_STORED = re.compile(r"base:[0-9a-f]{64}")
_SCHEME = re.compile(r"([a-z][a-z0-9-]*):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """One image as it was named. ``kind`` is ``file``, ``remote``, ``archive``, ``definition``, ``dockerfile`` or ``stored``.

    ``uri`` is what Apptainer gets, which may hold a password; ``shown`` is what is recorded. ``path`` is the local file or folder.
    """

    kind: str
    uri: str
    path: Path | None = None

    @property
    def shown(self) -> str:
        """The reference without credentials."""
        name, mark, digest = self.uri.partition("@sha256:")  # what stands before that @ is no user
        return f"{strip(name)}{mark}{digest}"


def parse(text: str, folder: Path | None = None) -> Reference:
    """The reference that ``text`` is; paths count from ``folder``, default the current one. Raises SpecError.

    A bare name such as ``python:3.12`` is an image of a Docker registry, as it is for Docker.
    """
    scheme = _SCHEME.fullmatch(text)
    if _STORED.fullmatch(text):
        return Reference("stored", text)
    if scheme and scheme[1] in REMOTE and scheme[2].startswith("//"):
        return Reference("remote", text)
    if scheme and scheme[1] in LOCAL:
        return _archive(scheme[1], scheme[2], folder)
    path = Path(os.path.abspath(Path(folder or "", os.path.expanduser(text))))
    if path.exists():
        return Reference(_kind_of(path), str(path), path)
    looks_like_a_path = text.startswith(("/", ".", "~")) or text.endswith((".sif", ".simg", ".def", ".img", ".tar"))
    if looks_like_a_path or "://" in text or not _NAME.fullmatch(text):
        raise SpecError(
            f"there is no image {strip(text)!r}" if looks_like_a_path else f"no image is named like {strip(text)!r}", hint=_HINT
        )
    return Reference("remote", f"docker://{text}")


_HINT = (
    "give the path of a .sif, a .def or a Dockerfile, or write docker://NAME:TAG, oras://…, library://…, docker-archive:FILE, "
    "oci-archive:FILE or oci:FOLDER"
)


def _archive(scheme: str, rest: str, folder: Path | None) -> Reference:
    where, mark, tag = rest.removeprefix("//").partition(":")
    path = Path(os.path.abspath(Path(folder or "", os.path.expanduser(where))))
    if not path.exists():
        raise SpecError(f"image {scheme}:{rest}: there is no {path}", hint="a path counts from the current directory")
    return Reference("archive", str(path) if scheme == "sandbox" else f"{scheme}:{path}{mark}{tag}", path)


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "archive"
    if path.suffix == ".def":
        return "definition"
    if path.name.lower().startswith("dockerfile") or path.suffix.lower() == ".dockerfile":
        return "dockerfile"
    if path.suffix == ".tar":
        raise SpecError(f"image {str(path)!r} is an archive of one kind or another", hint="write docker-archive:FILE or oci-archive:FILE")
    return "file"
