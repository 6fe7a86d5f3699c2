"""The kind ``host``: the submitter's Python as it is, with what is installed in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest.contracts import Lock
from hpcest.environments.host import Host, installed
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from tests.environments.conftest import RUN


def prepare(workspace: WorkspaceFolder, said: list[str] | None = None, *, interpreter: str = "") -> Lock:
    return Host().prepare(EnvironmentSpec(interpreter=interpreter), workspace, (said if said is not None else []).append)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    folder = tmp_path / "my env"
    subprocess.run([os.path.realpath(sys.executable), "-m", "venv", "--without-pip", folder], check=True)
    return folder


def test_without_anything_said_it_is_the_python_of_hpcest(workspace: WorkspaceFolder) -> None:
    said: list[str] = []
    lock = prepare(workspace, said)
    assert lock.kind == "host"
    assert lock.facts["python"] == sys.executable
    assert lock.facts["version"] == ".".join(map(str, sys.version_info[:3]))
    assert len(said) == 1
    assert lock.key[:12] in said[0]
    assert any(line.startswith("pluggy==") for line in lock.text.splitlines())
    assert Host().activate(lock, workspace, RUN).path == (os.path.dirname(sys.executable),)


@pytest.mark.parametrize("name", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_is_used(workspace: WorkspaceFolder, venv: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(venv))
    if name == "CONDA_PREFIX":
        (venv / "conda-meta").mkdir()
        (venv / "pyvenv.cfg").rename(venv / "was.cfg")
    lock = prepare(workspace)
    activation = Host().activate(lock, workspace, RUN)
    assert activation.python == str(venv / "bin" / "python")
    assert activation.path == (str(venv / "bin"),)
    if name == "VIRTUAL_ENV":
        assert activation.variables == {name: str(venv)}
        assert "CONDA_PREFIX" in activation.unset


def test_a_named_interpreter_is_stronger_and_undoes_the_active_one(
    workspace: WorkspaceFolder, venv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    lock = prepare(workspace, interpreter=os.path.realpath(sys.executable))
    activation = Host().activate(lock, workspace, RUN)
    assert activation.python == os.path.realpath(sys.executable)
    assert "VIRTUAL_ENV" in activation.unset
    assert activation.variables == {}


def test_packages_are_read_without_starting_anything(workspace: WorkspaceFolder, venv: Path) -> None:
    (site,) = venv.glob("lib/python*/site-packages")
    for name in (
        "Some_Package-1.0.dist-info",
        "old-2.0-py3.11.egg-info",
        "~roken-1.0.dist-info",
        "nothing",
        "x.egg-info",
        "-x-1.dist-info",
    ):
        (site / name).mkdir()
    lock = prepare(workspace, interpreter=str(venv))
    lines = lock.text.splitlines()
    assert "some-package==1.0" in lines
    assert "old==2.0" in lines
    assert not any("roken" in line or line.startswith(("x=", "nothing", "-x")) for line in lines)
    assert lines == sorted(lines)


def test_the_first_directory_wins(tmp_path: Path) -> None:
    for folder, version in (("one", "1.0"), ("two", "2.0")):
        (tmp_path / folder / f"pkg-{version}.dist-info").mkdir(parents=True)
    assert installed([str(tmp_path / "one"), str(tmp_path / "nowhere"), str(tmp_path / "two")]) == "pkg==1.0\n"


def test_a_listing_that_takes_too_long_says_so(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
    assert installed([str(tmp_path)], limit=-1) == "a==1.0\n# not all: stopped after -1 s\n"


def test_the_same_python_has_the_same_key(workspace: WorkspaceFolder, venv: Path) -> None:
    assert prepare(workspace).key == prepare(workspace).key
    assert prepare(workspace).key != prepare(workspace, interpreter=str(venv)).key


def test_an_active_environment_without_a_python_is_named(
    workspace: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "gone"))
    with pytest.raises(EnvironmentBuildError, match="gone") as caught:
        prepare(workspace)
    assert "deactivate" in caught.value.hint


def test_an_interpreter_that_is_not_there_is_named(workspace: WorkspaceFolder) -> None:
    with pytest.raises(SpecError, match="/nowhere/python"):
        prepare(workspace, interpreter="/nowhere/python")
