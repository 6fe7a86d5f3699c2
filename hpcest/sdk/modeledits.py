"""What may be changed of a registered model: its tags and description, and properties that it has not yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcest.onnode import edits as later
from hpcest.onnode import models
from hpcest.sdk import edits
from hpcest.sdk.azure import MODEL, warn_ignored


class ModelEdits:
    """The part of a model that can be changed; its files can't."""

    name: str
    version: int
    folder: Path
    _facts: Mapping[str, Any]

    def _now(self) -> dict[str, Any]:
        """What was written of it, with what was said later."""
        return dict(models.merged(self._facts, models.later(self.folder)))

    @property
    def tags(self) -> dict[str, str]:
        """The tags, as a dict of its own."""
        return dict(self._now()["tags"])

    @property
    def properties(self) -> dict[str, str]:
        """The properties, as a dict of its own."""
        return dict(self._now()["properties"])

    @property
    def description(self) -> str:
        """What it is."""
        return str(self._now()["description"])

    def add_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; those that are there get the new value. Raises HpcestError."""
        self._add(later.tagged(tags))

    def remove_tags(self, tags: Sequence[str] | str) -> None:
        """Take tags away: one, or several. Raises HpcestError."""
        self._add(later.untagged(tags))

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Set properties. A property is written once: a second value for it is ignored. Raises HpcestError."""
        self._add(later.given(properties))

    def update_tags_properties(
        self,
        add_tags: Mapping[str, object] | None = None,
        remove_tags: Sequence[str] | str | None = None,
        add_properties: Mapping[str, object] | None = None,
    ) -> None:
        """All three at once. Raises HpcestError."""
        self._add([*later.tagged(add_tags or {}), *later.untagged(remove_tags or ()), *later.given(add_properties or {})])

    def update(
        self,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        **unknown: Any,
    ) -> None:
        """Have these tags, and no others, and this description; what is None stays. Raises HpcestError."""
        samples = {"sample_input_dataset": sample_input_dataset, "sample_output_dataset": sample_output_dataset}
        ignored = {**samples, "resource_configuration": resource_configuration, **unknown}
        warn_ignored("Model.update", ignored, MODEL, ("tags", "description"))
        changes = later.described(description) if description is not None else []
        if tags is not None:
            changes += later.changed_tags(self.tags, tags)
        self._add(changes)

    def _add(self, events: Sequence[dict[str, Any]]) -> None:
        if events:
            edits.add(self.folder, f"model {self.name}:{self.version}", events)
