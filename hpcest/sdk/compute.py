"""A compute target, as the configuration defines it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpcest.errors import UnknownNameError

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace


class ComputeTarget:
    """A named configuration of a backend: ``ComputeTarget(workspace, 'gpu')``. Raises UnknownNameError.

    ``name`` is what it is called, ``type`` its backend.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        target = workspace.context.config.target(name) if name else None
        if target is None:
            raise UnknownNameError("compute target", name, workspace.context.config.compute)
        self.workspace, self.name = workspace, target.name
        self.type = target.backend
        self._options = target.options

    def serialize(self) -> dict[str, Any]:
        """The target's name, backend and options."""
        return {"name": self.name, "type": self.type, **self._options}

    def __repr__(self) -> str:
        return f"ComputeTarget(name={self.name!r}, type={self.type!r})"
