"""Taking away what nothing refers to any more: snapshots of deleted runs, lists of data, runs that have lain in the trash.

Safe beside submissions, without a lock, which not every shared file system has. Who relies on a file that is there already makes
it young first (``hpcest.kit.files.freshened``); a sweep only takes old ones, and looks once more at each when it has taken it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.errors import HpcestError, UsageError
from hpcest.kit.files import YOUNG_S, read_json
from hpcest.lifecycle import trash
from hpcest.model.folders import RunFolder, WorkspaceFolder

#: The least age, in seconds, at which something may go: twice as long as who relies on it may take it for young.
LEAST_S = 2 * YOUNG_S
_DIGEST = re.compile(rb"[0-9a-f]{64}")


@dataclass
class Swept:
    """What was taken away, or would be: counts, the ids of runs that lay in the trash, and bytes; ``kept`` could not be removed."""

    snapshots: int = 0
    objects: int = 0
    data_lists: int = 0
    runs: list[str] = field(default_factory=list)
    freed: int = 0
    kept: list[str] = field(default_factory=list)


def sweep(
    workspace: WorkspaceFolder, *, older_than: float = LEAST_S, trash_older_than: float | None = None, dry_run: bool = False
) -> Swept:
    """Take away what no run, model or dataset of the workspace refers to and what is older than ``older_than`` seconds.

    With ``trash_older_than`` also runs that were moved to the trash longer ago than that. Raises UsageError for an age below
    ``LEAST_S``, HpcestError for what refers to things and can't be read: nothing is taken on a guess.
    """
    if older_than < LEAST_S:
        hours = LEAST_S / 3600
        raise UsageError(
            f"an age of {older_than:g} seconds is too little: a submission may just rely on it", hint=f"take {hours:g}h or more"
        )
    sweeping = _Sweep(workspace, time.time() - older_than, dry_run)
    if trash_older_than is not None:
        sweeping.empty_trash(time.time() - trash_older_than)
    sweeping.go()
    return sweeping.swept


class _Sweep:
    """One sweep: what is younger than ``since`` stays."""

    def __init__(self, workspace: WorkspaceFolder, since: float, dry_run: bool) -> None:
        self.workspace, self.since, self.dry_run = workspace, since, dry_run
        self.swept = Swept()
        self._purged: set[str] = set()

    def empty_trash(self, since: float) -> None:
        """Remove the runs for good that were moved to the trash before ``since``."""
        for folder in _entries(self.workspace.trash):
            with contextlib.suppress(FileNotFoundError):  # a child, which went with its parent
                if os.lstat(folder).st_ctime >= since:  # a rename changes it
                    continue
                size = sum(os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names)
                if not self.dry_run:
                    trash.purge(self.workspace, folder.name)
                self.swept.runs.append(folder.name)
                self.swept.freed += size
                self._purged.add(folder.name)

    def go(self) -> None:
        """Take the lists first: what a list that is there names is there."""
        needed = self._mentioned()
        left = [path for path in _entries(self.workspace.manifests) if path.stem in needed or not self._take(path, "snapshots")]
        for path in left:
            needed.update(_named_in(path))
        for shelf in _entries(self.workspace.objects):
            for path in _entries(shelf, hidden=True):  # what killed writers have left too
                if shelf.name + path.name not in needed:
                    self._take(path, "objects")
        for path in _entries(self.workspace.home / "data" / "manifests"):
            if path.stem not in needed:
                self._take(path, "data_lists")

    def _mentioned(self) -> set[str]:
        """Every digest in what says what runs, models and datasets are made of."""
        found: set[str] = set()
        for path in self._records():
            try:
                found.update(digest.decode() for digest in _DIGEST.findall(path.read_bytes()))
            except FileNotFoundError:
                continue  # deleted meanwhile
            except OSError as error:
                raise HpcestError(
                    f"{path} can't be read: {error.strerror}", hint="nothing was removed: it may refer to anything"
                ) from error
        return found

    def _records(self) -> Iterator[Path]:
        runs = [*_entries(self.workspace.runs), *(one for one in _entries(self.workspace.trash) if one.name not in self._purged)]
        yield from (RunFolder(folder).header for folder in runs)
        yield from self.workspace.models.glob("*/*/model.json")
        yield from (self.workspace.home / "data" / "registered").glob("*/*.json")

    def _take(self, path: Path, kind: str) -> bool:
        """Remove a file that is old; False for one that is not, or can't be removed."""
        try:
            found = os.lstat(path)
            if found.st_mtime >= self.since:
                return False
            if not self.dry_run and not _removed(path, self.since):
                return False
        except FileNotFoundError:
            return True
        except OSError as error:
            self.swept.kept.append(f"{path}: {error.strerror}")
            return False
        setattr(self.swept, kind, getattr(self.swept, kind) + 1)
        self.swept.freed += found.st_size
        return True


def _removed(path: Path, since: float) -> bool:
    """Remove ``path``, unless somebody made it young at the last moment."""
    away = path.with_name(f".gone-{uuid.uuid4().hex}")
    os.rename(path, away)
    if os.lstat(away).st_mtime >= since:
        os.rename(away, path)
        return False
    os.unlink(away)
    return True


def _named_in(manifest: Path) -> Iterable[str]:
    """The objects that a list of a snapshot names. Raises HpcestError for one that can't be read."""
    try:
        listed: Any = read_json(manifest)
        return [str(row[3]) for row in listed["files"]] if listed is not None else []
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise HpcestError(f"{manifest} can't be read: {error}", hint="its snapshot is lost; remove the file, and sweep again") from error


def _entries(folder: Path, *, hidden: bool = False) -> list[Path]:
    """What is in a folder, less what is being written, unless ``hidden``; nothing where it is not there."""
    try:
        return sorted(path for path in folder.iterdir() if hidden or not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
