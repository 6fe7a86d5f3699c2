"""The contract of a framework: what it refuses, what it starts, and what each of its ranks is told."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpcest.contracts import Framework
from hpcest.errors import HpcestError, UsageError
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.testing.bench import Bench, Contract, complaints_of_options, demand, is_json, modules_of, refusal, registered, tree
from hpcest.testing.recording import recorded

if TYPE_CHECKING:
    from hpcest.sdk.estimator import Estimator

WHERE = "docs/plugins.md, Frameworks"
RANKS = "docs/plugins.md, Programs"
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

    def spec(self) -> RunSpec:
        """The example: a run of one process that needs no more than ``files``."""
        return RunSpec("contract", Command(next(iter(self.files))), framework=self.framework.name)

    def refused(self) -> Mapping[str, RunSpec]:
        """Further specs that the framework must refuse: why → spec."""
        return {}

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

    # ------------------------------------------------------------------ the class
    def test_it_is_registered_under_its_name(self, bench: Bench) -> None:
        """The plugin's hook returns it, and nothing is wrong with the plugin."""
        registered(bench, "framework", self.framework, WHERE)

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
        wrong = _complaints(program)
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
        demand(program.argv, "program(spec, activation) must work with an interpreter that is not on this machine", WHERE)

    # ------------------------------------------------------------------ presets and checkpoints
    def test_its_presets_are_environments(self, bench: Bench) -> None:
        """Each version in the file of presets is something that can be asked of an environment."""
        path = self.framework.presets
        if path is None:
            return
        demand(Path(path).is_file(), f"presets must be the path of a file; there is no {path}", WHERE)
        wrong = _complaints_of_presets(self.framework, Path(path))
        demand(not wrong, f"{path}: {'; '.join(wrong)}", WHERE)

    def test_it_finds_checkpoints_only_where_they_are(self, tmp_path: Path, bench: Bench) -> None:
        """``checkpoint`` answers None for outputs that are empty, or gone, and a path among them otherwise."""
        made = self._made(bench, self._example(bench))
        for outputs in (tmp_path / "empty", tmp_path / "gone"):
            if outputs.name == "empty":
                outputs.mkdir()
            found = made.checkpoint(outputs)
            demand(found is None, f"checkpoint(outputs) must be None where there is none, not {found!r}", WHERE)

    # ------------------------------------------------------------------ real runs
    def test_a_real_run_completes(self, bench: Bench) -> None:
        """Its example, on this machine, with the Python of the tests."""
        self._able()
        ended = bench.run(self._example(bench), self.patience)
        demand(ended.status == "Completed", f"a real run of the example must end Completed; {ended}", WHERE)

    def test_a_program_that_fails_fails_its_run(self, bench: Bench) -> None:
        """Whatever starts the program passes its failure on."""
        self._able()
        if not self.broken:
            pytest.skip("the contract names no 'broken' files")
        spec = self._example(bench)
        bench.write(self.broken)
        ended = bench.run(spec, self.patience)
        failed = ended.status == "Failed" and (ended.seen.state.exit_code or 0) > 0
        demand(failed, f"a run whose program fails must end Failed with an exit code; {ended}", WHERE)

    @pytest.mark.parametrize("spread", [False, True], ids=["one-node", "two-nodes"])
    def test_every_rank_is_told_where_it_is(self, bench: Bench, spread: bool) -> None:
        """The contract of ranks, the same for one node and for several. What would start is noted, and not started."""
        example = self._example(bench)
        nodes, per_node = self.ranks if spread else (1, 1)
        kinds = self.framework.distributions if spread else ("",)  # one without any starts one rank
        for kind in kinds:
            spec = example
            if kind:
                resources = replace(spec.resources, nodes=nodes, procs_per_node=per_node)
                spec = replace(spec, resources=resources, distribution=Distribution(kind))
            program = self._made(bench, spec).program(spec, _ACTIVATION)
            ended = bench.run(replace(spec, environment=EnvironmentSpec("recorder")), self.patience)
            demand(ended.status == "Completed", f"as many ranks as were asked for must start {kind}; {ended}", RANKS)
            wrong = _unlike(recorded(ended.folder), program, ended.folder.id, (nodes, per_node if program.per == "process" else 1))
            demand(not wrong, f"{kind}: {'; '.join(wrong)}", RANKS)

    # ------------------------------------------------------------------ the estimator
    def test_its_estimator_describes_its_runs(self, bench: Bench) -> None:
        """The spec of an estimator names the framework, and the framework accepts it."""
        if self.estimator is None:
            return
        from hpcest.sdk.workspace import Workspace

        kind, entry = self.estimator, self.spec().command.script
        demand(kind.framework == self.framework.name, f"{kind.__name__}.framework must be {self.framework.name!r}", WHERE)
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


_ACTIVATION = Activation(python="/environment/bin/python", prefix=("/environment/enter",))
_UNTOLD = re.compile(r"\$\{?(RANK|LOCAL_RANK|WORLD_SIZE|NODE_RANK|HPCEST_\w+)\b")
_NAMES = re.compile(r"\$\{?(\w+)")
_TEXTS: Sequence[str] = ("variables", "rank_variables", "helpers")


