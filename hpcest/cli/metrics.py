"""``hpcest metrics`` and ``hpcest compare``"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, runs_argument, the_context, the_run
from hpcest.onnode.events import read_run
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.onnode.metrics import Metrics

_CSV = ("run", "name", "step", "time", "value")
_GROUPS = ("status", "param", "setting", "metric", "tag")
_COMPARED = ("framework", "compute", "resources", "distribution", "inputs", "environment_variables", "snapshot", "git")


@click.command(short_help="Print what runs logged.")
@runs_argument
@click.option("--csv", "as_csv", is_flag=True, help="Print each logged value as a line of CSV: run, name, step, time, value.")
@json_option
def metrics(runs: tuple[str, ...], as_csv: bool, as_json: bool) -> None:
    """Print the metrics of each RUN: a scalar as its value, a series by its last one.

    --json: an object with, for each run id, an object of name and value: a scalar, a list where a name was logged
    repeatedly, an object of columns for rows and tables. What is no number in JSON is "NaN", "Infinity", "-Infinity".

    --csv: step is what was given to log, else empty; time is in seconds since the epoch. Lists count their steps from
    0 and have no time; the columns of rows and tables are called NAME/COLUMN.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    context = the_context()
    found = {folder.id: read_run(folder.path)[1] for folder in [the_run(context, run) for run in runs]}
    if as_csv:
        output.write_csv(_CSV, (line for run_id, values in found.items() for line in _lines(run_id, values)))
    elif as_json:
        output.print_json({run_id: values.to_dict() for run_id, values in found.items()})
    else:
        rows = [(run_id, name, output.number(value)) for run_id, values in found.items() for name, value in values.to_dict().items()]
        output.table(("run", "metric", "value"), rows, empty="nothing was logged")


def _lines(run_id: str, values: Metrics) -> Iterator[tuple[Any, ...]]:
    """The lines of CSV of one run, in the order of the names."""
    for name, value in values.to_dict().items():
        if name in values.points:
            yield from ((run_id, name, step, when, point) for when, step, point in values.series(name))
        elif isinstance(value, dict):
            for column, items in value.items():
                yield from _list_lines(run_id, f"{name}/{column}", items)
        else:
            yield from _list_lines(run_id, name, value)


def _list_lines(run_id: str, name: str, items: Any) -> Iterator[tuple[Any, ...]]:
    for step, item in enumerate(items if isinstance(items, list) else [items]):
        yield run_id, name, step, "", item


@click.command(short_help="Show in what runs differ.")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="Also what is the same in all of them.")
@json_option
def compare(runs: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show in what the RUNs differ: arguments, settings, environment, code, metrics, tags.

    --json: an object with runs (the ids) and rows: for each name a list with a value, or null, for each run.
    """
    context = the_context()
    folders = [the_run(context, run) for run in runs]
    columns = {folder.id: _facts(str(folder.path)) for folder in folders}
    if len(columns) < 2:
        raise click.UsageError("name at least two different runs to compare")
    names = sorted({name for facts in columns.values() for name in facts}, key=lambda name: (_GROUPS.index(name.split(".")[0]), name))
    rows = {name: [facts.get(name) for facts in columns.values()] for name in names}
    if not everything:
        rows = {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
    if as_json:
        output.print_json({"runs": list(columns), "rows": rows})
        return
    table = [(name, *("" if value is None else output.number(value) for value in values)) for name, values in rows.items()]
    output.table(("", *columns), table, empty="they do not differ", keep=("", *columns), names=True)


def _facts(folder: str) -> dict[str, Any]:
    """What two runs may differ in, by name."""
    from hpcest.history.params import parse_arguments, parse_line

    spec = (get_json(f"{folder}/run.json") or {}).get("spec") or {}
    command = spec.get("command") or {}
    state, values = read_run(folder)
    params = {**parse_line(command.get("line") or ""), **parse_arguments(command.get("arguments") or ())}
    facts: dict[str, Any] = {"status": state.status}
    params = {**{name: value for name, (_, value) in state.params.items()}, **params}
    facts.update({f"param.{name}": value for name, value in params.items()})
    facts["setting.environment"] = ((get_json(f"{folder}/environment.lock") or {}).get("key") or "")[:12] or None
    facts.update(_flat("setting", {key: value for key, value in spec.items() if key in _COMPARED}))
    facts["setting.command"] = command.get("line") or command.get("script")
    facts.update({f"metric.{name}": value for name, value in values.to_dict().items()})
    tags = {**(spec.get("tags") or {}), **{key: pair[1] for key, pair in state.tags.items()}}
    facts.update({f"tag.{key}": value for key, value in tags.items() if value is not None})
    return {name: value for name, value in facts.items() if value is not None}


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value[:12] if isinstance(value, str) and prefix.endswith(("snapshot", "commit", "patch")) else value}
    return {name: item for key, inner in value.items() for name, item in _flat(f"{prefix}.{key}", inner).items()}
