"""Every path of a store of built environments, spelt once, and the few steps on folders that all of them share."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from pathlib import Path

from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.kit.lease import server_now

_KEY = re.compile(r"[0-9a-f]{12,128}")
#: What the numbers of a full or closed disk mean to whoever builds.
_REMEDIES = {
    "ENOSPC": "free some space there, or see what 'hpcest env gc --dry-run' would remove",
    "EDQUOT": "free some of your quota, or see what 'hpcest env gc --dry-run' would remove",
    "EFBIG": "raise the limit for the size of files (ulimit -f)",
    "EACCES": "it must be writable to build in it",
    "EPERM": "it must be writable to build in it",
    "EROFS": "it must be writable to build in it",
}


class Layout:
    """The folders of the store below ``root``. None of them has to exist."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.home = self.root / "v1"
        self.images = self.home / "images"
        self.bases = self.home / "bases"
        self.specs = self.home / "specs"
        self.logs = self.home / "logs"
        self.building = self.home / ".tmp"
        self.leases = self.home / ".lease"
        self.bad = self.home / ".bad"
        self.trash = self.home / ".trash"

    @property
    def folders(self) -> tuple[Path, ...]:
        """All of them, below ``home``."""
        return (self.images, self.bases, self.specs, self.logs, self.building, self.leases, self.bad, self.trash)

    def image(self, key: str) -> Path:
        """The folder of an image. Raises SpecError for what is no key."""
        return self.images / checked(key)

    def base(self, digest: str) -> Path:
        """The file of a base image. Raises SpecError for what is no digest."""
        return self.bases / f"{checked(digest)}.sif"

    def base_facts(self, digest: str) -> Path:
        """What is known of a base image, and the sign that it is whole."""
        return self.bases / f"{checked(digest)}.json"

    def spec(self, spec_key: str) -> Path:
        """The memo of a request."""
        return self.specs / f"{checked(spec_key)}.json"

    def lease(self, key: str) -> Path:
        """The lease of whoever builds a key."""
        return self.leases / checked(key)

    def make(self) -> None:
        """Make the folders that writing needs, with the modes that the umask allows. Raises OSError."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)


def checked(key: str) -> str:
    """``key`` itself, where it is one: it becomes the name of a file. Raises SpecError."""
    if not _KEY.fullmatch(key):
        raise SpecError(f"{key!r} is no key of an environment or an image", hint="a key has 12 to 128 digits, 0-9 and a-f")
    return key


def is_key(text: object) -> bool:
    """True for what ``checked`` lets through."""
    return isinstance(text, str) and bool(_KEY.fullmatch(text))


def token() -> str:
    """A name that nobody else has."""
    return uuid.uuid4().hex[:12]


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on the disk, where its file system can do that."""
    with contextlib.suppress(OSError):  # some network file systems have no fsync for folders
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """True where both describe one file or folder, wherever it was moved."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def set_aside(layout: Layout, path: Path, seen: os.stat_result) -> Path | None:
    """Move the damaged ``path`` into ``.bad/``; None where it is not there any more. Raises OSError.

    ``seen`` is its lstat from before it was examined. What another process has put in its place meanwhile is put back.
    """
    layout.bad.mkdir(parents=True, exist_ok=True)
    aside = layout.bad / f"{path.name}.{token()}"
    try:
        if not same(os.lstat(path), seen):
            return None
        os.rename(path, aside)
        if same(os.lstat(aside), seen):
            return aside
    except FileNotFoundError:
        return None
    _put_back(layout, aside, path)
    return None


def _put_back(layout: Layout, aside: Path, path: Path) -> None:
    try:
        if aside.is_dir():
            os.rename(aside, path)
        else:
            os.link(aside, path)
            aside.unlink()
    except OSError:  # a third one is there by now
        discard(layout, aside)


def discard(layout: Layout, path: Path) -> Path | None:
    """Move ``path`` out of sight into ``.trash/``, dated by the file server; None where it has gone. Raises OSError."""
    layout.trash.mkdir(parents=True, exist_ok=True)
    there = layout.trash / f"{path.name}.{server_now(layout.trash):.0f}.{token()}"
    try:
        os.rename(path, there)
    except FileNotFoundError:
        return None
    return there


def remove(path: Path) -> None:
    """Remove a file or a folder for good, as far as it can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def size_of(path: Path) -> int:
    """The bytes of a file, or of the files in a folder."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(inner) for inner in path.iterdir())
        return os.lstat(path).st_size
    return 0


def failure(what: str, root: Path, error: OSError) -> EnvironmentBuildError:
    """The error to raise where the file system refused something that concerns ``what`` in the store at ``root``."""
    import errno

    where = f" ({error.filename})" if error.filename and not isinstance(error.filename, int) else ""
    hint = _REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), "see whether the file system there works")
    return EnvironmentBuildError(f"{what} can't be kept in {root}: {error.strerror or error}{where}", hint=hint)
