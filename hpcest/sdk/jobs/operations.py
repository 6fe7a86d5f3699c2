"""``MLClient.jobs``: submitting jobs and looking after them, in the words of Azure ML's SDK v2."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, SpecError, UnknownNameError, UsageError
from hpcest.sdk import azure
from hpcest.sdk.files import copy_whole
from hpcest.sdk.jobs.command import CommandJob
from hpcest.sdk.jobs.names import checked_reference, outputs_of, run_of, taken
from hpcest.sdk.jobs.submitted import ARCHIVED, Job

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from hpcest.model.spec import RunSpec
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace

_VIEWS = ("active_only", "archived_only", "all")
_IGNORED = {"skip_validation": "a job is always checked", "status_filter": "filter the list", "raise_on_failure": "", "kwargs": ""}


class Poller:
    """What is asked for and takes a while: ``result()`` waits for it, ``done()`` says whether it has happened."""

    def __init__(self, run: Run | None = None, result: Any = None) -> None:
        self._run, self._result = run, result

    def result(self, timeout: float | None = None) -> Any:
        """Wait, at most ``timeout`` seconds if that is given."""
        self.wait(timeout)
        return self._result

    def wait(self, timeout: float | None = None) -> None:
        """The same without a result."""
        from hpcest.lifecycle.follow import wait

        if self._run is not None:
            wait(self._run.workspace.context, _folder(self._run), timeout=timeout)

    def done(self) -> bool:
        """Whether it has happened."""
        return self._run is None or _ended(self._run)

    def status(self) -> str:
        """``Succeeded``, or ``InProgress``."""
        return "Succeeded" if self.done() else "InProgress"


@dataclass(frozen=True)
class ValidationResult:
    """What ``jobs.validate`` found: ``passed``, and ``error_messages`` by what they are about."""

    error_messages: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.error_messages


class JobOperations:
    """The jobs of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    # ------------------------------------------------------------------ submitting
    def create_or_update(
        self,
        job: CommandJob | Job,
        *,
        description: str | None = None,
        compute: str | None = None,
        tags: Mapping[str, Any] | None = None,
        experiment_name: str | None = None,
        **azure_only: Any,
    ) -> Job:
        """Submit a job, which goes on without this process; of one that was submitted keep its changes.

        The keywords go before what the job says. Raises SpecError for a name that another job has, HpcestError if the job can't
        be submitted.
        """
        azure.warn_ignored("jobs.create_or_update", azure_only, _IGNORED)
        if isinstance(job, Job):
            if compute or experiment_name:
                raise SpecError(f"job {job.name!r} was submitted: its compute target and experiment stay", hint="submit a job of its own")
            wanted = {**job.tags, **{str(name): "" if value is None else str(value) for name, value in (tags or {}).items()}}
            return self._changed(job.run, job.display_name, description if description is not None else job.description, wanted)
        spec = self._compiled(job, description, compute, tags, experiment_name)
        if not job.name:
            return Job(self._submit(spec))
        with taken(self._workspace.folder, str(job.name)) as becomes:
            run = self._submit(spec)
            becomes(run.id)
        return Job(run)

    def _compiled(
        self, job: Any, description: str | None, compute: str | None, tags: Mapping[str, Any] | None, experiment: str | None
    ) -> RunSpec:
        if not isinstance(job, CommandJob):
            raise SpecError(
                f"{job!r} is no job that can be submitted", hint="make one: command(…), or load_job('job.yml'); others go to their own"
            )
        spec = job.compile(self._workspace)
        labels = {str(name): "" if value is None else str(value) for name, value in (tags or {}).items()}
        return replace(
            spec,
            description=spec.description if description is None else description,
            compute=compute.removeprefix("azureml:") if compute else spec.compute,
            tags={**spec.tags, **labels},
            experiment=experiment or spec.experiment,
        )

    def _submit(self, spec: RunSpec) -> Run:
        from hpcest.lifecycle.submit import submit
        from hpcest.sdk.run import Run

        passage = submit(self._workspace.context, spec, _print)
        return Run.get(self._workspace, passage.folder.id)

    def validate(self, job: CommandJob, *, raise_on_failure: bool = False, **azure_only: Any) -> ValidationResult:
        """Whether a job could be submitted, without doing it. Raises what is wrong if ``raise_on_failure``."""
        from hpcest.lifecycle.passage import Passage
        from hpcest.lifecycle.submit import check

        azure.warn_ignored("jobs.validate", azure_only, _IGNORED)
        try:
            spec = self._compiled(job, None, None, None, None)
            check(Passage.of(self._workspace.context, spec, lambda line: None, dry=True))
        except HpcestError as error:
            if raise_on_failure:
                raise
            where, colon, what = error.message.removeprefix("command(): ").partition(": ")
            return ValidationResult({where: what} if colon else {"job": error.message})
        return ValidationResult()

    # ------------------------------------------------------------------ looking
    def get(self, name: str) -> Job:
        """The job of that name; the id of a run, a beginning of it and ``@latest`` do as well. Raises UnknownNameError."""
        return Job(self._run(name))

    def _run(self, name: object) -> Run:
        from hpcest.sdk.run import Run

        return Run.get(self._workspace, run_of(self._workspace.folder, checked_reference(name)))

    def list(
        self, parent_job_name: str | None = None, *, list_view_type: Any = "ACTIVE_ONLY", max_results: int | None = None, **azure_only: Any
    ) -> Iterator[Job]:
        """The jobs, newest first: those that are not archived, unless ``list_view_type`` is ARCHIVED_ONLY or ALL.

        With ``parent_job_name`` those below that job. Raises UnknownNameError, UsageError.
        """
        azure.warn_ignored("jobs.list", azure_only, _IGNORED)
        view = str(getattr(list_view_type, "value", list_view_type)).lower().replace("activeonly", "active_only")
        view = view.replace("archivedonly", "archived_only")
        if view not in _VIEWS:
            raise UsageError(f"there is no view of jobs {list_view_type!r}", hint="known: ACTIVE_ONLY, ARCHIVED_ONLY, ALL")
        return self._listed(self._run(parent_job_name).id if parent_job_name else None, view, max_results)

    def _listed(self, parent: str | None, view: str, most: int | None) -> Iterator[Job]:
        from hpcest.history import query
        from hpcest.lifecycle.collect import refresh
        from hpcest.sdk.run import Run

        refresh(self._workspace.context)
        given = 0
        for row in query.list_runs(self._workspace.folder, parent=parent, limit=None):
            if most is not None and given >= most:
                return
            if view == "all" or (ARCHIVED in row.tags) == (view == "archived_only"):
                given += 1
                yield Job(Run.get(self._workspace, row.id))

    def stream(self, name: str) -> None:
        """Print the job's log as it grows, until the job has ended. Raises RunFailedError unless it completed."""
        run = self._run(name)
        _print(f"job {checked_reference(name)}: {run.get_portal_url()}")
        run.wait_for_completion(show_output=True)

    def download(
        self, name: str, *, download_path: str | Path = ".", output_name: str | None = None, all: bool = False, **azure_only: Any
    ) -> None:
        """Copy what a job that has ended left: into ``artifacts``, and with ``all`` each named output into ``named-outputs/NAME``.

        ``output_name`` is one named output alone. Raises UnknownNameError, UsageError for a job that goes on, SpecError.
        """
        azure.warn_ignored("jobs.download", azure_only, _IGNORED)
        run = self._run(name)
        if not _ended(run):
            raise UsageError(
                f"job {checked_reference(name)!r} has not ended: it is {run.get_status()}", hint="jobs.stream(name) waits for it"
            )
        places, target = outputs_of(_folder(run)), Path(download_path)
        if output_name not in (None, "default", "artifacts") and output_name not in places:
            raise UnknownNameError(f"output of job {run.id}", str(output_name), places)
        try:
            if output_name in (None, "default", "artifacts"):
                (target / "artifacts").mkdir(parents=True, exist_ok=True)
                run.download_files(output_directory=target / "artifacts")
            for one in places if all else [output_name] if output_name in places else []:
                if places[str(one)].exists():
                    (target / "named-outputs").mkdir(parents=True, exist_ok=True)
                    copy_whole(places[str(one)], target / "named-outputs" / str(one))
        except OSError as error:
            raise HpcestError(f"job {run.id} can't be copied to {target}: {error.strerror or error}") from error

    def show_services(self, name: str, node_index: int = 0) -> dict[str, Any]:
        """What a node of a job serves: nothing, with a warning that says how to reach it. Raises UnknownNameError for the job."""
        run = self._run(name)
        azure.warn("jobs.show_services", {"services": f"reach a port of a node by ssh -L; 'hpcest show {run.id}' names the nodes"})
        return {}

    # ------------------------------------------------------------------ changing
    def begin_cancel(self, name: str, **azure_only: Any) -> Poller:
        """Ask for the end of a job; ``.result()`` waits until it has ended."""
        run = self._run(name)
        run.cancel()
        return Poller(run)

    def begin_delete(self, name: str) -> Poller:
        """Move a job that has ended to the trash. Raises UsageError for one that goes on."""
        from hpcest.lifecycle.trash import put

        put(self._workspace.context, _folder(self._run(name)))
        return Poller()

    def archive(self, name: str) -> None:
        """Leave a job out of listings."""
        self._run(name).tag(ARCHIVED, "true")

    def restore(self, name: str) -> None:
        """Have an archived job in listings again."""
        self._run(name).remove_tags([ARCHIVED])

    def update(
        self,
        name: str,
        *,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Job:
        """Change what a job is called; ``tags`` and ``properties`` are added to those that it has, and a property stays as it was."""
        run = self._run(name)
        if display_name is not None:
            run.display_name = display_name
        if description is not None:
            run.description = description
        run.set_tags({str(key): "" if value is None else str(value) for key, value in (tags or {}).items()})
        if properties:
            run.add_properties({str(key): str(value) for key, value in properties.items()})
        return Job(run)

    @staticmethod
    def _changed(run: Run, display_name: str, description: str, tags: Mapping[str, str]) -> Job:
        """A job with these words and exactly these tags."""
        before = run.get_tags()
        if run.display_name != display_name:
            run.display_name = display_name
        if run.description != description:
            run.description = description
        for key, value in tags.items():
            if before.get(key) != value:
                run.tag(str(key), value)
        gone: Sequence[str] = [key for key in before if key not in tags and key != ARCHIVED]
        if gone:
            run.remove_tags(gone)
        return Job(run)


def _folder(run: Run) -> RunFolder:
    return run.workspace.folder.run(run.id)


def _ended(run: Run) -> bool:
    from hpcest.lifecycle.watch import look_at

    return look_at(run.workspace.context, _folder(run)).finished


def _print(line: str) -> None:
    sys.stderr.write(line + "\n")
