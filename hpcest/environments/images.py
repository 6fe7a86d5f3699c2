"""The built environments of one lock that are no image files: made at their final place, visible once they are whole.

A virtual environment, or a conda prefix, can't be moved, so each is built in a folder of its own and then named by a small
file that is made exclusively, its pointer. Who comes second throws its own away and uses the one that is named. Removing one
takes the pointer away first. The folder stays for a day, for those who looked before that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcest.environments.store.entries import LAST_USED, PIN, USE_NOTED_EVERY_S
from hpcest.environments.store.layout import same, token
from hpcest.kit.files import create_exclusively, read_json, write_json
from hpcest.kit.lease import Holder, server_now

#: A half-built environment whose log was silent for so many seconds has nobody left who builds it.
ABANDONED_AFTER_S = 3600.0
_MARK = "hpcest-build.json"
_TOKEN = re.compile(r"[0-9a-f]{8}")
#: What a pointer that was taken away is called from then on: of an image that nobody needs, and of a damaged one.
GONE, BAD = "gone", "bad"
_PLACE = re.compile(r"[0-9a-f]+-[0-9a-f]{4}")
#: What a workspace has beside them.
_OTHERS = ("v1", "registered", "specs", "interpreters")
_LEFT = re.compile(rf"({GONE}|{BAD})\.(\d+)\.[0-9a-f]{{12}}\.json")


@dataclass(frozen=True)
class Image:
    """One built environment. ``manifest`` says what it was made of, by whom and when."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


@dataclass(frozen=True)
class Left:
    """An image whose pointer was taken away, ``when`` by the file server's clock. ``folder`` is None where nothing is known of it."""

    pointer: Path
    why: str
    when: float
    key: str
    folder: Path | None


