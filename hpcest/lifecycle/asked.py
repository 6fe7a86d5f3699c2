"""What a job is asked to build: a private folder in the workspace, gone when nobody needs it any more."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hpcest.kit.files import read_json, write_json, write_text
from hpcest.kit.lease import Holder
from hpcest.model.folders import WorkspaceFolder

#: A folder that no run was recorded for, made on another host, is kept for so long.
_KEPT_S = 86400.0
_MAKER, _RUN = "maker.json", "run"


class Asked:
    """One such folder. ``request`` is the file with what is asked for, ``source`` what the run freezes, ``cache`` for downloads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.request = path / "request.json"
        self.source = path / "source"
        self.cache = path / "cache"

    @classmethod
    def make(cls, workspace: WorkspaceFolder) -> Asked:
        """A new one, which nobody else can enter. Raises OSError."""
        place = _place(workspace)
        place.mkdir(parents=True, exist_ok=True)
        made = cls(Path(tempfile.mkdtemp(dir=place)))
        write_json(made.path / _MAKER, asdict(Holder.me()))
        made.source.mkdir()
        made.cache.mkdir()
        return made

    def belongs_to(self, run_id: str) -> None:
        """Remember which run builds it; one that has ended meanwhile has removed the folder."""
        with contextlib.suppress(FileNotFoundError):
            write_text(self.path / _RUN, run_id)

    def remove(self) -> None:
        """Have it gone; it may be gone already."""
        shutil.rmtree(self.path, ignore_errors=True)

    def is_needed(self, has_ended: Callable[[str], bool]) -> bool:
        """Whether a run that has not ended, or a process that is still preparing one, is going to use it."""
        try:
            return not has_ended((self.path / _RUN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        maker = Holder(**read_json(self.path / _MAKER))
        return not maker.is_dead and time.time() - maker.started < _KEPT_S


def sweep(workspace: WorkspaceFolder, has_ended: Callable[[str], bool]) -> None:
    """Remove this user's folders that were left: the submitter had gone, and the job was ended from outside.

    ``has_ended`` is asked for the id of a run.
    """
    for path in _place(workspace).glob("*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            if path.lstat().st_uid == os.getuid() and not Asked(path).is_needed(has_ended):
                Asked(path).remove()


def _place(workspace: WorkspaceFolder) -> Path:
    return workspace.environments / "asked"
