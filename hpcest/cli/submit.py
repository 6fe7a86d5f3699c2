"""``hpcest submit``"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcest.cli import output
from hpcest.cli.common import exit_code, json_option, pairs_of, the_context, the_run

Described = TypeVar("Described", bound=Callable[..., Any])

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.passage import Passage
    from hpcest.model.folders import RunFolder
    from hpcest.model.spec import EnvironmentSpec, RunSpec, Upstream


#: What describes a run on a command line, for every command that takes WHAT.
_DESCRIBING = (
    click.option("-c", "--compute", metavar="NAME", help="The compute target."),
    click.option("-e", "--experiment", metavar="NAME", help="The experiment; default: the job file's, or the folder's name."),
    click.option("--name", metavar="TEXT", help="What to call the run."),
    click.option(
        "--source",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="The source directory; default: the job file's; of a script the current one if it is below, else its own.",
    ),
    click.option("-n", "--nodes", type=click.IntRange(1), metavar="N", help="Nodes."),
    click.option("-p", "--procs-per-node", type=click.IntRange(1), metavar="N", help="Processes per node."),
    click.option("--cpus", type=click.IntRange(1), metavar="N", help="Cores per process."),
    click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs per node."),
    click.option("--mem", metavar="4G", help="Memory per node; a number alone is megabytes."),
    click.option("--time", metavar="2:00:00", help="Time limit; a number alone is minutes."),
    click.option("--framework", metavar="NAME", help="The framework: script, sklearn, pytorch, tensorflow, or a plugin's."),
    click.option(
        "--framework-version", metavar="VERSION", help="Install that version of it in the environment; 'default' for its default."
    ),
    click.option(
        "-O",
        "--framework-option",
        "framework_options",
        metavar="K=V",
        multiple=True,
        help="An option of the framework; 'hpcest plugins NAME' lists them.",
    ),
    click.option("--resume-from", metavar="RUN", help="The run whose outputs it finds in HPCEST_RESUME_FROM."),
    click.option("--distribution", metavar="KIND", help="How the ranks find each other: mpi, pytorch, tensorflow, a plugin's, or none."),
    click.option("--launcher", metavar="NAME", help="How ranks are started on a cluster: srun, srun:pmix, srun:pmi2, mpirun, single."),
    click.option("-S", "--sbatch", metavar="OPTION[=VALUE]", multiple=True, help="Any option of sbatch, such as qos=high or exclusive."),
    click.option("--signal", metavar="NAME[@SECONDS]", help="A signal for every rank so long before the time limit, such as USR1@120."),
    click.option("--max-requeues", type=click.IntRange(0), metavar="N", help="How often the run may start again, after a preemption, say."),
    click.option("--after", metavar="RUN[:ok|any|failed]", multiple=True, help="Start when that run has ended (default: ended well)."),
    click.option(
        "--env",
        metavar="FILE|KIND|NAME",
        help="The environment: a requirements file, a conda YAML, a kind such as host, or a registered one: NAME or NAME:VERSION.",
    ),
    click.option("--pip", metavar="PKG", multiple=True, help="A pip package; may be given repeatedly."),
    click.option("--conda", metavar="PKG", multiple=True, help="A conda package; may be given repeatedly."),
    click.option("--channel", metavar="NAME|URL", multiple=True, help="A conda channel, instead of the configured ones; may be repeated."),
    click.option("--image", metavar="REF", help="An image to run in, or to put the packages on: a file, docker://…, oras://…"),
    click.option(
        "--input", "inputs", metavar="NAME=DATA", multiple=True, help="A named input; the program finds it in AZURE_ML_INPUT_NAME."
    ),
    click.option(
        "--env-var", "variables", metavar="K=V", multiple=True, help="A variable for the program; values of secrets are not recorded."
    ),
    click.option("--tag", "tags", metavar="K=V", multiple=True, help="A tag."),
    click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any field of the run spec, such as resources.nodes=2."),
)


def describing(command: Described) -> Described:
    """Give a command the options that describe a run; it gets them as keyword arguments for ``described``."""
    for option in reversed(_DESCRIBING):
        command = option(command)
    return command


@click.command(short_help="Submit a script, a job file, or a folder with hpcest.yaml.")
@click.argument("what", metavar="WHAT", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
@describing
@click.option("--locked", is_flag=True, help="Take the versions of the lock file environment.lock; refuse where it does not fit.")
@click.option("--lock", metavar="FILE", type=click.Path(path_type=Path), help="--locked, with another lock file.")
@click.option("--array", metavar="0-9[%N]", help="Many runs: one for each index in HPCEST_ARRAY_INDEX, at most N at once.")
@click.option("-f", "--follow", is_flag=True, help="Stay and show the log; Ctrl-C detaches.")
@click.option("--dry-run", is_flag=True, help="Prepare, and print the plan; record and submit nothing.")
@click.option("--check", is_flag=True, help="As --dry-run, and have the scheduler judge the job (sbatch --test-only).")
@json_option
def submit(what: Path, arguments: tuple[str, ...], follow: bool, dry_run: bool, check: bool, as_json: bool, **options: Any) -> None:
    """Submit WHAT: a script, a job file in YAML, or a folder with hpcest.yaml.

    The run goes on without this terminal. The id of the run is printed; with --follow the log is shown
    and the run's exit code returned. With --array the ids of all runs are printed, in the order of their indexes.

    With --locked no version is chosen: the environment is the one of the lock file ('hpcest env lock' writes it) that
    lies beside the file of --env, else beside WHAT, or of --lock FILE. It is refused where it was made of other packages
    than are asked for, where it was changed, and where this machine's Python or base image differs from the lock's.

    --json: an object with id, folder, experiment; with --follow what 'hpcest show --json' prints, at the end; with
    --dry-run an object with spec and plan; with --array a list of objects.
    """
    from hpcest.lifecycle.submit import submit as start

    context = the_context()
    array, locked, lock = (options.pop(name) for name in ("array", "locked", "lock"))
    spec = described(context, what, arguments, options)
    if locked or lock:
        spec = with_lock(context, spec, lock or beside(what, options["env"]))
    if array:
        submit_array(context, spec, array, as_json=as_json)
        return
    passage = start(context, spec, output.say, dry=dry_run or check)
    if check:
        assert passage.backend is not None
        assert passage.plan is not None
        output.write(passage.backend.check(passage.plan, passage.folder) + "\n")
    elif dry_run:
        print_plan(passage, as_json)
    elif follow:
        raise SystemExit(show_until_end(context, passage.folder, as_json=as_json))
    elif as_json:
        output.print_json(_facts(passage))
    else:
        output.write_name(passage.folder.id)
        output.say(f"see it: hpcest logs -f {passage.folder.id}")


def _facts(passage: Passage) -> dict[str, str]:
    return {"id": passage.folder.id, "folder": str(passage.folder.path), "experiment": passage.spec.experiment}


def described(context: Context, what: Path, arguments: tuple[str, ...], options: dict[str, Any]) -> RunSpec:
    """The run spec that a WHAT argument and the options of ``submit`` describe. Raises UsageError."""
    from dataclasses import replace

    from hpcest.sdk.choices import spec_of, with_choices
    from hpcest.sdk.jobs.assets import WorkspaceAssets

    for name, option in {
        "inputs": "--input",
        "variables": "--env-var",
        "tags": "--tag",
        "settings": "--set",
        "framework_options": "-O",
    }.items():
        options[name] = pairs_of(options[name], option)
    options["sbatch"] = {name: value if equals else True for name, equals, value in (text.partition("=") for text in options["sbatch"])}
    options["after"] = [upstream(context, text) for text in options["after"]]
    spec = spec_of(
        what,
        context.config.default_compute,
        options.pop("source"),
        inputs=options["inputs"],
        warn=lambda line: output.say(f"warning: {line}"),
        named=partial(named, context),
        assets=WorkspaceAssets(context),
        other_environment=bool(options["env"] or options["image"]),
    )
    spec = with_choices(spec, arguments, options, partial(named, context))
    return replace(spec, resume_from=the_run(context, spec.resume_from).id) if spec.resume_from else spec


def named(context: Context, word: str) -> EnvironmentSpec:
    """The kind or the registered environment that a word names. Raises UnknownNameError."""
    from hpcest.sdk.registered import named as look_up

    return look_up(context.workspace, context.plugins.names("environment"), word)


def beside(what: Path, env: str | None) -> Path:
    """Where the lock file lies that nobody named: beside the file of --env, else beside what is submitted."""
    from hpcest.lifecycle.lockfiles import FILE_NAME

    file = Path(env) if env and Path(env).exists() else what
    return (file if file.is_dir() else file.parent) / FILE_NAME


def with_lock(context: Context, spec: RunSpec, path: Path) -> RunSpec:
    """``spec`` with exactly the environment of a lock file, which is built now. Raises SpecError, EnvironmentBuildError."""
    from dataclasses import replace

    from hpcest.lifecycle.environments import built_from

    return replace(spec, environment=built_from(context, spec.environment, path, output.say))


def upstream(context: Context, text: str) -> Upstream:
    """``RUN`` or ``RUN:any`` as what a run comes after. Raises UnknownNameError, UsageError."""
    from hpcest.lifecycle.upstream import CONDITIONS
    from hpcest.model.spec import Upstream

    reference, _, condition = text.rpartition(":")
    if not reference or condition not in CONDITIONS:  # @latest:EXPERIMENT has a colon of its own
        reference, condition = text, "ok"
    return Upstream(the_run(context, reference).id, condition)


def submit_array(context: Context, spec: RunSpec, array: str, *, as_json: bool) -> None:
    """Submit one run for each index, together, and print their ids."""
    from hpcest.lifecycle.together import indexed, submit_together

    specs, at_once = indexed(spec, array)
    passages = submit_together(context, specs, output.say, at_once=at_once)
    if as_json:
        output.print_json([_facts(passage) for passage in passages])
        return
    for passage in passages:
        output.write_name(passage.folder.id)
    output.say(f"{len(passages)} runs; see them: hpcest runs -e {spec.experiment}")


def print_plan(passage: Passage, as_json: bool) -> None:
    """The plan that would be submitted, and its script where the backend has one. Secrets are not in it."""
    import shlex

    from hpcest.cli import dataview
    from hpcest.kit.codec import encode
    from hpcest.lifecycle.data import declared
    from hpcest.lifecycle.passage import header

    assert passage.plan is not None
    plan = encode(passage.plan)
    if as_json:
        output.print_json({"spec": header(passage)["spec"], "plan": plan})
        return
    spec = header(passage)["spec"]
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
            "inputs": dataview.input_lines(declared.inputs_of(spec)),
            "outputs": dataview.output_lines(declared.outputs_of(spec, None)),
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
                for warning in item.warnings:
                    output.say(f"warning: {warning}")
    except KeyboardInterrupt:
        output.say(f"\ndetached; the run goes on. Come back with: hpcest logs -f {folder.id}; end it with: hpcest cancel {folder.id}")
        return 130
    seen = look_at(context, folder)
    if as_json:
        from hpcest.cli.show import facts

        output.print_json(facts(context, seen))
    return exit_code(seen)
