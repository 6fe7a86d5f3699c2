"""The job that this process is part of: a user's own batch script, or the shell of an salloc."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcest.backends.slurm import request, surroundings
from hpcest.backends.slurm.launching import launcher
from hpcest.backends.slurm.options import SlurmOptions
from hpcest.backends.slurm.site import site
from hpcest.contracts import Allocation
from hpcest.model.spec import Resources, RunSpec
from hpcest.onnode.slurmjob import attempt_of


def allocation(environ: Mapping[str, str]) -> Allocation | None:
    """Nodes, tasks per node and cores per task of the job that ``environ`` belongs to; None outside of one."""
    if "SLURM_JOB_ID" not in environ:
        return None
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    job = {
        "id": f"{array}_{task}" if array and task else environ["SLURM_JOB_ID"],
        "name": environ.get("SLURM_JOB_NAME", ""),
        "attached": True,
    }
    return Allocation(_resources(environ), job, attempt_of(environ))


def _resources(environ: Mapping[str, str]) -> Resources:
    nodes = _number(environ, "SLURM_JOB_NUM_NODES") or _number(environ, "SLURM_NNODES") or 1
    tasks = _number(environ, "SLURM_NTASKS") or nodes * (_number(environ, "SLURM_NTASKS_PER_NODE") or 1)
    return Resources(nodes, -(-tasks // nodes), _number(environ, "SLURM_CPUS_PER_TASK"), _number(environ, "SLURM_GPUS_ON_NODE"))


def own_launch(spec: RunSpec, launch: Mapping[str, Any], target: SlurmOptions) -> dict[str, Any]:
    """What the launch manifest of a run in this job has beside the usual. Raises SpecError."""
    offered, tasks = _resources(os.environ), _number(os.environ, "SLURM_NTASKS")
    asked = (spec.resources.nodes, spec.resources.procs_per_node)
    # As srun would without options: the tasks may not be the same on all nodes.
    whole = bool(tasks) and launch["per"] == "process" and asked == (offered.nodes, offered.procs_per_node)
    own: dict[str, Any] = {
        "python": target.python or sys.executable,
        "time": None,
        "grace": target.grace,
        "queue": None,
        "attached": True,
        "job_name": os.environ.get("SLURM_JOB_NAME", ""),
        "binds": list(site(surroundings.for_asking()).mpi_dirs),
        "max_requeues": request.most_requeues(spec, target),
        "launcher": launcher(spec, launch, replace(target, cpus=None), sized=not whole),
    }
    if warning := request.warning(spec, target):
        own["signal"], own["warn"] = warning
    if whole:
        own["ranks"] = tasks
    return own


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isdigit() else None
