"""What a run was started from: its snapshot and its environment, and laying them out again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from hpcest.errors import SnapshotError, SpecError, UsageError
from hpcest.sdk.runstatus import RunStatus

if TYPE_CHECKING:
    from hpcest.sdk.environment import Environment

_SNAPSHOT = "ContentSnapshotId"


class RunSource(RunStatus):
    """The part of a run that knows its source."""

    def get_environment(self) -> Environment:
        """The environment that the run asked for."""
        from hpcest.kit.codec import decode
        from hpcest.model.spec import EnvironmentSpec
        from hpcest.sdk.environment import Environment

        return Environment.from_spec(decode(EnvironmentSpec, self._spec.get("environment") or {}))

    def take_snapshot(self, file_or_folder_path: str | Path) -> str:
        """Freeze a file or a folder now, and return the snapshot's digest, for ``restore_snapshot``.

        It becomes the run's own snapshot where the run has none. Raises SnapshotError for what can't be frozen.
        """
        from hpcest.lifecycle import snapshot

        settings = self.workspace.context.config.snapshot
        path = Path(file_or_folder_path)
        with TemporaryDirectory(prefix=".hpcest-") as alone:
            if path.is_file():
                source = Path(alone)
                shutil.copy2(path, source / path.name)
            elif path.is_dir():
                source = path
            else:
                raise SnapshotError(f"there is no file or folder {str(path)!r}", hint="paths are relative to the current directory")
            taken = snapshot.take_snapshot(
                source,
                self.workspace.folder,
                extra_ignore=() if path.is_file() else settings.ignore,
                max_files=settings.max_files,
                max_bytes=settings.max_bytes,
            )
        if not self.get_snapshot_id():
            self.add_properties({_SNAPSHOT: taken.digest})
        return taken.digest

    def get_snapshot_id(self) -> str:
        """The digest of the snapshot that the run was started from, or of the first that it took; empty where there is none."""
        return str(self._spec.get("snapshot") or self.get_properties().get(_SNAPSHOT, ""))

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | Path | None = None) -> str:
        """Lay the run's source out again in ``path`` (a folder named by the snapshot by default); return that path.

        Raises SnapshotError where something is in the way, SpecError for a run without a snapshot.
        """
        from hpcest.lifecycle.snapshot import restore

        digest = snapshot_id or self.get_snapshot_id()
        if not digest:
            raise SpecError(f"run {self.id} has no snapshot: it was made by a program", hint="restore that of its parent")
        target = Path(path or f"snapshot_{digest[:12]}")
        restore(digest, self.workspace.folder, target)
        return str(target)

    def clean(self) -> list[str]:
        """Remove what the program left in its working directory, beside outputs and logs; return the paths that are gone.

        Raises UsageError while the run goes on.
        """
        if not self._look().finished:
            raise UsageError(f"run {self.id} goes on in its working directory", hint="wait for its end: run.wait_for_completion()")
        work = str(self._paths.work)
        gone = [os.path.join(where, name) for where, _, names in os.walk(work) for name in names]
        shutil.rmtree(work, ignore_errors=True)
        return [path for path in gone if not os.path.lexists(path)]
