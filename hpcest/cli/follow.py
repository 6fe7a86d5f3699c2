"""``hpcest logs`` and ``hpcest wait``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpcest.cli import output
from hpcest.cli.common import exit_code, json_option, run_argument, runs_argument, the_context, the_run
from hpcest.cli.submit import show_until_end

if TYPE_CHECKING:
    from pathlib import Path

    from hpcest.lifecycle.context import Context
    from hpcest.model.folders import RunFolder


@click.command(short_help="Print what a run's program prints.")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Stay until the run ends; return its exit code. Ctrl-C leaves the run alone.")
@click.option("--rank", type=click.IntRange(0), metavar="N", help="Only this rank.")
def logs(run: str, follow: bool, rank: int | None) -> None:
    """Print what the program of RUN has printed so far; lines of several ranks start with [RANK]."""
    from hpcest.lifecycle.follow import log_paths

    context = the_context()
    folder = the_run(context, run)
    if follow:
        raise SystemExit(show_until_end(context, folder, rank=rank))
    found = log_paths(folder)
    if not found:
        _say_why_none(context, folder)
        return
    if rank is not None and rank not in found:
        raise click.BadParameter(f"run {folder.id} has no log of rank {rank}; it has {', '.join(map(str, found))}", param_hint="--rank")
    for number, paths in found.items():
        for path in paths if rank in (None, number) else ():
            _print_log(path, f"[{number}] " if len(found) > 1 and rank is None else "")


def _print_log(path: Path, prefix: str) -> None:
    from hpcest.lifecycle.follow import LogTail

    tail, rest = LogTail(path), ""
    while text := tail.read():
        if prefix:
            whole, newline, rest = (rest + text).rpartition("\n")
            text = "".join(f"{prefix}{line}\n" for line in whole.split("\n")) if newline else ""
        output.write(text)
    if rest:
        output.write(f"{prefix}{rest}\n")


def _say_why_none(context: Context, folder: RunFolder) -> None:
    from hpcest.lifecycle.watch import look_at

    seen = look_at(context, folder)
    more = f"; {seen.message}" if seen.message else ""
    output.say(f"run {folder.id} has no log: it is {seen.status}{more}")
    if folder.build_log.exists():
        output.say(f"see how its environment was made: hpcest artifacts get {folder.id} system_logs/{folder.build_log.name}")


@click.command(short_help="Wait for runs; return the exit code of the first that failed.")
@runs_argument
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Give up after S seconds, with exit code 1.")
@json_option
def wait(runs: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until every RUN has ended; return the exit code of the first (as named) that did not complete.

    --json: a list of objects with id, status, reason, message, exit_code.
    """
    import time

    from hpcest.lifecycle.follow import wait as until_end

    context = the_context()
    end = None if timeout is None else time.monotonic() + timeout
    ended = []
    for folder in [the_run(context, run) for run in runs]:
        seen = until_end(context, folder, timeout=None if end is None else max(0.0, end - time.monotonic()))
        ended.append(seen)
        if not as_json:
            still = "" if seen.finished else f"still {seen.status} after {timeout:g} s"
            output.say(f"{folder.id}: {still or seen.status}" + (f"; {seen.message}" if seen.message else ""))
        for warning in seen.warnings:
            output.say(f"warning: {warning}")
    if as_json:
        output.print_json(
            [
                {
                    "id": one.folder.id,
                    "status": str(one.status),
                    "reason": str(one.reason),
                    "message": one.message,
                    "exit_code": one.state.exit_code,
                }
                for one in ended
            ]
        )
    raise SystemExit(next((exit_code(seen) for seen in ended if exit_code(seen)), 0))
