"""``RunDetails(run).show()``: a run in a notebook, kept up to date while it goes on; as text anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError, UnknownNameError

if TYPE_CHECKING:
    from hpcest.sdk.run import Run

#: Between two looks: at first, at most, and as a multiple of how long a look takes (a run may have a million points).
_FIRST_S, _MOST_S, _SHARE = 1.0, 10.0, 10.0
#: After so many looks in a row that failed the last one stays.
_FAILURES = 5
_LOG_BYTES, _LOG_LINES = 16384, 25
_MOST_POINTS, _MOST_METRICS, _MOST_CHILDREN = 200, 24, 50


class RunDetails:
    """Shows a run: status, times, metrics with their curves, children, the end of the log.

    In a notebook ``show()`` returns at once, and what it shows is brought up to date until the run has ended, also while
    other cells run; elsewhere it prints the same as text, once. ``stop()`` ends the updates.
    """

    def __init__(self, run_instance: Run) -> None:
        self.run = run_instance
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Show the run here. The arguments are Azure ML's, and have no effect."""
        from hpcest.sdk import widgetviews

        facts = self.get_widget_data()
        if not in_a_notebook():
            sys.stdout.write(widgetviews.as_text(facts))
            return
        notebook: Any = import_module("IPython.display")
        handle = notebook.display(notebook.HTML(widgetviews.as_html(facts)), display_id=True)
        if handle is not None and not facts["ended"]:
            self._over.clear()
            self._thread = threading.Thread(target=self._refresh, args=(handle,), name=f"hpcest-{self.run.id}", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Leave what is shown as it is."""
        self._over.set()

    def get_widget_data(self, widget_settings: object = None) -> dict[str, Any]:
        """What is shown, as a dict: ``id``, ``name``, ``experiment``, ``status``, ``details``, ``compute``, ``ended``, ``created``,
        ``started`` and ``finished`` (seconds since the epoch, or None), ``metrics`` (name → last value), ``series`` (name → [step,
        value] pairs, thinned out), ``params``, ``tags``, ``children`` (dicts with id, name, status), ``log`` (its end).
        """
        from hpcest.lifecycle.watch import look_at
        from hpcest.onnode.events import read_run
        from hpcest.onnode.record import get_json
        from hpcest.onnode.state import TERMINAL

        run = self.run
        if not Path(run.folder, "run.json").is_file():
            raise UnknownNameError("run", run.id, (), hint="it was deleted, or its file system is away")
        seen = look_at(run.workspace.context, run.workspace.folder.run(run.id))
        state, metrics = read_run(run.folder)
        header = get_json(str(Path(run.folder) / "run.json")) or {}
        series = {name: [pair for pair in map(_pair, enumerate(metrics.series(name))) if pair] for name in list(metrics.points)}
        return {
            "id": run.id,
            "name": run.display_name,
            "experiment": run.experiment.name,
            "status": str(seen.status),
            "reason": str(seen.reason),
            "details": seen.message,
            "compute": str(header.get("spec", {}).get("compute", "local")),
            "created": header.get("created"),
            "started": state.started,
            "finished": state.ended,
            "ended": str(seen.status) in TERMINAL,
            "metrics": {name: _last(metrics.value(name)) for name in sorted(metrics.names(), key=str)},
            "series": {name: _thinned(pairs) for name, pairs in sorted(series.items()) if len(pairs) > 1},
            "params": {name: value for name, (_, value) in sorted(getattr(state, "params", {}).items())},
            "tags": run.get_tags(),
            "children": [_child(Path(run.folder).with_name(child)) for child in state.children[-_MOST_CHILDREN:]],
            "log": _end_of_log(run),
        }

    def _refresh(self, handle: Any) -> None:
        """Update what ``handle`` shows until the run has ended."""
        from hpcest.sdk import widgetviews

        html: Any = import_module("IPython.display").HTML
        pause, failures = _FIRST_S, 0
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                facts = self.get_widget_data()
                handle.update(html(widgetviews.as_html(facts)))
                failures = 0
                if facts["ended"]:
                    self.run.wait_for_completion(raise_on_error=False)  # has it collected, as any other wait
                    handle.update(html(widgetviews.as_html(self.get_widget_data())))
                    return
            except (HpcestError, OSError) as error:  # a file system that is away, a run that was deleted
                failures += 1
                if failures == _FAILURES:
                    handle.update(html(widgetviews.as_html({**facts_of(self.run), "details": f"no longer followed: {error}"})))
                    return
            pause = max(min(pause * 1.2, _MOST_S), _SHARE * (time.monotonic() - began))


def facts_of(run: Run) -> dict[str, Any]:
    """What can be said of a run whose files can't be read."""
    return {"id": run.id, "name": "", "experiment": "", "status": "unknown", "reason": "", "ended": True}


def in_a_notebook() -> bool:
    """Whether what is displayed is seen in a notebook, and not on a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _pair(numbered: tuple[int, tuple[float, Any, Any]]) -> tuple[float, float] | None:
    """A point of a curve: its step, or else its number, and its value; None for what can't be drawn."""
    number, (_, step, value) = numbered
    drawable = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
    return (float(step) if isinstance(step, (int, float)) else float(number), float(value)) if drawable else None


def _thinned(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = max(1, -(-len(pairs) // _MOST_POINTS))
    return pairs[:-1:stride] + pairs[-1:]


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) and value else value


def _child(folder: Path) -> dict[str, str]:
    from hpcest.onnode.events import read_run

    state = read_run(str(folder))[0]
    return {"id": folder.name, "name": str((state.names.get("display_name") or [0, ""])[1]), "status": state.status}


def _end_of_log(run: Run) -> str:
    """The last lines of what rank 0 printed in its latest attempt."""
    from hpcest.lifecycle.follow import log_paths

    paths = log_paths(run.workspace.folder.run(run.id)).get(0)
    try:
        with open(paths[-1] if paths else "", "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip("\n").split("\n")[-_LOG_LINES:])
