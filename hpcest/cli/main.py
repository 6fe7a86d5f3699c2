"""The ``hpcest`` command: the table of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import click

import hpcest
from hpcest.cli import output
from hpcest.cli.groups import Group
from hpcest.errors import HpcestError

#: Command → where it is, and its short help: so that --help imports none of them (a test compares).
COMMANDS = {
    "init": ("hpcest.cli.init:init", "Make a directory a workspace."),
    "submit": ("hpcest.cli.submit:submit", "Submit a script, a job file, or a folder with hpcest.yaml."),
    "exec": ("hpcest.cli.execute:execute", "Run a command here as a recorded run: in a batch script, an salloc, or a shell."),
    "script": ("hpcest.cli.execute:script", "Print a self-contained sbatch script for a run."),
    "runs": ("hpcest.cli.runs:runs", "List runs, newest first."),
    "top": ("hpcest.cli.top:top", "Watch the runs that go on, with their progress."),
    "show": ("hpcest.cli.show:show", "Show all that is known of a run."),
    "explain": ("hpcest.cli.show:explain", "Say why a run waits or failed, and what to do."),
    "logs": ("hpcest.cli.follow:logs", "Print what a run's program prints."),
    "wait": ("hpcest.cli.follow:wait", "Wait for runs; return the exit code of the first that failed."),
    "cancel": ("hpcest.cli.control:cancel", "Ask for the end of runs."),
    "rerun": ("hpcest.cli.control:rerun", "Submit runs again, from their own snapshots."),
    "tag": ("hpcest.cli.control:tag", "Set or remove tags of a run."),
    "delete": ("hpcest.cli.control:delete", "Move runs to the trash, or back, or remove them for good."),
    "metrics": ("hpcest.cli.metrics:metrics", "Print what runs logged."),
    "compare": ("hpcest.cli.metrics:compare", "Show in what runs differ."),
    "tensorboard": ("hpcest.cli.tensorboard:tensorboard", "Start TensorBoard over runs, past ones and such that go on."),
    "artifacts": ("hpcest.cli.artifacts:artifacts", "List or get the files of a run."),
    "models": ("hpcest.cli.models:models", "List, register, show or download models."),
    "data": ("hpcest.cli.data:data", "List, register or show datasets."),
    "compute": ("hpcest.cli.compute:compute", "List, show or check the compute targets."),
    "env": ("hpcest.cli.env:env", "Build, list, lock, verify, export or share environments."),
    "migrate": ("hpcest.cli.migrate:migrate", "Rewrite imports of Azure ML to hpcest's own."),
    "plugins": ("hpcest.cli.plugins:plugins", "List the plugins and what is wrong with them, or show one."),
    "doctor": ("hpcest.cli.doctor:doctor", "Check this machine and this workspace, or the ranks of a compute target."),
    "gc": ("hpcest.cli.gc:gc", "Remove what no run refers to any more."),
    "reindex": ("hpcest.cli.reindex:reindex", "Rebuild the history's index from the run folders."),
    "config": ("hpcest.cli.config:config", "Show the configuration, and where each value comes from."),
}


class Root(Group):
    """Imports a command's file when the command is used, and turns errors into one clean message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The built-in commands in the order of a run's life, then those of plugins."""
        self._add_plugin_commands(ctx)
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command called ``name``, imported now."""
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        self._add_plugin_commands(ctx)
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help, from the table."""
        rows = [
            (name, COMMANDS[name][1] if name in COMMANDS else self.commands[name].get_short_help_str()) for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _add_plugin_commands(self, ctx: click.Context) -> None:
        """Let external plugins add theirs; without any, nothing is imported for it."""
        if not getattr(self, "_asked", False):
            self._asked = True
            from hpcest.pluginmanager import load_plugins

            plugins = load_plugins()
            if plugins.external:
                load_plugins(disabled=_disabled(ctx)).add_commands(self)

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Read the options; --help, which asks plugins for their commands, is inside the boundary too."""
        with _boundary(traceback="--traceback" in args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _boundary(traceback=bool(ctx.params.get("traceback"))):
            return super().invoke(ctx)


def _disabled(ctx: click.Context) -> list[str]:
    """The plugins that the configuration keeps out; none where that can't be read, which is for other commands to say."""
    from pathlib import Path

    from hpcest.config import load_config
    from hpcest.errors import WorkspaceError
    from hpcest.lifecycle.workspace import open_workspace
    from hpcest.sdk.pointer import locate

    given, workspace = ctx.find_root().params.get("workspace"), None
    with contextlib.suppress(WorkspaceError):
        workspace = open_workspace(Path(given)) if given else locate()
    try:
        return list(load_config(workspace).plugins.disable)
    except HpcestError:
        return []


@contextlib.contextmanager
def _boundary(*, traceback: bool) -> Iterator[None]:
    """The boundary between errors and their messages. What is nobody's mistake but ours goes through, as a traceback."""
    try:
        yield
    except HpcestError as error:
        if traceback:
            raise
        raise _Shown(error.message, error.hint, error.exit_code) from error
    except OSError as error:
        if traceback or error.errno == errno.EPIPE:  # a reader that has gone is click's business
            raise
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        raise _Shown(": ".join([*names, error.strerror or str(error)]), "--traceback shows where it came from", 1) from error
    except KeyboardInterrupt:
        output.say("interrupted")
        raise click.exceptions.Exit(130) from None


class _Shown(click.ClickException):
    """An error as click prints it, with its exit code."""

    def __init__(self, message: str, hint: str, exit_code: int) -> None:
        super().__init__(output.clean_lines(f"{message}\nHint: {hint}" if hint else message))
        self.exit_code = exit_code  # type: ignore[misc]  # click declares it for the class, and reads it from the instance


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(hpcest.__version__, prog_name="hpcest")
@click.option("-w", "--workspace", metavar="DIR", help="The workspace; default: the one that holds the current directory.")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.option("-v", "--verbose", is_flag=True, help="Show the programs that are started.")
def cli(verbose: bool, **read_by_others: Any) -> None:
    """Describe a training script, what it needs and where it runs; get a reproducible, recorded run.

    RUN is an id, a unique beginning of one, @latest, @2 for the second latest, or @latest:EXPERIMENT.

    Data goes to stdout, talk to stderr. Exit codes: 0 fine, 1 the operation failed, 2 wrong
    usage; wait, submit -f and logs -f return the run's (128+N where signal N ended it).
    """
    if verbose:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """The entry point of the command."""
    output.prepare_streams()
    cli(prog_name="hpcest")
