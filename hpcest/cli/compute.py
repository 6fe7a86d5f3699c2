"""``hpcest compute``"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context
from hpcest.cli.groups import Group
from hpcest.kit.codec import encode


@click.group(cls=Group, short_help="List, show or check the compute targets.")
def compute() -> None:
    """List, show or check the compute targets that the configuration names."""


@compute.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the compute targets; the default one has a star.

    --json: a list of objects with name, backend, default (true for one), options (as they were written), from.
    """
    config = the_context().config
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "backend": target.backend,
            "default": name == config.default_compute,
            "options": target.options,
            "from": config.origin(f"compute.{name}"),
        }
        for name, target in config.compute.items()
    ]
    if as_json:
        output.print_json(found)
        return
    rows = [(f"{one['name']}{' *' if one['default'] else ''}", one["backend"], _options(one["options"]), one["from"]) for one in found]
    output.table(("name", "backend", "options", "from"), rows, keep=("name",))


def _options(options: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


@compute.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show every option of a compute target, with its value and its meaning.

    --json: an object with name, backend and options: a list of objects with option, value, set (whether it was
    set to something else than the default), help.
    """
    import dataclasses

    context = the_context()
    backend = context.backend(name)
    given = encode(backend.options)
    rows = [
        {
            "option": field.name,
            "value": encode(getattr(backend.options, field.name)),
            "set": field.name in given,
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(backend.options)
    ]
    if as_json:
        output.print_json({"name": name, "backend": backend.name, "options": rows})
        return
    output.table(("option", "value", "meaning"), [(row["option"], row["value"], row["help"]) for row in rows], keep=("option",))


@compute.command()
@click.argument("name")
@click.option("--env", metavar="FILE|KIND", help="The environment whose MPI is meant; as for hpcest submit.")
@click.option("--launcher", metavar="NAME", help="Try this launcher only: srun:pmix, srun:pmi2, mpirun; default: the target's choice.")
@click.option("-n", "--nodes", type=click.IntRange(1, 2), metavar="N", help="On 1 or 2 nodes; default: 2 where the target has them.")
@json_option
def check(name: str, env: str, launcher: str, nodes: int | None, as_json: bool) -> None:
    """Prove that MPI works on a compute target: two ranks add up 8 bytes and 4 MiB, in a run of the experiment preflight.

    Where the first choice of a launcher fails, the others are tried, and the last line says what to configure. The
    exit code is 0 if the target works as it is configured, else 1.

    --json: an object with compute, backend, scheduler (what it forecasts), ok, next (what to do, or empty) and
    trials: a list of objects with launcher, run, ok, problem, ranks, hosts, library, through, seconds (by bytes).
    """
    from hpcest.lifecycle.preflight import described, preflight
    from hpcest.sdk.choices import with_choices

    context = the_context()
    spec = with_choices(described(name, launcher=launcher or "", nodes=nodes), (), {"env": env})
    found = preflight(context, spec, output.say)
    if as_json:
        trials = [{"launcher": one.launcher, "run": one.run, "ok": one.ok, "problem": one.problem, **one.found} for one in found.trials]
        facts = {"compute": found.compute, "backend": found.backend, "scheduler": found.scheduler, "ok": found.ok}
        output.print_json({**facts, "next": found.advice, "trials": trials})
    else:
        rows = [
            (one.launcher, "works" if one.ok else "fails", one.run, _result(one.found) if one.ok else one.problem) for one in found.trials
        ]
        output.table(("launcher", "result", "run", "found"), rows, keep=("launcher", "result", "run"))
        if found.advice:
            output.say(found.advice)
    raise SystemExit(0 if found.ok else 1)


def _result(found: Mapping[str, Any]) -> str:
    """``2 ranks on n1, n2; 8 bytes in 7.1 us, 4 MiB in 15.6 ms; Open MPI v4.1.4``."""
    seconds = {int(size): value for size, value in found["seconds"].items()}
    small, large = seconds[min(seconds)], seconds[max(seconds)]
    library = found["library"].partition(",")[0]
    return (
        f"{found['ranks']} ranks on {', '.join(found['hosts'])}; 8 bytes in {small * 1e6:.3g} us, 4 MiB in {large * 1e3:.3g} ms; {library}"
    )
