"""``hpcest exec`` and ``hpcest script``: runs inside scripts of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import exit_code, pairs_of, the_context
from hpcest.cli.submit import described, describing
from hpcest.errors import SpecError

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.model.spec import RunSpec


@click.command("exec", short_help="Run a command here as a recorded run: in a batch script, an salloc, or a shell.")
@click.argument("command", metavar="-- CMD...", nargs=-1, type=click.UNPROCESSED)
@click.option("-c", "--compute", metavar="NAME", help="The compute target whose settings count (launcher, grace, ...).")
@click.option("-e", "--experiment", metavar="NAME", help="The experiment; default: the current directory's name.")
@click.option("--name", metavar="TEXT", help="What to call the run.")
@click.option("-n", "--nodes", type=click.IntRange(1), metavar="N", help="Nodes; default: all of the allocation.")
@click.option("-p", "--procs-per-node", type=click.IntRange(1), metavar="N", help="Processes per node; default: as allocated.")
@click.option("--launcher", metavar="NAME", help="How ranks are started: srun, srun:pmix, srun:pmi2, mpirun, single.")
@click.option("--distribution", metavar="KIND", help="How the ranks find each other: mpi, pytorch, tensorflow, or none.")
@click.option("--signal", metavar="NAME[@SECONDS]", help="What ranks get when the batch script gets USR2 ahead of its time limit.")
@click.option("--max-requeues", type=click.IntRange(0), metavar="N", help="How often the job may be requeued for another attempt.")
@click.option("--env-var", "variables", metavar="K=V", multiple=True, help="A variable for the program.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="A tag.")
@click.option("--spec", metavar="FILE", type=click.File(), help="A run spec as JSON, from 'hpcest script'; - is standard input.")
def execute(command: tuple[str, ...], spec: Any, **options: Any) -> None:
    """Run CMD as a recorded run and return its exit code.

    In a Slurm job all of its nodes are used, as one srun would; elsewhere CMD runs on this machine. CMD runs in
    the current directory itself. Its output goes here and into the record, and signals reach it. When Slurm
    starts the job again, the run goes on as its next attempt.
    """
    from hpcest.lifecycle.execute import execute as start

    context = the_context()
    asked = _of_file(spec) if spec else _of_command(context, command, options)
    seen = start(context, asked, output.say, output.write, place="" if spec else str(Path.cwd()))
    if str(seen.status) != "Completed":
        output.say(f"{seen.folder.id}: {seen.status}" + (f"; {seen.message}" if seen.message else ""))
    raise SystemExit(exit_code(seen))


def _of_file(stream: Any) -> RunSpec:
    """The run spec that ``hpcest script`` wrote. Raises SpecError."""
    import json

    from hpcest.kit.codec import decode
    from hpcest.model.spec import RunSpec

    try:
        data = json.load(stream)
    except ValueError as error:
        raise SpecError(f"the run spec can't be read: {error}", hint="write it with 'hpcest script WHAT'") from error
    return decode(RunSpec, data)


def _of_command(context: Context, command: tuple[str, ...], options: dict[str, Any]) -> RunSpec:
    from dataclasses import replace
    from shlex import join

    from hpcest.lifecycle.execute import surrounding
    from hpcest.model.spec import Command, Resources, RunSpec
    from hpcest.sdk.choices import with_choices

    if not command:
        raise SpecError("there is no command", hint="give it after two dashes: hpcest exec -- python train.py")
    here = Path.cwd()
    for name, option in {"variables": "--env-var", "tags": "--tag"}.items():
        options[name] = pairs_of(options[name], option)
    spec = RunSpec(here.name or "root", Command(line=join(command)), context.config.default_compute, source=str(here))
    _, allocation = surrounding(context, options.get("compute") or spec.compute)
    offered = allocation.resources if allocation else Resources()
    if options["nodes"] and options["nodes"] != offered.nodes and not options["procs_per_node"]:
        offered = replace(offered, procs_per_node=1)
    return with_choices(replace(spec, resources=offered), (), options)


@click.command(short_help="Print a self-contained sbatch script for a run.")
@click.argument("what", metavar="WHAT", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
@describing
def script(what: Path, arguments: tuple[str, ...], **options: Any) -> None:
    """Print an sbatch script that records and runs WHAT each time it is submitted: sbatch job.sbatch.

    The source is frozen now; options are those of 'hpcest submit'.
    """
    from hpcest.lifecycle.execute import script_for

    context = the_context()
    output.write(script_for(context, described(context, what, arguments, options), output.say))
