"""The merged configuration: defaults, the site's file, the user's, the workspace's, then the environment.

Mappings are merged key by key, the higher level wins; a list replaces a list, and an empty value takes
a lower level's value back. A compute target that names another backend starts anew.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hpcest.errors import ConfigError, SpecError, UnknownNameError
from hpcest.kit.codec import decode
from hpcest.kit.userdirs import user_folder
from hpcest.kit.yamlfile import load, located
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.settings import EnvironmentSettings

T = TypeVar("T")

SITE_FILE = "/etc/hpcest/config.yaml"
DEFAULT = "default"

#: Environment variable → the setting that it overrides. One that is set to nothing counts as not set.
VARIABLES = {
    "HPCEST_DEFAULT_COMPUTE": "default_compute",
    "HPCEST_ENVIRONMENT_KIND": "environment.kind",
    "HPCEST_ENVIRONMENT_INTERPRETER": "environment.interpreter",
    "HPCEST_SNAPSHOT_MAX_FILES": "snapshot.max_files",
    "HPCEST_SNAPSHOT_MAX_BYTES": "snapshot.max_bytes",
    "HPCEST_HISTORY_INDEX": "history.index",
}


class IndexPlace(str, Enum):
    """Where the history's index lies; ``auto`` decides by the workspace's file system."""

    AUTO = "auto"
    WORKSPACE = "workspace"
    NODE = "node"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SnapshotSettings:
    """``snapshot:`` how many files and bytes a source directory may have, and patterns to leave out."""

    max_files: int = 50_000
    max_bytes: int = 5 * 1024**3
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class HistorySettings:
    """``history:``"""

    index: IndexPlace = IndexPlace.AUTO


@dataclass(frozen=True)
class PluginSettings:
    """``plugins:`` the entry-point names of plugins that are not to be loaded."""

    disable: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrameworkSettings:
    """``frameworks: {NAME: …}``: the version to install by default, and what to install for versions of a framework."""

    default: str = ""
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    """The keys that a configuration file may have."""

    default_compute: str = "local"
    compute: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    frameworks: dict[str, FrameworkSettings] = field(default_factory=dict)
    snapshot: SnapshotSettings = field(default_factory=SnapshotSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    plugins: PluginSettings = field(default_factory=PluginSettings)
    datastores: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Target:
    backend: str
    environment: str = ""


@dataclass(frozen=True)
class _Merged:
    """The levels laid over each other, as plain values: where each dotted path was set, and bare words."""

    values: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def where(self, path: str) -> str:
        """Where ``path``, or the nearest thing around it, was set."""
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, DEFAULT)

    def decode(self, cls: type[T], data: Any, path: str = "") -> T:
        """Build ``cls``. Raises ConfigError that starts with the place of what is wrong."""
        try:
            return decode(cls, data, where=path)
        except (SpecError, UnknownNameError) as error:
            raise located(error, self.where, self.words) from error

    def add(self, value: Any, where: Callable[[str], str], words: Mapping[str, str]) -> None:
        """Lay the values of a higher level over the ones so far; ``where`` says where each was written."""
        if value is None:
            return
        if not isinstance(value, dict):
            self.places[""] = where("")
            self.decode(_File, value)
        self.words.update(words)
        self._lay(self.values, value, "", where)

    def _lay(self, below: dict[str, Any], above: dict[str, Any], path: str, where: Callable[[str], str]) -> None:
        for key, value in above.items():
            here = f"{path}.{key}" if path else key
            anew = path == "compute" and isinstance(value, dict) and _changes_backend(below.get(key), value)
            if anew or not (isinstance(value, dict) and isinstance(below.get(key), dict)):
                self._forget(below, key, here)
            if value is None:
                continue
            self.places[here] = where(here)
            if isinstance(value, dict):
                self._lay(below.setdefault(key, {}), value, here, where)
            else:
                below[key] = value
                self.places.update((inner, where(inner)) for inner in _inside(value, here))

    def _forget(self, below: dict[str, Any], key: str, path: str) -> None:
        below.pop(key, None)
        for known in [known for known in self.places if known == path or known.startswith((path + ".", path + "["))]:
            del self.places[known]


def _inside(value: Any, path: str) -> Iterator[str]:
    """The dotted paths of what a list holds."""
    found: list[tuple[str, Any]] = []
    if isinstance(value, list):
        found = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    elif isinstance(value, dict):
        found = [(f"{path}.{key}", item) for key, item in value.items()]
    for where, item in found:
        yield where
        yield from _inside(item, where)


def _changes_backend(below: Any, above: dict[str, Any]) -> bool:
    """Options of one backend mean nothing to another, so a redefined target inherits none."""
    return isinstance(below, dict) and "backend" in above and above["backend"] != below.get("backend")


@dataclass(frozen=True)
class ComputeTarget:
    """A named configuration of a backend. ``options`` are the backend's own, as they were written.

    ``environment`` is the kind of environment for runs there that name none; empty leaves the choice.
    """

    name: str
    backend: str
    environment: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    _merged: _Merged = field(default_factory=lambda: _Merged({}), repr=False, compare=False)

    def decode(self, options: type[T]) -> T:
        """The options as a backend's ``Options``. Raises ConfigError with ``file:line:`` and the nearest name."""
        return self._merged.decode(options, self.options, f"compute.{self.name}")


