"""All hooks, in the order in which they fire. A plugin implements the ones it needs with ``hookimpl``.

A plugin is a module (or an object) named by an entry point of the group ``hpcest``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpcest.contracts import Backend, Environment, Framework
    from hpcest.model.plan import Plan

PROJECT = "hpcest"
#: Raised when a hook changes; a plugin may set ``HPCEST_INTERFACE`` to the number it was built for.
INTERFACE = 1

_Function = TypeVar("_Function", bound="Callable[..., Any]")
hookimpl = cast("Callable[[_Function], _Function]", pluggy.HookimplMarker(PROJECT))
_hookspec = cast("Callable[[_Function], _Function]", pluggy.HookspecMarker(PROJECT))

__all__ = [
    "hpcest_after_collect",
    "hpcest_after_submit",
    "hpcest_before_submit",
    "hpcest_register_backends",
    "hpcest_register_commands",
    "hpcest_register_environments",
    "hpcest_register_frameworks",
    "hpcest_run_types",
    "hpcest_status_changed",
    "hpcest_travelling_modules",
]


@_hookspec
def hpcest_register_frameworks() -> Sequence[type[Framework]]:
    """Called once, when frameworks are first needed. Return framework classes."""
    raise AssertionError("a specification is never called")


@_hookspec
def hpcest_register_environments() -> Sequence[type[Environment]]:
    """Called once, when environments are first needed. Return environment classes."""
    raise AssertionError("a specification is never called")


@_hookspec
def hpcest_register_backends() -> Sequence[type[Backend]]:
    """Called once, when backends are first needed. Return backend classes."""
    raise AssertionError("a specification is never called")


@_hookspec
def hpcest_register_commands(cli: Any) -> None:
    """Called when --help lists the commands, or a command is asked for that is not built in.

    :param cli: the root ``click.Group``; add commands with ``cli.add_command``.
    """


@_hookspec
def hpcest_run_types() -> Mapping[str, Callable[[Any, str], Any]]:
    """Called once, when the SDK first opens a run of a framework that hpcest does not bring along.

    Return what opens such runs: framework → a function of the experiment and the run id, such as a subclass of ``hpcest.Run``.
    """
    raise AssertionError("a specification is never called")


@_hookspec
def hpcest_travelling_modules() -> Mapping[str, str]:
    """Called once, when a run is first planned. Return Python files that programs find on their path, name → text.

    A name is a relative path such as ``azureml/__init__.py``; the files are the standard library only, under Python 3.8.
    """
    raise AssertionError("a specification is never called")


@_hookspec
def hpcest_before_submit(run: Any, plan: Plan) -> None:
    """Called when the plan of a run is ready, before the backend gets it. An exception stops the run.

    :param run: the run's folder (``hpcest.model.folders.RunFolder``).
    :param plan: what will be submitted; it can't be changed.
    """


@_hookspec
def hpcest_after_submit(run: Any) -> None:
    """Called when the backend has taken the run. An exception is shown as a warning.

    :param run: the run's folder.
    """


@_hookspec
def hpcest_status_changed(run: Any, before: str, after: str) -> None:
    """Called when a process on the login side sees that a run's status changed.

    :param run: the run's folder.
    :param before: the status that was known before.
    :param after: the status now.
    """


@_hookspec
def hpcest_after_collect(run: Any) -> None:
    """Called once for each finished run, when a process on the login side first collects it.

    :param run: the run's folder.
    """
