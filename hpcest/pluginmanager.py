"""Which frameworks, environments and backends there are: our own by table, strangers' by entry point.

A built-in is imported when it is asked for. A stranger's plugin that fails is a fact to list, and an
error only for who asks for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hpcest.errors import PluginError, UnknownNameError
from hpcest.kit.entrypoints import EntryPoint, entry_points
from hpcest.kit.userdirs import user_folder

if TYPE_CHECKING:
    import pluggy

    from hpcest.contracts import Backend, Environment, Framework

GROUP = "hpcest"
_Call = Callable[[Mapping[str, Any]], Any]

#: Kind, name and module of what hpcest brings along. Each module registers itself as a stranger's would.
BUILTIN = (
    ("framework", "script", "hpcest.frameworks.script"),
    ("framework", "sklearn", "hpcest.frameworks.sklearn"),
    ("framework", "pytorch", "hpcest.frameworks.pytorch"),
    ("framework", "tensorflow", "hpcest.frameworks.tensorflow"),
    ("environment", "host", "hpcest.environments.host"),
    ("environment", "venv", "hpcest.environments.venv"),
    ("environment", "apptainer", "hpcest.environments.apptainer.kind"),
    ("environment", "conda", "hpcest.environments.prefix"),
    ("environment", "existing", "hpcest.environments.existing"),
    ("environment", "modules", "hpcest.environments.modules"),
    ("backend", "local", "hpcest.backends.local"),
    ("backend", "slurm", "hpcest.backends.slurm.backend"),
)
#: Kind → the hook that registers its classes, and the contract in ``hpcest.contracts``.
KINDS = {
    "framework": ("hpcest_register_frameworks", "Framework"),
    "environment": ("hpcest_register_environments", "Environment"),
    "backend": ("hpcest_register_backends", "Backend"),
}


class PluginProblem(NamedTuple):
    """Why a plugin, or a part of it, is not used: its entry point's ``name`` and ``value``, and a ``reason``."""

    name: str
    value: str
    reason: str


class PluginRow(NamedTuple):
    """A line of ``hpcest plugins``. ``kind`` is empty for a plugin of listeners or commands, or one that failed."""

    kind: str
    name: str
    origin: str
    module: str
    problem: str = ""


class _Offer(NamedTuple):
    """A class that a plugin registered under a name."""

    name: str
    offered: type[Any]
    point: EntryPoint

    @property
    def module(self) -> str:
        return self.offered.__module__


