"""What may be changed of a registered model: its tags and description, and properties that it has not yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcest.onnode.reading import read_state
from hpcest.onnode.state import RunState
from hpcest.sdk import edits
from hpcest.sdk.azure import MODEL, warn_ignored


class ModelEdits:
    """The part of a model that can be changed; its files can't."""

    name: str
    version: int
    folder: Path
    _facts: Mapping[str, Any]

    def _later(self) -> RunState:
        state: RunState = read_state(self.folder)
        return state

    @property
    def tags(self) -> dict[str, str]:
        """The tags, as a dict of its own."""
        found = dict(self._facts.get("tags") or {})
        for name, (_, value) in self._later().tags.items():
            found.pop(name, None) if value is None else found.update({name: value})
        return found

    @property
    def properties(self) -> dict[str, str]:
        """The properties, as a dict of its own."""
        return {**{name: value for name, (_, value) in self._later().properties.items()}, **(self._facts.get("properties") or {})}

    @property
    def description(self) -> str:
        """What it is."""
        changed = self._later().names.get("description")
        return str(changed[1] if changed else self._facts.get("description", ""))

    def add_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; those that are there get the new value. Raises HpcestError."""
        self._add(edits.tags(tags))

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        """Take tags away: one, or several. Raises HpcestError."""
        self._add(edits.untags(tags))

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Set properties. A property is written once: a second value for it is ignored. Raises HpcestError."""
        self._add(edits.properties(properties))

    def update_tags_properties(
        self,
        add_tags: Mapping[str, object] | None = None,
        remove_tags: Sequence[str] | str | None = None,
        add_properties: Mapping[str, object] | None = None,
    ) -> None:
        """All three at once. Raises HpcestError."""
        self._add([*edits.tags(add_tags or {}), *edits.untags(remove_tags or ()), *edits.properties(add_properties or {})])

    def update(self, tags: Mapping[str, object] | None = None, description: str | None = None, **azure: Any) -> None:
        """Have these tags, and no others, and this description; what is None stays. Raises HpcestError."""
        warn_ignored("Model.update", azure, MODEL)
        changes = [{"e": "description", "v": str(description)}] if description is not None else []
        if tags is not None:
            changes += [*edits.untags([name for name in self.tags if name not in tags]), *edits.tags(tags)]
        self._add(changes)

    def _add(self, events: Sequence[dict[str, Any]]) -> None:
        if events:
            edits.add(self.folder, f"model {self.name}:{self.version}", events)
