"""Names of jobs: what a person calls one, unique in a workspace, and the run that it became.

    .hpcest/jobs/NAME.json     the run that has the name, or who is submitting it right now

The truth is a property of the run itself; the file keeps two submissions at once from taking one name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError, UnknownNameError, UsageError
from hpcest.kit.codec import decode
from hpcest.kit.files import create_exclusively, read_json, write_json
from hpcest.model.datapaths import final_path
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.spec import DataOutput
from hpcest.onnode import processes
from hpcest.onnode.record import get_json
from hpcest.onnode.versions import folder_name
from hpcest.sdk.jobs.spec import NAME_PROPERTY


def run_of(workspace: WorkspaceFolder, name: str) -> str:
    """The id of the run that a job's name, a run's id, a beginning of one or ``@latest`` means. Raises UnknownNameError, UsageError."""
    from hpcest.history.resolve import resolve

    found = _named(workspace, name) if isinstance(name, str) and name and "\0" not in name else ""
    if found:
        return found
    try:
        return resolve(workspace, str(name))
    except UnknownNameError as error:
        raise UnknownNameError("job", str(name), error.known, hint=error.hint) from None


def _file(workspace: WorkspaceFolder, name: str) -> Path:
    return workspace.home / "jobs" / f"{folder_name(name)}.json"


def _facts(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _named(workspace: WorkspaceFolder, name: str) -> str:
    """The newest run whose job has this name; empty if there is none."""
    run = str(_facts(_file(workspace, name)).get("run") or "") if not name.startswith("@") else ""
    if run and workspace.run(run).header.is_file():
        return run
    from hpcest.history import ingest, query

    ingest.refresh(workspace)
    quoted = name.replace("'", "''")
    rows = query.list_runs(workspace, where=f"properties.`{NAME_PROPERTY}` = '{quoted}'", include_children=True, limit=1)
    return rows[0].id if rows else ""


@contextlib.contextmanager
def taken(workspace: WorkspaceFolder, name: str) -> Iterator[Callable[[str], None]]:
    """Hold a job's name while it is submitted; call what this gives with the run's id. Raises SpecError for one that is taken.

    An exception inside gives the name back.
    """
    path = _file(workspace, name)
    path.parent.mkdir(exist_ok=True)
    mine = json.dumps({"name": name, "owner": processes.identity()})
    while not create_exclusively(path, mine):
        _refuse_if_taken(workspace, name, _facts(path))
        path.unlink(missing_ok=True)
    try:
        run = _named(workspace, name) or (name if workspace.run(name).header.is_file() else "")
        if run:
            raise _taken(name, f"the run {run} has it")
        yield lambda run_id: write_json(path, {"name": name, "run": run_id})
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _refuse_if_taken(workspace: WorkspaceFolder, name: str, facts: dict[str, Any]) -> None:
    run, owner = str(facts.get("run") or ""), facts.get("owner")
    if run and workspace.run(run).header.is_file():
        raise _taken(name, f"the run {run} has it")
    if run and (workspace.trash / run).is_dir():
        raise _taken(name, f"the run {run} in the trash has it")
    if not run and isinstance(owner, dict) and processes.alive(owner) is not False:
        raise _taken(name, f"a job of that name is being submitted by process {owner.get('pid')} on {owner.get('host')}")


def _taken(name: str, why: str) -> SpecError:
    return SpecError(
        f"the name {name!r} of a job is taken: {why}", hint="choose another name, or leave it out: then the run's id is its name"
    )


def outputs_of(folder: RunFolder) -> dict[str, Path]:
    """Where the named outputs of a run end, by name, written yet or not."""
    asked = spec_of(folder).get("outputs") or {}
    return {name: Path(final_path(folder, name, decode(DataOutput, given))) for name, given in asked.items()}


def spec_of(folder: RunFolder) -> dict[str, Any]:
    """The recorded spec of a run, as plain values."""
    found = (get_json(str(folder.header)) or {}).get("spec")
    return found if isinstance(found, dict) else {}


def checked_reference(name: object) -> str:
    """The name of a job as a text; a job that was submitted gives its own. Raises UsageError."""
    text = name if isinstance(name, str) else getattr(name, "name", None)
    if not isinstance(text, str) or not text:
        raise UsageError(f"a job is named by a text, not {name!r}", hint="give its name or the id of its run")
    return text
