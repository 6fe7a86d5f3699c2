"""A run, seen from the login side: its status, logs, files, metrics and children."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, RunFailedError, SpecError, UnknownNameError
from hpcest.onnode.events import read_run
from hpcest.onnode.record import EventWriter, get_json
from hpcest.sdk import files
from hpcest.sdk.experiment import has_all
from hpcest.sdk.opening import find_run, inside_a_run, writer_of
from hpcest.sdk.runfiles import RunFiles

if TYPE_CHECKING:
    from hpcest.lifecycle.watch import Seen
    from hpcest.model.folders import RunFolder
    from hpcest.sdk.environment import Environment
    from hpcest.sdk.experiment import Experiment
    from hpcest.sdk.model import Model
    from hpcest.sdk.workspace import Workspace


class Run(RunFiles):
    """One run of an experiment; everything that it can log inside a program it can log here too.

    ``Run(experiment, run_id)`` or ``Run.get(workspace, run_id)`` opens an existing one. Inside a
    program ``Run.get_context()`` is the run that the program was started as.
    """

    def __init__(self, experiment: Experiment | str, run_id: str | EventWriter | None = None) -> None:
        self._experiment: Experiment | None = None
        if isinstance(experiment, str):  # a run folder, as the tracking part makes them
            super().__init__(experiment, run_id if isinstance(run_id, EventWriter) and inside_a_run() else writer_of(experiment))
            return
        super().__init__(folder := find_run(experiment.workspace.folder, str(run_id)), writer_of(folder))
        mine = str(self._spec.get("experiment", ""))
        if mine != experiment.name:
            hint = f"it belongs to {mine!r}; Run.get(workspace, id) finds the runs of all experiments"
            raise UnknownNameError(f"run of experiment {experiment.name!r}", self.id, (), hint=hint)
        self._experiment = experiment

    @classmethod
    def get(cls, workspace: Workspace, run_id: str) -> Run:
        """The run with that id, a unique prefix of it, or ``@latest``. Raises UnknownNameError."""
        found = cls(find_run(workspace.folder, str(run_id)))
        found._experiment = _experiment_of(workspace, found._spec)
        return found

    @staticmethod
    def list(
        experiment: Experiment,
        type: str | None = None,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The same as ``experiment.get_runs``."""
        return experiment.get_runs(type, tags, properties, include_children, status=status)

    # ------------------------------------------------------------------ where it belongs
    @property
    def experiment(self) -> Experiment:
        """The experiment, with its workspace; inside a program too, where hpcest is installed."""
        if self._experiment is None:
            from hpcest.sdk.workspace import Workspace

            self._experiment = _experiment_of(Workspace(Path(self.folder).parents[2]), self._spec)
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
        """The run that this one is a child of; None if there is none, or it was deleted."""
        return _there(self.workspace, self._spec.get("parent"))

    @property
    def type(self) -> str:
        """The framework of the run; empty for a child that a program made."""
        return str(self._spec.get("framework", "script"))

    @property
    def display_name(self) -> str:
        """What the run is called; may be changed at any time, and be empty."""
        return str(self._name("display_name"))

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._writer.event("name", v=str(value))
        self._edited()

    @property
    def description(self) -> str:
        """What the run is for; may be changed at any time."""
        return str(self._name("description"))

    @description.setter
    def description(self, value: str) -> None:
        self._writer.event("description", v=str(value))
        self._edited()

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
        """The status now with its ``reason``, the sentence ``details`` that says why, and the backend's own ``facts``."""
        seen = self._look()
        return {"status": str(seen.status), "reason": str(seen.reason), "details": seen.message, "facts": dict(seen.facts)}

    def get_details(self) -> dict[str, Any]:
        """What is known of the run, in Azure ML's keys.

        ``runId``, ``target``, ``status``, ``startTimeUtc``, ``endTimeUtc``, ``error`` (where it failed),
        ``properties``, ``tags``, ``inputDatasets``, ``outputDatasets``, ``runDefinition`` (the spec),
        ``logFiles`` (name → path), ``submittedBy``.
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
        if str(seen.status) == "Failed":
            details["error"] = {"code": str(seen.reason), "message": seen.message}
        return details

    def get_details_with_logs(self) -> dict[str, Any]:
        """``get_details()`` with the text of each log in place of its path."""
        details = self.get_details()
        logs = {name: files.artifact(self.folder, name) for name in details["logFiles"]}
        details["logFiles"] = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in logs.items()}
        return details

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
                    _show(item)
                else:
                    sys.stderr.write(f"{self.id}: {item.status}{'; ' + item.message if item.message else ''}\n")
        seen = follow.wait(context, self._paths)
        if raise_on_error and str(seen.status) != "Completed":
            message = f"run {self.id} ended as {seen.status}: {seen.message or seen.reason or 'no reason was recorded'}"
            raise RunFailedError(message, run_id=self.id, status=str(seen.status), hint=f"see its log: hpcest logs {self.id}")
        return self.get_details()

    def cancel(self) -> None:
        """Ask for the end of the run: its program gets TERM, and after the grace period KILL. A run that has ended stays as it is."""
        from hpcest.lifecycle.watch import cancel

        cancel(self.workspace.context, self._paths)

    def _end(self, status: str, **fields: Any) -> None:
        """A submitted run ends when its program does, whatever is said inside it or here."""
        if (get_json(os.path.join(self.folder, "run.json")) or {}).get("kind") == "run":
            self.flush()
        else:
            super()._end(status, **fields)

    # ------------------------------------------------------------------ children
    def get_children(
        self,
        recursive: bool = False,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs below this one that are still there, in the order in which they were made; ``recursive`` with theirs.

        ``tags`` and ``properties`` as in ``Experiment.get_runs``.
        """
        made = [child for child in (_there(self.workspace, child_id) for child_id in read_run(self.folder)[0].children) if child]
        for child in sorted(made, key=lambda child: child._created):
            wanted = has_all(child.get_tags(), tags) and has_all(child.get_properties(), properties)
            if wanted and type in (None, child.type) and (status is None or child.get_status() == status):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

    @property
    def _created(self) -> float:
        return float((get_json(os.path.join(self.folder, "run.json")) or {}).get("created") or 0.0)

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
    def get_environment(self) -> Environment:
        """The environment that the run asked for."""
        from hpcest.kit.codec import decode
        from hpcest.model.spec import EnvironmentSpec
        from hpcest.sdk.environment import Environment

        return Environment.from_spec(decode(EnvironmentSpec, self._spec.get("environment") or {}))

    def get_snapshot_id(self) -> str:
        """The digest of the snapshot that the run was started from; empty for a child that a program made."""
        return str(self._spec.get("snapshot", ""))

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
        **azure: Any,
    ) -> Model:
        """Register a file or folder of this run (all of ``outputs`` by default) as the next version of a model.

        Raises UnknownNameError if there is nothing of that name, SpecError for what can't be copied whole.
        """
        from hpcest.sdk.azure import MODEL, warn_ignored
        from hpcest.sdk.model import Model

        warn_ignored("Run.register_model", azure, MODEL)
        name = model_path or "outputs"
        source = files.path_of(self.folder, name)
        if not source.exists() or (source.is_dir() and not any(source.iterdir())):
            raise UnknownNameError(f"file of run {self.id}", name, self.get_file_names())
        return Model.register(
            self.workspace, source, model_name, tags, properties, description, model_framework=model_framework,
            model_framework_version=model_framework_version, run_id=self.id, root=Path(self.folder),
        )  # fmt: skip

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
        """On the login side an edit is on the disk when this returns, or raises; inside a program it never raises."""
        if not inside_a_run() and not self._writer.flush():
            raise HpcestError(f"run {self.id} can't be changed", hint=f"see whether {self.folder}/events can be written")


def _experiment_of(workspace: Workspace, spec: Mapping[str, Any]) -> Experiment:
    from hpcest.sdk.experiment import Experiment

    return Experiment(workspace, str(spec.get("experiment") or "unknown"))


def _there(workspace: Workspace, run_id: object) -> Run | None:
    """The run with that whole id, if there still is one: what a program recorded is not trusted to be an id."""
    known = isinstance(run_id, str) and os.path.basename(run_id) == run_id and workspace.folder.run(run_id).header.is_file()
    return Run.get(workspace, str(run_id)) if known else None


def _show(text: str) -> None:
    """Part of a log, to stdout, whose encoding may not have all of its characters."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def _utc(seconds: float | None) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat() if seconds else None
    except (OverflowError, ValueError, OSError):  # a writer whose clock is beyond all years
        return None
