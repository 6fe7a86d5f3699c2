"""Which launcher a run gets, as its launch manifest says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcest.backends.slurm import launchers, mpi, surroundings
from hpcest.backends.slurm.options import SlurmOptions
from hpcest.backends.slurm.site import site
from hpcest.model.plan import Activation
from hpcest.model.spec import RunSpec


def launcher(spec: RunSpec, launch: Mapping[str, Any], target: SlurmOptions, *, sized: bool = True) -> dict[str, Any]:
    """``kind``, ``argv`` and ``ranks`` of the launcher for a run. Raises SpecError, UnknownNameError.

    Without ``sized`` srun starts as many ranks as the job has tasks.
    """
    kind, wanted = launchers.parse(spec.launcher or target.launcher)
    resources = replace(spec.resources, cpus=spec.resources.cpus or target.cpus)
    if kind == "mpirun":
        chosen = launchers.mpirun(resources, launch["per"], mpi=wanted, path=tuple(launch.get("path") or ()))
    elif kind == "single":
        chosen = launchers.single(resources, launch["per"])
    else:
        chosen = launchers.srun(resources, launch["per"], mpi=_mpi_type(spec, launch, wanted), wait=target.wait, sized=sized)
    return {"kind": chosen.kind, "argv": list(chosen.argv), "ranks": chosen.ranks}


def _mpi_type(spec: RunSpec, launch: Mapping[str, Any], wanted: str) -> str:
    """The type for ``srun --mpi``; empty where none is needed, or the site's default is the best guess. Raises SpecError."""
    if not wanted and not _may_speak_mpi(spec, launch):
        return ""
    offered = site(surroundings.for_asking()).mpi_types
    if wanted or not offered:
        return mpi.choose(offered, "", wanted)
    speaks = _speaks(spec, launch)
    # A distribution says that the ranks want to meet, also where it can't be seen by which MPI.
    return mpi.choose(offered, speaks) if speaks or spec.distribution else ""


def _may_speak_mpi(spec: RunSpec, launch: Mapping[str, Any]) -> bool:
    """Several processes that nobody said find each other in another way."""
    alone = spec.ranks == 1 or launch["per"] == "node"
    return not alone and (spec.distribution is None or spec.distribution.kind == "mpi")


def _speaks(spec: RunSpec, launch: Mapping[str, Any]) -> str:
    """The MPI that the program would load, as far as that can be seen here."""
    activation = Activation(
        launch.get("interpreter") or "python3",
        tuple(launch["prefix"]),
        tuple(launch["path"]),
        dict(launch["variables"]),
        tuple(launch["unset"]),
    )
    return mpi.flavour(activation, launch["argv"], os.environ, folder=Path(spec.source) if spec.source else None)
