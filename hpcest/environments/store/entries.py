"""One built image in a store: its manifest, and the cheap look that tells whether its files are the ones that were built."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpcest.environments.store.layout import is_key

MANIFEST = "manifest.json"
LAST_USED = "last_used"
PIN = "pin"
LOG = "build.log"
#: How often at most the use of an image is written down, in seconds.
USE_NOTED_EVERY_S = 86400.0
#: Files of an image's folder that the manifest does not list: they may change.
UNLISTED = frozenset((MANIFEST, LAST_USED, PIN, LOG))


@dataclass(frozen=True)
class Content:
    """What a file was when it was published. ``mtime_ns`` is its modification time in nanoseconds."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class StoredImage:
    """One built environment. ``root`` is the store that it lies in, ``site`` whether that one is only read.

    ``manifest`` says what it was made of, by whom and when: ``key``, ``name``, ``layout``, ``base``, ``created``, ``files`` and more.
    """

    key: str
    folder: Path
    manifest: dict[str, Any]
    root: Path
    site: bool = False

    @cached_property
    def files(self) -> dict[str, Content]:
        """The listed files by name."""
        return contents(self.manifest)

    @property
    def name(self) -> str:
        """The name of its environment, which may be empty."""
        return str(self.manifest.get("name") or "")

    @property
    def label(self) -> str:
        """What sentences call it: ``environment NAME KEY12``."""
        return label(self.key, self.name)

    @property
    def created(self) -> float:
        """When it was built, in seconds since the epoch."""
        return float(self.manifest.get("created") or 0.0)

    @property
    def base(self) -> str:
        """The digest of the base image that it needs to run; empty for a layout that holds all."""
        return needed_base(self.manifest)

    @property
    def log(self) -> Path:
        """The log of its build."""
        return self.folder / LOG

    @property
    def size(self) -> int:
        """The bytes of its listed files."""
        return sum(content.size for content in self.files.values())

    def file(self, name: str) -> Path:
        """The path of a listed file. Raises KeyError for another."""
        if name not in self.files:
            raise KeyError(name)
        return self.folder / name


def marks(folder: Path) -> tuple[bool, int]:
    """Whether an environment is pinned, and when its use was last written down (0: never): what must not change while it is swept."""
    noted = 0
    with contextlib.suppress(OSError):
        noted = os.stat(folder / LAST_USED).st_mtime_ns
    return os.path.lexists(folder / PIN), noted


def label(key: str, name: str = "") -> str:
    """What sentences call an environment."""
    return f"environment {name} {key[:12]}" if name else f"environment {key[:12]}"


def needed_base(manifest: Mapping[str, Any]) -> str:
    """The digest of the base without which an image with this manifest can't run."""
    base = manifest.get("base")
    return str(base) if base and manifest.get("layout", "split") == "split" else ""


def contents(manifest: Mapping[str, Any]) -> dict[str, Content]:
    """The files that a manifest lists. Raises ValueError, TypeError or KeyError for a damaged one."""
    found = {}
    for name, facts in dict(manifest["files"]).items():
        if name in ("", ".", "..") or "/" in name or "\0" in name or name in UNLISTED:
            raise ValueError(f"no name of a file in an image: {name!r}")
        found[name] = Content(str(facts["sha256"]), int(facts["size"]), int(facts["mtime_ns"]))
    return found


def inspect(folder: Path, key: str, root: Path, *, site: bool = False) -> tuple[StoredImage | None, str]:
    """The image in ``folder``, and what is wrong with the one that is of no use: (None, "") where there is none.

    Compares sizes and times, not contents. Raises OSError for what can't be looked at.
    """
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return None, "something else than a folder is in its place"
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = contents(manifest)
        base = needed_base(manifest)
        whole = manifest["key"] == key and float(manifest.get("created") or 0.0) >= 0.0 and (not base or is_key(base))
    except FileNotFoundError:
        return None, "it has no manifest"
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, "its manifest can't be read"
    if not whole:
        return None, "its manifest is not of this environment"
    for name, content in files.items():
        wrong = unlike(folder / name, content)
        if wrong:
            return None, f"its {name} {wrong}"
    return StoredImage(key, folder, manifest, root, site), ""


def unlike(path: Path, content: Content) -> str:
    """How a file differs from what was published, by size and time alone: the end of a sentence, empty where it does not."""
    try:
        facts = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "is gone"
    if not stat.S_ISREG(facts.st_mode):
        return "is no file any more"
    if facts.st_size != content.size:
        return f"has {facts.st_size} bytes instead of {content.size}"
    if facts.st_mtime_ns != content.mtime_ns:
        return "was changed after it was built"
    if not os.access(path, os.R_OK):
        return "may not be read by this user"
    return ""
