"""``hpcest compute``, ``config``, ``plugins``, ``doctor`` and ``env``: what is set, installed and built."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec

Hpcest = Callable[..., Any]
IMAGE_KEYS = ["kind", "key", "name", "python", "packages", "created", "by", "state", "folder"]


def test_compute_targets(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    workspace.config.write_text("default_compute: night\ncompute:\n  night: {backend: local, slots: 3, time: '2:00'}\n")
    assert hpcest("compute", "list").out == (
        "NAME     BACKEND  OPTIONS            FROM\n"
        "local    local                       default\n"
        f"night *  local    slots=3 time=2:00  {workspace.config}:3\n"
    )
    assert hpcest("compute", "list", "--json").json == [
        {"name": "local", "backend": "local", "default": False, "options": {}, "from": "default"},
        {"name": "night", "backend": "local", "default": True, "options": {"slots": 3, "time": "2:00"}, "from": f"{workspace.config}:3"},
    ]
    shown = hpcest("compute", "show", "night", "--json").json
    assert (list(shown), shown["name"], shown["backend"]) == (["name", "backend", "options"], "night", "local")
    assert [list(option) for option in shown["options"]] == [["option", "value", "set", "help"]] * len(shown["options"])
    options = {option["option"]: (option["value"], option["set"]) for option in shown["options"]}
    assert (options["slots"], options["time"], options["queue"]) == ((3, True), ("2:00", True), ("default", False))
    lines = hpcest("compute", "show", "night").out.splitlines()
    assert lines[0].split() == ["OPTION", "VALUE", "MEANING"]
    assert lines[1].split()[:3] == ["slots", "3", "how"]
    wrong = hpcest("compute", "show", "nihgt")
    assert (wrong.code, wrong.error) == (2, "compute target 'nihgt' is not known\nHint: did you mean 'night'?")


def test_a_wrong_option_is_told_with_its_line(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    workspace.config.write_text("compute:\n  night:\n    backend: local\n    slot: 3\n")
    done = hpcest("compute", "show", "night")
    assert (done.code, done.error) == (2, f"{workspace.config}:4: key in compute.night 'slot' is not known\nHint: did you mean 'slots'?")
    assert hpcest("doctor").code == 1


def test_configuration(hpcest: Hpcest, workspace: WorkspaceFolder, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.config.write_text("snapshot:\n  ignore: [data]\n")
    monkeypatch.setenv("HPCEST_DEFAULT_COMPUTE", "night")
    rows = hpcest("config", "show", "--json").json
    assert {tuple(row) for row in rows} == {("key", "value", "from")}
    found = {row["key"]: (row["value"], row["from"]) for row in rows}
    assert found["snapshot.ignore"] == (["data"], f"{workspace.config}:2")
    assert found["default_compute"] == ("night", "environment variable HPCEST_DEFAULT_COMPUTE")
    shown = {line.split()[0]: line.split(maxsplit=2)[1:] for line in hpcest("config", "show").out.splitlines()}
    assert (shown["KEY"], shown["snapshot.ignore"]) == (["VALUE", "FROM"], ["['data']", f"{workspace.config}:2"])
    site, user = own_home / "site.yaml", own_home / ".config/hpcest/config.yaml"
    site.write_text("")
    levels = [
        {"level": "site", "path": str(site), "exists": True},
        {"level": "user", "path": str(user), "exists": False},
        {"level": "workspace", "path": str(workspace.config), "exists": True},
    ]
    assert hpcest("config", "path", "--json").json == levels
    assert f"user       {user}" in hpcest("config", "path").out
    monkeypatch.chdir(tmp_path)
    assert hpcest("config", "path", "--json").json == levels[:2]
    assert {row["key"] for row in hpcest("config", "show", "--json").json} == set(found)
    assert hpcest("-w", tmp_path, "config", "path").code == 1


def test_plugins(hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = hpcest("plugins", "--json").json
    assert {tuple(row) for row in rows} == {("kind", "name", "origin", "module", "problem")}
    assert ("backend", "local", "built in") in {(row["kind"], row["name"], row["origin"]) for row in rows}
    assert hpcest("plugins").out.splitlines()[0].split() == ["KIND", "NAME", "FROM", "MODULE", "PROBLEM"]
    monkeypatch.chdir(tmp_path)
    assert hpcest("plugins", "--json").json == rows


def test_doctor(hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = hpcest("doctor", "--json")
    assert {tuple(row) for row in done.json} == {("check", "state", "found", "next")}
    assert {row["state"] for row in done.json} <= {"ok", "note"}
    assert done.code == 0
    assert hpcest("doctor").out.splitlines()[0].split() == ["STATE", "CHECK", "FOUND", "NEXT"]
    monkeypatch.chdir(tmp_path)
    outside = {row["check"]: row for row in hpcest("doctor", "--json").json}
    assert outside["workspace"] == {"check": "workspace", "state": "note", "found": "none here", "next": "make one: hpcest init"}


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
    assert listed[0].split() == ["KIND", "KEY", "NAME", "PYTHON", "PACKAGES", "BUILT", "STATE"]
    assert listed[1].startswith(f"venv  {built[:12]}  bare \\x1b  {image['python']}  0         ")
    shown = hpcest("env", "show", built[:6], "--json").json
    assert list(shown) == [*IMAGE_KEYS, "base", "tool", "resolved", "seconds", "log"]
    assert Path(shown["log"]).is_file()
    assert {key: shown[key] for key in IMAGE_KEYS} == image
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
