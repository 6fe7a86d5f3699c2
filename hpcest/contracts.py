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

Each class is made by hpcest: a framework with its options for one run, an environment with ``settings``, which is what is
configured for environments, a backend with its compute target's options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hpcest.errors import BackendError, SpecError
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Activation, Plan, Program
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec, Resources, RunSpec
from hpcest.model.status import Reason, Status

Say = Callable[[str], None]


@dataclass(frozen=True)
class NoOptions:
    """The options of what has none."""


class Framework(ABC):
    """How the program of a run is started, and how its ranks find each other.

    ``name`` is what ``framework:`` says; ``distributions`` are the kinds of distribution that it can do. ``Options`` is
    a dataclass of the settings that a run may have for it (``framework_options``), all with a default and with
    ``metadata={"help": …}``. ``presets`` is a YAML file that says what to install for each version of the framework.
    """

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]] = ()
    Options: ClassVar[type] = NoOptions
    presets: ClassVar[Path | None] = None

    def __init__(self, options: Any = None) -> None:
        self.options = self.Options() if options is None else options

    def check(self, spec: RunSpec) -> None:  # noqa: B027 - most frameworks take every spec
        """Refuse a spec that can't work. Raises SpecError; called before anything is done."""

    @abstractmethod
    def program(self, spec: RunSpec, activation: Activation) -> Program:
        """The argv of one rank. ``activation.python`` is the environment's interpreter."""

    def checkpoint(self, outputs: Path) -> Path | None:
        """The newest checkpoint among the ``outputs`` of an old run, for one that resumes from it; None where there is none."""
        return None


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
    ``settings`` are what the configuration says of environments. ``resolves`` says whether it can tell what it would build
    without building it, and build from the text of a lock; such a kind can be built in a job, and be locked in a file.
    """

    name: ClassVar[str]
    takes: ClassVar[frozenset[str]] = frozenset()
    resolves: ClassVar[bool] = False

    def __init__(self, settings: EnvironmentSettings | None = None) -> None:
        self.settings = settings or EnvironmentSettings()

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        return ""

    @abstractmethod
    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Resolve ``spec`` and have its image in the workspace, building it once. Says its progress.

        Safe when several processes prepare the same spec at once. Raises EnvironmentBuildError.
        """

    def resolve(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, *, locked: str = "") -> Lock:
        """The lock that ``prepare`` would come to; builds nothing. From ``locked``, a lock's text, nothing is chosen.

        Only for a kind that ``resolves``. Raises SpecError, EnvironmentBuildError.
        """
        raise SpecError(f"the kind {self.name!r} can't tell what it would build")

    def rebuild(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, locked: str) -> Lock:
        """``prepare`` with what ``locked``, a lock's text, says. Only for a kind that ``resolves``.

        Raises SpecError, EnvironmentBuildError.
        """
        raise SpecError(f"the kind {self.name!r} can't be built from a lock")

    def fetch(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, *, locked: str, folder: Path) -> Mapping[str, str]:
        """Fetch what ``rebuild`` with ``locked`` takes from a network, for a process on another machine, which has none.

        Returns the variables with which that process finds it. ``folder`` is in the workspace, and is removed when all is
        built. Without it the other machine needs a network. Raises SpecError, EnvironmentBuildError.
        """
        return {}

    def is_ready(self, lock: Lock, workspace: WorkspaceFolder) -> bool:
        """Whether what ``resolve`` returned could be activated now."""
        return False

    def forget(self, spec: EnvironmentSpec, workspace: WorkspaceFolder) -> bool:
        """Have ``spec`` resolved anew the next time; False where it was not resolved before.

        Raises SpecError where nothing is ever remembered.
        """
        raise SpecError(f"the kind {self.name!r} can't choose versions anew", hint="change a version in what is asked for")

    @abstractmethod
    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """How to start the program of a run in the environment. Builds nothing."""


