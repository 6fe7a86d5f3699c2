"""The kind ``host``: the Python that the submitter uses, as it is. Nothing is built, what it has is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from hpcest.contracts import Environment, Lock, Say
from hpcest.environments.interpreter import Interpreter, ask, find, of_hpcest
from hpcest.environments.keys import key_of
from hpcest.errors import EnvironmentBuildError
from hpcest.hookspecs import hookimpl
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import EnvironmentSpec, RunSpec

#: Seconds that listing what is installed may take; on a busy file server it is not worth more.
LISTING_LIMIT_S = 1.0


class Host(Environment):
    """Runs use the Python of whoever submits: the active virtual or conda environment, say.

    The lock is a record, not a promise: what is installed can change before the run starts.
    """

    name = "host"
    takes = frozenset({"interpreter", "variables"})

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Find the interpreter and list what it has. Raises SpecError or EnvironmentBuildError."""
        python = _choose(spec.interpreter, workspace, os.environ)
        facts = {"python": python.path, "prefix": python.prefix, **python.key()}
        key = key_of({"kind": self.name, **facts})
        say(f"environment {key[:12]}: {python}, as it is")
        if python.minor < (3, 8):
            say(f"python {python.version} is older than 3.8: programs can't use hpcest.Run with it")
        return Lock(self.name, key, installed(python.sites), facts)

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """The interpreter, its directory first on PATH, and the variables of a virtual or conda environment."""
        prefix = lock.facts["prefix"]
        marks = {
            "VIRTUAL_ENV": os.path.isfile(os.path.join(prefix, "pyvenv.cfg")),
            "CONDA_PREFIX": os.path.isdir(os.path.join(prefix, "conda-meta")),
        }
        return Activation(
            python=lock.facts["python"],
            path=(os.path.dirname(lock.facts["python"]),),
            variables={name: prefix for name, is_one in marks.items() if is_one},
            unset=tuple(name for name, is_one in marks.items() if not is_one),
        )


def _choose(wanted: str, workspace: WorkspaceFolder, variables: Mapping[str, str]) -> Interpreter:
    memory = workspace.environments / "interpreters"
    if wanted:
        return find(wanted, memory, variables)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        prefix = variables.get(name)
        if prefix:
            path = os.path.join(os.path.abspath(prefix), "bin", "python")
            if not os.access(path, os.X_OK):
                hint = "deactivate it, or name the interpreter to use in the environment"
                raise EnvironmentBuildError(f"{name} is {prefix!r}, where there is no bin/python", hint=hint)
            return ask(path, memory, variables)
    return of_hpcest()


def installed(sites: Sequence[str], *, limit: float = LISTING_LIMIT_S) -> str:
    """``name==version`` lines of the distributions in some directories, by name; the first directory wins.

    Read from the names of their metadata folders alone. What ``limit`` seconds don't suffice for is left
    out, and the last line says so.
    """
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    end, whole = time.monotonic() + limit, True
    for name, version in _metadata(sites):
        found.setdefault(canonicalize_name(name), version)
        if time.monotonic() > end:
            whole = False
            break
    lines = [f"{name}=={version}\n" for name, version in sorted(found.items())]
    return "".join(lines) + ("" if whole else f"# not all: stopped after {limit:g} s\n")


def _metadata(sites: Iterable[str]) -> Iterable[tuple[str, str]]:
    for folder in sites:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in sorted(entries):
            stem, mark, kind = entry.rpartition(".")
            name, _, version = stem.partition("-")
            if mark and kind in ("dist-info", "egg-info") and name and version and name[0] not in "~.":
                yield name, version.partition("-")[0] if kind == "egg-info" else version


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [Host]
