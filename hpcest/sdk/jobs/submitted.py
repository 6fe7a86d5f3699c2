"""A job that was submitted, as ``MLClient.jobs`` gives it: Azure ML's attributes over a run."""

from __future__ import annotations

from datetime import datetime, timezone
from html import escape
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hpcest.onnode.record import get_json
from hpcest.sdk.jobs.names import outputs_of, spec_of
from hpcest.sdk.jobs.spec import NAME_PROPERTY
from hpcest.sdk.jobs.types import DISTRIBUTIONS, Input, Output

if TYPE_CHECKING:
    from hpcest.sdk.run import Run

#: The tag of a run that its job was archived by.
ARCHIVED = "hpcest.archived"


class Job:
    """A submitted job. ``name`` is its own, or the id of its run; ``run`` is that run, with all that hpcest knows of it.

    ``display_name``, ``description`` and ``tags`` may be changed, and kept by ``jobs.create_or_update(job)``.
    """

    type = "command"

    def __init__(self, run: Run) -> None:
        self.run = run
        self._folder = run.workspace.folder.run(run.id)
        self._spec = spec_of(self._folder)
        self.display_name = run.display_name
        self.description = run.description
        self.tags = {name: value for name, value in run.get_tags().items() if name != ARCHIVED}

    @property
    def name(self) -> str:
        """The name that it was submitted by, else the id of its run."""
        return str((self._spec.get("properties") or {}).get(NAME_PROPERTY) or self.run.id)

    @property
    def id(self) -> str:
        """The id of its run."""
        return str(self.run.id)

    @property
    def status(self) -> str:
        """The status now."""
        return str(self.run.get_status())

    @property
    def experiment_name(self) -> str:
        """The experiment."""
        return str(self._spec.get("experiment", ""))

    @property
    def compute(self) -> str:
        """The compute target."""
        return str(self._spec.get("compute", "local"))

    @property
    def command(self) -> str:
        """The shell line, or the script with its arguments."""
        from hpcest.kit.codec import decode
        from hpcest.model.spec import Command

        return str(decode(Command, self._spec.get("command") or {}))

    @property
    def properties(self) -> dict[str, str]:
        """The properties of its run."""
        return dict(self.run.get_properties())

    @property
    def inputs(self) -> dict[str, Any]:
        """Literals as texts, and data as Inputs."""
        found: dict[str, Any] = dict(self._spec.get("inputs") or {})
        for name, data in (self._spec.get("data") or {}).items():
            path = f"azureml:{data['dataset']}:{data['version']}" if data.get("dataset") else (data.get("paths") or [""])[0]
            mode = {"mount": "ro_mount", "direct": "rw_mount"}.get(str(data.get("mode", "mount")), "download")
            found[name] = Input(data.get("type", "uri_folder"), path, mode)
        return found

    @property
    def outputs(self) -> dict[str, Output]:
        """The named outputs, with the paths where they are."""
        asked = self._spec.get("outputs") or {}
        places = outputs_of(self._folder)
        return {name: _output(asked[name], place) for name, place in places.items()}

    @property
    def code(self) -> str:
        """The folder that was frozen with the run; it may have changed since."""
        return str(self._spec.get("source", ""))

    @property
    def environment(self) -> str:
        """What its environment is called, or the kind that it is of."""
        asked = self._spec.get("environment") or {}
        return str(asked.get("name") or asked.get("kind") or "auto")

    @property
    def environment_variables(self) -> dict[str, str]:
        """The variables that it was submitted with."""
        return dict(self._spec.get("environment_variables") or {})

    @property
    def distribution(self) -> Any:
        """How its processes find each other; None for one that does not say. Ranks are counted per node."""
        kind = (self._spec.get("distribution") or {}).get("kind")
        made: Any = next((one() for one in DISTRIBUTIONS if one.type == kind), None)
        if hasattr(made, "process_count_per_instance"):
            made.process_count_per_instance = self._asked("procs_per_node", 1)
        return made

    @property
    def resources(self) -> SimpleNamespace:
        """``instance_count``; ``procs_per_node``, ``cpus``, ``gpus`` and ``memory`` (MB), None for what was not asked for."""
        more = {name: self._asked(name) for name in ("cpus", "gpus", "memory")}
        return SimpleNamespace(instance_count=self._asked("nodes", 1), procs_per_node=self._asked("procs_per_node", 1), **more)

    @property
    def limits(self) -> SimpleNamespace:
        """``timeout`` in seconds, None for none."""
        return SimpleNamespace(timeout=self._asked("time"))

    def _asked(self, name: str, default: Any = None) -> Any:
        return (self._spec.get("resources") or {}).get(name) or default

    @property
    def studio_url(self) -> str:
        """The run's folder as a link."""
        return self.run.get_portal_url()

    @property
    def services(self) -> dict[str, Any]:
        """``Studio`` with the link ``studio_url`` as its ``endpoint``; hpcest opens no others."""
        return {"Studio": SimpleNamespace(endpoint=self.studio_url, type="Studio")}

    @property
    def creation_context(self) -> SimpleNamespace:
        """``created_at`` and ``created_by``."""
        header = get_json(str(self._folder.header)) or {}
        created = datetime.fromtimestamp(float(header.get("created") or 0.0), timezone.utc)
        return SimpleNamespace(created_at=created, created_by=str(header.get("user", "")), created_by_type="User")

    @property
    def log_files(self) -> dict[str, str]:
        """The paths of its logs, by name."""
        found: dict[str, str] = self.run.get_details()["logFiles"]
        return found

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "display_name": self.display_name or None,
            "experiment_name": self.experiment_name,
            "status": self.status,
            "compute": self.compute,
            "command": self.command,
            "tags": self.tags or None,
            "studio_url": self.studio_url,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._facts().items() if value is not None)

    def __repr__(self) -> str:
        return f"Job(name={self.name!r}, status={self.status!r}, experiment_name={self.experiment_name!r})"

    def _repr_html_(self) -> str:
        shown = {"Experiment": self.experiment_name, "Name": self.name, "Type": self.type, "Status": self.status}
        head = "".join(f"<th>{escape(name)}</th>" for name in (*shown, "Details"))
        cells = "".join(f"<td>{escape(value)}</td>" for value in shown.values())
        link = f'<td><a href="{escape(self.studio_url)}">{escape(self.run.folder)}</a></td>'
        return f"<table><tr>{head}</tr><tr>{cells}{link}</tr></table>"


def _output(asked: dict[str, Any], place: Any) -> Output:
    model = asked.get("model")
    return Output("custom_model" if model else asked.get("type", "uri_folder"), place, name=model or asked.get("dataset"))
