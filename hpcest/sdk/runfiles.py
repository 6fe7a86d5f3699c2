"""The files of a run: copying them out of the run folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hpcest.errors import SpecError, UnknownNameError
from hpcest.sdk import files
from hpcest.sdk.loggable import LoggableRun
from hpcest.sdk.opening import inside_a_run


class RunFiles(LoggableRun):
    """The part of a run that copies its files: outputs, logs, images, uploads."""

    def _check_there(self) -> None:
        """Raise UnknownNameError for a run that was deleted since it was opened."""
        raise NotImplementedError

    def upload_file(self, name: str, path_or_stream: str | os.PathLike[str] | BinaryIO, datastore_name: str | None = None) -> None:
        """Keep a file (or what a stream holds) as the artifact ``name``, replacing it whole.

        Raises FileNotFoundError where there is no such file, ValueError for a name that leads out of the run folder,
        and UnknownNameError for a run that was deleted.
        """
        if not inside_a_run():
            self._check_there()
        super().upload_file(name, path_or_stream, datastore_name)

    def get_file_names(self) -> list[str]:
        """The names of all files that the run has so far: outputs, logs, images, uploads."""
        found = super().get_file_names()
        if not found and not inside_a_run():
            self._check_there()
        return found

    def _log_names(self) -> Sequence[str]:
        """The logs that are files; a program may have put other things beside them."""
        names = [name for name in self.get_file_names() if name.split("/")[0] in ("user_logs", "system_logs")]
        return [name for name in names if not files.why_not(Path(self.folder, name), Path(self.folder))]

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> None:
        """Copy the file ``name`` of the run to ``output_file_path``: a path, a directory, or by default its last name here.

        Raises UnknownNameError if the run has no such file; SpecError for a name that leaves the run
        folder, for a link that leads out of it, and for a folder.
        """
        try:
            source = files.artifact(self.folder, name)
        except UnknownNameError:
            self._check_there()
            raise
        target = Path(output_file_path) if output_file_path is not None else Path(source.name)
        if target.is_dir() or str(output_file_path or "").endswith(os.sep):
            target = target / source.name
        files.copy_file(source, target)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | Path | None = None,
        output_paths: Sequence[str | Path] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """Copy all files whose names start with ``prefix`` below ``output_directory`` (the current one by default).

        Their names stay, less the prefix where ``append_prefix`` is False; ``output_paths`` gives one
        path for each instead. What is no file of the run, such as a link that leads out of it, is left
        out with a warning. ``batch_size`` and ``timeout_seconds`` have no effect: nothing is transferred.
        """
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        targets = [Path(path) for path in output_paths] if output_paths is not None else []
        if output_paths is None:
            cut = 0 if append_prefix else len(prefix or "")
            targets = [Path(output_directory or ".", name[cut:].lstrip("/") or Path(name).name) for name in names]
        elif len(targets) != len(names):
            raise SpecError(f"output_paths must be one path for each of {len(names)} files, not {len(targets)}", hint="; ".join(names))
        if len(set(targets)) != len(targets):
            raise SpecError("two files of the run would be copied to one path", hint="name different output_paths, or keep the prefix")
        left_out = files.copy_files(self.folder, list(zip(names, targets, strict=True)))
        if left_out:
            self._check_there()
            warnings.warn(f"run {self.id}: left out: {'; '.join(left_out)}", stacklevel=2)

    def get_all_logs(self, destination: str | Path | None = None) -> Sequence[str]:
        """Copy every log below ``destination`` (the current directory by default); return the paths."""
        pairs = [(name, Path(destination or ".", name)) for name in self._log_names()]
        if files.copy_files(self.folder, pairs):
            self._check_there()
        return [str(target) for _, target in pairs]
