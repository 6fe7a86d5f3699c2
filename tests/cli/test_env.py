"""``hpcest env``: what is built is listed, shown, locked, checked, given away and swept, and every refusal says what to do."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.registered import register
from tests.cluster.fixtures import Apptainer

Hpcest = Callable[..., Any]
IMAGE_KEYS = [
    "kind", "key", "name", "python", "packages", "created", "by", "state", "folder", "size", "resolved", "site", "pinned", "used",
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")) or name in ("VIRTUAL_ENV", "PYTHONPATH"):
            monkeypatch.delenv(name)


@pytest.fixture
def built(workspace: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key of a virtual environment that was really built, without packages."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")) or name in ("VIRTUAL_ENV", "PYTHONPATH"):
            monkeypatch.delenv(name)
    return Venv().prepare(EnvironmentSpec("venv", "bare \x1b"), workspace, lambda line: None).key


def test_environments(hpcest: Hpcest, workspace: WorkspaceFolder, built: str) -> None:
    (image,) = hpcest("env", "list", "--json").json
    assert list(image) == IMAGE_KEYS
    assert (image["kind"], image["key"], image["name"], image["packages"], image["state"]) == ("venv", built, "bare \x1b", [], "ready")
    assert image["python"] == ".".join(map(str, sys.version_info[:3]))
    assert Path(image["folder"], "bin/python").exists()
    listed = hpcest("env", "list").out.splitlines()
    assert listed[0].split() == ["KIND", "KEY", "NAME", "PYTHON", "PACKAGES", "SIZE", "BUILT", "RESOLVED", "STATE"]
    assert listed[1].startswith(f"venv  {built[:12]}  bare \\x1b  {image['python']}  0         ")
    shown = hpcest("env", "show", built[:6], "--json").json
    assert list(shown) == [*IMAGE_KEYS, "layout", "base", "tool", "seconds", "log", "wrong", "labels"]
    assert Path(shown["log"]).is_file()
    assert shown["size"] > 1000
    assert {**{key: shown[key] for key in IMAGE_KEYS}, "size": None} == image
    text = hpcest("env", "show", built).out
    assert text.startswith(f"kind      venv\nkey       {built}\nname      bare \\x1b\npython    {image['python']}\ncreated   20")
    help_text = " ".join(hpcest("env", "list", "--help").out.split() + hpcest("env", "show", "--help").out.split())
    assert all(f" {key}" in help_text for key in shown)


def test_environments_that_are_damaged_or_not_there(hpcest: Hpcest, workspace: WorkspaceFolder, built: str) -> None:
    folder = workspace.environments / "venv/fedcba9876543210-abcd"
    folder.mkdir()
    (folder / "image.json").write_text("{")
    twin = workspace.environments / "venv" / f"{built[:16]}-ffff"
    twin.mkdir()
    (twin / "image.json").write_text(json.dumps({"key": built, "token": "gone", "created": "x", "name": "twin", "packages": ["a==1"]}))
    rows = {(image["key"], image["name"]): image["state"] for image in hpcest("env", "list", "--json").json}
    assert rows == {(built, "bare \x1b"): "ready", ("fedcba9876543210", ""): "damaged", (built, "twin"): "damaged"}
    ambiguous = hpcest("env", "show", built[:5])
    assert ambiguous.code == 2
    assert ambiguous.error.startswith(f"environment {built[:5]!r} is ambiguous: 2 keys start with it\nHint: name one of\n  {built[:16]}-")
    assert hpcest("env", "show", twin.name, "--json").json["packages"] == ["a==1"]
    unknown = hpcest("env", "show", "zzz")
    assert (unknown.code, unknown.error.partition("\n")[0]) == (2, "environment 'zzz' is not known")


def test_no_environments(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    assert hpcest("env", "list") == ("", "no environment was built yet\n", 0)
    assert hpcest("env", "list", "--json").out == "[]\n"
    assert hpcest("env", "show", "x").error == "environment 'x' is not known\nHint: none was built yet"


@pytest.fixture
def wheel(workspace: WorkspaceFolder) -> Path:
    """The folder of a package ``alpha``, which a requirements file ``requirements.txt`` asks for without any network."""
    import zipfile

    folder = workspace.root / "wheels"
    folder.mkdir()
    info = "alpha-1.0.dist-info"
    with zipfile.ZipFile(folder / "alpha-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("alpha.py", "X = 1\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (workspace.root / "requirements.txt").write_text("--no-index\n--find-links wheels\nalpha\n")
    return folder


def test_a_lock_builds_the_same_and_nothing_else(hpcest: Hpcest, workspace: WorkspaceFolder, wheel: Path) -> None:
    """Kept in a file, it is what --locked runs with; what it does not fit, and what was changed in it, is refused."""
    done = hpcest("env", "lock", "requirements.txt", "--env", "venv", "-o", "environment.lock")
    assert done.code == 0, done.err
    text = (workspace.root / "environment.lock").read_text()
    key = done.err.rpartition("environment ")[2].strip()
    assert text.startswith("# hpcest environment lock, version 1\n# kind: venv\n# key: " + key)
    assert "\n# asked: pip alpha\n#\nalpha==1.0 --hash=sha256:" in text
    again = hpcest("env", "lock", "requirements.txt", "--env", "venv", "-o", "environment.lock")
    assert again.err == "environment.lock fits, and stays as it is; --update chooses the versions anew\n"
    (workspace.root / "it.py").write_text("import alpha; print(alpha.X)\n")
    ran = hpcest("submit", "it.py", "--env", "requirements.txt", "--locked", "-f")
    assert (ran.code, ran.out) == (0, "1\n"), ran.err
    assert json.loads(workspace.run(hpcest("runs", "--json").json[0]["id"]).lock.read_text())["key"].startswith(key)
    other = hpcest("submit", "it.py", "--env", "requirements.txt", "--pip", "beta", "--locked")
    assert (other.code, other.error.partition("\n")[0]) == (
        2, "the lock file environment.lock does not fit what is asked for: 'pip beta' is not in it",
    )  # fmt: skip
    (workspace.root / "changed.lock").write_text(text.replace("# key: ", "# key: 0000"))
    changed = hpcest("env", "build", "requirements.txt", "--lock", "changed.lock")
    assert (changed.code, "gives another environment here" in changed.error) == (2, True)
    assert "hpcest env lock SPEC -o changed.lock --update" in changed.error


def test_what_can_not_be_asked_for_is_refused(hpcest: Hpcest, workspace: WorkspaceFolder, built: str, tmp_path: Path) -> None:
    (workspace.root / "no.lock").write_text("alpha==1\n")
    (workspace.root / "empty").mkdir()
    (workspace.root / "out.sif").touch()
    for words, said in (
        (["build"], "no environment is named\nHint: give a SPEC"),
        (["build", "nmae"], "environment 'nmae' is not known\nHint: "),
        (["build", "lab:3"], "registered environment 'lab' is not known\nHint: known: none"),
        (["build", "none.yml"], "there is no environment file 'none.yml'\nHint: "),
        (["build", "empty"], "the folder 'empty' describes no environment\nHint: it would be in one of hpcest.yaml, "),
        (["build", "host"], "environment kind 'host' has nothing to build\nHint: "),
        (["build", "--pip", "a", "--lock", "no.lock"], "no.lock is no lock file of hpcest: it does not begin with "),
        (
            ["build", "--pip", "a", "--lock", "gone.lock"],
            "the lock file gone.lock can't be read: no such file or directory\nHint: write one: ",
        ),
        (["export", built[:8], "x.sif"], f"environment {built[:12]} is of the kind 'venv', and can't be exported\nHint: "),
        (["export", "abc123", "x.sif"], "environment 'abc123' is not known"),
        (["export", built[:8], "out.sif"], "out.sif is there already\nHint: give --overwrite to replace it"),
        (["export", built[:8], "gone/x.sif"], "there is no directory 'gone'\nHint: make it first"),
        (["publish", built[:8], str(tmp_path / "site")], f"environment {built[:12]} is of the kind 'venv', and can't be published\nHint: "),
        (["verify", "zz"], "environment 'zz' is not known"),
        (["gc", "--older-than", "soon"], "time 'soon' can't be read\nHint: "),
    ):
        done = hpcest("env", *words)
        assert (done.code, done.out) == (2, ""), words
        assert said in done.error, (words, done.error)


def test_a_registered_environment_is_run_by_its_name(hpcest: Hpcest, workspace: WorkspaceFolder, wheel: Path) -> None:
    lines = ("--no-index", f"--find-links {shlex.quote(str(wheel))}", "alpha")
    register(workspace, "lab", EnvironmentSpec("venv", pip=lines))
    register(workspace, "lab", EnvironmentSpec("host"))
    for name, kind in (("lab", "host"), ("lab:2", "host"), ("lab:1", "venv"), ("lab@1", "venv")):
        done = hpcest("submit", "hello.py", "--env", name, "--dry-run", "--json")
        assert (done.code, done.json["spec"]["environment"]["kind"]) == (0, kind), done.err
    missing = hpcest("submit", "hello.py", "--env", "lab:9", "--dry-run")
    assert (missing.code, missing.error) == (2, "version of environment 'lab' '9' is not known\nHint: known: 1, 2, latest")


def test_verify_tells_by_its_exit_code(hpcest: Hpcest, workspace: WorkspaceFolder, built: str) -> None:
    assert (hpcest("env", "verify").out, hpcest("env", "verify").code) == (f"ok  venv {built[:12]} bare \\x1b\n", 0)
    (Path(hpcest("env", "show", built, "--json").json["folder"])).rename(workspace.root / "gone")
    done = hpcest("env", "verify")
    said = f"environment bare \\x1b {built[:12]}: its folder is gone"
    assert (done.code, done.out.splitlines()[1].strip()) == (1, said)
    assert done.err == "what is damaged was set aside; the next run that needs it builds it again\n"
    assert hpcest("env", "verify", "--json").json == []


def test_every_command_takes_a_name_for_a_key(hpcest: Hpcest, workspace: WorkspaceFolder, built: str, wheel: Path, tmp_path: Path) -> None:
    """The newest environment of that name; a registered one's is the name that it was registered under."""
    register(workspace, "lab", EnvironmentSpec("venv", pip=("--no-index", f"--find-links {shlex.quote(str(wheel))}", "alpha")))
    key = hpcest("env", "build", "lab").out.strip()
    assert hpcest("env", "show", "lab", "--json").json["key"] == key
    assert hpcest("env", "verify", "bare \x1b", "--json").json[0]["key"] == built
    assert hpcest("env", "pin", "bare \x1b").code == 0
    assert hpcest("env", "show", "bare \x1b", "--json").json["pinned"] is True
    swept = hpcest("env", "gc", "--older-than", "0", "--keep", "0")
    assert f"kept environment bare \\x1b {built[:12]} (venv): pinned" in swept.err
    assert hpcest("env", "pin", "--remove", "bare \x1b").code == 0
    site = str(tmp_path / "site")
    for words in (["publish", "bare \x1b", site], ["export", "bare \x1b", str(tmp_path / "x.sif")]):
        assert hpcest("env", *words).error.startswith(f"environment {built[:12]} is of the kind 'venv', and can't be "), words
    gone = hpcest("env", "gc", "--older-than", "0", "--keep", "0", "--json").json["gone"]
    assert f"environment bare \x1b {built[:12]} (venv)" in [one["label"] for one in gone]
    assert hpcest("env", "list", "--json").json == []