@dataclass(frozen=True)
class Config:
    """All settings. ``compute`` has the targets by name, ``local`` always among them."""

    default_compute: str = "local"
    compute: dict[str, ComputeTarget] = field(default_factory=lambda: {"local": ComputeTarget("local", "local")})
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    frameworks: dict[str, FrameworkSettings] = field(default_factory=dict)
    snapshot: SnapshotSettings = field(default_factory=SnapshotSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    plugins: PluginSettings = field(default_factory=PluginSettings)
    datastores: dict[str, str] = field(default_factory=dict)
    _merged: _Merged = field(default_factory=lambda: _Merged({}), repr=False, compare=False)

    def target(self, name: str = "") -> ComputeTarget:
        """The compute target ``name``, or the default one. Raises UnknownNameError."""
        wanted = name or self.default_compute
        if wanted in self.compute:
            return self.compute[wanted]
        error = UnknownNameError("compute target", wanted, self.compute)
        if error.hint.startswith("known: "):
            error.hint += f"; or define it: compute: {{{wanted}: {{backend: slurm, partition: …}}}} in the workspace's .hpcest/config.yaml"
        if not name:
            error.hint += f" (default_compute is set by {self.origin('default_compute')})"
        raise error

    def origin(self, key: str) -> str:
        """Where the value at the dotted path ``key`` was set: ``file:line``, ``environment variable NAME``, or ``default``."""
        return self._merged.places.get(key, DEFAULT)

    def items(self) -> Iterator[tuple[str, Any, str]]:
        """Every setting as (dotted path, plain value, origin)."""
        for key, value in _leaves(_plain(self), ""):
            yield key, value, self.origin(key)


def _plain(config: Config) -> dict[str, Any]:
    settings = {name: dataclasses.asdict(getattr(config, name)) for name in ("environment", "snapshot", "history", "plugins")}
    if config.frameworks:
        settings["frameworks"] = {name: dataclasses.asdict(one) for name, one in config.frameworks.items()}
    targets = {
        name: {"backend": one.backend, **({"environment": one.environment} if one.environment else {}), **one.options}
        for name, one in config.compute.items()
    }
    if config.datastores:
        settings["datastores"] = dict(config.datastores)
    return {"default_compute": config.default_compute, "compute": targets, **settings}


def _leaves(values: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, where)
        elif isinstance(value, Enum):
            yield where, value.value
        else:
            yield where, list(value) if isinstance(value, tuple) else value


def config_paths(workspace: WorkspaceFolder | None, environ: Mapping[str, str] = os.environ) -> list[tuple[str, Path]]:
    """The configuration files as (level, path), lowest first, whether they exist or not."""
    site = environ.get("HPCEST_SITE_CONFIG") or SITE_FILE
    paths = [("site", Path(site)), ("user", user_folder("XDG_CONFIG_HOME", environ) / "config.yaml")]
    return [*paths, ("workspace", workspace.config)] if workspace else paths


def load_config(workspace: WorkspaceFolder | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read and merge all levels. A file that is not there is fine.

    Raises ConfigError that starts with ``file:line:`` or the variable for one that can't be read, or is wrong.
    """
    merged = _Merged({"compute": {"local": {"backend": "local"}}})
    for _, path in config_paths(workspace, environ):
        if _is_there(path):
            document = load(path)
            merged.add(document.value, document.where, document.words)
    for variable, key in VARIABLES.items():
        if environ.get(variable):
            origin = f"environment variable {variable}"
            merged.add(_of_variable(key, environ[variable]), lambda _, origin=origin: origin, {})  # type: ignore[misc]  # mypy can't infer it with a default
    return _checked(merged)


def _is_there(path: Path) -> bool:
    """False if the file is absent; True also if that can't be seen, for then reading says why."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _of_variable(key: str, text: str) -> dict[str, Any]:
    """A variable as a level of its own. Its text is a number where the setting is one."""
    section, _, name = key.rpartition(".")
    value = int(text) if text.isascii() and text.isdigit() and name.startswith("max_") else text
    return {section: {name: value}} if section else {name: value}


def _checked(merged: _Merged) -> Config:
    file = merged.decode(_File, merged.values)
    for name in ("max_files", "max_bytes"):
        if getattr(file.snapshot, name) < 1:
            path = f"snapshot.{name}"
            raise ConfigError(f"{merged.where(path)}: {path} must be at least 1, not {getattr(file.snapshot, name)}")
    targets = {"local": file.compute.get("local", {"backend": "local"}), **file.compute}
    compute = {name: _target(name, values, merged) for name, values in targets.items()}
    return Config(
        file.default_compute, compute, file.environment, file.frameworks, file.snapshot, file.history, file.plugins, file.datastores, merged
    )


def _target(name: str, values: dict[str, Any], merged: _Merged) -> ComputeTarget:
    known = [one.name for one in dataclasses.fields(_Target)]
    if "backend" not in values:
        path = f"compute.{name}"
        raise ConfigError(
            f"{merged.where(path)}: {path} needs the key 'backend'", hint="such as 'backend: local'; 'hpcest plugins' lists them"
        )
    target = merged.decode(_Target, {key: values[key] for key in known if key in values}, f"compute.{name}")
    options = {key: copy.deepcopy(value) for key, value in values.items() if key not in known}
    return ComputeTarget(name, target.backend, target.environment, options, merged)
