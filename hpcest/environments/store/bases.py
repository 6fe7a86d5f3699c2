"""Base images in a store: one file per content, shared by all the environments that are built on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcest.environments.store.builds import have_on_disk, scratch
from hpcest.environments.store.digests import chunks_of
from hpcest.environments.store.entries import Content, unlike
from hpcest.environments.store.layout import Layout, set_aside, sync_folder
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import write_json


@dataclass(frozen=True)
class StoredBase:
    """One base image. ``facts`` is what its publisher said of it, with ``sha256``, ``size``, ``mtime_ns`` and ``created``."""

    digest: str
    path: Path
    facts: dict[str, Any]
    root: Path
    site: bool = False

    @property
    def label(self) -> str:
        """What sentences call it."""
        return f"base image {self.digest[:12]}"

    @property
    def content(self) -> Content:
        """What its file was when it was published."""
        return _content(self.facts)


def _content(facts: Mapping[str, Any]) -> Content:
    return Content(str(facts["sha256"]), int(facts["size"]), int(facts["mtime_ns"]))


def inspect_base(layout: Layout, digest: str, *, site: bool = False) -> tuple[StoredBase | None, str]:
    """The base image with this digest, and what is wrong with the one that is of no use. Raises OSError, SpecError."""
    path, described = layout.base(digest), layout.base_facts(digest)
    try:
        facts = json.loads(described.read_bytes())
        content = _content(facts)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""  # not published to the end
    except (ValueError, TypeError, KeyError):
        return None, "what is known of it can't be read"
    if content.sha256 != digest:
        return None, "what is known of it is about another one"
    wrong = unlike(path, content)
    return (None, f"its file {wrong}") if wrong else (StoredBase(digest, path, facts, layout.root, site), "")


def digests_of(layout: Layout, identity: str) -> list[str]:
    """The digests of the base images of one store that were made of what ``identity`` names; none where it can't be read."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(layout.bases.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                if path.stem == identity or json.loads(path.read_bytes()).get("identity") == identity:
                    found.append(path.stem)
    return found


def publish_base(
    layout: Layout, file: Path, facts: Mapping[str, Any], *, move: bool = False, digest: str = "", mode: int | None = None
) -> StoredBase:
    """Have ``file`` in the store under its SHA-256, as a read-only copy, or itself where ``move``.

    ``digest`` is what it must have, where that is known; ``mode`` is the mode of a new file, by default what the umask
    allows. Raises EnvironmentBuildError for another content, and OSError.
    """
    with scratch(layout, "base") as (folder, usual):
        copy = folder / "base.sif"
        found = _take(file, copy, move=move)
        if digest and found != digest:
            hint = "find out who changed it before you trust it"
            raise EnvironmentBuildError(f"{file} has the sha256 {found[:12]}…, not {digest[:12]}…", hint=hint)
        mode = usual if mode is None else mode
        os.chmod(copy, mode & 0o444)
        have_on_disk(copy)
        for _ in range(5):
            base = _place(layout, copy, {**facts, "sha256": found}, mode)
            if base:
                return base
    raise EnvironmentBuildError(f"base image {found[:12]} can't be published: {layout.base(found)} is in the way", hint="remove it")


def _take(file: Path, copy: Path, *, move: bool) -> str:
    """Have the content of ``file`` in ``copy``; returns its SHA-256."""
    if move:
        with contextlib.suppress(OSError):  # another file system: copied, then
            os.rename(file, copy)
            file = copy
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0) as source, open(os.devnull if file == copy else copy, "wb", buffering=0) as sink:
        for chunk in chunks_of(source.fileno()):
            digest.update(chunk)
            _write_all(sink.fileno(), chunk)
    if move and file != copy:
        file.unlink()
    return digest.hexdigest()


def _write_all(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _place(layout: Layout, copy: Path, facts: Mapping[str, Any], mode: int) -> StoredBase | None:
    """Give the copy its name, unless one of the same content has it; None where a damaged one was moved away."""
    digest = facts["sha256"]
    path = layout.base(digest)
    with contextlib.suppress(FileExistsError):
        os.link(copy, path)
    seen = os.lstat(path)
    base, wrong = inspect_base(layout, digest)
    if base:
        return base
    if not stat.S_ISREG(seen.st_mode) or seen.st_size != os.stat(copy).st_size:
        set_aside(layout, path, seen)
        return None
    if wrong and not os.path.samestat(seen, os.stat(copy)):
        set_aside(layout, path, seen)  # of the right size, but not as it was published
        return None
    described = copy.with_suffix(".json")
    write_json(described, {"created": time.time(), **facts, "size": seen.st_size, "mtime_ns": seen.st_mtime_ns}, sync=True)
    os.chmod(described, mode)
    os.replace(described, layout.base_facts(digest))
    sync_folder(layout.bases)
    return inspect_base(layout, digest)[0]
