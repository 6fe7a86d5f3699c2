"""The kind ``venv``: a virtual environment with pip packages, resolved to a lock and built once in a workspace."""

from __future__ import annotations

import os
from importlib.util import find_spec

from hpcest.contracts import Environment, Lock, Say
from hpcest.environments.images import Shelf
from hpcest.environments.installers import find_uv
from hpcest.environments.interpreter import Interpreter, find, of_hpcest
from hpcest.environments.requirements import read
from hpcest.environments.resolving import Memo, Order
from hpcest.environments.sources import gather
from hpcest.environments.workshop import Workshop
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.hookspecs import hookimpl
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import EnvironmentSpec, RunSpec


class Venv(Environment):
    """Runs use a virtual environment of their own, built from requirement lines by uv, or by pip.

    The same lines give the same packages for as long as the workspace remembers them; ``forget`` ends that.
    """

    name = "venv"
    takes = frozenset({"interpreter", "pip", "variables", "name"})

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        if find_uv() or find_spec("venv"):
            return ""
        return "there is no uv, and this Python comes without the module venv; pip install 'hpcest[fast]'"

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Resolve ``spec`` and have its environment in the workspace, building it once. Says its progress.

        Safe when several processes prepare the same spec at once. Raises SpecError, EnvironmentBuildError.
        """
        order = _order(spec, workspace)
        try:
            with Workshop(order, workspace.environments, spec.name, say, scratch=self.settings.scratch) as shop:
                resolved = shop.resolve()
                shop.image(resolved)
        except OSError as error:
            where = error.filename or workspace.environments
            raise EnvironmentBuildError(
                f"{where}: {error.strerror or error}", hint="the workspace must be writable to build in it"
            ) from error
        facts = {"base": order.python.base, "resolved": resolved.when, "tool": resolved.tool, **order.python.key()}
        return Lock(self.name, resolved.key, resolved.text, facts)

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """The environment's Python, its programs first on PATH, and nothing of the submitter's packages."""
        image, wrong = Shelf(workspace.environments, lock.key, lock.facts["base"]).look()
        if image is None:
            raise EnvironmentBuildError(
                f"environment {lock.key[:12]} can't be used: {wrong or 'it was not built here'}", hint="submit again to have it built"
            )
        return Activation(
            python=str(image.python),
            path=(str(image.python.parent),),
            variables={"VIRTUAL_ENV": str(image.folder)},
            unset=("PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX", "__PYVENV_LAUNCHER__"),
        )

    def forget(self, spec: EnvironmentSpec, workspace: WorkspaceFolder) -> bool:
        """Have ``spec`` resolved anew the next time; False where it was not resolved before."""
        memo = Memo(workspace.environments, _order(spec, workspace)).path
        try:
            memo.unlink()
        except FileNotFoundError:
            return False
        return True


def _order(spec: EnvironmentSpec, workspace: WorkspaceFolder) -> Order:
    variables = dict(os.environ)
    request = read(spec.pip, variables)
    python = _python(spec.interpreter, workspace)
    return Order(request, gather(request.options, variables), python, variables)


def _python(wanted: str, workspace: WorkspaceFolder) -> Interpreter:
    python = find(wanted, workspace.environments / "interpreters") if wanted else of_hpcest()
    if python.minor < (3, 8):
        raise SpecError(f"interpreter {python} is too old for a venv", hint="use Python 3.8 or newer")
    return python


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [Venv]
