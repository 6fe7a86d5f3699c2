"""What the contracts share: a home and a workspace of their own with the plugin under test in it, and how a breach is said."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hpcest.errors import HpcestError
from hpcest.kit.entrypoints import EntryPoint
from hpcest.lifecycle import watch
from hpcest.lifecycle.collect import collect
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.passage import Passage
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.watch import Seen
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.spec import RunSpec
from hpcest.model.status import Status
from hpcest.onnode.events import read_run
from hpcest.pluginmanager import BUILTIN, KINDS, Plugins

#: The variables that tell a rank where it is. A test that itself runs in a run must not pass them on.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
#: The tests that say why a plugin can't be used; all others would only say the same again.
REGISTERING = ("test_it_is_registered_under_its_name", "test_it_is_a_plugin_that_listens")
#: Names that can be typed without quotes.
NAME = re.compile(r"[A-Za-z][\w.-]*")


def page(section: str) -> str:
    """Where the contract stands, for readers who have hpcest from a package index, and no folder of documentation."""
    return f"the page docs/plugins.md of hpcest's documentation, section {section}"


def demand(holds: object, wanted: str, where: str) -> None:
    """Fail the test where something does not hold: ``wanted`` is what the contract wants, ``where`` the page that says so."""
    __tracebackhide__ = True
    if not holds:
        pytest.fail(f"{wanted}\nSee {where}", pytrace=False)


@contextmanager
def refusal(wanted: str, where: str, errors: type[HpcestError] | tuple[type[HpcestError], ...]) -> Iterator[list[HpcestError]]:
    """Fail the test unless what is done in here raises one of ``errors``, with a message. The list has it afterwards."""
    __tracebackhide__ = True
    caught: list[HpcestError] = []
    try:
        yield caught
    except errors as error:
        demand(error.message.strip(), f"{wanted}; the error has no message", where)
        caught.append(error)
        return
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        pytest.fail(f"{wanted}; it raised {type(error).__name__}: {error}\nSee {where}", pytrace=False)
    pytest.fail(f"{wanted}; nothing was raised\nSee {where}", pytrace=False)


def is_json(value: Any) -> bool:
    """Whether ``value`` survives a file of JSON as it is."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path below ``folder`` with its size, and where it leads if it is a link. Directories have the size 0."""
    found = {}
    for path in folder.rglob("*"):
        facts = path.lstat()
        target = os.readlink(path) if path.is_symlink() else ""
        found[str(path.relative_to(folder))] = (0 if path.is_dir() else facts.st_size, target)
    return found


def complaints_of_options(options: type[Any]) -> list[str]:
    """What is wrong with a class of options; nothing where each has a default and a help text."""
    if not dataclasses.is_dataclass(options):
        return [f"{options!r} is no dataclass"]
    found = []
    for one in dataclasses.fields(options):
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            found.append(f"{one.name} has no default")
        if not str(one.metadata.get("help", "")).strip():
            found.append(f"{one.name} has no metadata={{'help': '…'}}")
    return found


@dataclass(frozen=True)
class Ended:
    """A run that has ended: where it is, how it went, and what its ranks printed."""

    folder: RunFolder
    seen: Seen

    @property
    def status(self) -> str:
        """Its final status, such as ``Completed``."""
        return self.seen.status.value

    @property
    def exit_code(self) -> int | None:
        """What its program ended with; None where it is not known, or the program has not started."""
        return self.seen.state.exit_code

    @property
    def output(self) -> str:
        """What all ranks have printed, rank by rank."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.user_logs.glob("*.txt")))

    @property
    def metrics(self) -> dict[str, Any]:
        """What its program has logged, as Azure ML's ``get_metrics``."""
        metrics = read_run(str(self.folder.path))[1]
        return {name: metrics.value(name) for name in metrics.names()}

    def __str__(self) -> str:
        controller = self.folder.controller_log.read_text(errors="replace") if self.folder.controller_log.exists() else ""
        what = f"{self.seen.status} {self.seen.reason} {self.seen.message}".strip()
        return "\n".join(filter(None, [f"it ended {what}", self.output[-3000:], controller[-3000:]]))


