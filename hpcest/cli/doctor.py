"""``hpcest doctor``"""

from __future__ import annotations

import click

from hpcest.cli import output
from hpcest.cli.common import json_option
from hpcest.errors import WorkspaceError


@click.command(short_help="Check this machine and this workspace.")
@json_option
def doctor(as_json: bool) -> None:
    """Check what runs need here; the exit code is 1 if something would keep them from running."""
    from hpcest.cli.common import the_workspace
    from hpcest.lifecycle.checkup import checkup

    try:
        workspace = the_workspace()
    except WorkspaceError:
        workspace = None
    findings = checkup(workspace)
    if as_json:
        output.print_json([{"check": one.check, "state": one.state, "found": one.found, "next": one.remedy} for one in findings])
    else:
        output.table(("", "check", "found", "next"), [(one.state, one.check, one.found, one.remedy) for one in findings])
    raise SystemExit(1 if any(one.state == "bad" for one in findings) else 0)
