"""The kind ``venv``: built once from a lock, by uv and by pip alike."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.contracts import Lock
from hpcest.environments.venv import Venv
from hpcest.errors import ConfigError, EnvironmentBuildError, SpecError
from hpcest.kit.files import read_json
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec
from tests.environments.conftest import RUN

Prepare = Callable[..., Lock]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def prepare(workspace: WorkspaceFolder, offline: tuple[str, ...], said: list[str]) -> Prepare:
    """``prepare(*lines)`` prepares with the packages of the folder alone; what is said is in ``said``."""

    def call(*lines: str, interpreter: str = "", name: str = "") -> Lock:
        said.clear()
        spec = EnvironmentSpec(kind="venv", name=name, pip=(*offline, *lines), interpreter=interpreter)
        return Venv().prepare(spec, workspace, said.append)

    return call


def image_of(lock: Lock, workspace: WorkspaceFolder) -> Path:
    return Path(Venv().activate(lock, workspace, RUN).variables["VIRTUAL_ENV"])


def folders(workspace: WorkspaceFolder) -> list[Path]:
    """What was built, whole or not."""
    return [path for path in workspace.environments.glob("venv/*/*") if path.is_dir()]


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def names_in(text: str) -> list[str]:
    return [line.split(" ")[0] for line in text.splitlines()]


def test_it_is_built_where_the_configuration_says(
    workspace: WorkspaceFolder, offline: tuple[str, ...], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where TMPDIR says; and what is no directory is named."""
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    spec = EnvironmentSpec(kind="venv", pip=(*offline, "beta"))
    with pytest.raises(EnvironmentBuildError, match="/proc/nowhere") as caught:
        Venv().prepare(spec, workspace, said.append)
    assert "scratch: DIR" in caught.value.hint
    (tmp_path / "scratch").mkdir()
    assert Venv(EnvironmentSettings(scratch=str(tmp_path / "scratch"))).prepare(spec, workspace, said.append).key


@pytest.mark.usefixtures("installer")
def test_packages_are_locked_with_hashes_and_installed(prepare: Prepare, workspace: WorkspaceFolder, said: list[str]) -> None:
    lock = prepare("alpha")
    lines = lock.text.splitlines()
    assert names_in(lock.text) == ["alpha==1.0", "beta==2.0"]
    assert all("--hash=sha256:" in line for line in lines)
    activation = Venv().activate(lock, workspace, RUN)
    env = {**os.environ, **activation.variables, "PATH": os.pathsep.join([*activation.path, os.environ["PATH"]])}
    done = subprocess.run(
        [activation.python, "-c", "import alpha, beta, sys; print(sys.prefix)"], capture_output=True, text=True, check=False, env=env
    )
    assert done.stdout.rstrip("\n") == activation.variables["VIRTUAL_ENV"], done.stderr
    assert "PYTHONPATH" in activation.unset
    assert lock.facts["version"] == ".".join(map(str, sys.version_info[:3]))
    assert said[-1].startswith(f"environment {lock.key[:12]} ready in ")
    assert [line.split(":")[0] for line in said[1:-1]] == ["resolve", "create", "install", "check"]


