"""Building an environment in a job, where the login node must not: an ordinary run whose program is this module."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

from hpcest.contracts import Say
from hpcest.errors import EnvironmentBuildError, HpcestError
from hpcest.kit.codec import decode, encode
from hpcest.kit.files import write_private, write_text
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.follow import follow
from hpcest.lifecycle.submit import submit
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.model.status import Status

EXPERIMENT = "environments"
#: A run has a source; what is asked for is not in it, since it may hold passwords.
_README = "This run builds an environment.\n"


def build_on(context: Context, spec: EnvironmentSpec, target: str, say: Say) -> None:
    """Have ``spec`` built by a run on the compute target ``target``; its lines are said as they come. Ctrl-C leaves it alone.

    Raises EnvironmentBuildError if it fails, and what submitting a run raises.
    """
    asked = context.workspace.environments / "asked"
    (asked / "source").mkdir(parents=True, exist_ok=True)
    write_text(asked / "source" / "README", _README)
    program = [sys.executable, "-m", "hpcest.lifecycle.elsewhere", str(_written(asked, spec))]
    job = RunSpec(
        EXPERIMENT,
        Command(line=shlex.join(program)),
        target,
        display_name=f"build {spec.name}".strip(),
        environment=EnvironmentSpec("host"),
        source=str(asked / "source"),
    )
    passage = submit(context, job, say)
    say(f"it is built on {target}; to see that again: hpcest logs -f {passage.folder.id}")
    for part in follow(context, passage.folder):
        if isinstance(part, str):
            for line in part.splitlines():
                say(line)
        elif part.finished and part.status is not Status.COMPLETED:
            raise EnvironmentBuildError(
                f"the environment could not be built on {target}: {part.message or part.status}",
                hint=f"see: hpcest logs {passage.folder.id}",
            )


def _written(folder: Path, spec: EnvironmentSpec) -> Path:
    """A file with what is asked for, that only its owner may read."""
    from hpcest.environments.keys import key_of

    data = encode(spec)
    path = folder / f"{key_of(data)[:16]}.json"
    write_private(path, data)
    return path


def main(path: Path) -> int:
    """In the job: build what the file says, into the workspace of the run; returns an exit code."""
    from hpcest.lifecycle.environments import build

    spec = decode(EnvironmentSpec, json.loads(path.read_text(encoding="utf-8")))
    context = Context(WorkspaceFolder(Path(os.environ["HPCEST_WORKSPACE"])))
    try:
        build(context, spec, _say, on="here")
    except HpcestError as error:
        _say(f"Error: {error.message}" + (f"\nHint: {error.hint}" if error.hint else ""))
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
