"""What is true of a run now: its status and details, waiting for its end, asking for it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, RunFailedError, UnknownNameError, UsageError
from hpcest.onnode.record import get_json
from hpcest.sdk import files, interactive
from hpcest.sdk.runfiles import RunFiles

if TYPE_CHECKING:
    from hpcest.lifecycle.watch import Seen
    from hpcest.model.folders import RunFolder
    from hpcest.sdk.workspace import Workspace

#: Seconds between two looks of who waits: at first, and at most. A tenth of the time that it has waited lies between them.
SHORTEST_S, LONGEST_S = 0.1, 10.0
_TARGETS = {"local": "local", "slurm": "amlcompute"}


class RunStatus(RunFiles):
    """The part of a run that says how it is."""

    @property
    def workspace(self) -> Workspace:
        """The workspace that holds the run."""
        raise NotImplementedError

    @property
    def _paths(self) -> RunFolder:
        return self.workspace.folder.run(self.id)

    def _look(self) -> Seen:
        from hpcest.lifecycle.watch import look_at

        seen = look_at(self.workspace.context, self._paths)
        self._check_there()
        return seen

    def _check_there(self) -> None:
        """Raise UnknownNameError for a run that was deleted since it was opened."""
        if not os.path.isfile(os.path.join(self.folder, "run.json")):
            in_trash = (self.workspace.folder.trash / self.id).is_dir()
            hint = f"it is in the trash: hpcest delete --restore {self.id}" if in_trash else "it was removed for good"
            raise UnknownNameError("run", self.id, (), hint=hint)

    def _repr_html_(self) -> str | None:
        """What a notebook shows of it; the usual ``repr`` where the run is gone."""
        from hpcest.sdk.widgets.views import as_card

        with contextlib.suppress(HpcestError):
            return as_card(self.get_status(), experiment=self.experiment.name, run=self.id, name=self.display_name, folder=str(self.folder))
        return None

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

        ``runId``, ``target``, ``status``, ``startTimeUtc``, ``endTimeUtc``, ``error`` (where it failed), ``properties``, ``tags``,
        ``inputDatasets``, ``outputDatasets``, ``runDefinition`` (the spec, and Azure's names for some of it), ``logFiles``
        (name → path), ``submittedBy``.
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
            "inputDatasets": [_input(name, one) for name, one in (self._spec.get("data") or {}).items()],
            "outputDatasets": [self._output(name, one) for name, one in (self._spec.get("outputs") or {}).items()],
            "runDefinition": {**_definition(self._spec), **self._spec},
            "logFiles": {name: str(Path(self.folder) / name) for name in self._log_names()},
            "submittedBy": header.get("user", ""),
        }
        if self._spec.get("snapshot"):
            details["properties"].setdefault("ContentSnapshotId", self._spec["snapshot"])
        details["properties"].setdefault("_azureml.ComputeTargetType", _TARGETS.get((seen.state.job or {}).get("backend", "local"), ""))
        if str(seen.status) == "Failed":
            details["error"] = {"code": str(seen.reason), "message": seen.message}
        return details

    def _output(self, name: str, one: Mapping[str, Any]) -> dict[str, Any]:
        """An output as Azure ML tells of it: where it is, and which version of a dataset it has become, if it has."""
        became = str(self.get_properties().get(f"hpcest.output.{name}", "")).split(" ")
        identifier = {"savedId": became[0] if len(became) > 1 else one.get("dataset", "")}
        path = str(one.get("path") or f"outputs/{name}").replace("{run-id}", self.id).replace("{output-name}", name)
        details = {"outputName": name, "mechanism": one.get("mode", "mount"), "path": path}
        return {"identifier": identifier, "outputType": "RunOutput", "outputDetails": details}

    def get_details_with_logs(self) -> dict[str, Any]:
        """``get_details()`` with the text of each log in place of its path."""
        details = self.get_details()
        logs = {name: files.artifact(self.folder, name) for name in details["logFiles"]}
        details["logFiles"] = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in logs.items()}
        return details

    # ------------------------------------------------------------------ its end
    def wait_for_completion(
        self, show_output: bool = False, wait_post_processing: bool = False, raise_on_error: bool = True
    ) -> dict[str, Any]:
        """Wait until the run has ended, printing its log as it grows where ``show_output``; return its details.

        It is looked at ten times a second at first, later at least each ten seconds (AZUREML_RUN_POLLING_INTERVAL_MIN and _MAX say
        otherwise). Raises RunFailedError if it ended in another way than Completed, unless ``raise_on_error`` is
        False, UsageError for a run that this process logs itself. Interrupting the wait leaves the run alone.
        """
        if interactive.goes_on_here(self.id):
            raise UsageError(f"run {self.id} is this very process, which would wait for ever", hint="end it first: run.complete()")
        seen = self._shown() if show_output else self._waited()
        if widgets := sys.modules.get("hpcest.sdk.widgets.details"):
            widgets.settle(self.id)
        if raise_on_error and str(seen.status) != "Completed":
            message = f"run {self.id} ended as {seen.status}: {seen.message or seen.reason or 'no reason was recorded'}"
            raise RunFailedError(message, run_id=self.id, status=str(seen.status), hint=f"see its log: hpcest logs {self.id}")
        return self.get_details()

    def _shown(self) -> Seen:
        from hpcest.lifecycle import follow

        for item in follow.follow(self.workspace.context, self._paths):
            if isinstance(item, str):
                _show(item)
            else:
                self._check_there()
                sys.stderr.write(f"{self.id}: {item.status}{'; ' + item.message if item.message else ''}\n")
        return follow.wait(self.workspace.context, self._paths)

    def _waited(self) -> Seen:
        from hpcest.lifecycle import follow

        began = time.monotonic()
        shortest, longest = (
            _seconds(f"AZUREML_RUN_POLLING_INTERVAL_{which}", usual) for which, usual in (("MIN", SHORTEST_S), ("MAX", LONGEST_S))
        )
        while not (seen := follow.wait(self.workspace.context, self._paths, timeout=0)).finished:
            self._check_there()
            time.sleep(max(shortest, min(longest, (time.monotonic() - began) / 10)))
        return seen

    def cancel(self) -> None:
        """Ask for the end of the run: its program gets TERM, and after the grace period KILL. A run that has ended stays as it is.

        A run that this process logs itself is Canceled from now on, and the process goes on.
        """
        from hpcest.lifecycle.watch import cancel

        self._check_there()
        if interactive.goes_on_here(self.id):
            interactive.keep_outputs(self)
        cancel(self.workspace.context, self._paths)
        if self._kind != "run":
            self._over = True
            interactive.ended(self.id)

    def _end(self, status: str, **fields: Any) -> None:
        """A submitted run ends when its program does, whatever is said inside it or here."""
        if self._kind == "run":
            self.flush()
        else:
            if interactive.goes_on_here(self.id):
                interactive.keep_outputs(self)
            super()._end(status, **fields)
            interactive.ended(self.id)


def _definition(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Azure ML's names for what a spec says."""
    command, resources = spec.get("command") or {}, spec.get("resources") or {}
    distribution = spec.get("distribution")  # a kind that is the default is not written down
    return {
        "script": command.get("script"),
        "arguments": list(command.get("arguments") or ()),
        "target": spec.get("compute", "local"),
        "communicator": "None" if distribution is None else distribution.get("backend") or distribution.get("kind", "mpi"),
        "maxRunDurationSeconds": resources.get("time"),
        "nodeCount": resources.get("nodes", 1),
        "environmentVariables": dict(spec.get("environment_variables") or {}),
        "history": {"outputCollection": True, "snapshotProject": bool(spec.get("snapshot")), "directoriesToWatch": ["logs"]},
    }


def _input(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    details = {"type": "RunInput", "inputName": name, "mechanism": one.get("mode", "mount"), "pathOnCompute": one.get("target") or None}
    dataset = {key: one[key] for key in ("dataset", "version", "digest", "paths") if one.get(key)}
    return {"dataset": {"id": one.get("digest", ""), **dataset}, "consumptionDetails": details}


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


def _seconds(variable: str, usual: float) -> float:
    try:
        return max(0.05, float(os.environ[variable]))
    except (KeyError, ValueError):
        return usual
