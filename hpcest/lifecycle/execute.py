"""Running a command here and now, as a recorded run: in the allocation that we are in, else on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hpcest.backends.starting import controller_argv
from hpcest.contracts import Allocation, Backend, Say
from hpcest.errors import HpcestError, SnapshotError
from hpcest.kit import process
from hpcest.lifecycle import submit as one
from hpcest.lifecycle.collect import collect
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.follow import Tails
from hpcest.lifecycle.passage import Passage
from hpcest.lifecycle.watch import Seen, look_at
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.spec import RunSpec
from hpcest.onnode.record import get_json

#: What a shell would get, and its program with it.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_LOOK_S = 0.05
#: Job ids come again one day.
_REMEMBERED_S = 30 * 86400.0


def surrounding(context: Context, compute: str = "") -> tuple[Backend, Allocation | None]:
    """The backend in whose allocation this process is, and that allocation; else the local one, and None.

    It has the options of the target ``compute`` where that is one of its own, else its defaults.
    """
    target = context.config.compute.get(compute)
    for name in context.plugins.names("backend"):
        kind = context.plugins.backend(name)
        if (found := kind.inside(os.environ)) is not None or name == "local":
            inside, allocation = kind, found
            if found:
                break
    own = target is not None and target.backend == inside.name
    return context.backend(compute) if own else inside(inside.Options()), allocation


def execute(context: Context, spec: RunSpec, say: Say, show: Callable[[str], None], *, place: str = "") -> Seen:
    """Record the run, run it to its end with its output going to ``show``, and return what became of it.

    With ``place`` it runs in that directory itself, of which a snapshot is recorded where one can be taken.

    In a batch job that Slurm has started again the run goes on as a new attempt. Raises HpcestError if the
    run can't be started.
    """
    backend, allocation = surrounding(context, spec.compute)
    attempt = allocation.attempt if allocation else 0
    made = _MadeBy(context.workspace, allocation, str(spec.command))
    folder = made.earlier() or _recorded(Passage.of(context, spec, say, attaching=backend), allocation, place)
    made.note(folder)
    launch = get_json(str(folder.launch)) or {}
    with open(folder.controller_log, "ab") as log:
        controller = process.start([*controller_argv(launch, folder), str(attempt)], output=log, cwd=folder.path, env=os.environ)
    tails = Tails(folder, attempt=attempt)
    with _passing_on(controller.pid):
        while controller.poll() is None:
            for text in tails.grown():
                show(text)
            time.sleep(_LOOK_S)
    for text in tails.rest():
        show(text)
    seen = look_at(context, folder)
    collect(context, seen)
    return seen


def _recorded(passage: Passage, allocation: Allocation | None, place: str) -> RunFolder:
    """Take the run through all steps but the last, for which the backend's queue is not needed."""
    passage.place = place
    with one.recording_failure(passage):
        for step in one.STEPS[:-1]:
            if step is one.freeze and place:
                _freeze_if_possible(passage)
            else:
                step(passage)
        one.before_offer(passage)
        now = time.time()
        passage.job = {"id": passage.folder.id, "submitted": now, **(allocation.job if allocation else {"host": os.uname().nodename})}
        one.after_offer(passage, now)
    return passage.folder


def _freeze_if_possible(passage: Passage) -> None:
    """The source matters for the record alone: a directory that is too large to be kept is no reason not to run."""
    place = Path(passage.place)
    if place in (Path.home(), Path("/")):
        passage.say(f"no snapshot is taken of {place}")
        return
    try:
        one.freeze(passage)
    except SnapshotError as error:
        passage.say(f"no snapshot is taken: {error.message}")


class _MadeBy:
    """The runs that a batch job has made, so that a job that starts again takes them up in their order."""

    def __init__(self, workspace: WorkspaceFolder, allocation: Allocation | None, command: str) -> None:
        self.attempt, self.command = allocation.attempt if allocation else 0, command
        self.path = workspace.home / "attached" / f"{allocation.job['id']}.jsonl" if allocation else None

    def _lines(self) -> list[dict[str, Any]]:
        try:
            recent = self.path is not None and time.time() - self.path.stat().st_mtime < _REMEMBERED_S
            return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path and recent else []
        except (OSError, ValueError):
            return []

    def earlier(self) -> RunFolder | None:
        """The run that this command was in the job's first start."""
        lines = [line for line in self._lines() if line["command"] == self.command]
        now = [line for line in lines if line["attempt"] == self.attempt]
        before = [line for line in lines if line["attempt"] < self.attempt]
        first = [line for line in before if line["attempt"] == before[0]["attempt"]]
        if len(now) >= len(first):
            return None
        folder = RunFolder(first[len(now)]["folder"])
        return folder if folder.launch.is_file() else None

    def note(self, folder: RunFolder) -> None:
        """Remember that the job has made this run, or taken it up."""
        if self.path is None:
            return
        self.path.parent.mkdir(exist_ok=True)
        line = {"attempt": self.attempt, "command": self.command, "folder": str(folder.path)}
        beside = self.path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text("".join(json.dumps(entry) + "\n" for entry in [*self._lines(), line]))
        os.replace(beside, self.path)


@contextmanager
def _passing_on(pid: int) -> Iterator[None]:
    """Hand the signals that this process gets on to the controller ``pid``."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if number in (signal.SIGINT, signal.SIGHUP) else number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def script_for(context: Context, spec: RunSpec, say: Say) -> str:
    """A batch script that records and runs ``spec`` each time it is submitted. Its source is frozen now. Raises HpcestError."""
    from shlex import join

    from hpcest.kit.codec import encode
    from hpcest.lifecycle.secrets import secrets

    passage = Passage.of(context, spec, say, dry=True)
    for step in (one.check, one.freeze):
        step(passage)
    assert passage.backend is not None
    if hidden := secrets({**spec.environment.variables, **spec.environment_variables}):
        raise HpcestError(
            f"a script can't hold the secret {', '.join(hidden)}", hint="set it in the shell that submits the script: jobs inherit it"
        )
    command = join([sys.executable, "-m", "hpcest", "--workspace", str(context.workspace.root), "exec", "--spec", "-"])
    text = json.dumps(encode(passage.spec), indent=1)
    return passage.backend.script(passage.spec, f"exec {command} <<'HPCEST_RUN_SPEC'\n{text}\nHPCEST_RUN_SPEC")
