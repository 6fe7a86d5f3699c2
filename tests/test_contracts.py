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

#: Which promises that plugin breaks, and a part of what is said of each.
BROKEN = {
    "TestCareless::test_its_options_have_defaults_and_help": "Careless.Options: level has no metadata={'help': '…'}",
    "TestCareless::test_it_refuses_what_cannot_work[0 nodes]": "check(spec) must refuse 0 nodes with a SpecError",
    "TestCareless::test_it_refuses_what_cannot_work[no command]": "check(spec) must refuse no command with a SpecError",
    "TestCareless::test_its_program_is_always_the_same": "must depend on its arguments alone",
    "TestCareless::test_a_program_that_fails_fails_its_run": "must end Failed with an exit code",
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


@pytest.mark.slow
def test_what_breaks_a_contract_is_found_and_named(tmp_path: Path) -> None:
    """Each breach fails the test that is about it, with what the contract wants, and where that is written."""
    (tmp_path / "test_breaches.py").write_text(BREACHES)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    report = tmp_path / "report.xml"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = run([sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", tmp_path], cwd=tmp_path, env=env, timeout=170)
    said = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        for failure in case.iter("failure"):
            said[f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"] = failure.text or ""
    assert {name for name, words in BROKEN.items() if words not in said.get(name, "")} == set(), done.out
    assert [name for name, words in said.items() if "See docs/plugins.md, " not in words] == [], done.out
