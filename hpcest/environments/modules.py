"""The kind ``modules``: what ``module load`` gives on a cluster (Environment Modules or Lmod), loaded on the node for each rank."""

from __future__ import annotations

import re
import shlex
from difflib import get_close_matches
from functools import cache

from hpcest.contracts import Environment, Lock, Say
from hpcest.environments.keys import key_of
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.hookspecs import hookimpl
from hpcest.kit.process import run
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import EnvironmentSpec, RunSpec

#: Where the function ``module`` is defined, if the shell doesn't have it from its parent: both programs, the usual places.
_FIND = """
if ! type module >/dev/null 2>&1; then
  for file in "$MODULESHOME/init/bash" "$LMOD_PKG/init/bash" /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \
      /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/bash /usr/share/Modules/init/bash /usr/share/modules/init/bash; do
    [ -r "$file" ] && . "$file" && type module >/dev/null 2>&1 && break
  done
fi
"""
_NAME = re.compile(r"[\w.+/@:~-]+")
_LIMIT_S = 60.0


class Modules(Environment):
    """Runs see the modules that they name, and none that the submitter has loaded: ``module purge`` comes first.

    An entry ``use DIR`` is a ``module use``. The lock records what was loaded; a site can change a module behind its name.
    """

    name = "modules"
    takes = frozenset({"modules", "interpreter", "variables", "name"})

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        return "" if _has_modules() else "this host has neither Environment Modules nor Lmod"

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Load them once, here, to see that they are there. Raises SpecError, EnvironmentBuildError."""
        if not spec.modules:
            raise SpecError("environment kind 'modules' names no modules", hint="write modules: [gcc/12, python/3.11]")
        python = spec.interpreter or "python3"
        question = f"module -t list 2>&1; echo; command -v {shlex.quote(python)}; {shlex.quote(python)} --version 2>&1"
        done = run(["bash", "--norc", "-c", _script(spec.modules) + question], timeout=_LIMIT_S)
        if not done.ok and done.code != 127:
            raise _refusal(spec.modules, done.err or done.out)
        listed, _, found = done.out.partition("\n\n")
        loaded = sorted(line.strip() for line in listed.splitlines() if _NAME.fullmatch(line.strip()))
        key = key_of({"kind": self.name, "modules": list(spec.modules), "loaded": loaded, "python": python})
        say(f"environment {key[:12]}: modules {', '.join(loaded) or 'none'}; {' '.join(found.split()) or f'no {python}'}")
        return Lock(self.name, key, "".join(f"{line}\n" for line in loaded), {"modules": list(spec.modules), "python": python})

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """A shell that loads the modules and becomes the program."""
        script = _script(lock.facts["modules"]) + 'exec "$@"'
        return Activation(python=lock.facts["python"], prefix=("bash", "--norc", "-c", script, "modules"), unset=("PYTHONHOME",))


def _script(modules: tuple[str, ...] | list[str]) -> str:
    """Shell lines that load ``modules``, or end with the code of the one that fails. Raises SpecError."""
    lines = [_FIND.strip(), "module purge >/dev/null 2>&1"]
    for entry in modules:
        words = entry.split()
        if not words or not all(_NAME.fullmatch(word) for word in words) or (len(words) > 1 and words[0] != "use"):
            raise SpecError(f"{entry!r} is no module", hint="name one as 'module load' takes it, or write 'use DIR'")
        lines.append(f"module {entry if words[0] == 'use' else 'load ' + words[0]} || exit 1")
    return "\n".join(lines) + "\n"


def _refusal(modules: tuple[str, ...], words: str) -> EnvironmentBuildError:
    uses = tuple(entry for entry in modules if entry.startswith("use "))
    listed = run(["bash", "--norc", "-c", f"{_script(uses)}module -t avail 2>&1"], timeout=_LIMIT_S).out.split()
    near = [match for entry in modules if entry not in uses for match in get_close_matches(entry, listed, n=2)]
    hint = f"there is {', '.join(near)}" if near else "see: module avail"
    said = next((line.strip() for line in words.splitlines() if line.strip()), "no answer")
    unknown = re.findall(r'"([^"]+)"', words)
    return EnvironmentBuildError(f"the modules can't be loaded: {said}{' ' + ', '.join(unknown[:1]) if unknown else ''}", hint=hint)


@cache
def _has_modules() -> bool:
    return run(["bash", "--norc", "-c", f"{_FIND}type module >/dev/null 2>&1"], timeout=_LIMIT_S).ok


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [Modules]
