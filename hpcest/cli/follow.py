"""``hpcest logs`` and ``hpcest wait``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import exit_code, json_option, run_argument, runs_argument, the_context, the_run
from hpcest.cli.submit import show_until_end


@click.command(short_help="Print what a run's program prints.")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Stay until the run ends; return its exit code. Ctrl-C leaves the run alone.")
@click.option("--rank", type=click.IntRange(0), metavar="N", help="Only this rank.")
def logs(run: str, follow: bool, rank: int | None) -> None:
    """Print what the program of RUN has printed so far; lines of several ranks start with [RANK]."""
    from hpcest.lifecycle.follow import LogTail, log_paths

    context = the_context()
    folder = the_run(context, run)
    if follow:
        raise SystemExit(show_until_end(context, folder, rank=rank))
    found = log_paths(folder)
    if rank is not None and rank not in found:
        raise click.BadParameter(
            f"run {folder.id} has no log of rank {rank}; it has {', '.join(map(str, found)) or 'none yet'}", param_hint="--rank"
        )
    for number, paths in found.items():
        for path in paths if rank in (None, number) else ():
            tail, prefix, rest = LogTail(path), f"[{number}] " if len(found) > 1 and rank is None else "", ""
            while text := tail.read():
                if prefix:
                    whole, newline, rest = (rest + text).rpartition("\n")
                    text = "".join(f"{prefix}{line}\n" for line in whole.split("\n")) if newline else ""
                output.write(text)
            if rest:
                output.write(f"{prefix}{rest}\n")


@click.command(short_help="Wait for runs; return the exit code of the first that failed.")
@runs_argument
@click.option("--timeout", type=float, metavar="S", help="Give up after S seconds, with exit code 1.")
@json_option
def wait(runs: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until every RUN has ended; return the exit code of the first that did not complete."""
    import time

    from hpcest.lifecycle.follow import wait as until_end

    context = the_context()
    end = None if timeout is None else time.monotonic() + timeout
    ended = []
    for folder in [the_run(context, run) for run in runs]:
        seen = until_end(context, folder, timeout=None if end is None else max(0.0, end - time.monotonic()))
        ended.append(seen)
        if not as_json:
            output.say(f"{folder.id}: {seen.status}" + (f"; {seen.message}" if seen.message else ""))
    if as_json:
        output.print_json([{"id": seen.folder.id, "status": str(seen.status), "exit_code": seen.state.exit_code} for seen in ended])
    raise SystemExit(next((exit_code(seen) for seen in ended if exit_code(seen)), 0))
