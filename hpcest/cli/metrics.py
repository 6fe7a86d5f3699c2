"""``hpcest metrics`` and ``hpcest compare``"""

from __future__ import annotations

from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, runs_argument, the_context, the_run
from hpcest.onnode.events import read_run
from hpcest.onnode.record import get_json


@click.command(short_help="Print what runs logged.")
@runs_argument
@click.option("--csv", "as_csv", is_flag=True, help="Print each logged scalar as a line of CSV: run, name, step, time, value.")
@json_option
def metrics(runs: tuple[str, ...], as_csv: bool, as_json: bool) -> None:
    """Print the metrics of each RUN: a scalar as its value, a series by its last one."""
    context = the_context()
    found = {folder.id: read_run(folder.path)[1] for folder in [the_run(context, run) for run in runs]}
    if as_csv:
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("run", "name", "step", "time", "value"))
        for run_id, values in found.items():
            writer.writerows((run_id, name, step, when, value) for name in values.points for when, step, value in values.series(name))
    elif as_json:
        output.print_json({run_id: values.to_dict() for run_id, values in found.items()})
    else:
        rows = [(run_id, name, output.number(value)) for run_id, values in found.items() for name, value in values.to_dict().items()]
        output.table(("run", "metric", "value"), rows, empty="nothing was logged")


@click.command(short_help="Show in what runs differ.")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all of them.")
@json_option
def compare(runs: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show in what the RUNs differ: arguments, settings, environment, code, metrics."""
    context = the_context()
    if len(runs) < 2:
        raise click.UsageError("name at least two runs to compare")
    folders = [the_run(context, run) for run in runs]
    columns = {folder.id: _facts(str(folder.path)) for folder in folders}
    names = sorted({name for facts in columns.values() for name in facts}, key=lambda name: (_GROUPS.index(name.split(".")[0]), name))
    rows = {name: [facts.get(name) for facts in columns.values()] for name in names}
    if not everything:
        rows = {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
    if as_json:
        output.print_json({"runs": list(columns), "rows": rows})
        return
    table = [(name, *("" if value is None else output.number(value) for value in values)) for name, values in rows.items()]
    output.table(("", *columns), table, empty="they do not differ")


_GROUPS = ["status", "param", "setting", "metric", "tag"]


def _facts(folder: str) -> dict[str, Any]:
    """What two runs may differ in, by name."""
    from hpcest.history.params import parse_arguments

    spec = (get_json(f"{folder}/run.json") or {}).get("spec") or {}
    state, values = read_run(folder)
    facts: dict[str, Any] = {"status": state.status}
    facts.update({f"param.{name}": value for name, value in parse_arguments((spec.get("command") or {}).get("arguments", ())).items()})
    facts["setting.environment"] = (get_json(f"{folder}/environment.lock") or {}).get("key", "")[:12]
    facts.update(
        _flat("setting", {key: value for key, value in spec.items() if key in ("compute", "resources", "distribution", "snapshot", "git")})
    )
    facts["setting.command"] = (spec.get("command") or {}).get("line") or (spec.get("command") or {}).get("script")
    facts.update({f"metric.{name}": value for name, value in values.to_dict().items()})
    tags = {**(spec.get("tags") or {}), **{key: pair[1] for key, pair in state.tags.items()}}
    facts.update({f"tag.{key}": value for key, value in tags.items() if value is not None})
    return facts


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value[:12] if isinstance(value, str) and prefix.endswith(("snapshot", "commit", "patch")) else value}
    return {name: item for key, inner in value.items() for name, item in _flat(f"{prefix}.{key}", inner).items()}
