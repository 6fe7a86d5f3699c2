"""``hpcest show`` and ``hpcest explain``"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import dataview, output
from hpcest.cli.common import json_option, run_argument, the_context, the_run
from hpcest.lifecycle.data import declared
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.lifecycle.watch import Seen

#: Properties that say what the lines ``git`` and ``outputs`` do.
_SAID = ("azureml.git.", "mlflow.source.", declared.REGISTERED)


@click.command(short_help="Show all that is known of a run.")
@run_argument
@json_option
def show(run: str, as_json: bool) -> None:
    """Show all that is known of RUN: an id, a unique beginning of one, @latest, or @2 for the second latest.

    --json: an object with id, status, reason, message, attempt, exit_code, created, queued, started, ended (seconds
    since the epoch, or null), user, host, folder, spec (as it was submitted), environment (kind, key, facts; empty
    before it is made), job (what the backend recorded), facts (what it says now), usage, display_name, description,
    tags, properties, params, metrics, inputs (name to value, or to dataset, paths, mode, type, digest, files, size),
    outputs (name to path, mode, type, dataset, model, registered, digest), artifacts, parent, children, models.
    """
    from hpcest.lifecycle.collect import collect
    from hpcest.lifecycle.watch import look_at

    context = the_context()
    seen = look_at(context, the_run(context, run))
    if seen.finished and not seen.state.collected:
        for warning in collect(context, seen):
            output.say(f"warning: {warning}")
        seen = look_at(context, seen.folder)
    known = facts(context, seen)
    if as_json:
        output.print_json(known)
        return
    output.pairs(_readable(known))


def facts(context: Context, seen: Seen) -> dict[str, Any]:
    """All that is known of a run, as ``--json`` prints it; times are seconds since the epoch."""
    from hpcest.lifecycle.collect import account
    from hpcest.sdk.model import Model
    from hpcest.sdk.run import Run
    from hpcest.sdk.workspace import Workspace

    header = get_json(str(seen.folder.header)) or {}
    run = Run(str(seen.folder.path))
    lock = get_json(str(seen.folder.lock)) or {}
    spec, properties = header.get("spec") or {}, run.get_properties()
    models = Model.list(Workspace(context.workspace), run_id=seen.folder.id)
    used = account(context, [seen])[seen.folder.id] if seen.finished else seen.state.usage
    return {
        "id": seen.folder.id,
        "status": str(seen.status),
        "reason": str(seen.reason),
        "message": seen.message,
        "attempt": seen.state.attempt,
        "exit_code": seen.state.exit_code,
        "created": header.get("created"),
        "queued": seen.state.queued,
        "started": seen.state.started,
        "ended": seen.state.ended,
        "user": header.get("user"),
        "host": header.get("host"),
        "folder": str(seen.folder.path),
        "spec": spec,
        "environment": {key: lock.get(key) for key in ("kind", "key", "facts")} if lock else {},
        "job": {key: value for key, value in (seen.state.job or {}).items() if key != "t"},
        "facts": dict(seen.facts),
        "usage": {key: value for key, value in used.items() if key != "t"},
        "display_name": run.display_name,
        "description": run.description,
        "tags": run.get_tags(),
        "properties": properties,
        "params": _params(spec, seen),
        "metrics": run.get_metrics(),
        "inputs": declared.inputs_of(spec),
        "outputs": declared.outputs_of(spec, seen.folder, properties),
        "artifacts": run.get_file_names(),
        "parent": spec.get("parent") or "",
        "children": [child.id for child in run.get_children()],
        "models": [model.id for model in models],
    }


def _params(spec: dict[str, Any], seen: Seen | None) -> dict[str, str]:
    """The options of its command line, and what its program has logged; without ``seen`` the first alone."""
    from hpcest.history.params import parse_arguments, parse_line

    command = spec.get("command") or {}
    logged = {name: value for name, (_, value) in seen.state.params.items()} if seen else {}
    return {**logged, **parse_line(command.get("line") or ""), **parse_arguments(command.get("arguments") or ())}


def _readable(known: dict[str, Any]) -> dict[str, Any]:
    from hpcest.lifecycle.explain import idle

    spec, usage = known["spec"], known["usage"]
    command = spec.get("command") or {}
    git = spec.get("git") or {}
    shown = known["artifacts"][:20]
    in_command = _params(spec, None)
    return {
        "run": known["id"] + (f" ({known['display_name']})" if known["display_name"] else ""),
        "status": known["status"] + (f" ({known['reason']})" if known["reason"] else ""),
        "why": known["message"].splitlines(),
        "experiment": spec.get("experiment"),
        "description": known["description"].splitlines(),
        "command": _command(command).splitlines(),
        "framework": " ".join(filter(None, [spec.get("framework"), known["properties"].get("hpcest.framework_version")])),
        "resumes": spec.get("resume_from"),
        "compute": spec.get("compute", "local") if command else "",  # a child of a program has none
        "job": _job(known),
        "nodes": known["facts"].get("nodes") or known["facts"].get("host"),
        "attempts": known["attempt"] + 1 if known["attempt"] else "",
        "environment": f"{known['environment']['kind']} {known['environment']['key'][:12]}" if known["environment"] else "",
        "snapshot": spec.get("snapshot", "")[:12],
        "git": f"{git.get('branch', '')} {git.get('commit', '')[:12]}{' with changes' if git.get('dirty') else ''}".strip(),
        "inputs": dataview.input_lines(known["inputs"]),
        "outputs": dataview.output_lines(known["outputs"]),
        "created": f"{output.moment(known['created'])} by {known['user']} on {known['host']}" if known["created"] else "",
        "started": output.moment(known["started"]),
        "ended": output.moment(known["ended"]),
        "exit code": known["exit_code"],
        "used": ", ".join(_usage(usage)),
        "hint": idle(usage),
        "tags": [f"{key}={value}" for key, value in known["tags"].items()],
        "properties": [f"{key}={value}" for key, value in known["properties"].items() if not key.startswith(_SAID)],
        "params": [f"{name} = {value}" for name, value in known["params"].items() if name not in in_command],
        "metrics": [f"{name} = {output.number(value)}" for name, value in known["metrics"].items()],
        "artifacts": shown + ([f"and {len(known['artifacts']) - 20} more"] if len(known["artifacts"]) > 20 else []),
        "models": known["models"],
        "parent": known["parent"],
        "children": known["children"],
        "folder": known["folder"],
    }


def _command(command: dict[str, Any]) -> str:
    """As it would be typed; nothing for a child of a program."""
    if not command.get("script"):
        return str(command.get("line", ""))
    return shlex.join([command["script"], *command.get("arguments", ())])


def _job(known: dict[str, Any]) -> str:
    """The scheduler's job, with its word for where it is; nothing where the run is no job of a scheduler."""
    job, facts = known["job"], known["facts"]
    if not job.get("id") or job["id"] == known["id"]:
        return ""
    said = [facts.get("state"), facts.get("slurm_reason")]
    more = [job.get("name"), job.get("cluster") and f"cluster {job['cluster']}", " ".join(word for word in said if word)]
    return f"{job['id']} ({', '.join(part for part in more if part)})"


