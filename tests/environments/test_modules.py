"""The kind ``modules`` on a real Lmod: what is named is loaded on the node, what the submitter has loaded is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpcest.environments import modules
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from tests.environments.conftest import RUN


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules: ``gcc/12`` and ``gcc/13``, ``tool/1``."""
    if why := modules.Modules().missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    folder = tmp_path / "modulefiles"
    for name, word in {"gcc/12": "twelve", "gcc/13": "thirteen", "tool/1": "one"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#%Module1.0\nsetenv {name.partition('/')[0].upper()}_WORD {word}\nprepend-path PATH /opt/{name}/bin\n")
    monkeypatch.delenv("LOADEDMODULES", raising=False)
    monkeypatch.setenv("MODULEPATH", str(folder))
    return folder


def words_of(workspace: WorkspaceFolder, *names: str) -> str:
    """What a program sees of the modules."""
    kind = modules.Modules()
    lock = kind.prepare(EnvironmentSpec("modules", modules=names), workspace, print)
    prefix = kind.activate(lock, workspace, RUN).prefix
    return subprocess.run([*prefix, "sh", "-c", "echo $GCC_WORD $TOOL_WORD"], capture_output=True, text=True, check=True).stdout.strip()


def test_modules_are_loaded(workspace: WorkspaceFolder, shelf: Path) -> None:
    assert words_of(workspace, "gcc/12", "tool") == "twelve one"


def test_only_what_is_named(workspace: WorkspaceFolder, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = subprocess.run(
        ["bash", "--norc", "-c", f"{modules._FIND}module load gcc/13 && env -0"], capture_output=True, text=True, check=True
    )
    for item in loaded.stdout.split("\0"):
        name, equals, value = item.partition("=")
        if equals and name.isidentifier():
            monkeypatch.setenv(name, value)
    assert os.environ["GCC_WORD"] == "thirteen"
    assert words_of(workspace, "tool/1") == "one"


def test_a_folder_of_modules(workspace: WorkspaceFolder, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODULEPATH")
    assert words_of(workspace, f"use {shelf}", "gcc/13") == "thirteen"


def test_the_lock_says_what_was_loaded(workspace: WorkspaceFolder, shelf: Path) -> None:
    said: list[str] = []
    lock = modules.Modules().prepare(EnvironmentSpec("modules", modules=("tool", "gcc/12")), workspace, said.append)
    other = modules.Modules().prepare(EnvironmentSpec("modules", modules=("tool", "gcc/13")), workspace, said.append)
    assert {"gcc/12", "tool/1"} <= set(lock.text.split())
    assert "modules gcc/12, tool/1" in said[0]
    assert lock.key != other.key


def test_a_module_that_is_not_there(workspace: WorkspaceFolder, shelf: Path) -> None:
    with pytest.raises(EnvironmentBuildError, match="can't be loaded") as caught:
        words_of(workspace, "gcc/122")
    assert "gcc/122" in caught.value.message
    assert "there is gcc/12" in (caught.value.hint or "")


def test_the_exit_code_is_the_programs(workspace: WorkspaceFolder, shelf: Path) -> None:
    kind = modules.Modules()
    lock = kind.prepare(EnvironmentSpec("modules", modules=("tool",)), workspace, print)
    prefix = kind.activate(lock, workspace, RUN).prefix
    assert subprocess.run([*prefix, "sh", "-c", "exit 7"], check=False).returncode == 7


@pytest.mark.parametrize("entry", ["gcc; rm -rf x", "gcc 12", "$(id)", ""])
def test_what_is_no_module(workspace: WorkspaceFolder, entry: str) -> None:
    with pytest.raises(SpecError, match="is no module"):
        modules.Modules().prepare(EnvironmentSpec("modules", modules=(entry,)), workspace, print)
