"""One build on its way into a store: a folder that nobody else sees, until one rename publishes it.

Correct without any lock: of several builders of one key the first to rename wins, the others take its image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcest.environments.store.digests import sha256_of
from hpcest.environments.store.entries import LOG, MANIFEST, UNLISTED, StoredImage, inspect, label
from hpcest.environments.store.layout import Layout, discard, remove, set_aside, size_of, sync_folder, token
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import read_json, write_json
from hpcest.kit.lease import Holder, server_now

SCHEMA = 1
BEAT_S = 60.0
#: A builder elsewhere that was silent for so many seconds builds no more. On this host its process is looked for.
ABANDONED_AFTER_S = 3600.0
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_TRIES = 5


class Build:
    """What ``Store.begin`` gives: build into ``folder``, write the log to ``log``, then ``publish``.

    ``folder`` takes files only, none a hard link of another. ``log`` lies outside, so that the log of a failed
    build stays; on success it becomes the image's ``build.log``.
    """

    def __init__(self, layout: Layout, key: str, folder: Path, mode: int) -> None:
        self.key, self.folder = key, folder
        self.log = layout.logs / f"{folder.name}.log"
        self._layout, self._mode = layout, mode

    def publish(self, manifest: Mapping[str, Any]) -> StoredImage:
        """Have the folder in the store, whole and on the disk; returns the image to use, which another may have published.

        ``manifest`` is completed with the key, the builder, the time and every file's digest and size. A damaged
        image of the same key is moved to ``.bad/``. Raises EnvironmentBuildError, and OSError inside ``begin``.
        """
        builder = Holder.me()
        facts = {"schema": SCHEMA, "created": time.time(), "by": f"{builder.user}@{builder.host}", **manifest}
        files = {path.name: self._finish(path) for path in sorted(self.folder.iterdir()) if path.name not in UNLISTED}
        write_json(self.folder / MANIFEST, {**facts, "key": self.key, "build": self.folder.name, "files": files}, sync=True)
        sync_folder(self.folder)
        image = settle(self._layout, self.key, self.folder, str(manifest.get("name") or ""))
        if image.manifest.get("build") == self.folder.name:
            with contextlib.suppress(OSError):
                os.rename(self.log, image.folder / LOG)
        else:
            remove(self.log)  # of work that came to nothing
        return image

    def _finish(self, path: Path) -> dict[str, Any]:
        """Make a file read-only and have it on the disk; returns its facts for the manifest."""
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise EnvironmentBuildError(f"{label(self.key)} holds {path.name}, which is no file", hint="pack folders into one file")
        os.chmod(path, self._mode & 0o444)
        return settled(path)


def settled(path: Path) -> dict[str, Any]:
    """The facts of a finished file, which is on the disk then: ``sha256``, ``size``, ``mtime_ns``. Raises OSError."""
    have_on_disk(path)
    digest, facts = sha256_of(path), os.stat(path)
    return {"sha256": digest, "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def have_on_disk(path: Path, mtime_ns: int | None = None) -> None:
    """Have a finished file on the disk, dated as given, else in whole seconds. Raises OSError.

    Every file system and every way of copying keeps whole seconds.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)  # before the time is set: a late write would set another
        when = mtime_ns if mtime_ns is not None else os.fstat(fd).st_mtime_ns // 10**9 * 10**9
        os.utime(fd, ns=(time.time_ns(), when))
        os.fsync(fd)
    finally:
        os.close(fd)


def settle(layout: Layout, key: str, folder: Path, name: str = "") -> StoredImage:
    """Rename a finished ``folder`` to its place; returns the image that is there then, ours or the winner's.

    Raises EnvironmentBuildError, and OSError where the file system refuses.
    """
    place = layout.image(key)
    for _ in range(_TRIES):
        trouble: OSError | None = None
        try:
            os.rename(folder, place)
            sync_folder(layout.images)
        except OSError as error:
            trouble = error
        if trouble and trouble.errno not in (*_TAKEN, errno.ENOENT):
            raise trouble
        with contextlib.suppress(FileNotFoundError):  # it has just gone: the next try gets the place
            seen = os.lstat(place)
            image, wrong = inspect(place, key, layout.root)
            if image:
                return image
            if wrong:
                set_aside(layout, place, seen)
        if not os.path.lexists(folder):  # a rename that was repeated by NFS has found its image above
            hint = "try again, and see who cleans up there"
            raise EnvironmentBuildError(f"{label(key, name)} was swept out of {layout.building} while it was built", hint=hint)
    raise EnvironmentBuildError(f"{label(key, name)} can't be published: {place} is in the way", hint="remove it")


@contextlib.contextmanager
def scratch(layout: Layout, name: str, *, base: str = "") -> Iterator[tuple[Path, int]]:
    """A new folder on the store's file system, and the mode of new files. Removed at the end, unless it was renamed away.

    A mark beside it says who works there, and on which base image. Raises OSError.
    """
    layout.make()
    folder = layout.building / f"{name}.{token()}"
    mark = folder.with_name(f"{folder.name}.json")
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(mark, stop), name=f"mark of {name[:12]}", daemon=True)
    try:
        write_json(mark, {"holder": asdict(Holder.me()), "base": base})
        folder.mkdir()
        heart.start()
        yield folder, stat.S_IMODE(os.stat(mark).st_mode)
    finally:
        stop.set()
        if heart.ident is not None:
            heart.join()
        remove(folder)
        remove(mark)


def _beat(mark: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(mark)


def bases_in_work(layout: Layout) -> set[str]:
    """The digests of the base images that somebody builds on at this moment."""
    found = set()
    for mark in layout.building.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            found.add(str(read_json(mark)["base"]))
    return found - {""}


def sweep_abandoned(layout: Layout, *, dry_run: bool = False) -> list[tuple[Path, int]]:
    """Remove what builders left that are known to have ended; returns its paths and bytes. Raises OSError."""
    try:
        entries = sorted(layout.building.iterdir())
    except FileNotFoundError:
        return []
    gone = []
    for path in entries:
        if path.suffix == ".json" and path.with_suffix("").is_dir():
            continue  # goes with its folder
        if _is_abandoned(layout, path):
            mark = path.with_name(f"{path.name}.json")
            gone.append((path, size_of(path)))
            if not dry_run:
                # Out of sight by one rename: a builder that lives after all finds nothing, and never half of it.
                with contextlib.suppress(OSError):  # another user's
                    remove(discard(layout, path) or path)
                    remove(mark)
    return gone


def _is_abandoned(layout: Layout, path: Path) -> bool:
    """True where nobody works in the folder any more, as far as that can be known."""
    mark = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
    try:
        if Holder(**read_json(mark)["holder"]).is_dead:
            return True
    except (OSError, ValueError, TypeError, KeyError):
        pass  # no mark, or a torn one: its age tells
    for sign in (mark, path):
        with contextlib.suppress(OSError):
            return os.lstat(sign).st_mtime < server_now(layout.building) - ABANDONED_AFTER_S
    return False
