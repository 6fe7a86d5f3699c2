"""``hpcest env``: what is built, and what is done with it. ``cli.env_make`` has the commands that make something."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context
from hpcest.cli.env_make import build, export, lock
from hpcest.cli.groups import Group

if TYPE_CHECKING:
    from hpcest.lifecycle.shelves import Row

_FIELDS = ("kind", "key", "name", "python", "packages", "created", "by", "state", "folder", "size", "resolved", "site", "pinned", "used")
_MORE = ("layout", "base", "tool", "seconds", "log", "wrong")


@click.group(cls=Group, short_help="Build, list, lock, verify, export or share environments.")
def env() -> None:
    """Build, list, lock, verify, export or share environments.

    KEY is the beginning of an environment's key, or a name: the newest environment of that name. SPEC is a conda YAML, a
    requirements file, a job file, an image or its recipe, a folder with one of them, or a registered environment: NAME or
    NAME:VERSION.
    """


for _command in (build, lock, export):
    env.add_command(_command)


def _facts(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in names}
    return {**facts, "packages": list(row.packages)}


@env.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the environments that were built in this workspace, and those of the site's stores, the newest first.

    --json: a list of objects with kind, key, name, python, packages (a list of requirements), created (seconds
    since the epoch), by, state (ready or damaged), folder, size (bytes, null where nobody counted), resolved (when its
    versions were chosen), site (the site's store that it lies in, or empty), pinned, used (when it was last used).
    """
    from hpcest.lifecycle.environments import listed

    rows = listed(the_context())
    if as_json:
        output.print_json([_facts(row, _FIELDS) for row in rows])
        return
    output.table(
        ("kind", "key", "name", "python", "packages", "size", "built", "resolved", "state"),
        [_cells(row) for row in rows],
        empty="no environment was built yet",
    )


def _cells(row: Row) -> tuple[Any, ...]:
    where = [f"in {row.site}"] * bool(row.site) + ["pinned"] * row.pinned
    state = f"{row.state} ({', '.join(where)})" if where else row.state
    size = output.size(row.size) if row.size is not None else ""
    return (
        row.kind, row.key[:12], row.name, row.python, len(row.packages), size, output.age(row.created), output.age(row.resolved), state,
    )  # fmt: skip


@env.command()
@click.argument("key")
@json_option
def show(key: str, as_json: bool) -> None:
    """Show the environment KEY, with its packages.

    --json: an object with what 'env list' has, and layout, base (the Python or the image it was made of), tool, seconds
    (to build it), log, wrong (what is damaged), labels (of the base image).
    """
    from hpcest.lifecycle.environments import labels, one_of
    from hpcest.lifecycle.shelves import counted

    context = the_context()
    row = one_of(context, key)
    row = replace(row, size=counted(row))
    marks = labels(context, row)
    if as_json:
        output.print_json({**_facts(row, (*_FIELDS, *_MORE)), "labels": marks})
        return
    moments = {name: output.moment(getattr(row, name)) for name in ("created", "resolved", "used")}
    resolved = f"{moments['resolved']} ({output.age(row.resolved)} ago)" if row.resolved else ""
    facts = {**_facts(row, (*_FIELDS, *_MORE)), **moments, "resolved": resolved}
    output.pairs({**facts, "size": output.size(row.size or 0), "pinned": "yes" if row.pinned else "", **marks})


