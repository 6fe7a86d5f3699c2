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
    """Ask for the end of each RUN: its program gets TERM, and after the grace period KILL. Ended runs stay as they are.

    Many runs of one compute target are ended together, with as few commands as its scheduler allows.

    --json: a list of objects with id, status, message.
    """
    from hpcest.lifecycle.watch import cancel_all

    context = the_context()
    found, problems = cancel_all(context, [the_run(context, run) for run in runs])
    seen = [*found.values()]
    if as_json and not problems:
        output.print_json([{"id": one.folder.id, "status": str(one.status), "message": one.message} for one in seen])
    for one in () if as_json or len(problems) >= len(seen) else seen:
        output.say(f"{one.folder.id}: {one.status}" + (f"; {one.message}" if one.message else ""))
    for problem in problems[:-1]:
        output.say(f"{problem.message}\nHint: {problem.hint}")
    if problems:
        raise problems[-1]


@click.command(short_help="Submit runs again, from their own snapshots.")
@runs_argument
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Change a field of the run spec, such as resources.time=7200.")
@click.option("--env-var", "variables", metavar="K=V", multiple=True, help="Set a variable, such as a secret that was not recorded.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show the log of the (last) run.")
@json_option
def rerun(runs: tuple[str, ...], settings: tuple[str, ...], variables: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Submit each RUN again as it was: the same snapshot, environment and arguments. The new ids are printed.

    --json: a list of objects with id, rerun_of; with --follow what 'hpcest show --json' prints of the last one.
    """
    from hpcest.cli.submit import show_until_end
    from hpcest.lifecycle.rerun import spec_of_run
    from hpcest.lifecycle.submit import submit
    from hpcest.sdk.choices import with_settings

    context, made = the_context(), []
    added, changed = pairs_of(variables, "--env-var"), pairs_of(settings, "--set")
    specs = [(old.id, with_settings(spec_of_run(old, added), changed)) for old in [the_run(context, run) for run in runs]]
    for old, spec in specs:
        made.append((old, submit(context, spec, output.say).folder))
        if not as_json and not follow:
            output.write_name(made[-1][1].id)
    if follow:
        raise SystemExit(show_until_end(context, made[-1][1], as_json=as_json))
    if as_json:
        output.print_json([{"id": folder.id, "rerun_of": old} for old, folder in made])


@click.command(short_help="Set or remove tags of a run.")
@run_argument
@click.argument("tags", metavar="KEY[=VALUE]...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Remove the tags KEY.")
def tag(run: str, tags: tuple[str, ...], remove: bool) -> None:
    """Set tags of RUN, or with --remove take them away."""
    from hpcest.sdk.run import Run

    found = Run(str(the_run(the_context(), run).path))
    pairs = [one.partition("=")[::2] for one in tags]
    if any(not key for key, _ in pairs):
        raise click.BadParameter("a tag needs a name: KEY or KEY=VALUE", param_hint="KEY[=VALUE]...")
    missing = [key for key, _ in pairs if key not in found.get_tags()] if remove else []
    if missing:
        raise HpcestError(f"run {found.id} has no tag {missing[0]!r}", hint=f"its tags: {', '.join(found.get_tags()) or 'none'}")
    for key, value in pairs:
        if remove:
            found.remove_tags(key)
        else:
            found.tag(key, value)


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
    in_trash = {entry.name for entry in context.workspace.trash.iterdir()} if context.workspace.trash.is_dir() else set()
    found = {run if purge and run in in_trash else the_run(context, run).id: None for run in runs}
    if purge and not yes and not click.confirm(f"remove {', '.join(found)} with all files for good?", err=True):
        raise HpcestError("nothing was removed")
    for run_id in found:
        if run_id not in in_trash:
            trash.put(context, context.workspace.run(run_id))
        if purge:
            trash.purge(context.workspace, run_id)
        output.say(f"{run_id}: " + ("removed" if purge else f"in the trash; take it out: hpcest delete --restore {run_id}"))