def load_plugins(*, external: bool = True, disabled: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> Plugins:
    """The plugins that are installed; nothing is imported before it is needed.

    ``disabled`` names entry points that stay out, as HPCEST_DISABLE_PLUGINS does (``a,b``). With
    HPCEST_STRICT_PLUGINS=1 a plugin that fails to load raises PluginError as soon as others are loaded.
    """
    blocked = {name.strip() for name in environ.get("HPCEST_DISABLE_PLUGINS", "").split(",")} | set(disabled)
    folder = environ.get("HPCEST_CACHE_DIR") or user_folder("XDG_CACHE_HOME", environ)
    found = entry_points(GROUP, Path(folder, "plugins.json")) if external else []
    return Plugins(found, blocked, strict=environ.get("HPCEST_STRICT_PLUGINS", "") not in ("", "0"))


class Plugins:
    """Built-in and external plugins by kind and name. Use ``load_plugins``."""

    def __init__(self, points: Iterable[EntryPoint], blocked: Iterable[str] = (), *, strict: bool = False) -> None:
        self._blocked = [point for point in points if point.name in set(blocked)]
        self._points = [point for point in points if point not in self._blocked]
        self._strict = strict
        self._problems: list[tuple[EntryPoint, str]] = []
        self._offers: dict[str, list[_Offer]] = {}
        self._answers: dict[str, dict[str, Any]] = {}

    @property
    def external(self) -> bool:
        """Whether there are others than our own; nothing is imported to tell."""
        return bool(self._points)

    def framework(self, name: str) -> type[Framework]:
        """The framework called ``name``. Raises UnknownNameError; PluginError if two plugins have it."""
        return cast("type[Framework]", self._class("framework", name))

    def environment(self, name: str) -> type[Environment]:
        """The environment called ``name``. Raises UnknownNameError; PluginError if two plugins have it."""
        return cast("type[Environment]", self._class("environment", name))

    def backend(self, name: str) -> type[Backend]:
        """The backend called ``name``. Raises UnknownNameError; PluginError if two plugins have it."""
        return cast("type[Backend]", self._class("backend", name))

    def names(self, kind: str) -> list[str]:
        """The names of a kind (``framework``, ``environment``, ``backend``): built-in ones first, each once."""
        known = [name for builtin, name, _ in BUILTIN if builtin == kind]
        return list(dict.fromkeys(known + [offer.name for offer in self._external(kind)]))

    @property
    def problems(self) -> list[PluginProblem]:
        """What is wrong with external plugins; all of them are loaded to find out."""
        for kind in KINDS:
            self._external(kind)
        self.modules()
        self.run_types()
        return [PluginProblem(point.name, point.value, reason) for point, reason in self._problems]

    @property
    def hook(self) -> pluggy.HookRelay:
        """All hooks of the external plugins, for calling them the pluggy way."""
        return self._manager.hook

    def notify(self, hook: str, **arguments: Any) -> list[str]:
        """Call a hook of each plugin in turn; return what went wrong, a text for each that raised.

        An exception of ``hpcest_before_submit`` goes through: it is how a plugin refuses a run.
        """
        problems = []
        for point, call in self._callers(hook):
            try:
                call(arguments)
            except (Exception, SystemExit) as error:  # a stranger's code may raise anything
                if hook == "hpcest_before_submit":
                    raise
                problems.append(f"plugin {point.name!r} of {point.origin} failed in {hook}: {_reason(error)}")
        return problems

    def add_commands(self, cli: Any) -> None:
        """Let external plugins add commands to the root group; one that fails becomes a problem."""
        for point, call in self._callers("hpcest_register_commands"):
            try:
                call({"cli": cli})
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
                self._problem(point, f"hpcest_register_commands: {_reason(error)}", error)

    def modules(self) -> dict[str, str]:
        """The Python files that travel with runs, name → text; a plugin whose files can't travel becomes a problem."""
        return self._gathered("hpcest_travelling_modules", _misfit)

    def run_types(self) -> dict[str, Callable[[Any, str], Any]]:
        """What opens a run of a plugin's framework, by the framework's name; a plugin with something else becomes a problem."""
        return self._gathered("hpcest_run_types", _no_type)

    def _gathered(self, hook: str, misfit: Callable[[Any, Any, Mapping[str, Any]], str]) -> dict[str, Any]:
        """What a hook of all plugins returns, name → value, less plugins of which ``misfit`` has something to say; asked for once."""
        if hook in self._answers:
            return self._answers[hook]
        found = self._answers[hook] = {}
        for point, call in self._callers(hook):
            try:
                answer = dict(call({}))
                wrong = next((why for name, value in answer.items() for why in [misfit(name, value, found)] if why), "")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
                self._problem(point, f"{hook}: {_reason(error)}", error)
                continue
            if wrong:
                self._problem(point, f"{hook}: {wrong}")
            else:
                found.update(answer)
        return found

    def listing(self) -> list[PluginRow]:
        """A row for each class that is registered and each plugin that offers none, sorted by kind and name."""
        rows = [PluginRow(kind, name, "built in", module, _missing(module)) for kind, name, module in BUILTIN]
        offers = [(kind, offer) for kind in KINDS for offer in self._external(kind)]
        self.modules()
        self.run_types()
        rows += [PluginRow(kind, offer.name, offer.point.origin, offer.module) for kind, offer in offers]
        rows = [row._replace(problem=row.problem or _shared(row, rows)) for row in rows]
        others = [(point, reason) for point, reason in self._problems] + [(point, "disabled") for point in self._blocked]
        mentioned = {offer.point for _, offer in offers} | {point for point, _ in others}
        others += [(point, "") for point in self._points if point not in mentioned]
        rows += [PluginRow("", point.name, point.origin, point.value, reason) for point, reason in others]
        return sorted(rows, key=lambda row: ([*KINDS, ""].index(row.kind), row.name, row.origin))

    def _class(self, kind: str, name: str) -> type[Any]:
        modules = [module for builtin, known, module in BUILTIN if (builtin, known) == (kind, name)]
        strangers = [offer for offer in self._external(kind) if offer.name == name]
        claims = [f"hpcest itself ({module})" for module in modules] + [f"{one.point.origin} ({one.module})" for one in strangers]
        if len(claims) > 1:
            message = f"the {kind} {name!r} is registered by {' and by '.join(claims)}"
            raise PluginError(message, hint="uninstall one of them, or name its entry point in HPCEST_DISABLE_PLUGINS")
        if modules:
            return _builtin(kind, name, modules[0])
        if strangers:
            return strangers[0].offered
        raise UnknownNameError(kind, name, self.names(kind), hint=self._failed_hint(name))

    def _failed_hint(self, name: str) -> str:
        """The plugin that would have had ``name``, going by its own name, if it is not used."""
        for point, reason in self._problems:
            if _akin(name, point.name):
                return f"the plugin {point.name!r} of {point.origin} could not be used: {reason}"
        for point in self._blocked:
            if _akin(name, point.name):
                return f"the plugin {point.name!r} of {point.origin} is disabled, by HPCEST_DISABLE_PLUGINS or by plugins.disable"
        return ""

    def _external(self, kind: str) -> list[_Offer]:
        """What external plugins offer of ``kind``; their hook is called the first time only."""
        if kind not in self._offers:
            self._offers[kind] = [offer for point, call in self._callers(KINDS[kind][0]) for offer in self._offered(kind, point, call)]
        return self._offers[kind]

    def _offered(self, kind: str, point: EntryPoint, call: _Call) -> Iterator[_Offer]:
        hook, contract = KINDS[kind]
        try:
            answer = call({})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
            self._problem(point, f"{hook}: {_reason(error)}", error)
            return
        if not isinstance(answer, (list, tuple)):
            self._problem(point, f"{hook} must return a list of classes, not {answer!r}")
            return
        for one in answer:
            wrong = _breach(one, contract)
            if wrong:
                self._problem(point, f"{hook}: {wrong}")
            else:
                yield _Offer(one.name, one, point)

    @cached_property
    def _manager(self) -> pluggy.PluginManager:
        """A pluggy manager with every external plugin that could be loaded, under its entry point's key."""
        manager = _new_manager()
        for point in self._points:
            try:
                _register(manager, point)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code may raise anything
                if manager.has_plugin(point.key):
                    manager.unregister(name=point.key)
                self._problem(point, _reason(error), error)
        return manager

    def _callers(self, hook: str) -> list[tuple[EntryPoint, _Call]]:
        """Each plugin that has ``hook``, in pluggy's order, with its function. Without plugins, no pluggy."""
        if not self._points:
            return []
        points = {point.key: point for point in self._points}
        found = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return [(points[one.plugin_name], partial(_call, one)) for one in found]

    def _problem(self, point: EntryPoint, reason: str, cause: BaseException | None = None) -> None:
        if self._strict:
            raise PluginError(
                f"plugin {point.name!r} of {point.origin} can't be used: {reason}", hint="unset HPCEST_STRICT_PLUGINS"
            ) from cause
        self._problems.append((point, reason))


def _call(hook: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    """One plugin's hook, with those arguments that it asks for."""
    return hook.function(*(arguments[name] for name in hook.argnames))


def _misfit(name: Any, text: Any, taken: Mapping[str, str]) -> str:
    """Why a file can't lie beside programs; empty where it can."""
    if not isinstance(name, str) or not isinstance(text, str):
        return f"{name!r} must be a name with a text"
    parts = name.split("/")
    if {"", ".", ".."} & set(parts) or parts[0] == "hpcest":
        return f"{name!r} must be a relative path, without '..', and not in hpcest/"
    return f"another plugin has {name!r}" if name in taken else ""


def _no_type(name: Any, factory: Any, taken: Mapping[str, Any]) -> str:
    """Why runs can't be opened so; empty where they can."""
    if not isinstance(name, str) or not callable(factory):
        return f"{name!r} must be a framework with a function"
    return f"another plugin has {name!r}" if name in taken else ""


def _akin(name: str, plugin: str) -> bool:
    from difflib import get_close_matches

    return bool(name in re.split(r"[-_.]", plugin) or get_close_matches(name, [plugin]))


def _new_manager() -> pluggy.PluginManager:
    import pluggy

    from hpcest import hookspecs

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    """Load a plugin and give it to the manager. Raises whatever is wrong with it."""
    from hpcest.hookspecs import INTERFACE

    plugin = point.load()
    needed = getattr(plugin, "HPCEST_INTERFACE", INTERFACE)
    if not isinstance(needed, int) or needed > INTERFACE:
        raise PluginError(f"it was made for plugin interface {needed!r}, this hpcest has {INTERFACE}; upgrade hpcest")
    if isinstance(plugin, type):
        raise PluginError("its entry point names a class; it must name a module or an object")
    manager.register(plugin, point.key)
    _refuse_unknown_hooks(manager, plugin)
    hooks = [one for caller in manager.get_hookcallers(plugin) or () for one in caller.get_hookimpls() if one.plugin is plugin]
    if not hooks:
        raise PluginError("it has no hooks: mark its functions with hpcest.hookimpl")
    if any(one.wrapper or one.hookwrapper for one in hooks):
        raise PluginError("it wraps a hook, which hpcest does not support: each plugin is called alone")


def _refuse_unknown_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """Raise PluginError with the names of hooks that hpcest does not have, and with those that were meant."""
    from difflib import get_close_matches

    from hpcest import hookspecs

    known = [name for name in dir(hookspecs) if name.startswith(f"{hookspecs.PROJECT}_")]
    strange = [one for caller in manager.get_hookcallers(plugin) or () if not caller.has_spec() for one in caller.get_hookimpls()]
    unknown = [str(one.function.__name__) for one in strange if one.plugin is plugin and not one.optionalhook]
    if unknown:
        near = [*dict.fromkeys(one for name in unknown for one in get_close_matches(name, known, n=1))]
        hint = f"; did you mean {' and '.join(near)}?" if near else f"; hooks are {', '.join(known)}"
        raise PluginError(f"unknown hook {', '.join(map(repr, unknown))}{hint}")


@cache
def _builtin(kind: str, name: str, module: str) -> type[Any]:
    """Import a built-in and ask it, through its own hook, for the class ``name``; once in a process."""
    try:
        manager = _new_manager()
        manager.register(import_module(module))
    except ImportError as error:
        raise PluginError(f"the built-in {kind} {name!r} can't be loaded: {error}", hint="install hpcest again") from error
    offers = {one.name: one for answer in getattr(manager.hook, KINDS[kind][0])() for one in answer}
    return cast("type[Any]", offers[name])


def _missing(module: str) -> str:
    """Why a built-in can't be imported; empty where it can."""
    try:
        import_module(module)
    except ImportError as error:
        return _reason(error)
    return ""


def _shared(row: PluginRow, rows: Iterable[PluginRow]) -> str:
    others = [other for other in rows if other is not row and (other.kind, other.name) == (row.kind, row.name)]
    return "the name is also registered by " + ", ".join(f"{one.origin} ({one.module})" for one in others) if others else ""


def _breach(offered: Any, contract: str) -> str:
    """What is wrong with a class that a plugin registers; empty where nothing is."""
    import inspect

    from hpcest import contracts

    if not (isinstance(offered, type) and issubclass(offered, getattr(contracts, contract))):
        return f"{offered!r} is not a subclass of hpcest.contracts.{contract}"
    name = getattr(offered, "name", None)
    if not isinstance(name, str) or not name.strip():
        return f"{offered.__name__} has no name: set name = '…' in the class"
    if inspect.isabstract(offered):
        return f"{offered.__name__} lacks {', '.join(sorted(getattr(offered, '__abstractmethods__', ())))}"
    if contract == "Backend" and not hasattr(getattr(offered, "Options", None), "__dataclass_fields__"):
        return f"{offered.__name__} has no Options: set it to a dataclass of its settings"
    return ""


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}".rstrip(": ")
