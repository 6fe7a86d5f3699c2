"""The contract of a framework: what it refuses, what it starts, and what each of its ranks is told."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpcest.contracts import Framework
from hpcest.errors import HpcestError, UsageError
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.testing.bench import Bench, Contract, Ended, complaints_of_options, demand, modules_of, page, refusal, registered, tree
from hpcest.testing.complaints import (
    complaints_of_checkpoint,
    complaints_of_import,
    complaints_of_presets,
    complaints_of_program,
    places_of_this_python,
    unlike,
)
from hpcest.testing.recording import recorded

if TYPE_CHECKING:
    from hpcest.sdk.estimator import Estimator

WHERE = page("Frameworks")
RANKS = page("Programs")
_ACTIVATION = Activation(python="/environment/bin/python", prefix=("/environment/enter",))
#: Files that are no checkpoints: name → text.
_NO_CHECKPOINTS = {"notes.txt": "no checkpoint\n", "train.log": "epoch 1\n", "a folder/README.md": "no checkpoint either\n"}
_SUFFIXES = ("bin", "ckpt", "h5", "json", "keras", "model", "npz", "onnx", "pkl", "pt", "pth", "safetensors", "ubj")
#: What no framework can start: why → what is different from the example.
BAD: dict[str, dict[str, Any]] = {
    "no command": {"command": Command()},
    "a script and a command line": {"command": Command(script="train.py", line="echo")},
    "a blank command line": {"command": Command(line="  ")},
    "a script outside of the source directory": {"command": Command(script="../train.py")},
    "a script with an absolute path": {"command": Command(script="/train.py")},
    "a script that is a folder": {"command": Command(script="folder/")},
    "a NUL in an argument": {"command": Command(script="train.py", arguments=("a\0b",))},
    "an argument that is no text": {"command": Command(script="train.py", arguments=(1,))},  # type: ignore[arg-type]  # what it is about
    "0 nodes": {"resources": Resources(nodes=0)},
    "-1 nodes": {"resources": Resources(nodes=-1)},
    "0 processes on a node": {"resources": Resources(procs_per_node=0)},
    "half a core": {"resources": Resources(cpus=0.5)},  # type: ignore[arg-type]  # what it is about
    "-1 GPUs": {"resources": Resources(gpus=-1)},
    "no memory": {"resources": Resources(memory=0)},
    "an unknown distribution": {"distribution": Distribution("carrier-pigeon")},
}


class FrameworkContract(Contract):
    """What hpcest expects of a framework. At least ``framework`` and ``files`` have to be set::

    class TestJulia(FrameworkContract):
        framework = Julia
        files = {"train.jl": "println(42)"}
        needs = "julia"
    """

    #: The class under test.
    framework: ClassVar[type[Framework]]
    #: Its estimator, if it ships one.
    estimator: ClassVar[type[Estimator] | None] = None
    #: The example: a source directory, name → text. The first one is the entry script.
    files: ClassVar[Mapping[str, str]]
    #: The same with a program that ends with an error; without it that is not tried.
    broken: ClassVar[Mapping[str, str]] = {}
    #: How many nodes, and processes on each, are tried where the framework has a distribution.
    ranks: ClassVar[tuple[int, int]] = (2, 2)
    #: Whether the example can run with several ranks, of a framework that has no distributions and spreads nevertheless.
    several: ClassVar[bool] = False
    #: Why the example can't run with several ranks here, in a sentence; then that is not tried.
    alone: ClassVar[str] = ""
    #: What the plugin's module may import beside hpcest and the standard library: names of packages.
    imports: ClassVar[tuple[str, ...]] = ()

    def spec(self) -> RunSpec:
        """The example: a run of one process that needs no more than ``files``."""
        return RunSpec("contract", Command(next(iter(self.files))), framework=self.framework.name)

    def refused(self) -> Mapping[str, RunSpec]:
        """Further specs that the framework must refuse: why → spec."""
        return {}

    @pytest.fixture
    def interpreter(self) -> str:
        """The Python that real runs take, such as what ``python_with`` returns; empty: the one of the tests."""
        return ""

    def _modules(self) -> list[str]:
        return [*modules_of("framework", self.framework, self.plugin), "hpcest.testing.recording"]

    def _made(self, bench: Bench, spec: RunSpec) -> Framework:
        return bench.context.framework(spec)

    def _example(self, bench: Bench, **changes: Any) -> RunSpec:
        bench.write(self.files)
        spec = bench.placed(self.spec())
        if spec.environment == EnvironmentSpec():
            spec = replace(spec, environment=EnvironmentSpec("host"))
        return replace(spec, **changes)

    def _real(self, bench: Bench, interpreter: str) -> RunSpec:
        """The example for a real run; skips the test where there can be none."""
        self._able()
        spec = self._example(bench)
        return replace(spec, environment=replace(spec.environment, interpreter=interpreter)) if interpreter else spec

    def _shapes(self) -> list[tuple[int, int]]:
        """Nodes and processes on each of the real runs with several ranks, if there are to be any."""
        kinds = self.framework.distributions
        if not (kinds or self.several):
            return []
        self._able()
        if self.alone:
            pytest.skip(self.alone)
        if kinds[:1] == ("mpi",) and shutil.which("mpirun") is None:
            pytest.skip("mpirun, which starts several ranks on this machine, is not on PATH")
        return [(1, 2), (2, 1)] if self.ranks[1] > 1 else [(2, 1)]

    def _spread(self, spec: RunSpec, shape: tuple[int, int]) -> RunSpec:
        """``spec`` with so many nodes and processes on each, by the framework's first distribution."""
        resources = replace(spec.resources, nodes=shape[0], procs_per_node=shape[1])
        kinds = self.framework.distributions
        return replace(spec, resources=resources, distribution=Distribution(kinds[0]) if kinds else None)

    # ------------------------------------------------------------------ the class
    def test_it_is_registered_under_its_name(self, bench: Bench) -> None:
        """The plugin's hook returns it, and nothing is wrong with the plugin."""
        registered(bench, "framework", self.framework, WHERE)

    def test_its_module_imports_next_to_nothing(self, bench: Bench) -> None:
        """Every command of hpcest imports it, also where the framework itself is not installed."""
        module = next(iter(modules_of("framework", self.framework, self.plugin)), self.framework.__module__)
        if module == type(self).__module__:
            pytest.skip("the plugin's module is this test")
        wrong = complaints_of_import(module, self.imports)
        demand(not wrong, "; ".join(wrong), page("A framework from an empty folder"))

    def test_its_options_have_defaults_and_help(self, bench: Bench) -> None:
        """``Options`` can be made without arguments, and says what each of its fields is for."""
        wrong = complaints_of_options(self.framework.Options)
        demand(not wrong, f"{self.framework.__name__}.Options: {'; '.join(wrong)}", WHERE)
        made = self._made(bench, self._example(bench, framework_options={}))
        demand(made.options == self.framework.Options(), "made without options a framework has the default ones", WHERE)

    def test_an_unknown_option_is_refused(self, bench: Bench) -> None:
        """A misspelt one would silently change nothing."""
        with refusal("an option that the framework has not must be refused", WHERE, UsageError):
            self._made(bench, self._example(bench, framework_options={"no_such_option": 1}))

    # ------------------------------------------------------------------ check
    def test_it_accepts_its_own_example(self, bench: Bench) -> None:
        """``check`` takes the example, and changes nothing."""
        spec = self._example(bench)
        before, files = copy.deepcopy(spec), tree(bench.source)
        self._made(bench, spec).check(spec)
        demand(spec == before, "check(spec) must leave the spec as it is", WHERE)
        demand(tree(bench.source) == files, "check(spec) must leave the source directory as it is", WHERE)

    @pytest.mark.parametrize("why", BAD)
    def test_it_refuses_what_cannot_work(self, bench: Bench, why: str) -> None:
        """A SpecError, never another exception, before anything is recorded."""
        spec = self._example(bench, **BAD[why])
        with refusal(f"check(spec) must refuse {why} with a SpecError", WHERE, UsageError):
            bench.submit(spec)
        demand(bench.runs() == [], f"check(spec) must refuse {why} before the run is recorded", WHERE)

    def test_it_refuses_what_its_author_says(self, bench: Bench) -> None:
        """What ``refused`` lists."""
        self._example(bench)
        for why, spec in self.refused().items():
            with refusal(f"check(spec) must refuse {why} with a SpecError", WHERE, UsageError):
                bench.submit(spec if spec.framework == self.framework.name else replace(spec, framework=self.framework.name))
            demand(bench.runs() == [], f"check(spec) must refuse {why} before the run is recorded", WHERE)

    # ------------------------------------------------------------------ program
    def test_its_program_can_be_written_down(self, bench: Bench) -> None:
        """Texts only, at least one word, and JSON can hold it all."""
        spec = self._example(bench)
        program = self._made(bench, spec).program(spec, _ACTIVATION)
        demand(isinstance(program, Program), f"program(spec, activation) must return a Program, not {program!r}", WHERE)
        wrong = complaints_of_program(program)
        demand(not wrong, f"program(spec, activation): {'; '.join(wrong)}", WHERE)

    def test_its_program_is_always_the_same(self, bench: Bench) -> None:
        """Asked twice it answers the same, and leaves the spec, the variables and the directory alone: a dry run asks too."""
        spec = self._example(bench)
        before, environ, files = copy.deepcopy(spec), dict(os.environ), tree(bench.source)
        first, second = (self._made(bench, spec).program(spec, _ACTIVATION) for _ in range(2))
        demand(first == second, f"program(spec, activation) must depend on its arguments alone: {first} and then {second}", WHERE)
        demand(spec == before, "program(spec, activation) must leave the spec as it is", WHERE)
        demand(dict(os.environ) == environ, "program(spec, activation) must not set variables of the submitting process", WHERE)
        demand(tree(bench.source) == files, "program(spec, activation) must write nothing: files for the node are its helpers", WHERE)

    def test_it_does_not_look_for_the_environment_here(self, bench: Bench) -> None:
        """The environment's interpreter may be one that only the node has."""
        spec = self._example(bench)
        program = self._made(bench, spec).program(spec, Activation(python="/only on/the node/python"))
        wrong = places_of_this_python(program)
        told = "program(spec, activation) must start activation.python, and not the Python that submits"
        demand(not wrong, f"{told}: {'; '.join(wrong)}", WHERE)

    # ------------------------------------------------------------------ presets and checkpoints
    def test_its_presets_are_environments(self, bench: Bench) -> None:
        """Each version in the file of presets is something that can be asked of an environment."""
        path = self.framework.presets
        if path is None:
            return
        demand(Path(path).is_file(), f"presets must be the path of a file; there is no {path}", WHERE)
        wrong = complaints_of_presets(self.framework, Path(path))
        demand(not wrong, f"{path}: {'; '.join(wrong)}", WHERE)

    def test_it_finds_checkpoints_only_where_they_are(self, tmp_path: Path, bench: Bench) -> None:
        """``checkpoint`` answers None for outputs that are gone, or have nothing but notes, folders and empty files."""
        made = self._made(bench, self._example(bench))
        outputs = tmp_path / "outputs"
        self._finds_nothing(made, outputs, "outputs that are gone")
        outputs.mkdir()
        self._finds_nothing(made, outputs, "empty outputs")
        for suffix in _SUFFIXES:
            (outputs / f"folder.{suffix}").mkdir()
            (outputs / f"model.{suffix}").touch()
        self._finds_nothing(made, outputs, "outputs of empty files and folders")
        for name, text in _NO_CHECKPOINTS.items():
            (outputs / name).parent.mkdir(exist_ok=True)
            (outputs / name).write_text(text)
        self._finds_nothing(made, outputs, f"outputs with {', '.join(_NO_CHECKPOINTS)}")

    def _finds_nothing(self, made: Framework, outputs: Path, of_what: str) -> None:
        found = made.checkpoint(outputs)
        demand(found is None, f"checkpoint(outputs) must be None for {of_what}, and not {found!r}", WHERE)

    # ------------------------------------------------------------------ real runs
    def test_a_real_run_completes(self, bench: Bench, interpreter: str, tmp_path: Path) -> None:
        """Its example, on this machine. What it leaves may be a checkpoint, if it is not empty."""
        ended = bench.run(self._real(bench, interpreter), self.patience)
        demand(ended.status == "Completed", f"a real run of the example must end Completed; {ended}", WHERE)
        made, outputs = self._made(bench, self._example(bench)), ended.folder.outputs
        wrong = complaints_of_checkpoint(made.checkpoint(outputs), outputs)
        demand(not wrong, f"checkpoint(outputs) of the example: {'; '.join(wrong)}", WHERE)
        emptied = tmp_path / "emptied"
        for path in outputs.rglob("*"):
            there = emptied / path.relative_to(outputs)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.mkdir(exist_ok=True) if path.is_dir() else there.touch()
        self._finds_nothing(made, emptied, "the outputs of the example with nothing in the files")

    def test_a_real_run_of_several_ranks_completes(self, bench: Bench, interpreter: str) -> None:
        """Its example with two ranks, on one node and on two, by its first distribution; nodes are rehearsed on this machine."""
        for shape in self._shapes():
            ended = bench.run(self._spread(self._real(bench, interpreter), shape), self.patience)
            told = f"the example must end Completed on {shape[0]} node(s) with {shape[1]} rank(s) each"
            demand(ended.status == "Completed", f"{told}; {ended}", RANKS)
            logs = [ended.folder.rank_log(rank, ranks=2) for rank in range(2)]
            demand(all(log.exists() for log in logs), f"{told}, and each rank have a log of its own; {ended}", RANKS)

    def test_a_program_that_fails_fails_its_run(self, bench: Bench, interpreter: str) -> None:
        """Whatever starts the program passes its failure on."""
        if not self.broken:
            pytest.skip("the contract names no 'broken' files")
        spec = self._real(bench, interpreter)
        bench.write(self.broken)
        ended = bench.run(spec, self.patience)
        demand(_failed(ended), f"a run whose program fails must end Failed with an exit code; {ended}", WHERE)

    def test_several_ranks_fail_as_one_does(self, bench: Bench, interpreter: str) -> None:
        """The exit code is the program's, and no rank waits for one that is gone."""
        shapes = self._shapes()
        if not shapes:
            return
        if not self.broken:
            pytest.skip("the contract names no 'broken' files")
        spec = self._real(bench, interpreter)
        bench.write(self.broken)
        one, two = (bench.run(each, self.patience) for each in (spec, self._spread(spec, shapes[0])))
        wanted = f"with two ranks a program that fails must end Failed with the exit code {one.exit_code} that it has alone"
        demand(_failed(two) and two.exit_code == one.exit_code, f"{wanted}, and not {two.exit_code}; {two}", RANKS)

    @pytest.mark.parametrize("spread", [False, True], ids=["one-node", "two-nodes"])
    def test_every_rank_is_told_where_it_is(self, bench: Bench, spread: bool) -> None:
        """The contract of ranks, the same for one node and for several. What would start is noted, and not started."""
        example = self._example(bench)
        nodes, per_node = self.ranks if spread else (1, 1)
        kinds = self.framework.distributions if spread else ("",)  # one without any starts one rank
        for kind in kinds:
            if kind == "mpi" and shutil.which("mpirun") is None:
                continue  # nothing starts such ranks on this machine
            spec, by = example, f" by {kind!r}" if kind else ""
            if kind:
                resources = replace(spec.resources, nodes=nodes, procs_per_node=per_node)
                spec = replace(spec, resources=resources, distribution=Distribution(kind))
            program = self._made(bench, spec).program(spec, _ACTIVATION)
            ended = bench.run(replace(spec, environment=EnvironmentSpec("recorder")), self.patience)
            demand(ended.status == "Completed", f"as many ranks as were asked for must start{by}; {ended}", RANKS)
            wrong = unlike(recorded(ended.folder), program, ended.folder.id, (nodes, per_node if program.per == "process" else 1))
            demand(not wrong, f"ranks on {nodes} node(s){by}: {'; '.join(wrong)}", RANKS)

    # ------------------------------------------------------------------ the estimator
    def test_its_estimator_describes_its_runs(self, bench: Bench) -> None:
        """The spec of an estimator names the framework, and the framework accepts it."""
        if self.estimator is None:
            return
        from hpcest.sdk.workspace import Workspace

        kind, entry = self.estimator, self.spec().command.script
        demand(kind.framework == self.framework.name, f"{kind.__name__}.framework must be {self.framework.name!r}", WHERE)
        known = [one.name for one in fields(self.framework.Options)]
        unknown = [name for name in getattr(kind, "own", ()) if name not in known]
        options = f"options of the framework: {', '.join(known) or 'it has none'}"
        demand(not unknown, f"{kind.__name__}.own must name {options}; there is no {', '.join(unknown)}", WHERE)
        bench.write(self.files)
        workspace = Workspace(bench.workspace)
        workspace.context = bench.context
        spec = kind(bench.source, entry_script=entry).to_spec("contract", workspace)
        demand(spec.framework == self.framework.name, f"{kind.__name__}.to_spec must keep the framework", WHERE)
        try:
            self._made(bench, spec).check(spec)
        except HpcestError as error:
            pytest.fail(
                f"{self.framework.__name__}.check must accept what {kind.__name__} makes: {error.message}\nSee {WHERE}", pytrace=False
            )


def _failed(ended: Ended) -> bool:
    return ended.status == "Failed" and (ended.exit_code or 0) > 0
