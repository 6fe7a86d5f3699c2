"""``hpcest submit``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import exit_code, json_option, pairs_of, the_context

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.passage import Passage
    from hpcest.model.folders import RunFolder


@click.command(short_help="Submit a script, a job file, or a folder with hpcest.yaml.")
@click.argument("what", metavar="WHAT", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
@click.option("-c", "--compute", metavar="NAME", help="The compute target.")
@click.option("-e", "--experiment", metavar="NAME", help="The experiment; default: the job file's, or the folder's name.")
@click.option("--name", metavar="TEXT", help="What to call the run.")
@click.option(
    "--source",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The source directory; default: the job file's; of a script the current one if it is below, else its own.",
)
@click.option("-n", "--nodes", type=click.IntRange(1), metavar="N", help="Nodes.")
@click.option("-p", "--procs-per-node", type=click.IntRange(1), metavar="N", help="Processes per node.")
@click.option("--cpus", type=click.IntRange(1), metavar="N", help="Cores per process.")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs per node.")
@click.option("--mem", metavar="4G", help="Memory per node; a number alone is megabytes.")
@click.option("--time", metavar="2:00:00", help="Time limit; a number alone is minutes.")
@click.option("--framework", metavar="NAME", help="The framework plugin.")
@click.option("--distribution", type=click.Choice(["mpi", "pytorch", "tensorflow", "none"]), help="How the ranks find each other.")
@click.option("--env", metavar="FILE|KIND", help="The environment: a requirements file, a conda YAML, or a kind such as host.")
@click.option("--pip", metavar="PKG", multiple=True, help="A pip package; may be given repeatedly.")
@click.option("--conda", metavar="PKG", multiple=True, help="A conda package; may be given repeatedly.")
@click.option("--image", metavar="REF", help="An image to run in.")
@click.option("--input", "inputs", metavar="NAME=DATA", multiple=True, help="A named input; the program finds it in AZURE_ML_INPUT_NAME.")
@click.option(
    "--env-var", "variables", metavar="K=V", multiple=True, help="A variable for the program; values of secrets are not recorded."
)
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="A tag.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any field of the run spec, such as resources.nodes=2.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show the log; Ctrl-C detaches.")
@click.option("--dry-run", is_flag=True, help="Prepare, and print the plan; record and submit nothing.")
@json_option
def submit(what: Path, arguments: tuple[str, ...], follow: bool, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Submit WHAT: a script, a job file in YAML, or a folder with hpcest.yaml.

    The run goes on without this terminal. The id of the run is printed; with --follow the log is shown
    and the run's exit code returned.

    --json: an object with id, folder, experiment; with --follow what 'hpcest show --json' prints, at the end; with
    --dry-run an object with spec and plan.
    """
    from hpcest.lifecycle.submit import submit as start
    from hpcest.sdk.choices import spec_of, with_choices

    context = the_context()
    for name, option in {"inputs": "--input", "variables": "--env-var", "tags": "--tag", "settings": "--set"}.items():
        options[name] = pairs_of(options[name], option)
    spec = spec_of(
        what,
        context.config.default_compute,
        options.pop("source"),
        inputs=options["inputs"],
        warn=lambda line: output.say(f"warning: {line}"),
    )
    passage = start(context, with_choices(spec, arguments, options), output.say, dry=dry_run)
    if dry_run:
        print_plan(passage, as_json)
    elif follow:
        raise SystemExit(show_until_end(context, passage.folder, as_json=as_json))
    elif as_json:
        output.print_json({"id": passage.folder.id, "folder": str(passage.folder.path), "experiment": passage.spec.experiment})
    else:
        output.write_name(passage.folder.id)
        output.say(f"see it: hpcest logs -f {passage.folder.id}")


def print_plan(passage: Passage, as_json: bool) -> None:
    """The plan that would be submitted, and its script where the backend has one. Secrets are not in it."""
    import shlex

    from hpcest.kit.codec import encode
    from hpcest.lifecycle.passage import header

    assert passage.plan is not None
    plan = encode(passage.plan)
    if as_json:
        output.print_json({"spec": header(passage)["spec"], "plan": plan})
        return
    launch, secrets = plan["launch"], plan["launch"].get("secrets", ())
    nodes, processes = launch["nodes"], launch["procs_per_node"]
    ranks = f"{nodes} node{'s' * (nodes != 1)} with {processes} process{'es' * (processes != 1)} each, started per {launch['per']}"
    output.pairs(
        {
            "experiment": passage.spec.experiment,
            "compute": f"{plan['compute']} ({plan['backend']})",
            "environment": plan.get("environment"),
            "program": shlex.join([*launch["prefix"], *launch["argv"]]).split("\n"),
            "ranks": ranks,
            "source": passage.spec.source,
            "snapshot": passage.spec.snapshot,
            "variables": [f"{name}={value}" for name, value in launch["variables"].items()] + [f"{name}=***" for name in secrets],
            "options": [f"{name}: {value}" for name, value in plan.get("options", {}).items()],
        }
    )
    if plan.get("script"):
        output.write("\n" + plan["script"])


def show_until_end(context: Context, folder: RunFolder, *, as_json: bool = False, rank: int | None = None) -> int:
    """Show the run's log until it ends; return its exit code. Ctrl-C leaves the run alone."""
    from hpcest.lifecycle.follow import follow as watch
    from hpcest.lifecycle.watch import look_at

    text = output.say if as_json else output.write
    output.say(f"run {folder.id}")
    try:
        for item in watch(context, folder, rank=rank):
            if isinstance(item, str):
                text(item)
            else:
                output.say(f"{folder.id}: {item.status}" + (f"; {item.message}" if item.message else ""))
    except KeyboardInterrupt:
        output.say(f"\ndetached; the run goes on. Come back with: hpcest logs -f {folder.id}; end it with: hpcest cancel {folder.id}")
        return 130
    seen = look_at(context, folder)
    if as_json:
        from hpcest.cli.show import facts

        output.print_json(facts(context, seen))
    return exit_code(seen)
