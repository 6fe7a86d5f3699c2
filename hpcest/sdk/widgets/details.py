"""``RunDetails(run).show()``: a run in a notebook, kept up to date while it goes on; as text anywhere else."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpcest.errors import HpcestError
from hpcest.sdk.widgets import facts, views

if TYPE_CHECKING:
    from hpcest.sdk.run import Run

#: Between two looks: at first, at most, and as a multiple of how long a look takes (a run may have a million points).
_FIRST_S, _MOST_S, _SHARE = 1.0, 10.0, 10.0
#: After so many looks in a row that failed the last one stays.
_FAILURES = 5
#: How long who has waited for a run's end waits for what shows it.
_SETTLE_S = 5.0


class RunDetails:
    """Shows a run: status, times, metrics with their curves, images, children, the end of the log.

    In a notebook ``show()`` returns at once, and what it shows is brought up to date until the run has ended, also while
    other cells run; elsewhere it prints the same as text, once. ``stop()`` ends the updates.
    """

    def __init__(self, run_instance: Run) -> None:
        self.run = run_instance
        self._over, self._look = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Show the run here. The arguments are Azure ML's, and have no effect."""
        known = self.get_widget_data()
        if not in_a_notebook():
            sys.stdout.write(views.as_text(known))
            return
        notebook: Any = import_module("IPython.display")
        handle = notebook.display(notebook.HTML(views.as_html(known)), display_id=True)
        if handle is not None and not known["ended"]:
            self._over.clear()
            self._look.clear()
            self._thread = threading.Thread(target=self._refresh, args=(handle,), name=f"hpcest-{self.run.id}", daemon=True)
            self._thread.start()
            _GOING_ON.add(self)

    def stop(self) -> None:
        """Leave what is shown as it is."""
        self._over.set()
        self._look.set()

    def get_widget_data(self, widget_settings: object = None) -> dict[str, Any]:
        """What is shown, as a dict: ``id``, ``name``, ``experiment``, ``status``, ``details``, ``compute``, ``ended``, ``created``,
        ``started`` and ``finished`` (seconds since the epoch, or None), ``metrics`` (name → last value; a table's columns are
        ``table.column``), ``series`` (name → [step, value] pairs, thinned out), ``images`` (name → data URI), ``params``, ``tags``,
        ``children`` (dicts with id, name, status), ``log`` (its end). Raises UnknownNameError for a run that is gone.
        """
        return facts.facts_of(self.run)

    def _refresh(self, handle: Any) -> None:
        """Update what ``handle`` shows until the run has ended."""
        html: Any = import_module("IPython.display").HTML
        pause, failures = _FIRST_S, 0
        while True:
            self._look.wait(pause)
            self._look.clear()
            if self._over.is_set():
                return
            began = time.monotonic()
            try:
                known = self.get_widget_data()
                handle.update(html(views.as_html(known)))
                failures = 0
                if known["ended"]:
                    self.run.wait_for_completion(raise_on_error=False)  # has it collected, as any other wait
                    handle.update(html(views.as_html(self.get_widget_data())))
                    return
            except (HpcestError, OSError) as error:  # a file system that is away, a run that was deleted
                failures += 1
                if failures == _FAILURES:
                    handle.update(html(views.as_html({**facts.unreadable(self.run), "details": f"no longer followed: {error}"})))
                    return
            pause = max(min(pause * 1.2, _MOST_S), _SHARE * (time.monotonic() - began))

    def _settle(self) -> None:
        self._look.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_SETTLE_S)


_GOING_ON: weakref.WeakSet[RunDetails] = weakref.WeakSet()


def settle(run_id: str) -> None:
    """Have what shows this run, which has ended, show that now: a notebook that is run to its end is saved at once."""
    for details in [one for one in _GOING_ON if one.run.id == run_id]:
        details._settle()


def in_a_notebook() -> bool:
    """Whether what is displayed is seen in a notebook, and not on a terminal."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None
