"""Runs that a process records about itself, such as a notebook: nothing is submitted, and the process says how it ended.

One that is gone without a word is found out by whoever looks: the record says which process it was, and ``state/alive`` is
its heartbeat, for those who look from another host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcest.contracts import Say
from hpcest.errors import HpcestError, SnapshotError
from hpcest.lifecycle import snapshot
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.git import with_source
from hpcest.lifecycle.journal import append
from hpcest.lifecycle.passage import Passage, appear, header, settle
from hpcest.model.folders import RunFolder
from hpcest.model.spec import RunSpec
from hpcest.onnode.record import put_json

KIND = "interactive"


def begin(context: Context, spec: RunSpec, source: Path | None, say: Say) -> RunFolder:
    """Record a run that is this process, Running from now on, with a snapshot of ``source``; its id is new.

    A source that is too large or can't be read is said by ``say`` and not kept: the training matters more. Raises
    SnapshotError for one that is no directory, HpcestError where nothing can be recorded.
    """
    passage = Passage.of(context, spec, say)
    if source is not None:
        _freeze(passage, source)
    appear(passage, lambda beside: _fill(beside, {**header(passage), "kind": KIND}))
    try:
        settle(passage.folder)
    except OSError as error:
        raise HpcestError(f"run {passage.folder.id} can't be kept: {error.strerror}", hint="check the space of the workspace") from error
    return passage.folder


def _fill(folder: RunFolder, facts: Mapping[str, Any]) -> None:
    for part in (folder.events, folder.state, folder.outputs, folder.logs):
        part.mkdir(parents=True)
    put_json(str(folder.header), facts, sync=False)
    (folder.state / "alive").touch()
    append(folder, "user", {"e": "status", "v": "Running", "by": "program"}, sync=False)


def _freeze(passage: Passage, source: Path) -> None:
    """The snapshot and git facts of ``source`` into the spec."""
    workspace, settings = passage.context.workspace, passage.context.config.snapshot
    source = source.absolute()
    if not source.is_dir():
        raise SnapshotError(f"the snapshot directory {str(source)!r} is not a directory", hint="name one, or give snapshot_directory=None")
    if source in (Path.home(), Path("/")):
        passage.say(f"no snapshot is taken of {source}: change to the directory of your project first, or name it as snapshot_directory")
        return
    try:
        taken = snapshot.take_snapshot(
            source, workspace, extra_ignore=settings.ignore, max_files=settings.max_files, max_bytes=settings.max_bytes
        )
    except SnapshotError as error:
        passage.say(f"no snapshot is taken: {error.message}")
        return
    passage.spec = with_source(passage.spec, source, taken.digest, lambda data: snapshot.store_bytes(workspace, data))
