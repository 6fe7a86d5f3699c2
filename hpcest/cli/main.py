"""The ``hpcest`` command: the table of commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

import hpcest
from hpcest.errors import HpcestError

#: Command → where it is, and its short help: so that --help imports none of them (a test compares).
COMMANDS = {
    "init": ("hpcest.cli.init:init", "Make a directory a workspace."),
    "submit": ("hpcest.cli.submit:submit", "Submit a script, a job file, or a folder with hpcest.yaml."),
    "runs": ("hpcest.cli.runs:runs", "List runs, newest first."),
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
    "artifacts": ("hpcest.cli.artifacts:artifacts", "List or get the files of a run."),
    "models": ("hpcest.cli.models:models", "List, register, show or download models."),
    "compute": ("hpcest.cli.compute:compute", "List the compute targets."),
    "env": ("hpcest.cli.env:env", "List or show built environments."),
    "plugins": ("hpcest.cli.plugins:plugins", "List the plugins, and what is wrong with them."),
    "doctor": ("hpcest.cli.doctor:doctor", "Check this machine and this workspace."),
    "reindex": ("hpcest.cli.reindex:reindex", "Rebuild the history's index from the run folders."),
    "config": ("hpcest.cli.config:config", "Show the configuration, and where each value comes from."),
}


class Root(click.Group):
    """Imports a command's file when the command is used, and turns HpcestError into one clean message."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The built-in commands in the order of a run's life, then those of plugins."""
        self._add_plugin_commands()
        return [*COMMANDS, *(name for name in super().list_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command called ``name``, imported now."""
        if name in COMMANDS:
            module, _, attribute = COMMANDS[name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        self._add_plugin_commands()
        return super().get_command(ctx, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help, from the table."""
        rows = [
            (name, COMMANDS[name][1] if name in COMMANDS else self.commands[name].get_short_help_str()) for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for a misspelt command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                raise click.UsageError(f"{error.message}; did you mean {near[0]!r}?", ctx) from None
            raise

    def _add_plugin_commands(self) -> None:
        """Let external plugins add theirs; without any, nothing is imported for it."""
        if not getattr(self, "_asked", False):
            self._asked = True
            from hpcest.pluginmanager import load_plugins

            load_plugins().add_commands(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; the boundary between errors and their messages."""
        try:
            return super().invoke(ctx)
        except HpcestError as error:
            if ctx.params.get("traceback"):
                raise
            raise _Shown(error) from error


class _Shown(click.ClickException):
    """An HpcestError as click prints it, with its exit code."""

    def __init__(self, error: HpcestError) -> None:
        super().__init__(f"{error.message}\nHint: {error.hint}" if error.hint else error.message)
        self.exit_code = error.exit_code  # type: ignore[misc]  # click declares it for the class, and reads it from the instance


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(hpcest.__version__, prog_name="hpcest")
@click.option("-w", "--workspace", metavar="DIR", help="The workspace; default: the one that holds the current directory.")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.option("-v", "--verbose", is_flag=True, help="Show the programs that are started.")
def cli(verbose: bool, **read_by_others: Any) -> None:
    """Describe a training script, what it needs and where it runs; get a reproducible, recorded run."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s", stream=sys.stderr)


def main() -> None:
    """The entry point of the command."""
    cli(prog_name="hpcest")
