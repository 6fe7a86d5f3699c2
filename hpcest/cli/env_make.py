"""``hpcest env build``, ``lock`` and ``export``: from what is asked for to an image, a lock file, one SIF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcest.cli import output
from hpcest.cli.common import json_option, the_context
from hpcest.errors import UsageError

if TYPE_CHECKING:
    from hpcest.lifecycle.context import Context
    from hpcest.model.spec import EnvironmentSpec

Asking = TypeVar("Asking", bound=Callable[..., Any])

_ASKING = (
    click.option("--pip", metavar="PKG", multiple=True, help="A pip package; may be given repeatedly."),
    click.option("--conda", metavar="PKG", multiple=True, help="A conda package; may be given repeatedly."),
    click.option("--channel", metavar="NAME|URL", multiple=True, help="A conda channel, instead of the configured ones; may be repeated."),
    click.option("--image", metavar="REF", help="The image to put the packages on: a file, docker://…, oras://…"),
    click.option("--env", "kind", metavar="KIND", help="The kind of environment, such as apptainer or venv; default: the first that can."),
    click.option("--name", metavar="TEXT", help="What to call it."),
)


def asking(command: Asking) -> Asking:
    """Give a command the argument SPEC and the options that ask for packages; it gets them for ``asked``."""
    for option in reversed(_ASKING):
        command = option(command)
    return command


def asked(context: Context, what: str | None, options: dict[str, Any]) -> EnvironmentSpec:
    """The environment that SPEC and the options describe. Raises UsageError."""
    from hpcest.cli.submit import named
    from hpcest.model.spec import EnvironmentSpec
    from hpcest.sdk.asked import environment_named, with_packages

    if what is None and not any(options[name] for name in ("pip", "conda", "image")):
        raise UsageError("no environment is named", hint="give a SPEC (a conda YAML, a requirements file, …), or --pip, --conda, --image")
    look_up = partial(named, context)
    spec = environment_named(what, look_up, lambda line: output.say(f"warning: {line}")) if what else EnvironmentSpec()
    spec = with_packages(spec, options["pip"], options["conda"], options["channel"], options["image"] or "")
    if options["kind"]:
        spec = replace(spec, kind=look_up(options["kind"]).kind)
    return replace(spec, name=options["name"]) if options["name"] else spec


@click.command(short_help="Build an environment now.")
@click.argument("what", metavar="[SPEC]", required=False)
@asking
@click.option("--lock", metavar="FILE", type=click.Path(path_type=Path), help="Build what this lock file says; choose no versions.")
@click.option("--build-on", "on", metavar="NAME", help="The compute target that builds it, in a job; 'here': this machine.")
@json_option
def build(what: str | None, lock: Path | None, on: str | None, as_json: bool, **options: Any) -> None:
    """Build the environment SPEC in this workspace, so that runs find it; its key is printed.

    --json: an object with kind, key, facts (what the kind says of it), lock (the text of the lock).
    """
    from hpcest.contracts import silent
    from hpcest.lifecycle import environments

    context = the_context()
    spec = asked(context, what, options)
    if lock:
        spec = environments.built_from(context, spec, lock, output.say)
    done = environments.build(context, spec, silent if lock else output.say, on=on or "")  # which finds what the lock has built
    if as_json:
        output.print_json({"kind": done.kind, "key": done.key, "facts": done.facts, "lock": done.text})
    else:
        output.write_name(done.key)


@click.command(short_help="Write down every package of an environment, to keep in git.")
@click.argument("what", metavar="[SPEC]", required=False)
@asking
@click.option("-o", "--output", "target", metavar="FILE", type=click.Path(path_type=Path), help="Where to; default: stdout.")
@click.option("--update", is_flag=True, help="Choose the versions anew, and look the base image up anew.")
def lock(what: str | None, target: Path | None, update: bool, **options: Any) -> None:
    """Write the lock of the environment SPEC: every package with version and hash, the base image, and what was asked for.

    Keep it in git as environment.lock beside the job file: 'submit --locked' and 'env build --lock FILE' build the same
    from it elsewhere. A file that fits already is left as it is, without --update.
    """
    from hpcest.lifecycle import environments
    from hpcest.lifecycle.lockfiles import check_fit, read_lock_file, write_lock_file

    context = the_context()
    spec = asked(context, what, options)
    if target and target.exists() and not update:
        check_fit(read_lock_file(target), spec, target)
        output.say(f"{target} fits, and stays as it is; --update chooses the versions anew")
        return
    made = environments.lock(context, spec, output.say, update=update)
    if target is None:
        output.write(str(made))
    else:
        write_lock_file(target, made)
        output.say(f"{target}: environment {made.key[:12]}")


@click.command(short_help="Write an environment as one SIF for plain Apptainer.")
@click.argument("what", metavar="KEY|SPEC")
@click.argument("target", metavar="FILE.sif", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def export(what: str, target: Path, overwrite: bool) -> None:
    """Write the environment KEY (or the newest of that name), or SPEC, as one SIF that runs with plain Apptainer.

    SPEC is built if need be; the path is printed. Its programs are on PATH: apptainer exec FILE.sif python -c 'import …'
    """
    from hpcest.errors import UnknownNameError
    from hpcest.lifecycle import environments

    context = the_context()
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is there already", hint="give --overwrite to replace it")
    if not target.parent.is_dir():
        raise UsageError(f"there is no directory {str(target.parent)!r}", hint="make it first")
    try:
        row = None if Path(what).exists() else environments.one_of(context, what)
    except UnknownNameError as error:
        row = None
        if set(what) <= set("0123456789abcdef"):
            raise error from None
    if row:
        environments.export(context, row, target, output.say)
    else:
        empty: dict[str, Any] = {"pip": (), "conda": (), "channel": (), "image": None, "kind": None, "name": None}
        environments.export_spec(context, asked(context, what, empty), target, output.say)
    output.write_name(str(target))
