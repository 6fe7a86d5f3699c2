"""Experiments: names under which runs are grouped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from hpcest.errors import SpecError
from hpcest.lifecycle.workspace import checked_experiment
from hpcest.model.spec import RunSpec

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace


class Submittable(Protocol):
    """What ``Experiment.submit`` takes: an Estimator, or anything else that compiles to a run spec."""

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec as it is now; changing the object afterwards changes nothing."""


class Experiment:
    """A group of runs in a workspace; it exists as soon as it has a run.

    Raises SpecError for a name that no listing could show.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not hasattr(workspace, "folder") or not isinstance(name, str):
            raise SpecError(
                f"Experiment takes a workspace and a name, not {workspace!r} and {name!r}", hint="Experiment(workspace, 'name')"
            )
        self.workspace, self.name = workspace, checked_experiment(name)

    def submit(self, config: Submittable, tags: Mapping[str, object] | None = None, *, say: Callable[[str], None] | None = None) -> Run:
        """Submit a run and return it; it goes on without this process.

        ``say`` is called with each line of progress (by default it is printed to stderr). Raises
        HpcestError if the run can't be submitted.
        """
        from hpcest.lifecycle.submit import submit
        from hpcest.sdk.run import Run

        passage = submit(self.workspace.context, self._spec(config, tags), say or _print)
        return Run(self, passage.folder.id)

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
        return [Run(self, passage.folder.id) for passage in passages]

    def _spec(self, config: Submittable, tags: Mapping[str, object] | None) -> RunSpec:
        """The run spec of what is submitted, with tags on top. Raises SpecError."""
        if isinstance(config, type) or not hasattr(config, "to_spec"):
            raise SpecError(
                f"{config!r} can't be submitted", hint="submit an Estimator: Estimator(source_directory, entry_script='train.py')"
            )
        if tags is not None and not isinstance(tags, Mapping):
            raise SpecError(f"tags must be a dict, not {tags!r}", hint="such as tags={'kind': 'test'}")
        spec = config.to_spec(self.name, self.workspace)
        if tags:
            added = {str(key): "" if value is None else str(value) for key, value in tags.items()}
            spec = replace(spec, tags={**spec.tags, **added})
        return spec

    def get_runs(
        self,
        type: str | None = None,
        tags: Mapping[str, str | None] | str | None = None,
        properties: Mapping[str, str | None] | str | None = None,
        include_children: bool = False,
        *,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The runs of this experiment, newest first.

        ``tags`` is a dict of tags with the values that they must have (None: any), or the name of a tag
        that must be there; ``properties`` likewise. ``type`` is the framework. Raises UsageError for a
        status that there is not.
        """
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh
        from hpcest.sdk.run import Run

        refresh(self.workspace.context)
        wanted = {tags: None} if isinstance(tags, str) else tags
        for row in query.list_runs(
            self.workspace.folder, experiment=self.name, status=status, tags=wanted, limit=None, include_children=include_children
        ):
            if (type is None or row.framework == type) and has_all(row.properties, properties):
                yield Run(self, row.id)

    @staticmethod
    def list(workspace: Workspace) -> list[Experiment]:
        """All experiments of the workspace that have runs."""
        return [*workspace.experiments.values()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Experiment) and (self.name, self.workspace.root) == (other.name, other.workspace.root)

    def __hash__(self) -> int:
        return hash((self.name, self.workspace.root))

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r}, workspace={self.workspace.name!r})"


def has_all(have: Mapping[str, Any], wanted: Mapping[str, str | None] | str | None) -> bool:
    """Whether all that is ``wanted`` is there: a name with any value, or names with their values (None: any)."""
    if isinstance(wanted, str):
        return wanted in have
    return all(key in have and (value is None or have[key] == value) for key, value in (wanted or {}).items())


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")
