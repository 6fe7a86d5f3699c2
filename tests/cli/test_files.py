"""``hpcest artifacts`` and ``models``: the files of runs, listed, copied and registered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
MODEL_KEYS = [
    "name", "version", "id", "created", "description", "run_id", "framework", "framework_version", "tags", "properties", "datasets",
    "lineage", "path",
]  # fmt: skip


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run(made_run: MakeRun) -> Any:
    return made_run(files={"outputs/a.txt": "a", "outputs/deep/b": "bb", "user_logs/std_log.txt": "said\n", "artifacts/kept": ""})


def test_listing(run: Any, hpcest: Hpcest, made_run: MakeRun) -> None:
    assert hpcest("artifacts", "list", run.id).out == (
        "NAME                   BYTES\n"
        "kept                   0\n"
        "outputs/a.txt          1\n"
        "outputs/deep/b         2\n"
        "user_logs/std_log.txt  5\n"
    )
    assert hpcest("artifacts", "list", run.id, "--json").json == [
        {"name": "kept", "bytes": 0},
        {"name": "outputs/a.txt", "bytes": 1},
        {"name": "outputs/deep/b", "bytes": 2},
        {"name": "user_logs/std_log.txt", "bytes": 5},
    ]
    empty = made_run().id
    assert hpcest("artifacts", "list", empty) == ("", f"run {empty} has no files yet\n", 0)
    assert hpcest("artifacts", "list", empty, "--json").out == "[]\n"


def test_copying(run: Any, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    got = workspace.root / "got"
    got.mkdir()
    assert hpcest("artifacts", "get", run.id, "outputs/a.txt", "got").err == "outputs/a.txt copied to got\n"
    assert hpcest("artifacts", "get", run.id, "outputs/deep/b", "got/renamed").code == 0
    assert hpcest("artifacts", "get", run.id, "outputs/deep/b", "got/new/").code == 0
    assert tree(got) == {"a.txt": "a", "new/b": "bb", "renamed": "bb"}
    assert hpcest("artifacts", "get", run.id, "outputs/deep", "deep").err == "1 file copied to deep\n"
    assert tree(workspace.root / "deep") == {"outputs/deep/b": "bb"}
    assert hpcest("artifacts", "get", run.id, "", "all").err == "4 files copied to all\n"
    assert len(tree(workspace.root / "all")) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../run.json", "artifact name '../run.json' must be a relative path without '..'"),
        ("/etc/passwd", "artifact name '/etc/passwd' must be a relative path without '..'"),
        ("outputs/b.txt", "file of run {run} 'outputs/b.txt' is not known\nHint: did you mean 'outputs/a.txt'?"),
        ("none", "file of run {run} 'none' is not known"),
        ("outputs/link", "'outputs/link' of run {run} is a link that leads out of the run folder, to "),
    ],
)
def test_what_is_no_file_of_the_run(name: str, said: str, run: Any, hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (run.outputs / "link").symlink_to(tmp_path / "private")
    before = os.listdir(workspace.root)
    done = hpcest("artifacts", "get", run.id, name)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(said.replace("{run}", run.id))
    assert os.listdir(workspace.root) == before


def test_what_is_left_out_is_said(run: Any, hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("secret")
    (run.outputs / "link").symlink_to(tmp_path / "private")
    done = hpcest("artifacts", "get", run.id, "outputs", "got")
    assert done.err.splitlines() == [
        f"warning: left out: 'outputs/link' is a link that leads out of the run folder, to {tmp_path / 'private'}",
        "2 files copied to got",
    ]
    assert "secret" not in tree(workspace.root / "got").values()


def test_a_place_that_can_not_be_written(run: Any, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    done = hpcest("artifacts", "get", run.id, "outputs/a.txt", "hello.py/x")
    assert (done.code, done.error) == (1, "'a.txt' can't be copied to hello.py/x: File exists")


def test_models(run: Any, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    assert hpcest("models", "list") == ("", "no models are registered\n", 0)
    assert hpcest("models", "list", "--json").out == "[]\n"
    done = hpcest(
        "models", "register", run.id, "org/net", "outputs/a.txt", "--tag", "kind=x", "--description", "why", "--framework", "sklearn"
    )
    assert done == ("org/net:1\n", "", 0)
    second = hpcest("models", "register", run.id, "org/net", "--json")
    assert (list(second.json), second.json["id"]) == (MODEL_KEYS, "org/net:2")
    hpcest("models", "register", run.id, "a", "outputs/deep")
    listed = hpcest("models", "list").out.splitlines()
    assert [line.split()[:2] for line in listed] == [["NAME", "VERSION"], ["a", "1"], ["org/net", "2"], ["org/net", "1"]]
    assert listed[3].split("  ") == ["org/net", "1", *listed[3].split("  ")[2:]]
    assert listed[3].endswith("kind=x  why")
    assert [model["id"] for model in hpcest("models", "list", "--json").json] == ["a:1", "org/net:2", "org/net:1"]
    assert [model["id"] for model in hpcest("models", "list", "--latest", "--json").json] == ["a:1", "org/net:2"]
    assert [model["id"] for model in hpcest("models", "list", "--name", "a", "--json").json] == ["a:1"]
    assert hpcest("models", "list", "--name", "b").err == "no model is called 'b'\n"
    shown = hpcest("models", "show", "org/net:1").out
    path = workspace.models / "org%2Fnet/1/data/a.txt"
    assert shown.splitlines() == [
        "name         org/net",
        "version      1",
        f"created      {time.strftime('%Y-')}{shown.splitlines()[2][18:]}",
        "description  why",
        f"run_id       {run.id}",
        "framework    sklearn",
        "tags         kind=x",
        f"path         {path}",
    ]
    assert hpcest("models", "show", "org/net", "--json").json["version"] == 2
    help_text = " ".join(hpcest("models", "show", "--help").out.split())
    assert all(key in help_text for key in MODEL_KEYS)


def test_downloads(run: Any, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    hpcest("models", "register", run.id, "net", "outputs/a.txt")
    assert hpcest("models", "download", "net", "got") == ("got/a.txt\n", "", 0)
    done = hpcest("models", "download", "net", "got")
    assert (done.code, done.out, done.error.partition("\n")[0]) == (2, "", "got/a.txt exists already")
    assert hpcest("models", "download", "net:1", "got", "--overwrite").out == "got/a.txt\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "nte"], "model 'nte' is not known\nHint: did you mean 'net'?"),
        (["show", "net:9"], "version of model 'net' '9' is not known\nHint: known: 1"),
        (["show", "net:x"], "'net:x' is no id of a model"),
        (["register", "{run}", "a:1"], "'a:1' can't be the name of a model"),
        (["register", "{run}", "m", "../x"], "artifact name '../x' must be a relative path without '..'"),
        (["register", "{run}", "m", "outputs/none"], "file of run {run} 'outputs/none' is not known"),
        (["register", "zzzz", "m"], "run 'zzzz' is not known"),
        (["register", "{run}", "m", "--tag", "x"], "Invalid value for --tag: 'x' is not NAME=VALUE"),
    ],
)
def test_models_that_are_not_there(words: list[str], said: str, run: Any, hpcest: Hpcest) -> None:
    hpcest("models", "register", run.id, "net")
    done = hpcest("models", *[word.replace("{run}", run.id) for word in words])
    assert (done.code, done.out) == (2, "")
    assert said.replace("{run}", run.id) in done.err
