"""What every step of a run's life needs: the workspace, the configuration, the plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpcest.errors import PluginError, SpecError, UnknownNameError, UsageError
from hpcest.model.folders import WorkspaceFolder

if TYPE_CHECKING:
    from hpcest.config import Config
    from hpcest.contracts import Backend, Framework
    from hpcest.model.spec import RunSpec
    from hpcest.pluginmanager import Plugins


@dataclass(frozen=True)
class Context:
    """A workspace with its configuration and plugins, both read when they are first needed."""

    workspace: WorkspaceFolder

    @cached_property
    def config(self) -> Config:
        """The merged configuration. Raises ConfigError."""
        from hpcest.config import load_config

        return load_config(self.workspace)

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins that are installed and not disabled."""
        from hpcest.pluginmanager import load_plugins

        return load_plugins(disabled=self.config.plugins.disable)

    def framework(self, spec: RunSpec) -> Framework:
        """The framework of a run, with the options that the run has for it. Raises UnknownNameError, SpecError."""
        kind = self.plugins.framework(spec.framework)
        return kind(options_of(kind, spec.framework_options))

    def backend(self, compute: str) -> Backend:
        """The backend of the compute target ``compute``, with its options. Raises UnknownNameError, ConfigError."""
        target = self.config.target(compute)
        kind = self.plugins.backend(target.backend)
        return kind(target.decode(kind.Options))

    def backend_of(self, compute: str, backend: str) -> Backend | None:
        """The backend that a recorded run was given to; with default options if its target is gone.

        None if the plugin is gone too, or broken: such a run is still listed, with the status it had.
        """
        try:
            made = self.backend(compute)
            if made.name == backend or not backend:
                return made
        except (UnknownNameError, PluginError):
            pass
        try:
            kind = self.plugins.backend(backend)
        except (UnknownNameError, PluginError):
            return None
        return kind(kind.Options())


def options_of(kind: type[Framework], given: Mapping[str, Any]) -> Any:
    """The options of a framework, from names and values as people write them. Raises SpecError."""
    from hpcest.kit.codec import decode

    try:
        return decode(kind.Options, dict(given))
    except UsageError as error:
        hint = error.hint or f"see: hpcest plugins {kind.name}"
        raise SpecError(f"option of the framework {kind.name!r}: {error.message}", hint=hint) from None
