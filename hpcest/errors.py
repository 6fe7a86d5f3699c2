"""Every error that hpcest raises on purpose.

    HpcestError
    ├── UsageError              what was asked for can't be right             exit code 2
    │   ├── SpecError           a field of a run spec or a keyword
    │   ├── ConfigError         a configuration or job file, with its line
    │   ├── UnknownNameError    a name that nothing has, with the nearest one
    │   └── SnapshotError       a source directory that can't be frozen
    ├── WorkspaceError          no workspace, or one this version can't use
    ├── EnvironmentBuildError   an environment could not be resolved or built
    ├── BackendError            a scheduler or a machine refused
    │   └── UncertainError      it may have accepted, and could not be asked
    ├── PluginError             a plugin failed to load, or two share a name
    └── RunFailedError          a run that was waited for did not complete

An error carries a message (the thing, the value, what is allowed) and a hint (the next step).
Only ``hpcest.cli.main`` turns one into text and an exit code.
"""

from __future__ import annotations

from collections.abc import Iterable


class HpcestError(Exception):
    """Something went wrong that the user can do something about.

    ``hint`` is the next step, in the imperative; ``exit_code`` is what the command line returns. Where nobody catches it, Python
    prints the hint below the message (since 3.11, as a note).
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def hint(self) -> str:
        """The next step; empty for none."""
        return self._hint

    @hint.setter
    def hint(self, text: str) -> None:
        others = [note for note in getattr(self, "__notes__", ()) if not note.startswith("Hint: ")]
        self._hint, self.__notes__ = text, ([f"Hint: {text}"] if text else []) + others


class UsageError(HpcestError):
    """What was asked for can't be right; nothing was done."""

    exit_code = 2


class SpecError(UsageError):
    """A field of a run spec, or a keyword of an estimator, has a value that can't work."""


class ConfigError(UsageError):
    """A configuration or job file is wrong; the message starts with ``file:line:``."""


class SnapshotError(UsageError):
    """The source directory can't be frozen as it is."""


class UnknownNameError(UsageError):
    """A name that nothing has. The hint offers the nearest one, or lists what there is.

    ``kind`` is what the name should have named (``compute target``), ``known`` what exists.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, sorted(known)
        super().__init__(f"{kind} {name!r} is not known", hint=hint or self._suggest())

    def _suggest(self) -> str:
        from difflib import get_close_matches  # slow to import, and rarely wanted

        near = get_close_matches(self.name, self.known, n=1, cutoff=0.6)
        if near:
            return f"did you mean {near[0]!r}?"
        return "known: " + (", ".join(self.known) or "none")


class WorkspaceError(HpcestError):
    """There is no workspace here, or this version of hpcest can't use it."""


class EnvironmentBuildError(HpcestError):
    """An environment could not be resolved or built. ``log`` is the path of the build log."""

    def __init__(self, message: str, *, hint: str = "", log: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log = log


class BackendError(HpcestError):
    """A scheduler or a machine refused; the message has its own words."""


class UncertainError(BackendError):
    """A scheduler may have accepted a job and could not be asked since. Whoever looks at the run later finds out."""


class PluginError(HpcestError):
    """A plugin could not be loaded, or two plugins claim one name."""


class RunFailedError(HpcestError):
    """A run that was waited for ended in another status than Completed.

    ``run_id`` and ``status`` say which and how.
    """

    def __init__(self, message: str, *, run_id: str, status: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.run_id, self.status = run_id, status
