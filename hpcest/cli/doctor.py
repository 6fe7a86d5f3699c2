"""``hpcest doctor``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import a_workspace, json_option, the_context

if TYPE_CHECKING:
    from hpcest.lifecycle.rankcheck import RankCheck


@click.command(short_help="Check this machine and this workspace, or the ranks of a compute target.")
@click.option("--distributed", is_flag=True, help="Run a few ranks on a compute target, and check what they are told.")
@click.option("-c", "--compute", metavar="NAME", help="--distributed: the compute target; default: the configured one.")
@click.option("-n", "--nodes", type=click.IntRange(1), default=2, show_default=True, metavar="N", help="--distributed: nodes.")
@click.option("-p", "--procs-per-node", type=click.IntRange(1), default=2, show_default=True, metavar="N", help="--distributed: processes.")
@click.option("--env", metavar="FILE|KIND|NAME", help="--distributed: the environment that they run in.")
@json_option
def doctor(as_json: bool, distributed: bool, **options: Any) -> None:
    """Check what runs need here; the exit code is 1 if something would keep them from running.

    With --distributed a run of a few ranks is submitted: each prints the variables that it was given, tries its port, and
    reaches rank 0 and the next rank. What is said of the variables is in docs/frameworks.md.

    --json: a list of objects with check, state (ok, note, bad), found, next (what to do, or empty); with --distributed an
    object with compute, run, ok, problems, and ranks: objects with rank, host, variables, cores, ms, problems.
    """
    if distributed:
        _distributed(as_json=as_json, **options)
    from hpcest.lifecycle.checkup import checkup

    findings = checkup(a_workspace())
    if as_json:
        output.print_json([{"check": one.check, "state": one.state, "found": one.found, "next": one.remedy} for one in findings])
    else:
        rows = [(one.state, one.check, one.found, one.remedy) for one in findings]
        output.table(("state", "check", "found", "next"), rows, keep=("state",))
    raise SystemExit(1 if any(one.state == "bad" for one in findings) else 0)


def _distributed(*, as_json: bool, compute: str | None, nodes: int, procs_per_node: int, env: str | None) -> None:
    """Never returns."""
    from dataclasses import asdict
    from functools import partial

    from hpcest.cli.submit import named
    from hpcest.lifecycle.rankcheck import rank_check
    from hpcest.model.spec import EnvironmentSpec, Resources
    from hpcest.sdk.asked import environment_named

    context = the_context()
    environment = environment_named(env, partial(named, context)) if env else EnvironmentSpec()
    resources = Resources(nodes, procs_per_node, cpus=1, time=300)
    found = rank_check(context, compute or context.config.default_compute, environment, resources, output.say)
    if as_json:
        output.print_json({**asdict(found), "ok": found.ok})
    else:
        _print_ranks(found)
    raise SystemExit(0 if found.ok else 1)


def _print_ranks(found: RankCheck) -> None:
    headings = ("rank", "host", "node", "local", "cpus", "cores", "port", "ms to rank 0", "problem")
    rows = []
    for one in found.ranks:
        values = {name: value or "-" for name, value in one.variables.items()}
        peers = values["HPCEST_PEERS"].split(",")
        port = peers[one.rank].rpartition(":")[2] if one.rank < len(peers) else "-"
        local = f"{values['LOCAL_RANK']}/{values['LOCAL_WORLD_SIZE']}"
        node = f"{values['NODE_RANK']}/{values['HPCEST_NODE_COUNT']}"
        took = "-" if one.ms is None else f"{one.ms:g}"
        rows.append((f"{one.rank}/{values['WORLD_SIZE']}", one.host, node, local, values["HPCEST_CPUS"], str(one.cores), port, took,
                     "; ".join(one.problems)))  # fmt: skip
    output.table(headings, rows, keep=("rank",))
    if found.ranks:
        first = found.ranks[0].variables
        output.pairs({name: str(first[name]) for name in ("MASTER_ADDR", "MASTER_PORT", "HPCEST_PEERS", "TF_CONFIG")})
    for problem in found.problems:
        output.say(f"bad: {problem}")
    if not found.ok:
        output.say(f"the log: hpcest logs {found.run}")
