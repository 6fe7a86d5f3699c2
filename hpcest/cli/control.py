"""``hpcest cancel``, ``rerun``, ``tag`` and ``delete``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, pairs_of, run_argument, runs_argument, the_context, the_run
from hpcest.errors import HpcestError


@click.command(short_help="Ask for the end of runs.")
@runs_argument
@json_option
def cancel(runs: tuple[str, ...], as_json: bool) -> None:
    """Ask for the end of each RUN: its program gets TERM, and after the grace period KILL. Ended runs stay as they are."""
    from hpcest.lifecycle.watch import cancel as end

    context = the_context()
    seen = [end(context, the_run(context, run)) for run in runs]
    if as_json:
        output.print_json([{"id": one.folder.id, "status": str(one.status)} for one in seen])
        return
    for one in seen:
        output.say(f"{one.folder.id}: {one.status}" + (f"; {one.message}" if one.message else ""))


@click.command(short_help="Submit runs again, from their own snapshots.")
@runs_argument
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Change a field of the run spec, such as resources.time=7200.")
@click.option("--env-var", "variables", metavar="K=V", multiple=True, help="Set a variable, such as a secret that was not recorded.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show the log of the (last) run.")
@json_option
def rerun(runs: tuple[str, ...], settings: tuple[str, ...], variables: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Submit each RUN again as it was: the same snapshot, environment and arguments. The new ids are printed."""
    from hpcest.cli.submit import show_until_end
    from hpcest.lifecycle.rerun import spec_of_run
    from hpcest.lifecycle.submit import submit
    from hpcest.sdk.choices import with_settings

    context, made = the_context(), []
    for run in runs:
        old = the_run(context, run)
        spec = with_settings(spec_of_run(old, pairs_of(variables, "--env-var")), pairs_of(settings, "--set"))
        made.append((old.id, submit(context, spec, output.say).folder))
    if follow:
        raise SystemExit(show_until_end(context, made[-1][1], as_json=as_json))
    if as_json:
        output.print_json([{"id": folder.id, "rerun_of": old} for old, folder in made])
        return
    for _, folder in made:
        output.write(folder.id + "\n")


@click.command(short_help="Set or remove tags of a run.")
@run_argument
@click.argument("tags", metavar="KEY[=VALUE]...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Remove the tags KEY.")
def tag(run: str, tags: tuple[str, ...], remove: bool) -> None:
    """Set tags of RUN, or with --remove take them away."""
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace

    context = the_context()
    found = Run.get(Workspace(context.workspace), the_run(context, run).id)
    for one in tags:
        key, _, value = one.partition("=")
        if remove:
            found.remove_tags(key)
        else:
            found.tag(key, value)
    found.flush()


@click.command(short_help="Move runs to the trash, or back, or remove them for good.")
@runs_argument
@click.option("--restore", is_flag=True, help="Take the runs (by their whole ids) out of the trash.")
@click.option("--purge", is_flag=True, help="Remove the runs for good, in the trash or not.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask before removing for good.")
def delete(runs: tuple[str, ...], restore: bool, purge: bool, yes: bool) -> None:
    """Move each RUN to the workspace's trash. A run that goes on must be canceled first."""
    from hpcest.lifecycle import trash

    context = the_context()
    if restore and purge:
        raise click.UsageError("--restore and --purge exclude each other")
    if restore:
        for run in runs:
            trash.restore(context.workspace, run)
            output.say(f"{run}: restored")
        return
    for run in runs:
        folder = context.workspace.trash / run
        if not (purge and folder.is_dir()):
            live = the_run(context, run)
            trash.put(context, live)
            folder = context.workspace.trash / live.id
        if purge:
            if not yes and not click.confirm(f"remove run {folder.name} and all its files for good?", err=True):
                raise HpcestError(f"run {folder.name} was left in the trash", hint=f"take it out: hpcest delete --restore {folder.name}")
            trash.purge(context.workspace, folder.name)
        output.say(f"{folder.name}: " + ("removed" if purge else f"in the trash; take it out: hpcest delete --restore {folder.name}"))
