"""The built environments of one lock that are no image files: made at their final place, visible once they are whole.

A virtual environment, or a conda prefix, can't be moved, so each is built in a folder of its own and then named by a small
file that is made exclusively. Who comes second throws its own away and uses the one that is named.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcest.kit.files import create_exclusively, read_json, write_json
from hpcest.kit.lease import Holder, server_now

#: A half-built environment whose log was silent for so many seconds has nobody left who builds it.
ABANDONED_AFTER_S = 3600.0
_MARK = "hpcest-build.json"
_TOKEN = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True)
class Image:
    """One built environment. ``manifest`` says what it was made of, by whom and when."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


class Shelf:
    """Where the image of one lock lies in a workspace, for one base interpreter.

    Hosts that share a workspace may have the same Python in different places; an environment made of one
    is of no use to the other.
    """

    def __init__(self, environments: Path, key: str, base: str, kind: str = "venv") -> None:
        place = hashlib.sha256(os.fsencode(os.path.realpath(base))).hexdigest()[:4]
        self.folder = environments / kind / f"{key[:16]}-{place}"
        self.lease = self.folder / "lease"
        self._pointer = self.folder / "image.json"

    def look(self) -> tuple[Image | None, str]:
        """The image that is ready, and what is wrong with the one that isn't: (None, "") where there is none."""
        try:
            manifest = read_json(self._pointer)
        except (OSError, ValueError):
            return None, "its manifest can't be read"
        if manifest is None:
            return None, ""
        token = manifest.get("token") if isinstance(manifest, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            return None, "its manifest can't be read"
        image = Image(self.folder / token, manifest)
        if not image.folder.is_dir():
            return None, "its folder is gone"
        if not os.access(image.python, os.X_OK):
            return None, "its Python is gone"
        return image, ""

    def ready(self) -> Image | None:
        """The image that can be used now."""
        return self.look()[0]

    def begin(self) -> Path:
        """A new folder to build in. Sweeps away what builders left that are known to have died."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
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
        if self.look()[1]:
            aside = self._pointer.with_name(f".image.{uuid.uuid4().hex[:12]}.old")
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._pointer, aside)
                aside.unlink()
        builder = Holder.me()
        whole = {**manifest, "token": folder.name, "created": time.time(), "by": f"{builder.user}@{builder.host}"}
        return create_exclusively(self._pointer, json.dumps(whole, indent=1) + "\n")

    @staticmethod
    def discard(folder: Path) -> None:
        """Remove a folder that will not be an image; its log stays."""
        shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        for folder in self.folder.iterdir():
            if _TOKEN.fullmatch(folder.name) and self._is_abandoned(folder) and folder.name != self._named():
                self.discard(folder)

    def _named(self) -> str:
        try:
            return str(read_json(self._pointer)["token"])
        except (OSError, ValueError, TypeError, KeyError):
            return ""

    def _is_abandoned(self, folder: Path) -> bool:
        """True where nobody builds in the folder any more, as far as that can be known."""
        try:
            if Holder(**read_json(folder / _MARK)).is_dead:
                return True
        except (OSError, ValueError, TypeError):
            pass  # no mark, or a torn one: the log's age tells
        for path in (self.log_of(folder), folder):
            with contextlib.suppress(OSError):
                return os.stat(path).st_mtime < server_now(self.folder) - ABANDONED_AFTER_S
        return False
