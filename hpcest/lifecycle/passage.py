"""A run on its way from a spec to a backend: what the steps hand to each other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpcest
from hpcest.contracts import Backend, Environment, Framework, Lock, Say
from hpcest.errors import HpcestError
from hpcest.kit.codec import encode
from hpcest.kit.files import sync_files
from hpcest.kit.users import user_name
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.journal import append
from hpcest.lifecycle.secrets import without_secrets
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Activation, Plan
from hpcest.model.spec import SCHEMA, RunSpec
from hpcest.onnode import processes
from hpcest.onnode.ids import new_run_id

Step = Callable[["Passage"], None]


@dataclass
class Passage:
    """Filled in step by step: ``spec`` first, ``plan`` at the end.

    ``recorded`` is False until the run folder exists, and stays so on a dry run; ``offered`` is True from
    the moment when the backend may have the run. ``attaching`` is the backend of the allocation that the run
    is started in by this very process, where it is; ``place`` the directory that it runs in, where that is not
    a copy of its source.
    """

    context: Context
    spec: RunSpec
    say: Say
    folder: RunFolder
    created: float = field(default_factory=time.time)
    dry: bool = False
    recorded: bool = False
    offered: bool = False
    attaching: Backend | None = None
    place: str = ""
    framework: Framework | None = None
    environment: Environment | None = None
    backend: Backend | None = None
    lock: Lock | None = None
    activation: Activation | None = None
    plan: Plan | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, spec: RunSpec, say: Say, *, dry: bool = False, attaching: Backend | None = None) -> Passage:
        """A passage at its start, with a run id that nothing has yet."""
        while (folder := context.workspace.run(new_run_id())).path.exists():
            pass
        return cls(context, spec, say, folder, dry=dry, attaching=attaching)

    def status(self, status: str, *, reason: str = "", message: str = "") -> None:
        """Record a status, if the run is recorded at all."""
        if self.recorded:
            with contextlib.suppress(OSError):  # that this process is gone will tell as much
                append(
                    self.folder, "submit", {"e": "status", "v": status, "by": "submit", "a": 0, "r": reason or None, "m": message or None}
                )


def record(passage: Passage) -> None:
    """Make the run folder: from here on the run exists, and its end will be recorded.

    It appears whole, with its first status. Raises HpcestError; nothing is left then.
    """
    if passage.dry:
        return
    appear(passage, lambda beside: _fill(beside, passage))
    passage.recorded = True


def appear(passage: Passage, fill: Callable[[RunFolder], None]) -> None:
    """Make the run folder, under another id where somebody was faster: ``fill`` writes it where nobody sees it.

    Raises HpcestError; nothing is left then.
    """
    while True:
        final = passage.folder
        beside = RunFolder(final.path.with_name(f".new-{final.id}"))
        try:
            fill(beside)
            os.rename(beside.path, final.path)
            return
        except OSError as error:
            if final.path.exists():
                passage.folder = passage.context.workspace.run(new_run_id())
                continue
            raise HpcestError(
                f"no run can be recorded in {final.path.parent}: {error.strerror}", hint="check its space and permissions"
            ) from error
        finally:
            if beside.path.exists():
                shutil.rmtree(beside.path, ignore_errors=True)


def _fill(folder: RunFolder, passage: Passage) -> None:
    for part in (folder.events, folder.state, folder.outputs, folder.logs, folder.user_logs, folder.system_logs):
        part.mkdir(parents=True)
    passage.header = header(passage)
    folder.header.write_text(json.dumps(passage.header), encoding="utf-8")  # nobody sees it yet
    append(folder, "submit", {"e": "status", "v": "Preparing", "by": "submit", "a": 0}, sync=False)


def settle(folder: RunFolder) -> None:
    """Have on the disk what says what the run is: from now on a crash of this machine may not lose it. Raises OSError."""
    sync_files([folder.launch, folder.header, folder.lock, folder.secrets, *sorted(folder.events.iterdir())])


def header(passage: Passage) -> dict[str, Any]:
    """What ``run.json`` holds: who, when, with what, and the spec without the values of secrets.

    ``submitter`` is the process that prepares the run: whether it is gone tells what became of the run.
    """
    return {
        "schema": SCHEMA,
        "id": passage.folder.id,
        "kind": "run",
        "created": passage.created,
        "user": user_name(),
        "host": os.uname().nodename,
        "hpcest": hpcest.__version__,
        "submitter": processes.identity(),
        "spec": encode(without_secrets(passage.spec)),
    }


def source_of(passage: Passage) -> Path:
    """The source directory as a path; the current directory where the spec names none."""
    return Path(passage.spec.source or ".").absolute()