class Place:
    """The folder of the images of one lock, of which one at most is named. It does not have to exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lease = folder / "lease"
        self.pointer = folder / "image.json"

    def look(self) -> tuple[Image | None, str]:
        """``inspect``, for whoever is going to use the image: that is written down, once a day at most."""
        image, wrong = self.inspect()
        if image:
            self._note_use()
        return image, wrong

    def inspect(self) -> tuple[Image | None, str]:
        """The image that is ready, and what is wrong with the one that isn't: (None, "") where there is none."""
        if self.seen() is None:
            return None, ""
        manifest = self.manifest()
        folder = self.named(manifest)
        if folder is None:
            return None, "its manifest can't be read"
        image = Image(folder, manifest)
        if not image.folder.is_dir():
            return None, "its folder is gone"
        if manifest.get("python") != "" and not os.access(image.python, os.X_OK):  # conda packages need not bring one
            return None, "its Python is gone"
        return image, ""

    def ready(self) -> Image | None:
        """The image that can be used now."""
        return self.inspect()[0]

    def seen(self) -> os.stat_result | None:
        """What the pointer looks like now, for ``take_away``; None where there is none."""
        try:
            return os.lstat(self.pointer)
        except OSError:
            return None

    def manifest(self, pointer: Path | None = None) -> dict[str, Any]:
        """What a pointer says, by default the one in force; empty where that can't be read."""
        try:
            data = read_json(pointer or self.pointer)
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def named(self, manifest: dict[str, Any]) -> Path | None:
        """The folder that a manifest names."""
        name = manifest.get("token")
        return self.folder / name if isinstance(name, str) and _TOKEN.fullmatch(name) else None

    def _note_use(self) -> None:
        path = self.folder / LAST_USED
        with contextlib.suppress(OSError):  # whoever can't write there goes without
            with contextlib.suppress(FileNotFoundError):
                if abs(time.time() - os.stat(path).st_mtime) < USE_NOTED_EVERY_S:  # hosts' clocks differ by less than days
                    return
            with open(path, "ab"):
                os.utime(path)

    def pin(self, *, pinned: bool = True) -> bool:
        """Keep the image from every sweep, or allow that again; False where it has just gone. Raises OSError."""
        if pinned:
            (self.folder / PIN).touch()
        else:
            (self.folder / PIN).unlink(missing_ok=True)
        return self.seen() is not None  # asked at the end: a sweep takes the pointer away, then looks for the pin

    def take_away(self, seen: os.stat_result, why: str = GONE) -> Path | None:
        """Name the image no more whose pointer was ``seen`` before it was examined; returns where that one is now.

        The folder stays, see ``left``. None where the pointer has gone, or is another one by now. Raises OSError.
        """
        aside = self.folder / f"{why}.{server_now(self.folder):.0f}.{token()}.json"
        try:
            if not same(os.lstat(self.pointer), seen):
                return None
            os.rename(self.pointer, aside)
            if same(os.lstat(aside), seen):
                return aside
        except FileNotFoundError:
            return None
        self.put_back(aside)
        return None

    def put_back(self, aside: Path) -> bool:
        """Have a pointer that was taken away in force again; False where another one is by now. Raises OSError."""
        try:
            os.link(aside, self.pointer)
        except FileExistsError:
            return False
        aside.unlink()
        return True

    def left(self) -> Iterator[Left]:
        """The images whose pointers were taken away, and whose folders may be there still."""
        for path in self._list():
            found = _LEFT.fullmatch(path.name)
            if found:
                manifest = self.manifest(path)
                key = str(manifest.get("key") or self.folder.name.partition("-")[0])
                yield Left(path, found[1], float(found[2]), key, self.named(manifest))

    def abandoned(self) -> list[Path]:
        """The half-built folders that nobody builds in any more, as far as that can be known."""
        dead = [folder for folder in self._list() if _TOKEN.fullmatch(folder.name) and self._is_abandoned(folder)]
        named = {self.named(self.manifest()), *(one.folder for one in self.left())} if dead else set()
        return [folder for folder in dead if folder not in named]

    def _list(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except OSError:
            return []

    def begin(self) -> Path:
        """A new folder to build in. Sweeps away what builders left that are known to have died."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in self.abandoned():
            self.discard(folder)
        folder = self.folder / uuid.uuid4().hex[:8]
        folder.mkdir()
        write_json(folder / _MARK, asdict(Holder.me()))
        return folder

    def log_of(self, folder: Path) -> Path:
        """The build log that belongs to a folder."""
        return self.folder / f"build-{folder.name}.log"

    def publish(self, folder: Path, manifest: dict[str, Any]) -> bool:
        """Name the finished ``folder`` as the image; False where another was quicker. Atomic either way.

        A pointer to a damaged image is taken away first.
        """
        with contextlib.suppress(FileNotFoundError):  # from here on it is not half-built, whoever made it
            (folder / _MARK).unlink()
        seen = self.seen()
        if seen and self.inspect()[1]:
            self.take_away(seen, BAD)  # not the one that another builder has put there just now
        builder = Holder.me()
        whole = {**manifest, "token": folder.name, "created": time.time(), "by": f"{builder.user}@{builder.host}"}
        return create_exclusively(self.pointer, json.dumps(whole, indent=1) + "\n")

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove a folder that will not be an image; its log stays."""
        shutil.rmtree(folder, ignore_errors=True)

    def _is_abandoned(self, folder: Path) -> bool:
        try:
            if Holder(**read_json(folder / _MARK)).is_dead:
                return True
        except (OSError, ValueError, TypeError):
            pass  # no mark, or a torn one: the log's age tells
        for path in (self.log_of(folder), folder):
            with contextlib.suppress(OSError):
                return os.stat(path).st_mtime < server_now(self.folder) - ABANDONED_AFTER_S
        return False


class Shelf(Place):
    """Where the image of one lock lies in a workspace, for one base interpreter.

    Hosts that share a workspace may have the same Python in different places; an environment made of one
    is of no use to the other.
    """

    def __init__(self, environments: Path, key: str, base: str, kind: str = "venv") -> None:
        place = hashlib.sha256(os.fsencode(os.path.realpath(base))).hexdigest()[:4]
        super().__init__(environments / kind / f"{key[:16]}-{place}")


def places(environments: Path) -> Iterator[Place]:
    """Every place of such images in a workspace, whether one is named there or not."""
    for folder in sorted(environments.glob("*/*-????")):
        if _PLACE.fullmatch(folder.name) and folder.parent.name not in _OTHERS:
            yield Place(folder)
