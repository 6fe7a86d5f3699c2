"""A run, seen from the login side: its status, logs, files, metrics and children."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.onnode.filters import has_all, is_of
from hpcest.onnode.record import EventWriter
from hpcest.sdk import files
from hpcest.sdk.experiment import runs_of
from hpcest.sdk.opening import find_run, inside_a_run, writer_of
from hpcest.sdk.runsource import RunSource

if TYPE_CHECKING:
    from hpcest.onnode.state import RunState
    from hpcest.sdk.compute import ComputeTarget
    from hpcest.sdk.experiment import Experiment, Submittable
    from hpcest.sdk.model import Model
    from hpcest.sdk.workspace import Workspace

#: A type of run → what makes the object for a run of that type; see ``Run.add_type_provider``.
_PROVIDERS: dict[str, Callable[[Any, str], Any]] = {}


class Run(RunSource):
    """One run of an experiment; everything that it can log inside a program it can log here too.

    ``Run(experiment, run_id)`` or ``Run.get(workspace, run_id)`` opens an existing one. Inside a
    program ``Run.get_context()`` is the run that the program was started as. ``outputs`` is a folder whose files are kept
    as the run's outputs when ``complete()`` or ``fail()`` ends it.
    """

    def __init__(self, experiment: Experiment | str, run_id: str | EventWriter | None = None, outputs: str | Path | None = None) -> None:
        self._experiment: Experiment | None = None
        kept = os.path.abspath(outputs) if outputs else None
        if isinstance(experiment, str):  # a run folder, as the tracking part makes them
            self._open(experiment, kept)
            if isinstance(run_id, EventWriter) and inside_a_run():
                self._writer = run_id
            return
        self._open(find_run(experiment.workspace.folder, str(run_id)), kept)
        mine = str(self._spec.get("experiment", ""))
        if mine != experiment.name:
            hint = f"it belongs to {mine!r}; Run.get(workspace, id) finds the runs of all experiments"
            raise UnknownNameError(f"run of experiment {experiment.name!r}", self.id, (), hint=hint)
        self._experiment = experiment

    @cached_property
    def _writer(self) -> EventWriter:
        """Made when something is to be written: most runs are only looked at."""
        if not inside_a_run():
            self._check_there()  # a run that was deleted must not come back as a folder with one event in it
        return writer_of(self.folder)

    @classmethod
    def _opened(cls, experiment: Experiment, folder: str) -> Run:
        """The run in a run folder, of an experiment that is known to be its own."""
        found = cls(folder)
        found._experiment = experiment
        provider = _PROVIDERS.get(found.type) or _provider_of_a_plugin(experiment, found.type)
        return provider(experiment, found.id) if provider else found

    @classmethod
    def get(cls, workspace: Workspace, run_id: str) -> Run:
        """The run with that id, a unique prefix of it, or ``@latest``. Raises UnknownNameError."""
        folder = find_run(workspace.folder, str(run_id))
        return cls._opened(_experiment_of(workspace, cls(folder)._spec), folder)

    @staticmethod
    def add_type_provider(runtype: str, run_factory: Callable[[Experiment, str], Run]) -> None:
        """Have runs of the type ``runtype`` (see ``type``) opened by ``run_factory(experiment, run_id)``, in this process.

        A plugin has its own opened everywhere, by the hook ``hpcest_run_types``.
        """
        _PROVIDERS[runtype] = run_factory

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

    @staticmethod
    def list_by_compute(
        compute: ComputeTarget,
        type: str | None = None,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs of all experiments that were submitted to a compute target, newest first."""
        return runs_of(compute.workspace, type, tags, properties, status, compute=compute.name)

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
    def parent(self) -> Run | None:
        """The run that this one is a child of; None if there is none, or it was deleted."""
        return _there(self.workspace, self._spec.get("parent"))

    @property
    def type(self) -> str:
        """The framework of the run; empty for a child that a program made."""
        return str(self._spec.get("framework", "script"))

    @property
    def number(self) -> int:
        """Which run of its experiment it is, counted from 1 and children among them; deleted runs don't count."""
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh

        refresh(self.workspace.context)
        return query.number_of(self.workspace.folder, self.id)

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
        made = [child for child in (_there(self.workspace, child_id) for child_id in self._state().children) if child]
        for child in sorted(made, key=lambda child: child._made):
            wanted = has_all(child.get_tags(), tags) and has_all(child.get_properties(), properties)
            if wanted and is_of(type, child._kind, child._spec) and (status is None or child.get_status() == status):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

    def submit_child(
        self, config: Submittable, tags: Mapping[str, object] | None = None, *, say: Callable[[str], None] | None = None
    ) -> Run:
        """Submit a run below this one and return it, from inside a program too; as ``Experiment.submit``."""
        child = self.experiment._submit_below(self.id, config, tags, say)
        self._writer.event("child", id=child.id)
        self._edited()
        return child

    def _state(self) -> RunState:
        found: RunState = super()._state()
        if not inside_a_run():
            self._check_there()
        return found

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, run_type: str | None = None, populate: bool = False
    ) -> dict[str, Any]:
        """What was logged: name → value, or a list where a name was logged repeatedly; rows and tables as columns.

        ``populate`` gives what typed payloads (confusion matrices and the like) hold, in place of their files' names.
        ``recursive`` gives run id → such a dict, for this run and all runs below it.
        """
        found = super().get_metrics(name, recursive, run_type, populate)
        if not inside_a_run():
            self._check_there()
        return found

    # ------------------------------------------------------------------ files
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
        datasets: Sequence[tuple[str, Any]] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        **unknown: Any,
    ) -> Model:
        """Register a file or folder of this run (all of ``outputs`` by default) as the next version of a model.

        Of a run that has ended nothing is copied on the same file system: its files are the model's, and read-only from
        then on. ``datasets`` are pairs of a word and a dataset; those that the run itself reads are kept anyway.
        Raises UnknownNameError if there is nothing of that name, SpecError for what can't be copied whole.
        """
        from hpcest.onnode import models
        from hpcest.sdk.azure import MODEL, warn_ignored
        from hpcest.sdk.model import Model, facts_of

        samples = {"sample_input_dataset": sample_input_dataset, "sample_output_dataset": sample_output_dataset}
        ignored = {**samples, "resource_configuration": resource_configuration, **unknown}
        warn_ignored("Run.register_model", ignored, MODEL, ("model_framework", "model_framework_version", "datasets", "tags", "properties"))
        name = model_path or "outputs"
        source = files.path_of(self.folder, name)
        if not source.exists() or (source.is_dir() and not any(source.iterdir())):
            raise UnknownNameError(f"file of run {self.id}", name, self.get_file_names())
        frameworks = (model_framework, model_framework_version)
        asked = models.ask(self, model_name, name, facts_of(tags, properties, description, datasets, frameworks)) if inside_a_run() else ""
        try:
            return Model.register(
                self.workspace, source, model_name, tags, properties, description, datasets, *frameworks, run_id=self.id,
                root=Path(self.folder), settled=self._look().status.finished, key=asked,
            )  # fmt: skip
        except SpecError:
            if asked:
                self._writer.event("model", k=asked)  # taken back: nobody can register it
            raise

    # ------------------------------------------------------------------ edits
    def tag(self, key: str, value: object = "") -> None:
        """Set a tag; it may be changed and removed later."""
        super().tag(key, value)
        self._edited()

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags."""
        super().set_tags(tags)
        self._edited()

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        """Remove one tag or several."""
        super().remove_tags(tags)
        self._edited()

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Set properties. A property is written once: another value for it is ignored, and stderr says so."""
        super().add_properties(properties)
        self._edited()

    def _edited(self) -> None:
        """On the login side an edit is on the disk when this returns, or raises; inside a program it never raises."""
        if not inside_a_run() and not self._writer.flush():
            raise HpcestError(f"run {self.id} can't be changed", hint=f"see whether {self.folder}/events can be written")


