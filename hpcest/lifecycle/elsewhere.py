"""Building an environment in a job, where the login node must not: an ordinary run whose program is this module."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from hpcest.contracts import Environment, Lock, Say
from hpcest.errors import EnvironmentBuildError, HpcestError, SpecError
from hpcest.kit.codec import decode, encode
from hpcest.kit.files import write_private, write_text
from hpcest.lifecycle.asked import Asked, sweep
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.follow import follow
from hpcest.lifecycle.passage import Passage
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.watch import look_at
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.model.status import Status

EXPERIMENT = "environments"
#: A run has a source; what is asked for is not in it, since it may hold passwords.
_README = "This run builds an environment.\n"
#: How programs say that they reach nobody.
_NO_NETWORK = re.compile(
    r"(could not|unable to|failed to|failure) (resolv|connect|establish)|failure in name|name or service not known|dns error|"
    r"network is unreachable|no route to host|connection refused|tcp connect error|timed? ?out",
    re.IGNORECASE,
)


def build_on(context: Context, environment: Environment, spec: EnvironmentSpec, lock: Lock, target: str, say: Say) -> None:
    """Have ``lock``, which ``spec`` came to, built by a run on the compute target ``target``; its lines are said as they come.

    What it takes from a network is fetched here, as far as the kind of environment can: compute nodes may have none.
    Ctrl-C leaves the run alone. Raises EnvironmentBuildError if it fails, and what submitting a run raises.
    """
    sweep(context.workspace, lambda run_id: _has_ended(context, run_id))
    asked = _made(context.workspace)
    try:
        found = environment.fetch(spec, context.workspace, say, locked=lock.text, folder=asked.cache)
        write_text(asked.source / "README", _README)
        request = {"spec": encode(spec), "locked": lock.text, "variables": dict(found), "folder": os.getcwd()}
        write_private(asked.request, request)
        passage = submit(context, _job(asked, spec, target), say)
    except BaseException:
        asked.remove()
        raise
    asked.belongs_to(passage.folder.id)
    say(f"it is built on {target}; to see that again: hpcest logs -f {passage.folder.id}")
    _await(context, passage, asked, say)


def _made(workspace: WorkspaceFolder) -> Asked:
    try:
        return Asked.make(workspace)
    except OSError as error:
        where, hint = error.filename or workspace.environments, "the workspace must be writable to build in it"
        raise EnvironmentBuildError(f"{where}: {error.strerror or error}", hint=hint) from error


def _job(asked: Asked, spec: EnvironmentSpec, target: str) -> RunSpec:
    program = [sys.executable, "-m", "hpcest.lifecycle.elsewhere", str(asked.path)]
    return RunSpec(
        EXPERIMENT,
        Command(line=shlex.join(program)),
        target,
        display_name=f"build {spec.name}".strip(),
        environment=EnvironmentSpec("host"),
        source=str(asked.source),
    )


def _await(context: Context, passage: Passage, asked: Asked, say: Say) -> None:
    for part in follow(context, passage.folder):
        if isinstance(part, str):
            for line in part.splitlines():
                say(line)
        elif part.finished:
            asked.remove()
            if part.status is not Status.COMPLETED:
                raise EnvironmentBuildError(
                    f"the environment could not be built on {passage.spec.compute}: {part.message or part.status}",
                    hint=f"see: hpcest logs {passage.folder.id}",
                )


def _has_ended(context: Context, run_id: str) -> bool:
    folder = context.workspace.run(run_id)
    return not folder.header.exists() or look_at(context, folder).finished


# ---------------------------------------------------------------------- in the job
def main(asked: Asked) -> int:
    """In the job: build what is asked for, into the workspace of the run; returns an exit code.

    The request is removed at the end, but not when the job is ended from outside: another attempt needs it.
    """
    try:
        _build(_request(asked))
    except HpcestError as error:
        _say(f"Error: {error.message}" + (f"\nHint: {error.hint}" if error.hint else ""))
        if _NO_NETWORK.search(error.message):
            _say(f"Note: {socket.gethostname()} has no network, it seems: what steps fetch can't be had there")
        return 1
    finally:
        asked.remove()
    return 0


def _request(asked: Asked) -> dict[str, Any]:
    try:
        request: dict[str, Any] = json.loads(asked.request.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError("what this run was to build has been removed", hint="ask for it again: hpcest env build SPEC") from None
    return request


def _build(request: dict[str, Any]) -> None:
    from hpcest.lifecycle.environments import chosen

    os.environ.update(request["variables"])
    with contextlib.suppress(OSError):  # paths in requirements count from it
        os.chdir(request["folder"])
    context = Context(WorkspaceFolder(Path(os.environ["HPCEST_WORKSPACE"])))
    environment, spec = chosen(context, decode(EnvironmentSpec, request["spec"]), _say)
    environment.rebuild(spec, context.workspace, _say, request["locked"])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Asked(Path(sys.argv[1]))))
