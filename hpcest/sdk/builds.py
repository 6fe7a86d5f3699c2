"""What ``Environment.build`` gives: how it went, and the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.contracts import Lock
from hpcest.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace


class ImageBuildDetails:
    """A build that has ended well. ``key`` names the environment, ``kind`` what it was built as, ``lock`` every package in it."""

    status = "Succeeded"

    def __init__(self, lock: Lock, log: Path | None) -> None:
        self.kind, self.key, self.lock = lock.kind, lock.key, lock.text
        self._log = log

    def get_log(self) -> str:
        """The log of the build, from its first second; empty where nothing had to be built."""
        try:
            return self._log.read_text(encoding="utf-8", errors="replace") if self._log else ""
        except OSError:
            return ""

    def wait_for_completion(self, show_output: bool = True) -> ImageBuildDetails:
        """Itself: ``build`` has waited already."""
        return self

    def __repr__(self) -> str:
        return f"ImageBuildDetails(status={self.status!r}, kind={self.kind!r}, key={self.key[:12]!r})"


def build(workspace: Workspace, spec: EnvironmentSpec, *, show_output: bool) -> ImageBuildDetails:
    """Build ``spec`` in the workspace. Raises SpecError, EnvironmentBuildError."""
    from hpcest.lifecycle.environments import build as build_now
    from hpcest.lifecycle.environments import listed

    def say(line: str) -> None:
        if show_output:
            sys.stderr.write(line + "\n")

    lock = build_now(workspace.context, spec, say)
    rows = [row for row in listed(workspace.context) if row.key == lock.key]
    return ImageBuildDetails(lock, Path(rows[0].log) if rows and rows[0].log else None)