def get_run(experiment: Experiment, run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    """The run of the experiment with that id. ``rehydrate`` and ``clean_up`` have no effect: a run is a folder, opened as it is."""
    return Run._opened(experiment, Run(experiment, run_id).folder)


def _experiment_of(workspace: Workspace, spec: Mapping[str, Any]) -> Experiment:
    from hpcest.sdk.experiment import Experiment

    return Experiment(workspace, str(spec.get("experiment") or "unknown"))


def _provider_of_a_plugin(experiment: Experiment, runtype: str) -> Callable[[Any, str], Any] | None:
    """What opens runs of a framework that hpcest doesn't bring along. Plugins are only loaded for such a one."""
    if runtype in ("", "script"):
        return None
    from hpcest.pluginmanager import BUILTIN

    built_in = any(kind == "framework" and name == runtype for kind, name, _ in BUILTIN)
    return None if built_in else experiment.workspace.context.plugins.run_types().get(runtype)


def _there(workspace: Workspace, run_id: object) -> Run | None:
    """The run with that whole id, if there still is one: what a program recorded is not trusted to be an id."""
    known = isinstance(run_id, str) and os.path.basename(run_id) == run_id and workspace.folder.run(run_id).header.is_file()
    return Run.get(workspace, str(run_id)) if known else None