@pytest.mark.usefixtures("installer")
def test_programs_of_packages_start_from_a_path_that_needs_quoting(prepare: Prepare, workspace: WorkspaceFolder) -> None:
    image = image_of(prepare("alpha"), workspace)
    done = subprocess.run([image / "bin" / "say-alpha"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "hello from alpha\n"), done.stderr


@pytest.mark.usefixtures("installer")
def test_code_is_compiled_so_that_nodes_need_not_write(prepare: Prepare, workspace: WorkspaceFolder) -> None:
    assert list(image_of(prepare("alpha"), workspace).rglob("alpha/__pycache__/*.pyc"))


@pytest.mark.usefixtures("installer")
def test_the_manifest_tells_what_was_built(prepare: Prepare, workspace: WorkspaceFolder) -> None:
    lock = prepare("alpha", name="mine")
    image = image_of(lock, workspace)
    manifest = read_json(image.parent / "image.json")
    assert manifest["kind"] == "venv"
    assert manifest["key"] == lock.key
    assert manifest["packages"] == ["alpha==1.0", "beta==2.0"]
    assert manifest["token"] == image.name
    assert (image.parent / manifest["log"]).is_file()
    assert (image / "requirements.lock").read_text() == lock.text
    assert not (image / "hpcest-build.json").exists()


def test_a_different_spelling_is_the_same_environment(prepare: Prepare, workspace: WorkspaceFolder, said: list[str]) -> None:
    first = prepare("alpha>=0.5", "beta == 2.0")
    second = prepare("# what we need", "Alpha >=0.5  # the newest", "", "beta==2.0", "ALPHA>=0.5")
    assert second == first
    assert len(list(workspace.environments.glob("specs/*.json"))) == 1
    assert re.fullmatch(rf"environment {first.key[:12]} cached, resolved \d+ s ago", "\n".join(said))


def test_another_request_with_the_same_answer_uses_the_same_image(prepare: Prepare, workspace: WorkspaceFolder, said: list[str]) -> None:
    first = prepare("alpha")
    second = prepare("beta", "alpha")
    assert second.key == first.key
    assert second.text == first.text
    assert len(folders(workspace)) == 1
    assert said[-1] == f"environment {first.key[:12]} cached, resolved just now"
    assert not list(workspace.environments.glob("specs/*.log"))


def test_the_same_request_keeps_its_versions_until_it_is_forgotten(
    prepare: Prepare, workspace: WorkspaceFolder, wheels: Path, offline: tuple[str, ...], make_wheel: Callable[..., Path]
) -> None:
    spec = EnvironmentSpec(pip=(*offline, "beta"))
    assert names_in(prepare("beta").text) == ["beta==2.0"]
    make_wheel(wheels, "beta", "3.0")
    assert names_in(prepare("beta").text) == ["beta==2.0"]
    assert Venv().forget(spec, workspace)
    assert not Venv().forget(spec, workspace)
    assert names_in(prepare("beta").text) == ["beta==3.0"]


SECOND = """
import sys, time
began = time.perf_counter()
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec"):
        raise AssertionError(event, arguments)
sys.addaudithook(refuse)
from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
spec = EnvironmentSpec(pip=tuple(sys.argv[3:]), interpreter=sys.argv[2])
Venv().prepare(spec, WorkspaceFolder(sys.argv[1]), print)
print(time.perf_counter() - began)
"""


@pytest.mark.parametrize("interpreter", ["", os.path.realpath(sys.executable)])
def test_the_second_time_starts_nothing_and_takes_no_time(
    prepare: Prepare, workspace: WorkspaceFolder, offline: tuple[str, ...], interpreter: str
) -> None:
    prepare("alpha", interpreter=interpreter)
    argv = [sys.executable, "-c", SECOND, str(workspace.root), interpreter, *offline, "alpha"]
    seconds = []
    for _ in range(3):  # a busy machine may be slow once
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        cached, took = done.stdout.splitlines()
        assert " cached, " in cached
        seconds.append(float(took))
    assert min(seconds) < 0.3


def test_no_packages_give_an_empty_environment(workspace: WorkspaceFolder, said: list[str]) -> None:
    lock = Venv().prepare(EnvironmentSpec(kind="venv"), workspace, said.append)
    assert lock.text == ""
    done = subprocess.run([image_of(lock, workspace) / "bin" / "python", "-c", "import packaging"], capture_output=True, check=False)
    assert done.returncode == 1


def test_an_unknown_package_is_named_with_the_next_step(prepare: Prepare, workspace: WorkspaceFolder, installer: str) -> None:
    with pytest.raises(EnvironmentBuildError) as caught:
        prepare("alhpa")
    assert caught.value.message.startswith("resolve failed: ")
    assert "alhpa" in caught.value.message
    assert "spelling" in caught.value.hint
    log = Path(caught.value.log).read_text()
    assert "alhpa" in log
    assert installer in log
    assert folders(workspace) == []
    assert not list(workspace.environments.rglob("*.lease"))


@pytest.mark.usefixtures("installer")
def test_a_conflict_names_both_sides(prepare: Prepare) -> None:
    with pytest.raises(EnvironmentBuildError) as caught:
        prepare("gamma", "delta")
    assert "gamma" in caught.value.message
    assert "delta" in caught.value.message
    assert "beta<2" in caught.value.message
    assert "loosen" in caught.value.hint


@pytest.mark.usefixtures("installer")
def test_a_version_that_is_not_there_is_named(prepare: Prepare) -> None:
    with pytest.raises(EnvironmentBuildError, match="beta==9"):
        prepare("beta==9")


def test_a_changed_file_is_refused(
    prepare: Prepare,
    workspace: WorkspaceFolder,
    wheels: Path,
    make_wheel: Callable[..., Path],
    installer: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What was locked is what is installed, or nothing."""
    lock = prepare("beta")
    shutil.rmtree(image_of(lock, workspace))
    make_wheel(wheels, "beta", "2.0", code="import os  # something else\n")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another cache"))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(EnvironmentBuildError) as caught:
        prepare("beta")
    assert caught.value.message.startswith("install failed: ")
    assert "hash" in caught.value.message.lower()
    assert "trust" in caught.value.hint
    assert "choose anew" in caught.value.hint
    assert Path(caught.value.log).is_file()
    assert folders(workspace) == []
    assert installer in Path(caught.value.log).read_text()


@pytest.mark.usefixtures("installer")
def test_a_hash_that_the_requirement_names_must_be_there(prepare: Prepare) -> None:
    right = prepare("beta").text.split("--hash=")[1].strip()
    assert prepare(f"beta==2.0 --hash={right}").text == f"beta==2.0 --hash={right}\n"
    wrong = "sha256:" + "0" * 64
    with pytest.raises(EnvironmentBuildError, match=r"(?i)hash"):
        prepare(f"beta==2.0 \\\n --hash={wrong}")


@pytest.mark.parametrize("damage", ["folder", "python", "pointer", "token"])
def test_a_damaged_image_is_built_again(prepare: Prepare, workspace: WorkspaceFolder, said: list[str], damage: str) -> None:
    lock = prepare("alpha")
    image = image_of(lock, workspace)
    pointer = image.parent / "image.json"
    if damage == "folder":
        shutil.rmtree(image)
    elif damage == "python":
        (image / "bin" / "python").unlink()
    else:
        pointer.write_text("{" if damage == "pointer" else pointer.read_text().replace(image.name, "../../.."))
    with pytest.raises(EnvironmentBuildError, match="can't be used"):
        Venv().activate(lock, workspace, RUN)
    again = prepare("alpha")
    assert again == lock
    assert said[0].startswith(f"environment {lock.key[:12]} is built again: its ")
    python = Venv().activate(again, workspace, RUN).python
    assert subprocess.run([python, "-c", "import alpha"], check=False).returncode == 0
    prepare("alpha")
    assert " cached, " in said[0]


@pytest.mark.parametrize("text", ["", "{", '{"lock": "beta", "key": 1}'])
def test_a_damaged_memory_is_made_anew(prepare: Prepare, workspace: WorkspaceFolder, text: str, said: list[str]) -> None:
    lock = prepare("alpha")
    (memo,) = workspace.environments.glob("specs/*.json")
    memo.write_text(text)
    assert prepare("alpha").key == lock.key
    assert any(line.startswith("resolve: ") for line in said)
    prepare("alpha")
    assert len(said) == 1


def test_a_lock_changed_by_hand_is_not_installed(prepare: Prepare, workspace: WorkspaceFolder, said: list[str]) -> None:
    lock = prepare("alpha")
    (memo,) = workspace.environments.glob("specs/*.json")
    memo.write_text(memo.read_text().replace("beta==2.0", "beta==1.0"))
    assert prepare("alpha").key == lock.key
    assert any(line.startswith("resolve: ") for line in said)


@pytest.mark.usefixtures("installer")
def test_a_local_directory_is_installed_and_its_changes_count(prepare: Prepare, workspace: WorkspaceFolder, package_source: Path) -> None:
    first = prepare(f"local @ {package_source.as_uri()}")
    (package_source / "__pycache__").mkdir(exist_ok=True)  # the installer may have made it
    (package_source / "local.egg-info").mkdir()
    assert prepare(f"local @ {package_source.as_uri()}") == first
    (package_source / "local.py").write_text("VALUE = 2\n")
    second = prepare(f"local @ {package_source.as_uri()}")
    assert second.key != first.key
    python = image_of(second, workspace) / "bin" / "python"
    done = subprocess.run([python, "-c", "import local; print(local.VALUE)"], capture_output=True, text=True, check=False)
    assert done.stdout == "2\n", done.stderr


@pytest.mark.usefixtures("installer")
def test_a_path_stands_alone_too(prepare: Prepare, package_source: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package_source.parent)
    lock = prepare(f"./{package_source.name}", str(wheels / "alpha-1.0-py3-none-any.whl"))
    alpha, beta, local = lock.text.splitlines()
    assert alpha.startswith("alpha @ file://")
    assert "--hash=sha256:" in alpha
    assert beta.startswith("beta==2.0 ")
    assert local.startswith(f"local @ {package_source.as_uri()}  # content=")


@pytest.mark.usefixtures("installer")
def test_a_branch_is_pinned_to_its_commit(prepare: Prepare, package_source: Path) -> None:
    def git(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *author, *words], cwd=package_source, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD")
    address = f"git+{package_source.as_uri()}"
    lock = prepare(f"local @ {address}@main")
    assert lock.text == f"local @ {address}@{commit}\n"
    git("commit", "-q", "--allow-empty", "-m", "second")
    assert prepare(f"local @ {address}@main") == lock


def test_a_package_that_cannot_be_built_says_so(prepare: Prepare, workspace: WorkspaceFolder, package_source: Path, installer: str) -> None:
    (package_source / "backend.py").write_text(
        (package_source / "backend.py").read_text().replace("while os", "raise Exception('no gcc')\n    while os")
    )
    with pytest.raises(EnvironmentBuildError) as caught:
        prepare(f"local @ {package_source.as_uri()}")
    assert "local" in caught.value.message
    assert "compiler" in caught.value.hint
    assert "no gcc" in Path(caught.value.log).read_text()
    assert folders(workspace) == []
    assert installer in Path(caught.value.log).read_text()


@pytest.mark.parametrize("line", ["six=1.0", "foo bar", "-r more.txt", "--frob", "./nowhere"])
def test_a_line_that_makes_no_sense_is_named(prepare: Prepare, workspace: WorkspaceFolder, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        prepare("alpha", line)
    assert line.removeprefix("./") in caught.value.message
    assert caught.value.hint
    assert not workspace.environments.exists()


def test_a_workspace_that_cannot_be_written_is_named(prepare: Prepare, workspace: WorkspaceFolder) -> None:
    workspace.environments.write_text("in the way")
    with pytest.raises(EnvironmentBuildError, match="environments") as caught:
        prepare("alpha")
    assert "writable" in caught.value.hint


def test_an_installer_that_is_neither_is_refused(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCEST_INSTALLER", "conda")
    with pytest.raises(ConfigError, match="must be uv or pip"):
        prepare("alpha")


def test_a_python_that_is_too_old_is_refused(prepare: Prepare, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    facts = '{"base": "", "real": "", "prefix": "", "version": "3.6.8", "implementation": "cpython", "platform": "x", "sites": []}'
    fake.write_text(f"#!/bin/sh\necho '{facts}'\n")
    fake.chmod(0o755)
    with pytest.raises(SpecError, match=r"3\.6\.8.*too old"):
        prepare("alpha", interpreter=str(fake))


def test_the_name_is_part_of_what_is_said_and_of_nothing_else(prepare: Prepare, said: list[str]) -> None:
    lock = prepare("alpha", name="mine")
    assert said[-1].startswith(f"environment mine {lock.key[:12]} ready")
    assert prepare("alpha", name="yours") == lock
    assert re.fullmatch(rf"environment yours {lock.key[:12]} cached, resolved \d+ s ago", "\n".join(said))