def _usage(usage: dict[str, Any]) -> list[str]:
    """Elapsed time, CPU time and how much of the cores' that is, memory of what it had, GPUs: as far as known."""
    elapsed, cores, gpus = (usage.get(name) or 0 for name in ("elapsed_s", "cores", "gpus"))
    words = []
    if "elapsed_s" in usage:
        words.append(f"{elapsed} s" + (f" on {usage['nodes']} nodes" if usage.get("nodes", 1) > 1 else ""))
    if "cpu_s" in usage:
        of = f" ({usage['cpu_s'] / elapsed / cores:.0%} of {cores} {'cores' if cores > 1 else 'core'})" if cores and elapsed else ""
        words.append(f"{usage['cpu_s']} s of CPU{of}")
    if "peak_memory_mb" in usage:
        words.append(f"{usage['peak_memory_mb']} MB at most in one process")
    if usage.get("memory_mb"):
        had = f"of {usage['memory_mb']:g} MB of memory"
        words.append(f"{usage['used_memory_mb']} MB in all {had}" if "used_memory_mb" in usage else f"it had {had[3:]}")
    return words + ([f"{gpus} {'GPUs' if gpus > 1 else 'GPU'}"] if gpus else [])


@click.command(short_help="Say why a run waits or failed, and what to do.")
@run_argument
@json_option
def explain(run: str, as_json: bool) -> None:
    """Say in a sentence why RUN waits, runs or failed, and what to do next.

    --json: an object with id, status, reason, why, next (what to do, or empty), log (its last lines, where they may tell).
    """
    from hpcest.lifecycle.explain import explain as why
    from hpcest.lifecycle.watch import look_at

    context = the_context()
    seen = look_at(context, the_run(context, run))
    explained = why(seen)
    if as_json:
        output.print_json({"id": seen.folder.id, "status": str(seen.status), "reason": str(seen.reason), **explained})
        return
    output.write(output.clean_lines(f"{seen.folder.id} is {seen.status}: {explained['why']}") + "\n")
    if explained["next"]:
        output.write(output.clean_lines(f"next: {explained['next']}") + "\n")
    if explained["log"]:
        output.write("the log ends with:\n" + "".join(f"    {output.clean(line.expandtabs())}\n" for line in explained["log"]))
