"""What hpcest brings along keeps the contracts that it asks of plugins."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import pytest

from hpcest.backends.local import Local
from hpcest.backends.slurm.backend import Slurm
from hpcest.environments.host import Host
from hpcest.environments.venv import Venv
from hpcest.frameworks import pytorch, sklearn, tensorflow
from hpcest.frameworks.script import Script
from hpcest.kit.process import run
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.sdk import frameworks as estimators
from hpcest.sdk.estimator import Estimator
from hpcest.testing import BackendContract, EnvironmentContract, FrameworkContract
from hpcest.testing.complaints import complaints_of_checkpoint, complaints_of_import


class TestScript(FrameworkContract):
    """A program in any language."""

    framework = Script
    estimator = Estimator
    files: ClassVar[Mapping[str, str]] = {"train.sh": "echo $RANK of $WORLD_SIZE\n", "notes.ipynb": "{}", "data": "no program\n"}
    broken: ClassVar[Mapping[str, str]] = {"train.sh": "exit 3\n"}

    def refused(self) -> Mapping[str, RunSpec]:
        return {
            "a notebook": RunSpec("contract", Command("notes.ipynb")),
            "a script that nothing can start": RunSpec("contract", Command("data")),
        }


class TestSKLearn(FrameworkContract):
    """One process."""

    framework = sklearn.SKLearn
    estimator = estimators.SKLearn
    files: ClassVar[Mapping[str, str]] = {"train.py": "print('trained')\n"}
    broken: ClassVar[Mapping[str, str]] = {"train.py": "raise ValueError\n"}

    def refused(self) -> Mapping[str, RunSpec]:
        return {"two processes": RunSpec("contract", Command("train.py"), resources=Resources(procs_per_node=2))}


class TestPyTorch(FrameworkContract):
    """Ranks that meet."""

    files, broken = TestSKLearn.files, TestSKLearn.broken
    framework = pytorch.PyTorch
    estimator = estimators.PyTorch

    def refused(self) -> Mapping[str, RunSpec]:
        spec = RunSpec("contract", Command("train.py"))
        return {
            "a backend that there is not": replace(spec, distribution=Distribution("pytorch", "pigeons")),
            "restarts without torchrun": replace(spec, framework_options={"max_restarts": 1}),
        }


class TestTensorFlow(FrameworkContract):
    """Ranks that have roles."""

    files, broken = TestSKLearn.files, TestSKLearn.broken
    framework = tensorflow.TensorFlow
    estimator = estimators.TensorFlow


class TestHost(EnvironmentContract):
    """The Python that is there."""

    environment = Host

    def refused(self) -> Mapping[str, EnvironmentSpec]:
        return {"an interpreter that is not there": EnvironmentSpec("host", interpreter="/nowhere/python")}


class TestVenv(EnvironmentContract):
    """Packages of pip, from a folder: no network."""

    environment = Venv
    check = "import alpha"
    patience = 120.0

    @pytest.fixture(autouse=True)
    def _wheels(self, tmp_path: Path) -> None:
        self.lines = ("--no-index", f"--find-links {tmp_path}")
        for version in ("1.0", "2.0"):
            _wheel(tmp_path, "alpha", version)

    def spec(self) -> EnvironmentSpec:
        return EnvironmentSpec("venv", pip=(*self.lines, "alpha==1.0"))

    def other(self) -> EnvironmentSpec:
        return EnvironmentSpec("venv", pip=(*self.lines, "alpha==2.0"))

    def refused(self) -> Mapping[str, EnvironmentSpec]:
        return {"a version that there is not": EnvironmentSpec("venv", pip=(*self.lines, "alpha==3.0"))}


class TestLocal(BackendContract):
    """This machine."""

    backend = Local
    options: ClassVar[Mapping[str, Any]] = {"slots": 2, "grace": 2}


class TestSlurm(BackendContract):
    """A real cluster."""

    backend = Slurm
    options: ClassVar[Mapping[str, Any]] = {"cpus": 1, "memory": "200M", "time": 5, "grace": 3, "poll": 0.2, "patience": 100}
    patience = 90.0

    @pytest.fixture(autouse=True)
    def _cluster(self, slurm: object) -> None:
        """SLURM_CONF names it."""


def _wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


# ---------------------------------------------------------------------- the contracts can be broken
BREACHES = '''
import os
from dataclasses import dataclass

import hpcest
from hpcest.backends.local import Local
from hpcest.backends.slurm.backend import Slurm
from hpcest.contracts import Environment, Evidence, Framework, Lock
from hpcest.environments.host import Host
from hpcest.errors import EnvironmentBuildError
from hpcest.frameworks.script import Script
from hpcest.model.plan import Program
from hpcest.model.status import Reason, Status
from hpcest.testing import BackendContract, EnvironmentContract, FrameworkContract, ListenerContract

COUNT = []


@dataclass(frozen=True)
class Mute:
    level: int = 3


class Careless(Framework):
    """Checks nothing, tells what it told before, and forgets the failure of the program."""

    name = "careless"
    Options = Mute

    def program(self, spec, activation):
        COUNT.append(1)
        return Program(("/bin/sh", "-c", f"sh {spec.command.script} {len(COUNT)} || true"))


class Forgetful(Host):
    """Keeps what it must not, and says nothing of what to do."""

    name = "forgetful"

    def prepare(self, spec, workspace, say):
        workspace.environments.mkdir(exist_ok=True)
        (workspace.environments / os.urandom(4).hex()).write_text(repr(spec.variables))
        if spec.interpreter:
            raise EnvironmentBuildError("no")
        lock = super().prepare(spec, workspace, say)
        return Lock(self.name, lock.key, lock.text, lock.facts)


class Rash(Local):
    """Concludes without evidence, starts what is started, and can't be late."""

    name = "rash"

    def plan(self, spec, launch, folder):
        folder.path.mkdir(exist_ok=True)
        return super().plan(spec, launch, folder)

    def look(self, jobs):
        found = dict(super().look(jobs))
        return {key: Evidence(Status.FAILED, Reason.LOST) if one.status is Status.NOT_STARTED else one for key, one in found.items()}

    def cancel(self, folder, job):
        if folder.sentinel(0).exists():
            raise hpcest.HpcestError("too late")
        return super().cancel(folder, job)


