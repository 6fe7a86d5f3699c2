"""What job files name by ``azureml:NAME:VERSION``: data, models and datastores that are registered in a workspace, and jobs."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.model.spec import DataInput

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context


class Assets(Protocol):
    """What is registered where a job file is read. An empty version is the latest. All raise UnknownNameError."""

    def data(self, name: str, version: str) -> DataInput:
        """A registered dataset as an input."""

    def model(self, name: str, version: str) -> Path:
        """The file or folder of a registered model."""

    def datastore(self, name: str) -> Path:
        """The folder that a datastore is."""

    def output(self, job: str, name: str) -> Path:
        """The folder or file of a job's named output; ``artifacts`` and ``default`` are the folder of the job's run itself."""

    def no_code(self) -> str:
        """A folder without code, for a job that has none; empty where there is no such folder. Raises HpcestError."""


class Nothing:
    """Where nothing is registered."""

    def data(self, name: str, version: str) -> DataInput:
        """Raises UnknownNameError."""
        raise UnknownNameError("dataset", name, ())

    def model(self, name: str, version: str) -> Path:
        """Raises UnknownNameError."""
        raise UnknownNameError("model", name, ())

    def datastore(self, name: str) -> Path:
        """Raises UnknownNameError."""
        raise UnknownNameError("datastore", name, ())

    def output(self, job: str, name: str) -> Path:
        """Raises UnknownNameError."""
        raise UnknownNameError("job", job, ())

    def no_code(self) -> str:
        """None."""
        return ""


class WorkspaceAssets:
    """What is registered in a workspace."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def data(self, name: str, version: str) -> DataInput:
        """A registered dataset as an input."""
        from hpcest.lifecycle.data import datasets

        return datasets.read(self.context.workspace, name, version or None).as_input()

    def model(self, name: str, version: str) -> Path:
        """The file or folder of a registered model."""
        from hpcest.sdk import registry

        known = registry.versions(self.context.workspace, name)
        if not known:
            raise UnknownNameError("model", name, registry.names(self.context.workspace))
        text = str(known[-1]) if version in ("", "latest") else version
        if text not in map(str, known):
            raise UnknownNameError(f"version of model {name!r}", text, map(str, known))
        facts = registry.read(self.context.workspace, name, int(text))
        return registry.home(self.context.workspace, name) / text / "data" / str(facts["file"])

    def datastore(self, name: str) -> Path:
        """The folder that a datastore is."""
        from hpcest.lifecycle.data import datastores

        return datastores.folder_of(self.context, name)

    def output(self, job: str, name: str) -> Path:
        """The folder or file of a job's named output; ``artifacts`` and ``default`` are the folder of the job's run itself."""
        from hpcest.sdk.jobs.names import outputs_of, run_of

        folder = self.context.workspace.run(run_of(self.context.workspace, job))
        if name in ("artifacts", "default"):
            return folder.path
        known = outputs_of(folder)
        if name not in known:
            raise UnknownNameError(f"output of job {job!r}", name, known)
        if not known[name].exists():
            raise SpecError(f"job {job!r} has not written its output {name!r}", hint=f"see how it ended: hpcest show {folder.id}")
        return known[name]

    def no_code(self) -> str:
        """The folder ``snapshots/none`` of the workspace, with a hidden file: a snapshot of nothing at all is refused."""
        folder = self.context.workspace.home / "snapshots" / "none"
        beside = folder.with_name(f".none-{uuid.uuid4().hex}")
        try:
            if not folder.is_dir():
                beside.mkdir(parents=True)
                (beside / ".no-code").write_text("The job has no code.\n", encoding="utf-8")
                with contextlib.suppress(OSError):  # another was faster
                    beside.rename(folder)
            if folder.is_dir():
                return str(folder)
        except OSError as error:
            raise HpcestError(f"{folder} can't be made: {error.strerror}", hint="check its space and permissions") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        raise HpcestError(f"{folder} is no folder", hint="remove it")
