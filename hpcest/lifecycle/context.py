"""What every step of a run's life needs: the workspace, the configuration, the plugins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hpcest.errors import PluginError, UnknownNameError
from hpcest.model.folders import WorkspaceFolder

if TYPE_CHECKING:
    from hpcest.config import Config
    from hpcest.contracts import Backend
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
