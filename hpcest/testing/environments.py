"""The contract of an environment: resolved once and for all, built once, safe at the same time, and sparing of secrets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hpcest.contracts import Environment, Lock
from hpcest.errors import EnvironmentBuildError, HpcestError, SpecError
from hpcest.kit.codec import encode
from hpcest.kit.process import run
from hpcest.model.plan import Activation
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.testing.bench import NAME, Bench, Contract, demand, is_json, modules_of, page, refusal, registered, tree

WHERE = page("Environments")
FIELDS = {"pip", "conda", "image", "system", "steps", "prefix", "modules", "interpreter", "variables", "name", "channels", "layout"}
HIDDEN = "sesame-open-5f1c"
_PROGRAM = """\
import sys
{check}
from hpcest import Run
Run.get_context().log("major", sys.version_info[0])
"""
# What a second process does: it prepares the same, and says to which key it came.
_PREPARE = """\
import importlib, importlib.util, json, sys
module, file, name, root, spec, settings = json.loads(sys.argv[1])
try:
    found = importlib.import_module(module)
except ImportError:
    location = importlib.util.spec_from_file_location(module, file)
    found = sys.modules[module] = importlib.util.module_from_spec(location)
    location.loader.exec_module(found)
for part in name.split("."):
    found = getattr(found, part)
