"""Which launcher a run gets, as its launch manifest says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcest.backends.slurm import launchers, mpi, surroundings
from hpcest.backends.slurm.options import SlurmOptions
from hpcest.backends.slurm.site import site
from hpcest.model.plan import Activation
from hpcest.model.spec import RunSpec


def launcher(spec: RunSpec, launch: Mapping[str, Any], target: SlurmOptions) -> dict[str, Any]:
    """``kind``, ``argv`` and ``ranks`` of the launcher for a run. Raises SpecError, UnknownNameError."""
    from dataclasses import replace

    kind, wanted = launchers.parse(spec.launcher or target.launcher)
    kind = "srun" if kind == "auto" else kind
    resources = replace(spec.resources, cpus=spec.resources.cpus or target.cpus)
    offered = site(surroundings.for_asking()).mpi_types if kind == "srun" and (wanted or _may_speak_mpi(spec, launch)) else ()
    if kind == "srun" and wanted and offered:
        wanted = mpi.choose(offered, "", wanted)
    elif offered and (speaks := _speaks(spec, launch) or ("unknown" if spec.distribution else "")):
        wanted = mpi.choose(offered, speaks)
    chosen = launchers.LAUNCHERS[kind](resources, launch["per"], mpi=wanted, path=tuple(launch.get("path") or ()))
    argv = [f"--wait={target.wait}" if word.startswith("--wait=") else word for word in chosen.argv]
    return {"kind": chosen.kind, "argv": argv, "ranks": chosen.ranks}


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
