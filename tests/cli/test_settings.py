"""``hpcest compute``, ``config``, ``plugins`` and ``doctor``: what is set and installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]


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


def test_what_a_framework_takes_is_shown(hpcest: Hpcest) -> None:
    """Its distributions, its versions, and its options with their defaults."""
    (shown,) = hpcest("plugins", "pytorch", "--json").json
    assert (shown["kind"], shown["distributions"], "2.9" in shown["versions"]) == ("framework", ["pytorch", "mpi"], True)
    assert {one["option"]: one["default"] for one in shown["options"]} == {"launcher": "ranks", "max_restarts": 0}
    assert "max_restarts" in hpcest("plugins", "pytorch").out
    assert "did you mean 'pytorch'?" in hpcest("plugins", "pytorhc").err