@hpcest.hookimpl
def hpcest_register_frameworks():
    return [Careless]


@hpcest.hookimpl
def hpcest_register_environments():
    return [Forgetful]


@hpcest.hookimpl
def hpcest_register_backends():
    return [Rash]


@hpcest.hookimpl
def hpcest_after_collect(run):
    print("done", run.id)
    os.environ["SEEN"] = run.id
    raise OSError(f"password sesame of {run.id}")


class TestCareless(FrameworkContract):
    framework = Careless
    files = {"train.sh": "true"}
    broken = {"train.sh": "exit 3"}


class TestForgetful(EnvironmentContract):
    environment = Forgetful

    def refused(self):
        return {"a wrong interpreter": hpcest.model.spec.EnvironmentSpec("forgetful", interpreter="/nowhere")}


class TestRash(BackendContract):
    backend = Rash


class TestListener(ListenerContract):
    plugin = __name__
    secret = "sesame"
'''

#: A plugin of several files, wrong in what can be seen only with two ranks, or beside the module of the class.
SLOPPY = {
    "heavy.py": "import time\ntime.sleep(0.5)\n",
    "sloppy/presets.yaml": 'default: "2"\nversions:\n  "2": {pip: [numpy]}\n  "1": {gpu: {pips: [numpy]}}\n',
    "sloppy/__init__.py": """
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import hpcest
import heavy
from hpcest.frameworks.script import Script


@dataclass(frozen=True)
class Options:
    level: int = field(default=3, metadata={"help": "how sloppy"})


class Sloppy(Script):
    name = "sloppy"
    distributions = ("sloppiness",)
    Options = Options
    presets = Path(__file__).with_name("presets.yaml")

    def program(self, spec, activation):
        argv = (sys.executable, "$HPCEST_HELPERS/lunch.py", spec.command.script)
        told = {"LIMIT": "$WORLDSIZE"}
        return replace(super().program(spec, activation), argv=argv, rank_variables=told, helpers={"launch.py": LAUNCH, "lunch.py": LAUNCH})

    def checkpoint(self, outputs):
        return max(outputs.rglob("*"), default=None)


LAUNCH = "import os, sys\\nif os.environ['WORLD_SIZE'] == '1': sys.exit(os.system('sh ' + sys.argv[1]) >> 8)\\nsys.exit(9)"


@hpcest.hookimpl
def hpcest_register_frameworks():
    return [Sloppy]
""",
    "misspelt.py": """
import hpcest
from hpcest.frameworks.script import Script


class Misspelt(Script):
    name = "misspelt"


@hpcest.hookimpl
def hpcest_register_framework():
    return [Misspelt]
""",
    "test_sloppy.py": """
import misspelt
import sloppy
from hpcest import FrameworkEstimator
from hpcest.testing import FrameworkContract


class Estimator(FrameworkEstimator):
    framework = "sloppy"
    own = ("level", "levle")


class TestSloppy(FrameworkContract):
    framework = sloppy.Sloppy
    estimator = Estimator
    files = {"train.sh": "echo $RANK"}
    broken = {"train.sh": "exit 3"}


class TestMisspelt(FrameworkContract):
    framework = misspelt.Misspelt
    files = {"train.sh": "true"}
""",
}

#: Which promises those plugins break, and a part of what is said of each.
BROKEN = {
    "TestCareless::test_its_options_have_defaults_and_help": "Careless.Options: level has no metadata={'help': '…'}",
    "TestCareless::test_it_refuses_what_cannot_work[0 nodes]": "check(spec) must refuse 0 nodes with a SpecError",
    "TestCareless::test_it_refuses_what_cannot_work[no command]": "check(spec) must refuse no command with a SpecError",
    "TestCareless::test_its_program_is_always_the_same": "must depend on its arguments alone",
    "TestCareless::test_a_program_that_fails_fails_its_run": "must end Failed with an exit code",
    "TestSloppy::test_its_module_imports_next_to_nothing": "it imports heavy; sloppy must be imported in 0.3 s",
    "TestSloppy::test_it_does_not_look_for_the_environment_here": "and not the Python that submits: argv has /",
    "TestSloppy::test_its_presets_are_environments": "version '1', gpu: the preset of sloppy 1: key 'pips' is not known",
    "TestSloppy::test_it_finds_checkpoints_only_where_they_are": "must be None for outputs of empty files and folders",
    "TestSloppy::test_a_real_run_of_several_ranks_completes": "must end Completed on 1 node(s) with 2 rank(s) each; it ended Failed",
    "TestSloppy::test_several_ranks_fail_as_one_does": "with the exit code 3 that it has alone, and not 9",
    "TestSloppy::test_every_rank_is_told_where_it_is[two-nodes]": "['LIMIT'] names $WORLDSIZE, which no rank has; WORLD_SIZE is meant?",
    "TestSloppy::test_its_estimator_describes_its_runs": "own must name options of the framework: level; there is no levle",
    "TestMisspelt::test_it_is_registered_under_its_name": "misspelt: unknown hook 'hpcest_register_framework'; did you mean",
    "TestForgetful::test_preparing_again_comes_to_the_same": "prepare must build nothing when all is there already",
    "TestForgetful::test_what_cannot_be_prepared_is_refused_with_a_next_step": "a wrong interpreter: the error needs a hint",
    "TestForgetful::test_a_variables_value_is_written_nowhere": "must not be written into the workspace",
    "TestRash::test_a_plan_changes_nothing": "plan must change nothing on the disk",
    "TestRash::test_a_run_that_it_never_got_is_not_finished": "look must answer NotStarted, or None",
    "TestRash::test_canceling_what_has_ended_does_no_harm": "cancel of a run that has ended must not be an error",
    "TestListener::test_a_run_ends_as_it_would_without_it[0]": "a listener that works must not warn",
    "TestListener::test_a_run_ends_as_it_would_when_it_cannot_work": "a listener must not show what is secret",
    "TestListener::test_it_prints_nothing": "hpcest_after_collect must not print",
    "TestListener::test_it_leaves_the_process_as_it_was": "must not change environment variables",
}


def test_a_module_imports_only_what_its_author_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by a process of its own: here everything is imported already."""
    (tmp_path / "reads_yaml.py").write_text("import sqlite3\nimport hpcest.contracts\nimport yaml\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (wrong,) = complaints_of_import("reads_yaml", ())
    assert wrong == "reads_yaml must import nothing but hpcest and the standard library; it imports yaml"
    assert complaints_of_import("reads_yaml", ("yaml",)) == []
    (tmp_path / "fails.py").write_text("import no_such_module\n")
    (wrong,) = complaints_of_import("fails", ())
    assert wrong.startswith("fails can't be imported by itself: ModuleNotFoundError")


def test_a_checkpoint_is_a_path_among_the_outputs_with_something_in_it(tmp_path: Path) -> None:
    """A file, or a folder."""
    outputs = tmp_path / "outputs"
    (outputs / "folder").mkdir(parents=True)
    (outputs / "empty").touch()
    for found in (outputs, outputs / "gone", outputs / "empty", outputs / "folder", tmp_path / "other", "text"):
        assert len(complaints_of_checkpoint(found, outputs)) == 1, found
    (outputs / "folder" / "part").write_text("something")
    assert [complaints_of_checkpoint(found, outputs) for found in (None, outputs / "folder", outputs / "folder" / "part")] == [[]] * 3


@pytest.mark.slow
def test_what_breaks_a_contract_is_found_and_named(tmp_path: Path) -> None:
    """Each breach fails the test that is about it, with what the contract wants, and where that is written."""
    (tmp_path / "sloppy").mkdir()
    for name, text in {**SLOPPY, "test_breaches.py": BREACHES}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    report = tmp_path / "report.xml"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = run([sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", tmp_path], cwd=tmp_path, env=env, timeout=170)
    said = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for failure in case.iter("failure"):
            said[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = failure.text or ""
    assert {name for name, words in BROKEN.items() if words not in said.get(name, "")} == set(), done.out
    where = "See the page docs/plugins.md of hpcest's documentation, section "
    assert [name for name, words in said.items() if where not in words] == [], done.out
    assert [name for name in said if name.startswith("TestMisspelt")] == ["TestMisspelt::test_it_is_registered_under_its_name"], done.out
