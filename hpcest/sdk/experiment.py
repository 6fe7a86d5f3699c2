"""Experiments: names under which runs are grouped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hpcest.errors import SpecError
from hpcest.lifecycle.workspace import checked_experiment
from hpcest.model.spec import RunSpec
from hpcest.onnode.filters import AZURE_TYPES, has_all
from hpcest.sdk import azure, experiments

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace


_VIEWS = ("ActiveOnly", "ArchivedOnly", "All")


class Submittable(Protocol):
    """What ``Experiment.submit`` takes: an Estimator, or anything else that compiles to a run spec."""

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec as it is now; changing the object afterwards changes nothing."""


class Experiment:
    """A group of runs in a workspace; it exists as soon as it has a run.

    Raises SpecError for a name that no listing could show.
    """

    workspace: Workspace
    name: str

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not hasattr(workspace, "folder") or not isinstance(name, str):
            raise SpecError(
                f"Experiment takes a workspace and a name, not {workspace!r} and {name!r}", hint="Experiment(workspace, 'name')"
            )
        self.workspace, self.name = workspace, checked_experiment(name)

    def submit(
        self,
        config: Submittable,
        tags: Mapping[str, object] | None = None,
        *,
        say: Callable[[str], None] | None = None,
        **off_azure: Unpack[azure.SubmitKeywords],
    ) -> Run:
        """Submit a run and return it; it goes on without this process.

        ``say`` is called with each line of progress (by default it is printed to stderr). Azure's own keywords are accepted
        with a warning. Raises HpcestError if the run can't be submitted.
        """
        azure.warn_ignored("Experiment.submit", off_azure, azure.SUBMIT, ("config", "tags", "say"))
        return self._submit_below("", config, tags, say)

    def _submit_below(
        self, parent: str, config: Submittable, tags: Mapping[str, object] | None = None, say: Callable[[str], None] | None = None
    ) -> Run:
        """The same below the run ``parent``, whose program ``Run.submit_child`` was called in."""
        from hpcest.lifecycle.submit import submit
        from hpcest.sdk.run import Run

        passage = submit(self.workspace.context, replace(self._spec(config, tags), parent=parent), say or _print)
        return Run._opened(self, str(passage.folder.path))

    def submit_all(
        self,
        configs: Sequence[Submittable],
        tags: Mapping[str, object] | None = None,
        *,
        max_concurrent: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Sequence[Run]:
        """Submit many runs together and return them in their order; on Slurm equal resources become job arrays.

        At most ``max_concurrent`` of them run at a time, where the backend can see to that. Raises HpcestError;
        nothing is submitted if one of them is refused.
        """
        from hpcest.lifecycle.together import submit_together
        from hpcest.sdk.run import Run

        specs = [self._spec(config, tags) for config in configs]
        passages = submit_together(self.workspace.context, specs, say or _print, at_once=max_concurrent)
        return [Run._opened(self, str(passage.folder.path)) for passage in passages]

    def _spec(self, config: Submittable, tags: Mapping[str, object] | None) -> RunSpec:
        """The run spec of what is submitted, with tags on top. Raises SpecError."""
        if isinstance(config, type) or not hasattr(config, "to_spec"):
            raise SpecError(
                f"{config!r} can't be submitted", hint="submit an Estimator: Estimator(source_directory, entry_script='train.py')"
            )
        added = _texts(tags)
        spec = config.to_spec(self.name, self.workspace)
        return replace(spec, tags={**spec.tags, **added}) if added else spec

    def start_logging(
        self,
        outputs: str | Path | None = None,
        snapshot_directory: str | Path | None = ".",
        *,
        display_name: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> Run:
        """Record this very process (a notebook, say) as a run, Running from now on, and return the run to log to.

        End it by ``complete()``, ``fail()`` or ``with``. If the process ends before, the run is Failed where an exception ended
        it or where it was killed, else Canceled. ``snapshot_directory`` is frozen now (None: nothing is); ``outputs`` is a folder
        whose files become the run's outputs when it ends. Raises HpcestError if nothing can be recorded.
        """
        from hpcest.sdk import interactive

        command = interactive.this_program(Path(snapshot_directory or "."))
        spec = RunSpec(self.name, command, framework="", display_name=display_name, tags=_texts(tags))
        return interactive.begin(self, spec, snapshot_directory, outputs)

    def get_runs(
        self,
        type: str | None = None,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        include_children: bool = False,
        *,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs of this experiment, newest first, read in parts as they are asked for.

        ``tags`` is a dict of tags with the values that they must have (None: any), or the name of a tag
        that must be there; ``properties`` likewise. ``type`` is the framework, or Azure's ``azureml.scriptrun`` for all that
        were submitted. Raises UsageError for a status that there is not.
        """
        yield from runs_of(self.workspace, type, tags, properties, status, experiment=self.name, include_children=include_children)

    # ------------------------------------------------------------------ what is kept of it
    @property
    def id(self) -> str:
        """The experiment's name: nothing else is one."""
        return self.name

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the experiment itself."""
        return experiments.tags(self.workspace.folder, self.name)

    def tag(self, key: str, value: object = None) -> None:
        """Set a tag of the experiment."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set several tags; the others stay."""
        self._note({"e": "tag", "k": key, "v": value} for key, value in _texts(tags).items())

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        """Remove one tag or several."""
        self._note({"e": "untag", "k": str(key)} for key in ([tags] if isinstance(tags, str) else tags))

    def archive(self) -> None:
        """Leave the experiment out of listings of experiments; its runs stay as they are."""
        self._note([{"e": "trash", "v": True}])

    def reactivate(self, new_name: str | None = None) -> None:
        """List an archived experiment again. Raises SpecError for another name: runs keep the one they were recorded with."""
        if new_name is not None and new_name != self.name:
            raise SpecError(f"experiment {self.name!r} can't be called {new_name!r}", hint="leave new_name out")
        self._note([{"e": "trash", "v": False}])

    @property
    def archived_time(self) -> datetime | None:
        """When the experiment was archived; None for one that is not."""
        when = experiments.archived(self.workspace.folder, self.name)
        return None if when is None else datetime.fromtimestamp(when, timezone.utc)

    def refresh(self) -> None:
        """Nothing to do: all that an experiment says is read when it is asked for."""

    def _note(self, events: Iterable[dict[str, Any]]) -> None:
        experiments.note(self.workspace.folder, self.name, events)

    @staticmethod
    def list(
        workspace: Workspace,
        experiment_name: str | None = None,
        view_type: str = "ActiveOnly",
        tags: Mapping[str, str | None] | str | None = None,
    ) -> list[Experiment]:
        """The experiments that have runs or tags, the one with the latest run first.

        ``view_type`` is ``ActiveOnly``, ``ArchivedOnly`` or ``All``. Raises SpecError for another one.
        """
        if view_type not in _VIEWS:
            raise SpecError(f"view_type can't be {view_type!r}", hint=f"allowed: {', '.join(_VIEWS)}")
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh

        refresh(workspace.context)
        noted = experiments.names(workspace.folder)
        names = dict.fromkeys([*query.experiments(workspace.folder), *sorted(noted)])
        found = [Experiment(workspace, name) for name in names if name.strip() and experiment_name in (None, name)]
        wanted = {"ActiveOnly": (False,), "ArchivedOnly": (True,), "All": (False, True)}[view_type]
        if wanted != (False, True):
            found = [one for one in found if (one.name in noted and one.archived_time is not None) in wanted]
        return [one for one in found if has_all(one.tags, tags)] if tags else found

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Move all runs of the experiment ``experiment_id``, its name, to the trash, and forget its tags.

        Raises UnknownNameError for one that is not there, UsageError while one of its runs goes on: nothing is moved then.
        """
        from hpcest.errors import UnknownNameError, UsageError
        from hpcest.history import query
        from hpcest.lifecycle import trash
        from hpcest.lifecycle.collect import refresh

        refresh(workspace.context)
        runs = query.list_runs(workspace.folder, experiment=experiment_id, limit=None, include_children=True)
        if not runs and experiment_id not in experiments.names(workspace.folder):
            raise UnknownNameError("experiment", experiment_id, query.experiments(workspace.folder))
        going = [row for row in runs if not row.finished]
        if going:
            raise UsageError(
                f"experiment {experiment_id!r} has {len(going)} runs that go on, such as {going[0].id}",
                hint=f"end them first: hpcest cancel {going[0].id}",
            )
        for row in runs:
            if workspace.folder.run(row.id).path.is_dir():  # a child may have gone with its parent
                trash.put(workspace.context, workspace.folder.run(row.id))
        experiments.forget(workspace.folder, experiment_id)

    @staticmethod
    def from_directory(path: str | Path, auth: Any = None) -> Experiment:
        """The experiment called as the directory ``path`` is, in the workspace that ``Workspace.from_config`` finds from there."""
        from hpcest.sdk.workspace import Workspace

        return Experiment(Workspace.from_config(path), Path(path).resolve().name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and (self.name, self.workspace.root) == (other.name, other.workspace.root)

    def __hash__(self) -> int:
        return hash((self.name, self.workspace.root))

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r}, workspace={self.workspace.name!r})"


def runs_of(
    workspace: Workspace,
    type: str | None,
    tags: Mapping[str, str | None] | str | None,
    properties: Mapping[str, str | None] | str | None,
    status: str | Sequence[str] | None,
    **conditions: Any,
) -> Iterator[Run]:
    """The runs of a workspace that meet all conditions, newest first; the others are those of ``query.list_runs``."""
    from hpcest.history import query
    from hpcest.lifecycle.collect import refresh
    from hpcest.sdk.run import Run

    for what, given in (("tags", tags), ("properties", properties)):
        if given is not None and not isinstance(given, (str, Mapping)):
            raise SpecError(f"{what} must be a dict or a name, not {given!r}", hint=f"such as {what}={{'kind': 'test'}}")
    refresh(workspace.context)
    kind = AZURE_TYPES.get(type or "", "")
    rows = query.each_run(
        workspace.folder,
        status=status,
        tags={tags: None} if isinstance(tags, str) else tags,
        properties={properties: None} if isinstance(properties, str) else properties,
        framework=None if kind else type,
        **conditions,
    )
    known: dict[str, Experiment] = {}
    for row in rows:
        if kind in ("", row.kind) and workspace.folder.run(row.id).header.is_file():  # it may have been deleted meanwhile
            name = row.experiment if row.experiment.strip() else "unknown"
            experiment = known.get(name) or known.setdefault(name, Experiment(workspace, name))
            yield Run._opened(experiment, str(workspace.folder.run(row.id).path))


def _texts(tags: Mapping[str, object] | None) -> dict[str, str]:
    """Tags as texts. Raises SpecError."""
    if tags is not None and not isinstance(tags, Mapping):
        raise SpecError(f"tags must be a dict, not {tags!r}", hint="such as tags={'kind': 'test'}")
    return {str(key): "" if value is None else str(value) for key, value in (tags or {}).items()}


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")