def test_an_image_from_its_lock_to_its_end(
    hpcest: Hpcest, workspace: WorkspaceFolder, wheel: Path, apptainer: Apptainer, tmp_path: Path
) -> None:
    """Built, locked, exported, verified, pinned, swept, published; and found in the site's store by another workspace."""
    workspace.config.write_text(f"environment: {{image: {apptainer.debian}}}\n")
    key = hpcest("env", "build", "requirements.txt", "--env", "apptainer", "--name", "lab").out.strip()
    (row,) = hpcest("env", "list", "--json").json
    assert (row["key"], row["name"], row["packages"], row["site"], row["size"] > 0) == (key, "lab", ["alpha==1.0"], "", True)
    done = hpcest("env", "export", key[:10], "lab.sif")
    assert (done.code, done.out) == (0, "lab.sif\n"), done.err
    ran = apptainer.exec(workspace.root / "lab.sif", "python", "-c", "import alpha; print(alpha.__file__)", options=["--cleanenv"])
    assert ran.stdout.startswith("/opt/hpcest/env/lib/"), ran.stderr
    assert hpcest("env", "verify", key).code == 0
    locked = hpcest("env", "lock", "requirements.txt", "--env", "apptainer", "-o", "environment.lock")
    assert f"# key: {key}" in (workspace.root / "environment.lock").read_text(), locked.err
    assert hpcest("env", "pin", key).err == f"environment {key[:12]} is pinned: env gc leaves it alone\n"
    assert hpcest("env", "gc", "--dry-run").err == f"kept environment lab {key[:12]}: pinned\nnothing to remove\n"
    site = tmp_path / "site"
    assert hpcest("env", "publish", key, site).code == 0
    other = tmp_path / "other"
    hpcest("init", other)
    (other / ".hpcest/config.yaml").write_text(f"environment: {{image: {apptainer.debian}, stores: ['{site}']}}\n")
    found = hpcest("-w", other, "env", "build", "requirements.txt", "--env", "apptainer", "--lock", "environment.lock")
    assert (found.code, found.out.strip(), f"in the site's store {site}, resolved " in found.err) == (0, key, True), found.err
    assert [one["site"] for one in hpcest("-w", other, "env", "list", "--json").json] == [str(site)]
    layer = Path(row["folder"]) / "env.sqfs"
    facts = layer.stat()
    layer.chmod(0o644)
    data = bytearray(layer.read_bytes())
    data[-1] ^= 1
    layer.write_bytes(data)
    os.utime(layer, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    damaged = hpcest("env", "verify")
    assert (damaged.code, "has another content than was built" in damaged.out) == (1, True)
    assert damaged.err == "what is damaged was set aside; the next run that needs it builds it again\n"


@pytest.mark.parametrize("layout", ["single", "bare"])
def test_every_layout_is_exported(layout: str, hpcest: Hpcest, workspace: WorkspaceFolder, wheel: Path, apptainer: Apptainer) -> None:
    workspace.config.write_text(f"environment: {{image: {apptainer.debian}, layout: single}}\n")
    what = "requirements.txt" if layout == "single" else str(apptainer.debian)
    done = hpcest("env", "export", what, "lab.sif")
    assert (done.code, done.out) == (0, "lab.sif\n"), done.err
    code = "import alpha" if layout == "single" else "pass"
    program = "python" if layout == "single" else "python3"
    ran = subprocess.run(
        [apptainer.program, "-q", "exec", "--cleanenv", "lab.sif", program, "-c", code], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_an_export_that_fails_leaves_nothing(
    hpcest: Hpcest, workspace: WorkspaceFolder, wheel: Path, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that was there stays as it was, and what was half made goes."""
    workspace.config.write_text(f"environment: {{image: {apptainer.debian}}}\n")
    key = hpcest("env", "build", "requirements.txt", "--env", "apptainer").out.strip()
    broken, target = tmp_path / "bin" / "mksquashfs", tmp_path / "given" / "lab.sif"
    for path in (broken, target):
        path.parent.mkdir()
    half = 'case "$*" in *gzip*) echo half > "$2";; esac'  # the last way of packing that is tried
    broken.write_text(f"#!/bin/sh\n{half}\necho 'No space left on device' >&2\nexit 1\n")
    broken.chmod(0o755)
    target.write_text("before")
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    done = hpcest("env", "export", key, target, "--overwrite")
    assert (done.code, done.error.splitlines()[0]) == (1, "squash failed: No space left on device")
    assert "Hint: free some space" in done.error
    assert ([path.name for path in target.parent.iterdir()], target.read_text()) == (["lab.sif"], "before")
