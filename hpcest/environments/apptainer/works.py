"""What one preparation works with. Its log and its scratch folder are made when they are first used: a cache hit needs neither."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.contracts import Say
from hpcest.environments.apptainer.program import Program
from hpcest.environments.secrets import strip
from hpcest.environments.store.store import Store
from hpcest.errors import EnvironmentBuildError
from hpcest.model.settings import EnvironmentSettings

if TYPE_CHECKING:
    from hpcest.environments.buildlog import BuildLog


class Works:
    """Use it in a ``with``: the scratch folder goes at its end, and the log of what came to nothing is kept."""

    def __init__(self, program: Program, store: Store, settings: EnvironmentSettings, say: Say) -> None:
        self.program, self.store, self.settings, self.say = program, store, settings, say
        self.variables = dict(os.environ)
        self.hide: Callable[[str], str] = strip
        self._to_close = contextlib.ExitStack()

    def __enter__(self) -> Works:
        return self

    def __exit__(self, *_: object) -> None:
        self._to_close.close()

    @cached_property
    def log(self) -> BuildLog:
        """Where everything is written that programs say."""
        from hpcest.environments.buildlog import BuildLog

        self.store.layout.make()
        path = self.store.layout.logs / f"prepare-{uuid.uuid4().hex[:8]}.log"
        return self._to_close.enter_context(BuildLog(path, self.say, self._hide))

    @cached_property
    def scratch(self) -> Path:
        """A private folder on a disk with room."""
        from hpcest.environments.apptainer.room import place_for
        from hpcest.environments.room import scratch

        place = place_for(self.settings.scratch, self.variables, self.say)
        folder = self._to_close.enter_context(scratch(place, self.variables))
        (folder / "tmp").mkdir()
        return folder

    def _hide(self, text: str) -> str:
        return self.hide(text)  # what is to be hidden is known only when the packages are

    def note_failure(self, error: EnvironmentBuildError) -> None:
        """Have an error name the log, where there is one and the error doesn't yet."""
        if self.has_log and not error.log:
            self.log.note(f"failed: {error.message}")
            error.log = str(self.log.path)

    @property
    def has_log(self) -> bool:
        """Whether anything was logged."""
        return "log" in self.__dict__
