"""Pythons are found by path, name and version, and asked once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest.environments.interpreter import Interpreter, ask, find, of_hpcest
from hpcest.errors import EnvironmentBuildError, SpecError

BASE = os.path.realpath(sys.executable)
VERSION = ".".join(map(str, sys.version_info[:3]))
MINOR = ".".join(map(str, sys.version_info[:2]))


def fake(path: Path, version: str, *, note: Path | None = None) -> Path:
    """A script that answers as a Python of some version; ``note`` gets a line each time it is asked."""
    facts = {
        "base": str(path),
        "real": str(path),
        "prefix": "/p",
        "version": version,
        "implementation": "cpython",
        "platform": "x",
        "sites": [],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{f'echo asked >> {note}' if note else ':'}\necho '{json.dumps(facts)}'\n")
    path.chmod(0o755)
    return path


def path_of(*folders: Path) -> dict[str, str]:
    return {"PATH": os.pathsep.join(map(str, folders))}


def test_what_is_asked_of_a_python_is_what_it_knows_of_itself(tmp_path: Path) -> None:
    mine, asked = of_hpcest(), ask(BASE, tmp_path)
    assert asked.version == mine.version == VERSION
    assert asked.platform == mine.platform
    assert asked.implementation == mine.implementation == "cpython"
    assert os.path.realpath(asked.base) == os.path.realpath(mine.base)
    assert asked.minor == sys.version_info[:2]


def test_the_python_of_a_virtual_environment_knows_what_it_is_made_of(tmp_path: Path) -> None:
    subprocess.run([BASE, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    python = find(str(tmp_path / "v"), tmp_path / "memory")
    assert python.path == str(tmp_path / "v" / "bin" / "python")
    assert python.prefix == str(tmp_path / "v")
    assert os.path.realpath(python.base) == BASE
    assert python.base != python.path
    assert any(site.startswith(str(tmp_path / "v")) for site in python.sites)


def test_a_python_is_asked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    """The answer is kept in a file; a changed one shows who reads it."""
    memory = tmp_path / "memory"
    first = ask(BASE, memory)
    (note,) = memory.iterdir()
    note.write_text(note.read_text().replace(VERSION, "9.9.9"))
    assert ask(BASE, memory).version == "9.9.9"
    note.write_text("{")
    assert ask(BASE, memory) == first
    link = tmp_path / "python"
    link.symlink_to(BASE)
    assert ask(str(link), memory).path == str(link)
    assert len(list(memory.iterdir())) == 2


def test_a_script_is_asked_each_time(tmp_path: Path) -> None:
    """What a shim starts can change without the shim."""
    shim = fake(tmp_path / "python", "3.11.1")
    assert ask(str(shim), tmp_path / "memory").version == "3.11.1"
    fake(shim, "3.12.1")
    assert ask(str(shim), tmp_path / "memory").version == "3.12.1"


def test_a_script_stands_for_the_python_that_it_starts(tmp_path: Path) -> None:
    shim = tmp_path / "python"
    shim.write_text(f'#!/bin/sh\nexec "{BASE}" "$@"\n')
    shim.chmod(0o755)
    assert os.path.realpath(ask(str(shim), tmp_path / "memory").path) == BASE


@pytest.mark.parametrize(("wanted", "version"), [("3.11", "3.11.4"), ("3.11.4", "3.11.4"), ("3.11.9", "3.11.9"), ("3", "3.12.0")])
def test_a_version_is_looked_for_on_path(tmp_path: Path, wanted: str, version: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    fake(one / "python3.11", "3.11.4")
    fake(two / "python3.11", "3.11.9")
    fake(two / "python3", "3.12.0")
    assert find(wanted, tmp_path / "memory", path_of(one, two)).version == version


def test_a_name_is_looked_for_on_path(tmp_path: Path) -> None:
    fake(tmp_path / "mypython", "3.10.0")
    assert find("mypython", tmp_path / "memory", path_of(tmp_path)).version == "3.10.0"


def test_one_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    """As a shim of a version that is not active."""
    one, two = tmp_path / "one", tmp_path / "two"
    fake(one / "python3.4", "3.4.4").write_text("#!/bin/sh\necho 'shim: not active' >&2; exit 127\n")
    fake(two / "python3.4", "3.4.9")
    assert find("3.4", tmp_path / "memory", path_of(one, two)).version == "3.4.9"
    with pytest.raises(SpecError, match="shim: not active"):
        find("3.4", tmp_path / "memory", path_of(one))


def test_the_version_of_hpcest_needs_no_path(tmp_path: Path) -> None:
    assert find(MINOR, tmp_path / "memory", path_of(tmp_path)).version == VERSION


@pytest.mark.parametrize("wanted", ["3.7", "3.10.99", "nopython", "/nowhere/python", "~/nowhere"])
def test_one_that_is_not_there_is_named_with_what_there_is(tmp_path: Path, wanted: str) -> None:
    fake(tmp_path / "python3.9", "3.9.1")
    fake(tmp_path / "python3.10", "3.10.1")
    with pytest.raises(SpecError) as caught:
        find(wanted, tmp_path / "memory", path_of(tmp_path))
    assert wanted.removeprefix("~") in caught.value.message
    assert "3.9, 3.10" in caught.value.hint


@pytest.mark.parametrize("text", ["#!/bin/sh\necho hello\n", "#!/bin/sh\nexit 3\n", "#!/bin/sh\nkill -9 $$\n", "no program"])
def test_a_file_that_is_no_python_is_named(tmp_path: Path, text: str) -> None:
    program = tmp_path / "python"
    program.write_text(text)
    program.chmod(0o755)
    with pytest.raises(EnvironmentBuildError, match="doesn't run as a Python"):
        ask(str(program), tmp_path / "memory")


def test_facts_survive_where_they_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "memory").touch()
    assert ask(BASE, tmp_path / "memory").version == VERSION


def test_the_key_is_the_same_wherever_a_python_lies() -> None:
    here = Interpreter("/a/python", "/a/python", "/a", "3.11.7", "cpython", "linux-x86_64", ("/a/site-packages",))
    there = Interpreter("/b/python", "/b/python", "/b", "3.11.7", "cpython", "linux-x86_64")
    assert here.key() == there.key()