from hpcest.kit.codec import decode
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec
made = found(decode(EnvironmentSettings, settings))
lock = made.prepare(decode(EnvironmentSpec, spec), WorkspaceFolder(root), lambda line: None)
print("\\n" + json.dumps([lock.kind, lock.key, lock.text]))
"""


class EnvironmentContract(Contract):
    """What hpcest expects of a kind of environment. At least ``environment`` has to be set::

    class TestSpack(EnvironmentContract):
        environment = Spack
        needs = "spack"

        def spec(self):
            return EnvironmentSpec("spack", modules=("zlib",))
    """

    #: The class under test.
    environment: ClassVar[type[Environment]]
    #: What is configured for environments, for the tests.
    settings: ClassVar[EnvironmentSettings] = EnvironmentSettings()
    #: Lines of Python that must work in what ``spec`` describes, such as ``import numpy``.
    check: ClassVar[str] = ""

    def spec(self) -> EnvironmentSpec:
        """The example: something small that can be prepared wherever the tests run."""
        return EnvironmentSpec(self.environment.name)

    def other(self) -> EnvironmentSpec | None:
        """Something with another content than ``spec``; None where there is only one."""
        return None

    def refused(self) -> Mapping[str, EnvironmentSpec]:
        """What can't be prepared: why → spec."""
        return {}

    @pytest.fixture
    def made(self, bench: Bench) -> Environment:
        """The environment under test; where it can't be used, its own words say why the test is skipped."""
        self._able()
        made = self._new()
        if why := made.missing():
            pytest.skip(f"{self.environment.name}: {why}")
        return made

    def _new(self) -> Environment:
        return self.environment(self.settings)

    def _modules(self) -> list[str]:
        return modules_of("environment", self.environment, self.plugin)

    def _prepared(self, made: Environment, bench: Bench, spec: EnvironmentSpec | None = None) -> Lock:
        try:
            return made.prepare(spec or self.spec(), bench.workspace, bench.said.append)
        except HpcestError as error:
            pytest.fail(f"the example must be prepared: {error.message} {error.hint}\nSee {WHERE}", pytrace=False)

    # ------------------------------------------------------------------ the class
    def test_it_is_registered_under_its_name(self, bench: Bench) -> None:
        """The plugin's hook returns it, and nothing is wrong with the plugin."""
        registered(bench, "environment", self.environment, WHERE)

    def test_what_it_takes_are_fields_of_a_spec(self) -> None:
        """``takes`` decides what ``auto`` chooses, so a misspelt name would never be noticed."""
        unknown = set(self.environment.takes) - FIELDS
        demand(not unknown, f"takes may hold {', '.join(sorted(FIELDS))}, and not {', '.join(sorted(unknown))}", WHERE)

    def test_it_says_in_words_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """``missing`` answers with a text, also on a machine that has next to nothing."""
        for path in (os.environ.get("PATH", ""), "/nowhere"):
            monkeypatch.setenv("PATH", path)
            found = self._new().missing()
            demand(isinstance(found, str) and found == found.strip(), f"missing() must return a sentence or nothing, not {found!r}", WHERE)

    # ------------------------------------------------------------------ the lock
    def test_its_lock_can_be_kept(self, made: Environment, bench: Bench) -> None:
        """The lock is written beside the run, and its key names what was built."""
        lock = self._prepared(made, bench)
        demand(
            isinstance(lock, Lock) and lock.kind == self.environment.name,
            f"prepare must return a Lock of its own kind, not {lock!r}",
            WHERE,
        )
        demand(NAME.fullmatch("k" + lock.key) and lock.key, f"a key is a name of letters and digits, not {lock.key!r}", WHERE)
        demand(is_json(lock.facts), f"JSON must be able to hold the facts of a lock; they are {lock.facts!r}", WHERE)
        demand(not lock.text or lock.text.endswith("\n"), "the text of a lock has whole lines", WHERE)

    def test_preparing_again_comes_to_the_same(self, made: Environment, bench: Bench) -> None:
        """The same spec is the same environment; nothing is built a second time."""
        first = self._prepared(made, bench)
        before = tree(bench.workspace.environments)
        second = self._prepared(self._new(), bench)
        demand((second.key, second.text) == (first.key, first.text), "prepare must come to the same key and text for the same spec", WHERE)
        added = set(tree(bench.workspace.environments)) - set(before)
        demand(not added, f"prepare must build nothing when all is there already; it made {sorted(added)[:5]}", WHERE)

    def test_another_content_is_another_key(self, made: Environment, bench: Bench) -> None:
        """Two environments with one key would be taken for each other."""
        other = self.other()
        if other is None:
            return
        first, second = self._prepared(made, bench), self._prepared(made, bench, other)
        demand(first.key != second.key, f"another content must have another key; both have {first.key}", WHERE)

    def test_two_processes_may_prepare_at_once(self, made: Environment, bench: Bench) -> None:
        """Both come to the same, and what they leave works."""
        kind = self.environment
        words = [kind.__module__, getattr(sys.modules[kind.__module__], "__file__", ""), kind.__qualname__]
        task = json.dumps([*words, str(bench.workspace.root), encode(self.spec()), encode(self.settings)])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

        def prepare(_: int) -> Any:
            done = run([sys.executable, "-c", _PREPARE, task], env=env, timeout=self.patience)
            demand(done.ok, f"prepare must be safe when two processes do it at once; one said: {done.err[-2000:]}", WHERE)
            return json.loads(done.out.splitlines()[-1])

        with ThreadPoolExecutor(2) as both:
            first, second = both.map(prepare, range(2))
        demand(first == second, f"two processes must come to the same lock: {first} and {second}", WHERE)
        lock = self._prepared(made, bench)
        demand([lock.kind, lock.key, lock.text] == first, "what two processes have prepared at once is there for a third", WHERE)
        self._activated(made, lock, bench)

    # ------------------------------------------------------------------ activation
    def _activated(self, made: Environment, lock: Lock, bench: Bench) -> Activation:
        found = made.activate(lock, bench.workspace, RunSpec("contract", Command("train.py")))
        demand(isinstance(found, Activation), f"activate must return an Activation, not {found!r}", WHERE)
        return found

    def test_activating_builds_nothing(self, made: Environment, bench: Bench) -> None:
        """It is done for every run; a lock that was read from a file will do."""
        lock = self._prepared(made, bench)
        before = tree(bench.workspace.environments)
        read = replace(lock, facts=json.loads(json.dumps(lock.facts)))
        found = self._activated(self._new(), read, bench)
        demand(set(tree(bench.workspace.environments)) == set(before), "activate must build nothing", WHERE)
        demand(found == self._activated(self._new(), read, bench), "activate must come to the same for the same lock", WHERE)
        words = [found.python, *found.prefix, *found.path, *found.unset, *found.variables, *found.variables.values()]
        demand(all(isinstance(word, str) and "\0" not in word for word in words), f"an activation has texts alone: {found}", WHERE)
        demand(found.python, "an activation names the environment's interpreter", WHERE)

    def test_a_run_in_it_is_tracked(self, made: Environment, bench: Bench) -> None:
        """Its Python starts, has what was asked for, and ``from hpcest import Run`` works without being installed there."""
        bench.write({"train.py": _PROGRAM.format(check=self.check)})
        ended = bench.run(RunSpec("contract", Command("train.py"), environment=self.spec()), self.patience)
        demand(ended.status == "Completed", f"a run in the environment must end Completed; {ended}", WHERE)
        demand(ended.metrics == {"major": 3}, f"a run in the environment must be able to log; {ended}", WHERE)
        recorded = json.loads(ended.folder.lock.read_text())
        demand(recorded["kind"] == self.environment.name, f"the run's environment.lock must say its kind; it says {recorded}", WHERE)

    # ------------------------------------------------------------------ locks that are carried elsewhere
    def test_it_can_be_built_from_its_lock(self, made: Environment, bench: Bench, tmp_path: Path) -> None:
        """Only where ``resolves``: ``resolve`` comes to what ``prepare`` builds, and ``rebuild`` builds that elsewhere."""
        if not made.resolves:
            return
        foreseen = made.resolve(self.spec(), bench.workspace, bench.said.append)
        demand(not made.is_ready(foreseen, bench.workspace), "resolve must build nothing", WHERE)
        lock = self._prepared(made, bench)
        demand(lock.key == foreseen.key, "resolve must come to the key that prepare comes to", WHERE)
        demand(made.is_ready(lock, bench.workspace), "is_ready must be true of what was prepared", WHERE)
        (tmp_path / "second").mkdir()
        second = Bench(tmp_path / "second", self._modules())
        again = self._new().rebuild(self.spec(), second.workspace, second.said.append, lock.text)
        demand(again.key == lock.key, "rebuild must come to the key of the lock that it was given", WHERE)
        self._activated(made, again, second)

    def test_it_can_be_told_to_choose_anew(self, made: Environment, bench: Bench) -> None:
        """``forget`` answers with True or False, or says in a SpecError that nothing is remembered."""
        self._prepared(made, bench)
        try:
            found: object = made.forget(self.spec(), bench.workspace)
        except SpecError:
            return
        demand(isinstance(found, bool), f"forget must return True or False, not {found!r}", WHERE)

    # ------------------------------------------------------------------ errors and secrets
    def test_what_cannot_be_prepared_is_refused_with_a_next_step(self, made: Environment, bench: Bench) -> None:
        """What ``refused`` lists: EnvironmentBuildError or SpecError, with a hint."""
        for why, spec in self.refused().items():
            with refusal(f"{why} must be an EnvironmentBuildError or a SpecError", WHERE, (EnvironmentBuildError, SpecError)) as caught:
                made.prepare(spec, bench.workspace, bench.said.append)
            demand(caught[0].hint.strip(), f"{why}: the error needs a hint, the next step; it says {caught[0].message!r}", WHERE)

    def test_a_variables_value_is_written_nowhere(self, made: Environment, bench: Bench) -> None:
        """Variables of the environment may hold secrets: they are the run's, and no part of the lock or of what is built."""
        lock = self._prepared(made, bench, replace(self.spec(), variables={"CONTRACT_TOKEN": HIDDEN}))
        demand(HIDDEN not in json.dumps([lock.key, lock.text, lock.facts]), "the lock must not hold values of variables", WHERE)
        found = _holding(bench.workspace.environments, HIDDEN)
        demand(not found, f"values of variables must not be written into the workspace: {found}", WHERE)

    def test_a_password_of_a_package_index_is_not_repeated(self, made: Environment, bench: Bench) -> None:
        """Neither in the error, nor in its log, nor in anything that stays; only for a kind that takes pip's lines."""
        if "pip" not in made.takes:
            return
        lines = (f"--index-url http://me:{HIDDEN}@127.0.0.1:9/simple", "a-package-that-is-nowhere==1")
        spec = replace(self.spec(), pip=(*self.spec().pip, *lines))
        errors = (EnvironmentBuildError, SpecError)
        with refusal("a package index that can't be reached must be an EnvironmentBuildError", WHERE, errors) as caught:
            made.prepare(spec, bench.workspace, bench.said.append)
        log = getattr(caught[0], "log", "")
        written = Path(log).read_text(errors="replace") if log and os.path.isfile(log) else ""
        told = "\n".join([caught[0].message, caught[0].hint, *bench.said, written])
        demand(HIDDEN not in told, f"passwords must not be repeated: {told.replace(HIDDEN, '<the password>')}", WHERE)
        found = _holding(bench.workspace.environments, HIDDEN)
        demand(not found, f"passwords must not be written into the workspace: {found}", WHERE)


def _holding(folder: Path, text: str) -> list[str]:
    """The files below ``folder`` that have ``text`` in them."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(folder)) for path in files if text.encode() in path.read_bytes()]
