"""``hpcest doctor``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import a_workspace, json_option


@click.command(short_help="Check this machine and this workspace.")
@json_option
def doctor(as_json: bool) -> None:
    """Check what runs need here; the exit code is 1 if something would keep them from running.

    --json: a list of objects with check, state (ok, note, bad), found, next (what to do, or empty).
    """
    from hpcest.lifecycle.checkup import checkup

    findings = checkup(a_workspace())
    if as_json:
        output.print_json([{"check": one.check, "state": one.state, "found": one.found, "next": one.remedy} for one in findings])
    else:
        rows = [(one.state, one.check, one.found, one.remedy) for one in findings]
        output.table(("state", "check", "found", "next"), rows, keep=("state",))
    raise SystemExit(1 if any(one.state == "bad" for one in findings) else 0)