def _complaints(program: Program) -> list[str]:
    """What a launch manifest could not hold, or no operating system would take."""
    found = []
    if not program.argv or not all(isinstance(word, str) and "\0" not in word for word in program.argv):
        found.append(f"argv must be texts, at least one, and not {program.argv!r}")
    elif not program.argv[0]:
        found.append("argv must begin with a program")
    for name in _TEXTS:
        if not all(isinstance(word, str) and word for word in getattr(program, name)):
            found.append(f"{name} must have names that are texts")
        if not all(isinstance(word, str) and "\0" not in word for word in getattr(program, name).values()):
            found.append(f"{name} must have values that are texts, not {getattr(program, name)!r}")
    if program.per not in ("process", "node"):
        found.append(f"per must be 'process' or 'node', not {program.per!r}")
    if any("/" in name for name in program.helpers):
        found.append("helpers must have names of files, without a folder")
    if set(program.servers) - set(program.roles):
        found.append(f"servers must be roles; there are {sorted(program.roles)}")
    if program.roles and not program.meets:
        found.append("ranks that have roles must meet: meets=True")
    plain = {**asdict(program), "argv": list(program.argv), "servers": list(program.servers)} if is_dataclass(program) else {}
    if not found and not is_json(plain):
        found.append(f"JSON must be able to hold all of {[one.name for one in fields(program)]}")
    return found


def _complaints_of_presets(framework: type[Framework], path: Path) -> list[str]:
    """What is wrong with a file of versions: its shape, and versions that nobody could install."""
    from hpcest.environments.requirements import read
    from hpcest.kit.yamlfile import load
    from hpcest.lifecycle.presets import default_version, preset, versions

    value = load(path).value
    if not isinstance(value, dict) or set(value) != {"default", "versions"} or not isinstance(value["versions"], dict):
        return ["it must have the keys 'default' and 'versions', a mapping"]
    if not all(isinstance(version, str) for version in value["versions"]):
        return [f"versions must be texts, in quotes: {', '.join(map(repr, value['versions']))}"]
    if default_version(framework) != str(value["default"]):
        return [f"the default {value['default']!r} must be one of the versions, a text: {', '.join(map(repr, value['versions']))}"]
    found = []
    for version in versions(framework):
        wrong, given = [], 0
        for gpu in (False, True):
            try:
                spec = preset(framework, version, gpu=gpu)
                read(spec.pip, {})
                given += bool(spec.pip or spec.conda or spec.image or spec.modules or spec.prefix)
            except HpcestError as error:
                wrong.append(error.message)
        if not given:
            found.append(f"version {version!r} installs nothing" + "".join(f": {why}" for why in wrong))
    return found


def _unlike(found: Sequence[Mapping[str, Any]], program: Program, run_id: str, shape: tuple[int, int]) -> list[str]:
    """What is not as it should be of ranks that were started on so many nodes, with so many on each."""
    nodes, per_node = shape
    size, wrong = nodes * per_node, []
    environs = [one["environ"] for one in found]
    if [environ["RANK"] for environ in environs] != [str(rank) for rank in range(size)]:
        return [f"there must be the ranks 0 to {size - 1}, and not {[environ['RANK'] for environ in environs]}"]
    for rank, environ in enumerate(environs):
        expected = {
            "WORLD_SIZE": size, "LOCAL_RANK": rank % per_node, "LOCAL_WORLD_SIZE": per_node, "NODE_RANK": rank // per_node,
            "HPCEST_NODE_COUNT": nodes, "HPCEST_RUN_ID": run_id, "HPCEST_ATTEMPT": 0,
            "OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": size,
            "OMPI_COMM_WORLD_LOCAL_RANK": rank % per_node, "OMPI_COMM_WORLD_LOCAL_SIZE": per_node,
        }  # fmt: skip
        wrong += [
            f"rank {rank} has {name}={environ.get(name)!r}, not {value}"
            for name, value in expected.items()
            if environ.get(name) != str(value)
        ]
        wrong += [
            f"rank {rank} has no {name}"
            for name in ("MASTER_ADDR", "MASTER_PORT", "HPCEST_OUTPUT_DIR", "HPCEST_CPUS")
            if not environ.get(name)
        ]
        wrong += [f"rank {rank} has not the program's {name}" for name in program.variables if environ.get(name) != program.variables[name]]
        told = [name for name, text in program.rank_variables.items() if all(map(environ.get, _NAMES.findall(text)))]
        wrong += [f"rank {rank} has no {name}, one of rank_variables" for name in told if name not in environ]
        helpers = environ.get("HPCEST_HELPERS", "")
        wrong += [f"rank {rank} has no helper {name}" for name in program.helpers if not os.path.isfile(os.path.join(helpers, name))]
        if program.expand and (left := [word for word in found[rank]["argv"] if _UNTOLD.search(word)]):
            wrong.append(f"rank {rank} has words in its argv that nothing has replaced: {left}")
        if program.meets and len(set(environ.get("HPCEST_PEERS", "").split(","))) != size:
            wrong.append(f"rank {rank} has no address for each rank in HPCEST_PEERS")
    if len({(environ["MASTER_ADDR"], environ["MASTER_PORT"]) for environ in environs}) != 1:
        wrong.append("all ranks must have one MASTER_ADDR and MASTER_PORT")
    return wrong
