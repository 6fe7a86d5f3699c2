"""The kind ``existing``: a virtual or conda environment that is there already, used as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from hpcest.contracts import Environment, Lock, Say
from hpcest.environments.host import installed
from hpcest.environments.interpreter import ask
from hpcest.environments.keys import key_of
from hpcest.errors import SpecError
from hpcest.hookspecs import hookimpl
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import EnvironmentSpec, RunSpec


class Existing(Environment):
    """Runs use the environment at ``prefix``: a path, or the name of one of the user's conda environments.

    Nothing is built; the lock lists what is installed at the time of submission.
    """

    name = "existing"
    takes = frozenset({"prefix", "variables", "name"})

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Find it and list what it has. Raises SpecError, EnvironmentBuildError."""
        if not spec.prefix:
            raise SpecError("environment kind 'existing' names none", hint="write prefix: PATH, or the name of a conda environment")
        prefix = find(spec.prefix, os.environ)
        python = ask(str(prefix / "bin" / "python"), workspace.environments / "interpreters")
        text = "".join(f"{line}\n" for line in _of_conda(prefix)) + installed(python.sites)
        facts = {"prefix": str(prefix), "python": str(prefix / "bin" / "python"), **python.key(), "variables": _of_its_own(prefix)}
        key = key_of({"kind": self.name, "packages": text, "python": python.key()})
        say(f"environment {key[:12]}: {prefix}, as it is ({python.implementation} {python.version})")
        return Lock(self.name, key, text, facts)

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """Its interpreter, its programs first on PATH, and the variables that mark it as active."""
        prefix = lock.facts["prefix"]
        mark = "CONDA_PREFIX" if os.path.isdir(os.path.join(prefix, "conda-meta")) else "VIRTUAL_ENV"
        other = "VIRTUAL_ENV" if mark == "CONDA_PREFIX" else "CONDA_PREFIX"
        return Activation(
            python=lock.facts["python"],
            path=(os.path.join(prefix, "bin"),),
            variables={mark: prefix, **lock.facts["variables"]},
            unset=("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__", other),
        )


def find(wanted: str, variables: Mapping[str, str]) -> Path:
    """The directory of an environment: a path, or the name of a conda environment. Raises SpecError."""
    if "/" in wanted or wanted.startswith("~"):
        prefix = Path(os.path.abspath(os.path.expanduser(wanted)))
        if not os.access(prefix / "bin" / "python", os.X_OK):
            raise SpecError(f"there is no environment in {prefix}: it has no bin/python", hint="give the directory that holds bin/python")
        return prefix
    known = {prefix.name: prefix for prefix in reversed([*_conda_environments(variables)])}
    if wanted not in known:
        near = get_close_matches(wanted, known, n=1)
        names = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known)) or 'none'}; or give a path"
        raise SpecError(f"there is no conda environment {wanted!r}", hint=names)
    return known[wanted]


def _conda_environments(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where conda keeps them, the ones that it would find first first."""
    home = Path(os.path.expanduser("~"))
    folders = [
        Path(folder) for name in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS") for folder in variables.get(name, "").split(os.pathsep) if folder
    ]
    roots = [Path(variables[name]).parent.parent for name in ("CONDA_EXE", "MAMBA_EXE") if variables.get(name)]
    roots += [Path(variables["MAMBA_ROOT_PREFIX"])] if variables.get("MAMBA_ROOT_PREFIX") else []
    roots += [home / name for name in ("miniforge3", "mambaforge", "miniconda3", "anaconda3", "micromamba")]
    for folder in (*folders, home / ".conda" / "envs", *(root / "envs" for root in roots)):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        yield from (folder / name for name in names if os.access(folder / name / "bin" / "python", os.X_OK))
    try:
        lines = (home / ".conda" / "environments.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    yield from (Path(line) for line in lines if line and os.access(os.path.join(line, "bin", "python"), os.X_OK))


def _of_conda(prefix: Path) -> list[str]:
    """``name=version=build`` of the conda packages, from the names of their records."""
    found = []
    for record in sorted((prefix / "conda-meta").glob("*.json")):
        name, _, rest = record.stem.rpartition("-")[0].rpartition("-")
        if name:
            found.append(f"{name}={rest}={record.stem.rpartition('-')[2]}")
    return found


def _of_its_own(prefix: Path) -> dict[str, str]:
    """The variables that ``conda env config vars`` has set for it."""
    try:
        state = json.loads((prefix / "conda-meta" / "state").read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in state["env_vars"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [Existing]
