"""What several commands share: the workspace that is meant, RUN arguments, --json."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcest.errors import WorkspaceError
from hpcest.model.folders import RunFolder, WorkspaceFolder

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
run_argument = click.argument("run", metavar="RUN")
runs_argument = click.argument("runs", metavar="RUN...", nargs=-1, required=True)


def the_workspace() -> WorkspaceFolder:
    """The workspace of -w, else the one that holds the current directory, else HPCEST_WORKSPACE or ~/hpcest. Raises WorkspaceError."""
    from pathlib import Path

    from hpcest.lifecycle.workspace import open_workspace
    from hpcest.sdk.pointer import locate

    given = click.get_current_context().find_root().params.get("workspace")
    return open_workspace(Path(given)) if given else locate()


def a_workspace() -> WorkspaceFolder | None:
    """The same, or None where there is none and none was asked for with -w."""
    try:
        return the_workspace()
    except WorkspaceError:
        if click.get_current_context().find_root().params.get("workspace"):
            raise
        return None


def the_context() -> Context:
    """The workspace with its configuration and plugins."""
    from hpcest.lifecycle.context import Context

    return Context(the_workspace())


def the_run(context: Context, reference: str) -> RunFolder:
    """The run that an id, a unique prefix, ``@latest`` or ``@2`` means. Raises UnknownNameError, UsageError."""
    from hpcest.history.resolve import resolve

    return context.workspace.run(resolve(context.workspace, reference))


def exit_code(seen: Seen) -> int:
    """What ``wait`` and ``submit -f`` return for a run that has ended: its own code, 1 where it has none."""
    if str(seen.status) == "Completed":
        return 0
    code = seen.state.exit_code
    return code if isinstance(code, int) and 0 < code < 256 else 1


def pairs_of(values: tuple[str, ...], option: str) -> dict[str, str]:
    """``("a=1", "b=2")`` as a dict. Raises a usage error that names the option."""
    found = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE", param_hint=option)
        found[name] = text
    return found