@dataclass(frozen=True)
class Evidence:
    """What a backend knows of a run right now.

    ``status`` None means that it does not know: unknown is never finished. ``message`` is a sentence
    for the user with the next step; ``facts`` is the backend's own (pending reason, nodes, …). ``facts["job"]``
    are the job's facts where the backend found a job that the record does not have yet.
    """

    status: Status | None = None
    reason: Reason = Reason.NONE
    message: str = ""
    attempt: int = 0
    exit_code: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_sentinel(sentinel: Mapping[str, Any]) -> Evidence:
        """What a run's exit sentinel proves. One with words that this version doesn't know is a failure with its own message."""
        try:
            status, reason = Status(sentinel.get("status") or "Failed"), Reason(sentinel.get("reason") or "")
        except ValueError:
            status, reason = Status.FAILED, Reason.NONE
        attempt, code = (value if type(value) is int else None for value in (sentinel.get("attempt"), sentinel.get("rc")))
        return Evidence(status, reason, str(sentinel.get("message") or ""), attempt=attempt or 0, exit_code=code)


@dataclass(frozen=True)
class Allocation:
    """Nodes that a process was given already: what they offer, the facts of their job, and which start of it this is."""

    resources: Resources
    job: dict[str, Any]
    attempt: int = 0


class Backend(ABC):
    """Where runs run. Made with the options of one compute target.

    ``name`` is what ``backend:`` says in a compute target, ``Options`` a dataclass of its settings whose
    fields carry ``metadata={"help": …}``. The order of calls for a run: plan, submit, then look as often
    as someone asks, and cancel. ``orders`` says whether it can start a run after others that it has
    (``launch["after"]``: run, condition and job id of each), ``gathers`` whether its ``submit_all`` keeps the launch
    manifests itself; others find them in the run folders. ``say`` takes lines of progress for the user, once somebody has set it.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    orders: ClassVar[bool] = False
    gathers: ClassVar[bool] = False

    def __init__(self, options: Any) -> None:
        self.options = options
        self.say: Say = silent

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

    def submit_all(self, plans: Sequence[tuple[Plan, RunFolder]], *, at_once: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Hand over many plans; yields the facts of each job as soon as it is submitted, in the same order.

        At most ``at_once`` of them run at a time, where the backend can see to that.
        """
        for plan, folder in plans:
            yield self.submit(plan, folder)

    def check(self, plan: Plan, folder: RunFolder) -> str:
        """Have the scheduler judge a plan without submitting it; returns what it says. Raises BackendError if it refuses."""
        raise BackendError(f"the backend {self.name!r} has nothing to check a plan with")

    @classmethod
    def inside(cls, environ: Mapping[str, str]) -> Allocation | None:
        """The allocation of this backend that a process with this environment is in; None outside of one."""
        return None

    def attach(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """The plan of a run whose controller is started by the caller, in the allocation that it is in, without a queue."""
        return self.plan(spec, launch, folder)

    def script(self, spec: RunSpec, command: str) -> str:
        """A batch script for users to submit themselves: what ``spec`` asks the scheduler for, then ``command``. Raises BackendError."""
        raise BackendError(f"the backend {self.name!r} takes no scripts")

    @abstractmethod
    def look(self, jobs: Mapping[str, tuple[RunFolder, Mapping[str, Any]]]) -> Mapping[str, Evidence]:
        """What is known of some runs: run id → (folder, facts that ``submit`` returned, maybe empty).

        NotStarted means: certain that this backend was never given the run.
        """

    @abstractmethod
    def cancel(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        """Ask for the end of a run; return what is known then. Raises BackendError."""

    def cancel_all(self, jobs: Mapping[str, tuple[RunFolder, Mapping[str, Any]]]) -> Mapping[str, Evidence]:
        """Ask for the end of many runs, with as few commands as the scheduler allows. Raises BackendError."""
        return {run_id: self.cancel(folder, job) for run_id, (folder, job) in jobs.items()}

    def usage(self, jobs: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """What ended runs have used, as far as the backend keeps accounts: run id → facts of a ``usage`` event."""
        return {}

    def findings(self, folder: Path) -> Iterable[tuple[str, str, str, str]]:
        """What ``hpcest doctor`` says of this target, for a workspace in ``folder``: check, ``ok|note|bad``, what was found, remedy.

        The check is empty for what is true of this target alone. Takes a few seconds at most.
        """
        return ()


def silent(line: str) -> None:
    """The ``say`` of what nobody listens to."""


Plugin = type[Framework] | type[Environment] | type[Backend]
Registration = Sequence[Plugin]
