"""Runs of this very process: started by ``Experiment.start_logging``, and ended at the latest when the process ends."""

from __future__ import annotations

import atexit
import builtins
import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.model.spec import Command, RunSpec
from hpcest.sdk.opening import inside_a_run

if TYPE_CHECKING:
    from hpcest.sdk.experiment import Experiment
    from hpcest.sdk.run import Run
    from hpcest.sdk.runfiles import RunFiles

BEAT_S = 20.0
_HEART = "hpcest heartbeat"
_UNSAID = "its program ended without complete(), fail() or 'with'"
_kept: dict[str, OwnOutputs] = {}  # run id → the folder that is watched for it
_open: dict[str, tuple[int, Run, BaseException | None]] = {}  # run id → the process, its run, the error that was the last one then


def begin(experiment: Experiment, spec: RunSpec, snapshot_directory: str | Path | None, outputs: str | Path | None) -> Run:
    """Record a run that is this process, and return it. Raises HpcestError."""
    from hpcest.lifecycle import interactive
    from hpcest.sdk.run import Run

    source = Path(snapshot_directory) if snapshot_directory else None
    folder = interactive.begin(experiment.workspace.context, spec, source, lambda line: warnings.warn(line, stacklevel=5))
    run = Run._opened(experiment, str(folder.path))
    run._outputs = os.path.abspath(outputs) if outputs else None
    if source is not None and not outputs and source.absolute() not in (Path.home(), Path("/")) and not inside_a_run():
        _kept[run.id] = OwnOutputs(source.absolute() / "outputs")
    if not _open:
        atexit.unregister(_end_all)  # once, and as late as can be: what was registered later runs earlier
        atexit.register(_end_all)
    _open[run.id] = os.getpid(), run, _last_error()
    if not any(thread.name == _HEART for thread in threading.enumerate()):
        threading.Thread(target=_beat, name=_HEART, daemon=True).start()
    return run


class OwnOutputs:
    """The folder ``outputs`` in the directory that a process works in: what comes to be there while its run goes on is the run's.

    It is made where it is not there, since programs for Azure ML count on it, and goes again with the run if nothing is in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = not os.path.lexists(folder)
        with contextlib.suppress(OSError):  # a directory that can't be written to has no outputs
            folder.mkdir(exist_ok=True)
        self._before = dict(self._found())

    def _found(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        for where, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(where, name)
                with contextlib.suppress(OSError):
                    facts = os.stat(path)
                    yield path, (facts.st_ino, facts.st_size, facts.st_mtime_ns)

    def keep(self, run: RunFiles) -> None:
        """Make what is new or another the run's; trouble of the storage is said, and raises nothing."""
        for path, facts in self._found():
            if self._before.get(path) != facts and os.path.isfile(path):
                run.upload_file(os.path.join("outputs", os.path.relpath(path, self.folder)), path)
        if self._made:
            with contextlib.suppress(OSError):  # there is something in it
                self.folder.rmdir()


def keep_outputs(run: RunFiles) -> None:
    """Keep what the process has put into its own ``outputs`` since the run began, once."""
    own = _kept.pop(run.id, None)
    if own is not None:
        own.keep(run)


def _beat() -> None:
    """Show other hosts that this process is there, as long as it has runs that go on."""
    while True:  # for later runs too: a loop makes one after the other
        for _, run, _ in list(_open.values()):
            with contextlib.suppress(OSError):
                os.utime(os.path.join(run.folder, "state", "alive"))
        time.sleep(BEAT_S)


def goes_on_here(run_id: str) -> bool:
    """Whether the run is one of this process, and its end was not said yet."""
    return run_id in _open and _open[run_id][0] == os.getpid()


def ended(run_id: str) -> None:
    """Nothing more is to be said of the run when this process ends."""
    _open.pop(run_id, None)


def this_program(source: Path) -> Command:
    """The script that this process runs, with its arguments; nothing for a notebook, or where it was not started from a file."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if not main or _in_a_shell():
        return Command()
    path = Path(os.path.abspath(main))
    inside = path.is_relative_to(source.absolute())
    return Command(str(path.relative_to(source.absolute())) if inside else str(path), tuple(sys.argv[1:]))


def _in_a_shell() -> bool:
    """Whether a person types here: an error is not the end of the program then."""
    return hasattr(sys, "ps1") or hasattr(builtins, "__IPYTHON__")


def _last_error() -> BaseException | None:
    """The exception that nobody caught, as far as Python has printed one."""
    found = getattr(sys, "last_value", None)
    return found if isinstance(found, BaseException) else None


def _end_all() -> None:
    for pid, run, before in list(_open.values()):
        if pid != os.getpid():  # a forked child: the run is its parent's
            continue
        error = None if _in_a_shell() else _last_error()
        if error is not None and error is not before:
            run.fail(f"{type(error).__name__}: {error}")
        else:
            run._end("Canceled", m=_UNSAID)
