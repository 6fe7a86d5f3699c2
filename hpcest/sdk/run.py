"""A run, seen from the login side: its status, logs, files, metrics and children."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import RunFailedError, UnknownNameError
from hpcest.onnode import run as onnode
from hpcest.onnode.events import read_run
from hpcest.onnode.record import EventWriter, get_json

if TYPE_CHECKING:
    from hpcest.lifecycle.watch import Seen
    from hpcest.model.folders import RunFolder
    from hpcest.sdk.experiment import Experiment
    from hpcest.sdk.model import Model
    from hpcest.sdk.workspace import Workspace


class Run(onnode.Run):
    """One run of an experiment; everything that it can log inside a program it can log here too.

    ``Run(experiment, run_id)`` or ``Run.get(workspace, run_id)`` opens an existing one. Inside a
    program ``Run.get_context()`` is the run that the program was started as.
    """

    def __init__(self, experiment: Experiment | str, run_id: str | EventWriter | None = None) -> None:
        if isinstance(experiment, str):  # a run folder, as the tracking part makes them
            super().__init__(experiment, run_id if isinstance(run_id, EventWriter) else None)
            self._experiment: Experiment | None = None
            return
        from hpcest.history.query import resolve

        folder = experiment.workspace.folder.run(str(run_id))
        if not folder.header.exists():
            folder = experiment.workspace.folder.run(resolve(experiment.workspace.folder, str(run_id)))
        super().__init__(str(folder.path), EventWriter(str(folder.path), "user"))
        self._experiment = experiment

    @classmethod
    def get(cls, workspace: Workspace, run_id: str) -> Run:
        """The run with that id, a unique prefix of it, or ``@latest``. Raises UnknownNameError."""
        from hpcest.history.query import resolve
        from hpcest.sdk.experiment import Experiment

        folder = workspace.folder.run(run_id)
        if not folder.header.exists():
            folder = workspace.folder.run(resolve(workspace.folder, run_id))
        header = get_json(str(folder.header)) or {}
        return cls(Experiment(workspace, (header.get("spec") or {}).get("experiment") or "unknown"), folder.id)

    @staticmethod
    def list(experiment: Experiment, **filters: Any) -> Iterator[Run]:
        """The same as ``experiment.get_runs``."""
        return experiment.get_runs(**filters)

    # ------------------------------------------------------------------ where it belongs
    @property
    def experiment(self) -> Experiment:
        """The experiment, with its workspace; inside a program too, where hpcest is installed."""
        if self._experiment is None:
            from hpcest.lifecycle.workspace import open_workspace
            from hpcest.sdk.experiment import Experiment
            from hpcest.sdk.workspace import Workspace

            root = Path(self.folder).parents[2]
            self._experiment = Experiment(Workspace(open_workspace(root)), self._spec.get("experiment") or "unknown")
        return self._experiment

    @property
    def workspace(self) -> Workspace:
        """The workspace that holds the run."""
        return self.experiment.workspace

    @property
    def _paths(self) -> RunFolder:
        return self.workspace.folder.run(self.id)

    @property
    def parent(self) -> Run | None:
        """The run that this one is a child of, or None."""
        parent = self._spec.get("parent")
        return Run(self.experiment, parent) if parent else None

    @property
    def type(self) -> str:
        """The framework of the run; empty for a child that a program made."""
        return str(self._spec.get("framework", "script"))

    # ------------------------------------------------------------------ status
    def _look(self) -> Seen:
        from hpcest.lifecycle.watch import look_at

        return look_at(self.workspace.context, self._paths)

    def get_status(self) -> str:
        """The status now, one of Azure ML's: NotStarted, Preparing, Queued, Running, …, Completed, Failed, Canceled."""
        return str(self._look().status)

    @property
    def status(self) -> str:
        """The same as ``get_status()``."""
        return self.get_status()

    def get_detailed_status(self) -> dict[str, Any]:
        """The status with its reason, a sentence, and what the backend knows."""
        seen = self._look()
        return {"status": str(seen.status), "reason": str(seen.reason), "details": seen.message, **seen.facts}

    def get_details(self) -> dict[str, Any]:
        """The whole record, with Azure ML's keys.

        ``runId, target, status, startTimeUtc, endTimeUtc, error, properties, tags, inputDatasets,
        outputDatasets, runDefinition`` (the run spec), ``logFiles`` (name → path), ``submittedBy``.
        """
        seen, header = self._look(), get_json(str(self._paths.header)) or {}
        details: dict[str, Any] = {
            "runId": self.id,
            "target": self._spec.get("compute", "local"),
            "status": str(seen.status),
            "startTimeUtc": _utc(seen.state.started),
            "endTimeUtc": _utc(seen.state.ended),
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "inputDatasets": [],
            "outputDatasets": [],
            "runDefinition": self._spec,
            "logFiles": {name: str(Path(self.folder) / name) for name in self._log_names()},
            "submittedBy": header.get("user", ""),
        }
        if seen.message and str(seen.status) == "Failed":
            details["error"] = {"code": str(seen.reason), "message": seen.message}
        return details

    def get_details_with_logs(self) -> dict[str, Any]:
        """``get_details()`` with the text of each log in place of its path."""
        details = self.get_details()
        details["logFiles"] = {name: Path(path).read_text(encoding="utf-8", errors="replace") for name, path in details["logFiles"].items()}
        return details

    def _log_names(self) -> Sequence[str]:
        return [name for name in self.get_file_names() if name.split("/")[0] in ("user_logs", "system_logs")]

    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait until the run has ended, printing its log as it grows where ``show_output``; return its details.

        Raises RunFailedError if it ended in another way than Completed, unless ``raise_on_error`` is
        False. Interrupting the wait leaves the run alone.
        """
        from hpcest.lifecycle import follow

        context = self.workspace.context
        if show_output:
            for item in follow.follow(context, self._paths):
                if isinstance(item, str):
                    sys.stdout.write(item)
                    sys.stdout.flush()
                else:
                    sys.stderr.write(f"{self.id}: {item.status}{'; ' + item.message if item.message else ''}\n")
        seen = follow.wait(context, self._paths)
        if raise_on_error and str(seen.status) != "Completed":
            message = f"run {self.id} ended as {seen.status}: {seen.message or seen.reason or 'no reason was recorded'}"
            raise RunFailedError(message, run_id=self.id, status=str(seen.status), hint=f"see its log: hpcest logs {self.id}")
        return self.get_details()

    def cancel(self) -> None:
        """Ask for the end of the run: its program gets TERM, and after the grace period KILL."""
        from hpcest.lifecycle.watch import cancel

        cancel(self.workspace.context, self._paths)

    # ------------------------------------------------------------------ children
    def get_children(
        self,
        recursive: bool = False,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs below this one, in the order in which they were made; ``recursive`` with theirs."""
        for child_id in read_run(self.folder)[0].children:
            child = Run(self.experiment, child_id)
            wanted = all(child.get_tags().get(key) == value for key, value in (tags or {}).items())
            wanted = wanted and all(child.get_properties().get(key) == value for key, value in (properties or {}).items())
            if wanted and (type is None or child.type == type) and (status is None or child.get_status() == status):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """What was logged: name → value, or a list where a name was logged repeatedly; rows and tables as columns.

        ``recursive`` gives run id → such a dict, for this run and all runs below it.
        """
        mine: dict[str, Any] = super().get_metrics(name)
        if not recursive:
            return mine
        return {self.id: mine, **{child.id: child.get_metrics(name) for child in self.get_children(True, type=run_type)}}

    # ------------------------------------------------------------------ files
    def download_file(self, name: str, output_file_path: str | Path | None = None) -> None:
        """Copy the file ``name`` of the run to ``output_file_path``: a path, a directory, or by default its own name here.

        Raises UnknownNameError if the run has no such file, ValueError for a name that leaves the run folder.
        """
        source = Path(onnode.artifact_path(self.folder, name))
        if not source.is_file() or not source.resolve().is_relative_to(Path(self.folder).resolve()):
            raise UnknownNameError(f"file of run {self.id}", name, self.get_file_names())
        target = Path(output_file_path) if output_file_path is not None else Path(source.name)
        if target.is_dir() or str(output_file_path or "").endswith(os.sep):
            target = target / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

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
        path for each instead.
        """
        names = [name for name in self.get_file_names() if prefix is None or name.startswith(prefix)]
        if output_paths is not None and len(output_paths) != len(names):
            raise ValueError(f"download_files: {len(output_paths)} output_paths for {len(names)} files: {', '.join(names)}")
        for number, name in enumerate(names):
            short = name if append_prefix or prefix is None else name[len(prefix) :].lstrip("/") or Path(name).name
            self.download_file(name, output_paths[number] if output_paths else Path(output_directory or ".") / short)

    def get_all_logs(self, destination: str | Path | None = None) -> Sequence[str]:
        """Copy every log below ``destination`` (the current directory by default); return the paths."""
        target = Path(destination or ".")
        for name in self._log_names():
            self.download_file(name, target / name)
        return [str(target / name) for name in self._log_names()]

    def get_snapshot_id(self) -> str:
        """The digest of the snapshot that the run was started from."""
        return str(self._spec.get("snapshot", ""))

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | Path | None = None) -> str:
        """Lay the run's source out again in ``path`` (a folder named by the snapshot by default); return that path."""
        from hpcest.lifecycle.snapshot import restore

        digest = snapshot_id or self.get_snapshot_id()
        target = Path(path or f"snapshot_{digest[:12]}")
        restore(digest, self.workspace.folder, target)
        return str(target)

    def get_portal_url(self) -> str:
        """The run folder as a ``file://`` link."""
        return Path(self.folder).as_uri()

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
    ) -> Model:
        """Register a file or folder of this run (``outputs`` by default) as the next version of a model."""
        from hpcest.sdk.model import Model

        source = Path(onnode.artifact_path(self.folder, model_path or "outputs"))
        if not source.exists():
            raise UnknownNameError(f"file of run {self.id}", model_path or "outputs", self.get_file_names())
        facts = {"framework": model_framework or "", "framework_version": model_framework_version or ""}
        return Model.register(
            self.workspace, source, model_name, tags=tags, properties=properties, description=description or "", run_id=self.id, **facts
        )

    # ------------------------------------------------------------------ edits
    def tag(self, key: str, value: str | None = "") -> None:
        """Set a tag; it may be changed and removed later."""
        super().tag(key, value)
        self._edited()

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        """Remove one tag or several."""
        super().remove_tags(tags)
        self._edited()

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Set properties. A property is written once: a second value for it is ignored."""
        super().add_properties(properties)
        self._edited()

    def _edited(self) -> None:
        """Tell the history of an edit of a run that it no longer looks at."""
        if os.environ.get("HPCEST_RUN_DIR") != self.folder:
            from hpcest.history.edits import announce

            announce(self.workspace.folder, self.id)


def _utc(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat() if seconds else None