class Bench:
    """A workspace with a source directory, in which no other plugin is known than the one under test.

    ``said`` has the lines of progress and the warnings that a user would have seen.
    """

    def __init__(self, root: Path, modules: Sequence[str], config: str = "") -> None:
        self.workspace: WorkspaceFolder = create_workspace(root / "work space")
        self.source = root / "source"
        self.source.mkdir(exist_ok=True)
        if config:
            self.workspace.config.write_text(config, encoding="utf-8")
        self.plugins = Plugins([EntryPoint(name, name, name, "under test") for name in modules])
        self.said: list[str] = []

    @property
    def context(self) -> Context:
        """The workspace as a process sees it that has just started."""
        context = Context(self.workspace)
        context.__dict__["plugins"] = self.plugins  # where a cached property keeps it
        return context

    def write(self, files: Mapping[str, str]) -> None:
        """Put files into the source directory: name → text."""
        for name, text in files.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def placed(self, spec: RunSpec) -> RunSpec:
        """``spec`` with the bench's source directory, unless it names one."""
        return spec if spec.source else replace(spec, source=str(self.source))

    def submit(self, spec: RunSpec, *, dry: bool = False) -> Passage:
        """Submit a run as ``hpcest submit`` does. Raises HpcestError."""
        return submit(self.context, self.placed(spec), self.said.append, dry=dry)

    def look(self, folder: RunFolder) -> Seen:
        """What is true of a run now."""
        return watch.look_at(self.context, folder)

    def end_of(self, folder: RunFolder, seconds: float) -> Ended:
        """The run when it has ended and was collected. One that takes longer is canceled, and fails the test."""
        if not self.until(lambda: self.look(folder).finished, seconds):
            watch.cancel(self.context, folder)
            self.until(lambda: self.look(folder).finished, 30.0)
            pytest.fail(f"the run had not ended after {seconds:g} s\n{Ended(folder, self.look(folder))}", pytrace=False)
        self.said += collect(self.context, self.look(folder))
        return Ended(folder, self.look(folder))

    def until(self, holds: Callable[[], object], seconds: float) -> bool:
        """Wait until something holds; False after so many seconds."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def run(self, spec: RunSpec, seconds: float) -> Ended:
        """Submit a run and wait for its end."""
        return self.end_of(self.submit(spec).folder, seconds)

    def runs(self) -> list[str]:
        """The names of all run folders, half made ones too."""
        return sorted(os.listdir(self.workspace.runs))


class Contract:
    """What all contracts have. Inherit from one of its subclasses, in a class whose name begins with ``Test``."""

    #: The module that the plugin's entry point names; by default that of the class, or the package above it with the hooks.
    plugin: ClassVar[str] = ""
    #: Programs that real runs need, by name, separated by blanks. Where one is missing these tests are skipped.
    needs: ClassVar[str] = ""
    #: Seconds that a real run may take.
    patience: ClassVar[float] = 60.0

    @pytest.fixture(autouse=True)
    def _home_of_its_own(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing of the user's configuration, caches, workspace or run reaches a test."""
        home = tmp_path_factory.mktemp("home")
        for name in [*os.environ]:
            if name.startswith(("HPCEST_", "AZUREML_", "OMPI_COMM_")) or name in (*RANK_VARIABLES, "VIRTUAL_ENV", "CONDA_PREFIX"):
                monkeypatch.delenv(name)
        (home / "local").mkdir(mode=0o700)
        for name, value in {"SITE_CONFIG": "site.yaml", "CACHE_DIR": "cache", "LOCAL_DIR": "local"}.items():
            monkeypatch.setenv("HPCEST_" + name, str(home / value))
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))

    @pytest.fixture
    def bench(self, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
        """A workspace in which the plugin under test is the only one beside the built-in ones."""
        made = Bench(tmp_path, self._modules(), self._config())
        if made.plugins.problems and request.node.originalname not in REGISTERING:
            pytest.skip(f"the plugin can't be used: {' or '.join(REGISTERING)} says why")
        return made

    def _modules(self) -> list[str]:
        """The modules of plugins, beside hpcest's own, that the bench knows."""
        return [self.plugin]

    def _config(self) -> str:
        """The configuration of the bench's workspace, as YAML."""
        return ""

    def _able(self) -> None:
        """Skip the test where a real run lacks a program."""
        import shutil

        for name in self.needs.split():
            if shutil.which(name) is None:
                pytest.skip(f"{name} is not on PATH")


def modules_of(kind: str, offered: type[Any], plugin: str) -> list[str]:
    """The module whose hook registers the class; nothing for a built-in one, which is known anyway."""
    module = plugin or offered.__module__
    if any((builtin, where) == (kind, module) for builtin, _, where in BUILTIN):
        return []
    hook, parts = KINDS[kind][0], module.split(".")
    above = [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
    wanted = [one for one in above if hasattr(_imported(one), hook)] or [one for one in above if _has_hooks(_imported(one))]
    return [plugin or next(iter(wanted), module)]


def _has_hooks(module: Any) -> bool:
    """Whether anything in a module is marked as a hook, a misspelt one too."""
    return any(hasattr(value, "hpcest_impl") for value in vars(module).values())


def _imported(name: str) -> Any:
    return sys.modules.get(name) or import_module(name)


def registered(bench: Bench, kind: str, offered: Any, where: str) -> None:
    """Fail the test unless the class has a name that can be typed, and its plugin registers it under that name alone."""
    __tracebackhide__ = True
    name = getattr(offered, "name", None)
    demand(isinstance(name, str) and NAME.fullmatch(name), f"{offered.__name__}.name must be a word that can be typed, not {name!r}", where)
    problems = [f"{one.value}: {one.reason}" for one in bench.plugins.problems]
    demand(not problems, "the plugin can't be used: " + "; ".join(problems), where)
    found = getattr(bench.plugins, kind)(name) if name in bench.plugins.names(kind) else None
    demand(found is offered, f"{KINDS[kind][0]} must return {offered.__name__}; the {kind} {name!r} is {found!r}", where)


def finished(status: Status | None) -> bool:
    """Whether a status is one that nothing comes after; None is not."""
    return status is not None and status.finished