@env.command(short_help="Check the files of environments, and say what is damaged.")
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@json_option
def verify(keys: tuple[str, ...], as_json: bool) -> None:
    """Compare the environments KEY, by default all in this workspace, with what was built.

    Of images every byte is read. Of virtual environments and conda prefixes the Python is started, and the files are read
    that pip, uv or conda have recorded; what nobody recorded is not looked at. What is damaged is set aside, and built
    again by the next run that needs it. The exit code is 1 if anything is.

    --json: a list of objects with kind, key, name, problems (a list of sentences).
    """
    from hpcest.lifecycle.environments import verify as read_all

    found = read_all(the_context(), keys)
    if as_json:
        output.print_json([{"kind": row.kind, "key": row.key, "name": row.name, "problems": list(problems)} for row, problems in found])
    else:
        for row, problems in found:
            output.write(f"{'bad' if problems else 'ok'}  {row.kind} {row.key[:12]} {output.clean(row.name)}".rstrip() + "\n")
            for problem in problems:
                output.write(f"     {output.clean(problem)}\n")
        if not found:
            output.say("no environment was built yet")
    if any(problems for _, problems in found):
        if not as_json:
            output.say("what is damaged was set aside; the next run that needs it builds it again")
        raise SystemExit(1)


@env.command(short_help="Remove environments that were not used for long.")
@click.option("--older-than", metavar="60d", default="60d", show_default=True, help="How long one is unused before it goes.")
@click.option("--keep", metavar="N", type=click.IntRange(0), default=3, show_default=True, help="The newest N of each kind and name stay.")
@click.option("--max-size", metavar="200G", help="Go on with the least used until all are smaller than that.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@json_option
def gc(older_than: str, keep: int, max_size: str | None, dry_run: bool, as_json: bool) -> None:
    """Remove environments of this workspace that were not used for long, what dead builders left, and base images that nothing needs.

    Pinned ones stay, those of runs that have not ended, and whatever was used in the last two days. What goes lies in
    a trash for a day; of a virtual environment or conda prefix the folder stays where it is that long, and is not found any
    more. Site stores are left alone.

    --json: an object with gone (a list of objects with label, path, size, reason), kept (label to why), freed (bytes), dry_run.
    """
    from hpcest.kit.units import parse_memory, parse_time
    from hpcest.lifecycle.environments import gc as sweep

    limit = parse_memory(max_size) << 20 if max_size else None
    report = sweep(the_context(), older_than=float(parse_time(older_than)), keep=keep, max_size=limit, dry_run=dry_run)
    if as_json:
        gone = [{"label": one.label, "path": str(one.path), "size": one.size, "reason": one.reason} for one in report.gone]
        output.print_json({"gone": gone, "kept": report.kept, "freed": report.freed, "dry_run": dry_run})
        return
    for one in report.gone:
        output.write(output.clean(f"{'would remove' if dry_run else 'removed'} {one.label}: {one.reason}, {output.size(one.size)}") + "\n")
    for name, why in report.kept.items():
        output.say(f"kept {name}: {why}")
    output.say(f"{output.size(report.freed)} {'would be freed' if dry_run else 'freed'}" if report.gone else "nothing to remove")


@env.command(short_help="Copy an environment into a site's store.")
@click.argument("key")
@click.argument("site_root", metavar="SITE_ROOT", type=click.Path(path_type=Path, file_okay=False))
def publish(key: str, site_root: Path) -> None:
    """Copy the environment KEY, with its base image and the answer to its request, into the site's store at SITE_ROOT.

    Everybody can read it there, and nobody but its owner change it. Users find it once the site's configuration says
    environment: {stores: [SITE_ROOT]}. Its path is printed.
    """
    from hpcest.lifecycle.environments import publish as copy

    there = copy(the_context(), key, site_root)
    output.write_name(str(there.folder))
    output.say(f"{there.label} is in {there.root}; have it found with environment: {{stores: [{there.root}]}} in the site's configuration")


@env.command(short_help="Keep an environment from 'env gc'.")
@click.argument("key")
@click.option("--remove", is_flag=True, help="Allow it to go again.")
def pin(key: str, remove: bool) -> None:
    """Keep the environment KEY for ever, however long nobody uses it."""
    from hpcest.lifecycle.environments import pin as keep

    row = keep(the_context(), key, pinned=not remove)
    output.say(f"environment {row.key[:12]} {'is not pinned any more' if remove else 'is pinned: env gc leaves it alone'}")
