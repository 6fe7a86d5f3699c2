"""What a plugin implements: a framework, an environment, a backend. Three small abstract classes.

A whole framework plugin::

    import hpcest
    from hpcest.contracts import Framework
    from hpcest.model.plan import Program

    class Julia(Framework):
        name = "julia"

        def program(self, spec, activation):
            return Program(("julia", spec.command.script, *spec.command.arguments))

    @hpcest.hookimpl
    def hpcest_register_frameworks():
        return [Julia]

Each class is made with no arguments, a backend with its compute target's options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Activation, Plan, Program
from hpcest.model.spec import EnvironmentSpec, RunSpec
from hpcest.model.status import Reason, Status

Say = Callable[[str], None]


class Framework(ABC):
    """How the program of a run is started, and how its ranks find each other.

    ``name`` is what ``framework:`` says; ``distributions`` are the kinds of distribution it can do.
    """

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]] = ()

    def check(self, spec: RunSpec) -> None:  # noqa: B027 - most frameworks take every spec
        """Refuse a spec that can't work. Raises SpecError; called before anything is done."""

    @abstractmethod
    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of one rank. ``activation.python`` is the environment's interpreter."""


@dataclass(frozen=True)
class Lock:
    """A resolved environment: ``text`` names every package with version and hash, ``key`` its content.

    The same ``key`` is the same environment, wherever and whenever it was resolved.
    """

    kind: str
    key: str
    text: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Environment(ABC):
    """What a run's program runs in.

    ``name`` is what ``environment: {kind: …}`` says; ``takes`` are the fields of an environment spec
    that it can honour, others make ``auto`` pass it over and an explicit choice an error.
    """

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        return ""

    @abstractmethod
    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Resolve ``spec`` and have its image in the workspace, building it once. Says its progress.

        Safe when several processes prepare the same spec at once. Raises EnvironmentBuildError.
        """

    @abstractmethod
    def activate(self, lock: Lock, workspace: WorkspaceFolder) -> Activation:
        """How to start a program in the environment. Builds nothing."""


@dataclass(frozen=True)
class Evidence:
    """What a backend knows of a run right now.

    ``status`` None means that it does not know: unknown is never finished. ``message`` is a sentence
    for the user with the next step; ``facts`` is the backend's own (pending reason, nodes, …).
    """

    status: Status | None = None
    reason: Reason = Reason.NONE
    message: str = ""
    attempt: int = 0
    exit_code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Backend(ABC):
    """Where runs run. Made with the options of one compute target.

    ``name`` is what ``backend:`` says in a compute target, ``Options`` a dataclass of its settings whose
    fields carry ``metadata={"help": …}``. The order of calls for a run: plan, submit, then look as often
    as someone asks, and cancel.
    """

    name: ClassVar[str]
    Options: ClassVar[type]

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def plan(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """Complete the launch manifest with what this backend decides. Changes nothing on disk.

        Raises SpecError for resources that the target can't give.
        """

    @abstractmethod
    def submit(self, plan: Plan, folder: RunFolder) -> Mapping[str, Any]:
        """Hand the plan over; return the job's facts for the record (``id`` at least).

        Called again for the same plan it must not start the run twice. Raises BackendError.
        """

    @abstractmethod
    def look(self, jobs: Mapping[str, tuple[RunFolder, Mapping[str, Any]]]) -> Mapping[str, Evidence]:
        """What is known of some runs: run id → (folder, facts that ``submit`` returned, maybe empty).

        NotStarted means: certain that this backend was never given the run.
        """

    @abstractmethod
    def cancel(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        """Ask for the end of a run; return what is known then. Raises BackendError."""


Plugin = type[Framework] | type[Environment] | type[Backend]
Registration = Sequence[Plugin]
