"""How the ranks of a run are started inside an allocation: small functions from resources to an argv."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from hpcest.backends.slurm.mpi import mpirun_flavour
from hpcest.errors import SpecError, UnknownNameError
from hpcest.model.spec import Resources


@dataclass(frozen=True)
class Launcher:
    """``argv`` goes before the command of one rank; ``ranks`` says whose variables tell a rank its number.

    ``slurm``: SLURM_PROCID and so on; ``ompi``: OMPI_COMM_WORLD_RANK; ``pmi``: PMI_RANK.
    """

    kind: str
    argv: tuple[str, ...]
    ranks: str


def _per_node(resources: Resources, per: str) -> int:
    return 1 if per == "node" else resources.procs_per_node


def srun(resources: Resources, per: str, *, mpi: str = "", wait: int = 0, sized: bool = True) -> Launcher:
    """One job step over all nodes. ``mpi`` is the ``--mpi`` type; none leaves the site's default.

    A rank that dies ends the others, which would hang until the time limit; one that ends well does so ``wait``
    seconds later, or never where that is 0, whatever the site's default is. Without ``sized`` the step has all tasks
    of its job. The cores are named here because srun no longer takes them from sbatch.
    """
    each = _per_node(resources, per)
    argv = ["srun", "--kill-on-bad-exit=1", f"--wait={wait}"]
    if sized:
        argv += [f"--nodes={resources.nodes}", f"--ntasks={resources.nodes * each}", f"--ntasks-per-node={each}"]
    if resources.cpus:
        argv.append(f"--cpus-per-task={resources.cpus * (resources.procs_per_node if per == 'node' else 1)}")
    if mpi:
        argv.append(f"--mpi={mpi}")
    return Launcher("srun", (*argv, "--input=none", "--export=ALL"), "slurm")


def mpirun(resources: Resources, per: str, *, mpi: str = "", path: Sequence[str] = ()) -> Launcher:
    """The MPI's own launcher. ``mpi`` is its flavour (``openmpi``, ``mpich``, ``intel``); empty: it is asked.

    ``path`` are directories that are searched before PATH. Where no mpirun can be asked here (a set-up line
    of the job brings it), it is taken for Open MPI's.
    """
    program = _found("mpirun", path)
    flavour = mpi or mpirun_flavour(program, os.environ)
    each = _per_node(resources, per)
    total = str(resources.nodes * each)
    if flavour in ("mpich", "intel"):
        return Launcher("mpirun", (_found("mpiexec", path), "-n", total, "-ppn", str(each)), "pmi")
    argv = [program, "-np", total, "--map-by", f"ppr:{each}:node"]
    if per == "node" or (resources.cpus or 1) > 1:
        argv += ["--bind-to", "none"]  # else all threads of a rank would share one core
    if os.geteuid() == 0:
        argv.append("--allow-run-as-root")
    return Launcher("mpirun", tuple(argv), "ompi")


def single(resources: Resources, per: str) -> Launcher:
    """One process in the batch step itself, without a step. Raises SpecError for more than one."""
    ranks = resources.nodes * _per_node(resources, per)
    if ranks != 1:
        raise SpecError(f"launcher 'single' starts one process, but the run has {ranks}", hint="use launcher: srun")
    return Launcher("single", (), "slurm")


def _found(name: str, path: Sequence[str]) -> str:
    """The whole path if the environment has the program; else the name, for the job's own PATH."""
    return (shutil.which(name, path=os.pathsep.join(path)) if path else None) or name


KINDS = ("srun", "mpirun", "single")
_FLAVOURS = ("openmpi", "mpich", "intel")


def parse(text: str) -> tuple[str, str]:
    """``srun:pmix`` as ``("srun", "pmix")``; ``auto`` and an empty text as ``("auto", "")``.

    After ``srun:`` stands a type of ``srun --mpi=list``, after ``mpirun:`` whose mpirun it is. Raises
    UnknownNameError, SpecError.
    """
    kind, colon, mpi = (text or "auto").partition(":")
    allowed = ("auto", *KINDS)
    if kind not in allowed:
        raise UnknownNameError(
            "launcher", kind, allowed, hint=f"allowed: {', '.join(allowed)}, or srun:TYPE with a type of srun --mpi=list"
        )
    if kind in ("auto", "single") and colon:
        raise SpecError(
            f"launcher {text!r}: only srun and mpirun take something after a colon", hint=f"write {kind}, or srun:{mpi or 'pmix'}"
        )
    if colon and not mpi:
        raise SpecError(
            f"launcher {text!r} names nothing after the colon", hint=f"write {kind}, or {kind}:{'pmix' if kind == 'srun' else 'openmpi'}"
        )
    if kind == "mpirun" and mpi and mpi not in _FLAVOURS:
        raise SpecError(
            f"launcher {text!r}: whose mpirun is {mpi!r}?", hint=f"allowed: {', '.join(_FLAVOURS)}; leave it out and it is asked"
        )
    return kind, mpi
