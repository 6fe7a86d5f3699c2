"""An environment describes what a program needs, from any of the files that people have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment
from hpcest.errors import HpcestError, SpecError
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.requirements import read_requirements


def test_from_files(tmp_path: Path) -> None:
    (tmp_path / "req.txt").write_bytes(b"\xef\xbb\xbf# ours\na==1 # one\nb @ https://host/b#egg=b\n\nc \\\n  >=2\n--requirement=more.txt\n")
    (tmp_path / "more.txt").write_text("d\n-rlast.txt\n")
    (tmp_path / "last.txt").write_text("e")
    (tmp_path / "env.yml").write_text(
        "name: x\nchannels: [conda-forge]\ndependencies:\n- python=3.10\n- pip\n- pip:\n  - f\n  - -r last.txt\n"
    )
    (tmp_path / "bare.yml").write_text("dependencies:\n- numpy\n- pip:\n")
    assert Environment.from_pip_requirements("r", tmp_path / "req.txt").to_spec() == EnvironmentSpec(
        name="r", pip=("a==1", "b @ https://host/b#egg=b", "c    >=2", "d", "e")
    )
    assert Environment.from_conda_specification("c", tmp_path / "env.yml").to_spec() == EnvironmentSpec(
        name="c", conda=("python=3.10",), pip=("f", "e")
    )
    assert Environment.from_conda_specification("b", tmp_path / "bare.yml").to_spec() == EnvironmentSpec(name="b", conda=("numpy",))
    assert Environment.from_docker_image("i", "python:3.11").to_spec() == EnvironmentSpec(name="i", image="python:3.11")


def test_a_spec_and_back() -> None:
    spec = EnvironmentSpec("venv", "n", "3.11", ("a",), ("b",), "c", {"D": "1"})
    assert Environment.from_spec(spec).to_spec() == spec
    assert repr(Environment.from_spec(spec)) == "Environment(name='n', kind='venv')"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("loop.txt", "-r loop.txt", "includes itself"),
        ("none.txt", None, "can't be read: No such file"),
        ("latin.txt", "caf\xe9", "is not UTF-8 text"),
    ],
)
def test_requirements_that_can_not_be_read(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(SpecError, match=message) as error:
        read_requirements(tmp_path / name)
    assert name in error.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "is not a conda specification: it needs a list 'dependencies'"),
        ("- a", "is not a conda specification"),
        ("dependencies: [{npm: [a]}]", "the dependency {'npm': ['a']} can't be read"),
        ("dependencies: [{pip: a}]", "the dependency {'pip': 'a'} can't be read"),
        ("dependencies: [", "env.yml:1"),
    ],
)
def test_conda_files_that_can_not_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "env.yml").write_text(text)
    with pytest.raises(HpcestError) as error:
        Environment.from_conda_specification("x", tmp_path / "env.yml")
    assert message in error.value.message


def test_a_text_is_no_list_of_packages() -> None:
    packages: Any = "numpy"
    with pytest.raises(SpecError) as error:
        Environment("x", pip_packages=packages)
    assert error.value.hint == "write pip_packages=['numpy']"
    environment = Environment("x")
    environment.pip_packages = packages
    with pytest.raises(SpecError):
        environment.to_spec()
