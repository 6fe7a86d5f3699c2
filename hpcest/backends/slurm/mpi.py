"""Which MPI a program speaks, which process managers Slurm offers, and the ``--mpi`` type that brings both together.

Open MPI speaks PMIx, MPICH and its children PMI-2. With the wrong one a program aborts in MPI_Init, or
each rank believes that it is alone, so the site's default is never trusted.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcest.errors import SpecError
from hpcest.kit.process import run
from hpcest.model.plan import Activation

#: Words of a library's or a launcher's own version text → flavour. The first that is found decides.
_WORDS = (
    ("open mpi", "openmpi"),
    ("openrte", "openmpi"),
    ("prrte", "openmpi"),
    ("intel(r) mpi", "intel"),
    ("mpich", "mpich"),
    ("mvapich", "mpich"),
    ("hydra", "mpich"),
)
#: What a flavour speaks, best first. MPICH learned PMIx late and is seldom built with it.
_SPEAKS = {"openmpi": ("pmix",), "mpich": ("pmi2", "pmix"), "intel": ("pmi2", "pmix"), "": ("pmix", "pmi2")}

_ASK = """if True:
    import mpi4py
    mpi4py.rc.initialize = mpi4py.rc.finalize = False
    from mpi4py import MPI
    print(MPI.Get_library_version())
"""
_ANSWER_S = 20.0  # an image on a cold network file system takes its time


def choose(offered: Sequence[str], flavour: str, wanted: str = "") -> str:
    """The type for ``srun --mpi``, or nothing where the site's default is the best guess.

    ``offered`` is what ``srun --mpi=list`` names; empty means that it could not be asked, and then
    ``wanted`` is believed. Raises SpecError for a wanted type that Slurm doesn't offer.
    """
    if wanted:
        found = _among(offered, wanted) if offered and wanted != "none" else wanted
        if not found:
            hint = f"set one of them (launcher: srun:{offered[0]}), or leave it out and it is chosen"
            raise SpecError(f"MPI type {wanted!r} is not offered by Slurm here (offered: {', '.join(offered)})", hint=hint)
        return found
    return next(filter(None, (_among(offered, kind) for kind in _SPEAKS.get(flavour, _SPEAKS[""]))), "")


def alternatives(offered: Sequence[str], first: str) -> list[str]:
    """The other types worth a try, likeliest first. A version of PMIx is PMIx, and with ``none`` no ranks ever meet."""
    kinds = [_among(offered, kind) for kind in ("pmix", "pmi2")]
    kinds += [kind for kind in offered if kind not in ("none", "openmpi") and not kind.startswith("pmi")]
    return [kind for kind in kinds if kind and kind.partition("_v")[0] != first.partition("_v")[0]]


def _among(offered: Sequence[str], kind: str) -> str:
    """``kind`` as Slurm calls it: itself, or the newest ``pmix_vN`` where there is no plain ``pmix``."""
    if kind in offered:
        return kind
    versions = [name for name in offered if re.fullmatch(re.escape(kind) + r"_v\d+", name)]
    return max(versions, key=lambda name: int(name.rpartition("v")[2]), default="")


def spoken_in(text: str) -> str:
    """The flavour that a version text tells: ``openmpi``, ``mpich``, ``intel``, or nothing."""
    lower = text.lower()
    return next((flavour for word, flavour in _WORDS if word in lower), "")


def flavour(activation: Activation, program: Sequence[str], environ: Mapping[str, str], *, folder: Path | None = None) -> str:
    """The MPI that a program will load: ``openmpi``, ``mpich``, ``intel``, or nothing where that can't be told.

    A compiled program is asked for its libraries, else the environment's Python for its mpi4py, else the
    ``mpirun`` that the environment has. ``folder`` is where relative programs lie. Starts up to three
    programs and never raises.
    """
    env = _inside(activation, environ)
    return _linked(activation, _executable(program, env, folder), env) or _of_python(activation, env) or _of_mpirun(activation, env)


def _inside(activation: Activation, environ: Mapping[str, str]) -> dict[str, str]:
    env = {name: value for name, value in environ.items() if name not in activation.unset}
    env.update(activation.variables)
    env["PATH"] = os.pathsep.join([*activation.path, env.get("PATH") or os.defpath])
    return env


def _of_python(activation: Activation, env: Mapping[str, str]) -> str:
    """What mpi4py would load. It can say so without MPI_Init, which a login node may not allow."""
    if not activation.python:
        return ""
    done = run([*activation.prefix, activation.python, "-c", _ASK], env=env, timeout=_ANSWER_S)
    return spoken_in(done.out) if done.ok else ""


def _executable(program: Sequence[str], env: Mapping[str, str], folder: Path | None) -> str:
    """The path of what is started, where it is no script; for a command line, of its first word."""
    words = list(program[:1])
    if len(program) > 2 and program[1] == "-c":
        try:
            line = shlex.split(program[-1], comments=True)
        except ValueError:  # quotes that only the shell understands
            line = program[-1].split()
        words = [word for word in line if "=" not in word][:1]
    word = words[0] if words else ""
    if "/" in word:
        word = str(Path(folder or "", word).absolute())
    return shutil.which(word, path=env.get("PATH")) or "" if word else ""


def _linked(activation: Activation, path: str, env: Mapping[str, str]) -> str:
    """The MPI among the shared libraries of a compiled program."""
    if not path:
        return ""
    text = run([*activation.prefix, "ldd", path], env=env, timeout=_ANSWER_S).out.lower()
    libraries = re.findall(r"^\s*(lib\S*)(?: => (\S+))?", text, re.M)
    names = " ".join(name for name, _ in libraries)
    if not re.search(r"\blib(p?mpi|mpich|mpifort|mpicxx|mpi_\w+)\.so", names):
        return ""
    if "libopen-pal" in names or "libopen-rte" in names or re.search(r"\blibmpi\w*\.so\.[2-9]\d", names):
        return "openmpi"
    return "intel" if any("intel" in where and "mpi" in name for name, where in libraries) else "mpich"


def _of_mpirun(activation: Activation, env: Mapping[str, str]) -> str:
    """The MPI that came with the environment's mpirun: in a container the one that is in there."""
    if not activation.prefix:
        return mpirun_flavour("mpirun", env)
    return spoken_in(run([*activation.prefix, "mpirun", "--version"], env=env, timeout=_ANSWER_S).out)


def mpirun_flavour(program: str, environ: Mapping[str, str]) -> str:
    """The MPI whose ``mpirun`` (or another name or path) is found on PATH, by what it says of its version."""
    found = shutil.which(program, path=environ.get("PATH"))
    return spoken_in(run([found, "--version"], env=environ, timeout=_ANSWER_S).out) if found else ""
