"""Many runs as job arrays: one script and one manifest for each chunk of equal options."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcest.kit.files import write_private
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Plan
from hpcest.onnode.ids import new_run_id

Plans = Sequence[tuple[Plan, RunFolder]]


@dataclass(frozen=True)
class Array:
    """A script and its manifest, under a name that no other job has."""

    id: str
    name: str
    script: Path


def chunks(plans: Plans, max_array_size: int) -> Iterator[Plans]:
    """``plans`` in their order, cut where the options change and where Slurm's array indexes end (MaxArraySize - 1)."""
    chunk: list[tuple[Plan, RunFolder]] = []
    for one in plans:
        if chunk and (len(chunk) >= max(1, max_array_size) or _shape(one[0]) != _shape(chunk[0][0])):
            yield chunk
            chunk = []
        chunk.append(one)
    if chunk:
        yield chunk


def _shape(plan: Plan) -> dict[str, Any]:
    """What has to be equal in one array: all but where the output of one job goes, and its name."""
    sbatch = {name: value for name, value in plan.options["sbatch"].items() if name not in ("job-name", "output")}
    return {**plan.options, "sbatch": sbatch, "python": plan.launch["python"], "runtime": plan.launch["runtime"]}


def write_array(plans: Plans, at_once: int | None) -> Array:
    """Write the manifest and the script of one array. Raises OSError."""
    from hpcest.backends.slurm.script import controller_command, pattern, script_text

    first = plans[0][0]
    workspace = WorkspaceFolder(first.launch["workspace"])
    workspace.arrays.mkdir(exist_ok=True)
    array_id = new_run_id()
    home = workspace.arrays / array_id
    name = first.launch["job_name"].rpartition(".")[0] + "." + array_id
    manifest = home.with_suffix(".json")
    launches = [{**plan.launch, "job_name": name} for plan, _ in plans]
    common = {key: value for key, value in launches[0].items() if all(other.get(key) == value for other in launches[1:])}
    tasks = [{key: value for key, value in launch.items() if key not in common} for launch in launches]
    write_private(manifest, {"common": common, "tasks": tasks})
    limit = f"%{at_once}" if at_once else ""
    # One output for all, appended to: each controller turns to the log of its run as soon as it knows which one that is.
    output = pattern(home.with_suffix(".log"))
    options = {**first.options["sbatch"], "job-name": name, "array": f"0-{len(plans) - 1}{limit}", "output": output}
    script = home.with_suffix(".sbatch")
    script.write_text(script_text(workspace.arrays, options, first.options["setup"], controller_command(first.launch, manifest)))
    return Array(array_id, name, script)


def task_of(folder: RunFolder) -> dict[str, Any]:
    """The job name and task number of a run whose submitter died before it could record its job; empty if it is in no array."""
    arrays = WorkspaceFolder(folder.path.parents[2]).arrays
    for path in sorted(arrays.glob("*.json"), reverse=True):
        try:
            text = path.read_text()
            if f'"{folder.id}"' not in text:
                continue
            manifest = json.loads(text)
        except (OSError, ValueError):
            continue
        for number, task in enumerate(manifest["tasks"]):
            if task.get("run") == folder.id:
                return {"name": manifest["common"]["job_name"], "task": number}
    return {}
