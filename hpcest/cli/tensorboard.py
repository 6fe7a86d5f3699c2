"""``hpcest tensorboard``"""

from __future__ import annotations

import signal
from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, runs_argument, the_context, the_run


@click.command(short_help="Start TensorBoard over runs, past ones and such that go on.")
@runs_argument
@click.option("--port", type=click.IntRange(1, 65535), default=6006, show_default=True, help="The first port that is tried.")
@click.option("--browser", is_flag=True, help="Open it in a browser on this machine.")
@click.option("--program", metavar="PATH", default="", help="The TensorBoard to start; default: hpcest's, one on PATH, a run's own.")
@json_option
def tensorboard(runs: tuple[str, ...], port: int, browser: bool, program: str, as_json: bool) -> None:
    """Start TensorBoard over the RUNs and the runs below them, until Ctrl-C.

    It shows the event files in their logs/ and outputs/; those of runs that go on as they are written. Only this machine
    can reach it, with all who are logged in here; the ssh line that is printed brings it to another one.

    --json: an object with url, port, tunnel (the ssh line) and runs (the ids).
    """
    from hpcest.sdk.run import Run
    from hpcest.sdk.tensorboard import Tensorboard
    from hpcest.sdk.workspace import Workspace

    context = the_context()
    workspace = Workspace(context.workspace)
    named = [Run.get(workspace, the_run(context, run).id) for run in runs]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    board = Tensorboard(named, port=port, program=program)
    try:
        url = board.start(start_browser=browser)
        for run_id in board.without_events():
            output.say(f"{run_id}: nothing for TensorBoard yet")
        if as_json:
            output.print_json({"url": url, "port": board.port, "tunnel": board.tunnel, "runs": [run.id for run in named]})
        else:
            output.write(f"{url}\n")
            output.say(f"from another machine: {board.tunnel}")
            output.say("Ctrl-C ends it")
        board.wait()
    except KeyboardInterrupt:
        output.say("ended")
    finally:
        board.stop()


def _end(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)
