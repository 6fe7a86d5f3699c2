"""``hpcest data``: datasets listed, registered and shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    folder = tmp_path / "mni st"
    folder.mkdir()
    for name in ("a.gz", "b.gz"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1e9, 1e9))
    return folder


def test_datasets_are_registered_listed_and_shown(workspace: WorkspaceFolder, hpcest: Hpcest, mnist: Path) -> None:
    assert hpcest("data", "list") == ("", "no datasets are registered\n", 0)
    assert hpcest("data", "list", "--json").out == "[]\n"
    assert hpcest("data", "register", "mnist", mnist, "--tag", "k=v", "--description", "digits").out == "mnist:1\n"
    assert hpcest("data", "register", "mnist", mnist).out == "mnist:1\n"
    second = hpcest("data", "register", "mnist", f"{mnist}/a*", f"{mnist}/b.gz", "--json").json
    assert (second["id"], second["files"], second["size"], second["paths"]) == ("mnist:2", 2, 8, [f"{mnist}/a*", f"{mnist}/b.gz"])
    assert hpcest("data", "list").out.splitlines()[1].split()[:2] == ["mnist", "2"]
    assert [one["version"] for one in hpcest("data", "list", "--name", "mnist", "--json").json] == [2, 1]
    first = hpcest("data", "show", "mnist:1", "--json").json
    assert (first["tags"], first["description"], first["type"], first["changes"]) == ({"k": "v"}, "digits", "uri_folder", {})
    assert first["digest"] == second["digest"]
    assert [one["name"] for one in hpcest("data", "show", "mnist", "--files", "--json").json] == ["a.gz", "b.gz"]
    (mnist / "a.gz").unlink()
    (mnist / "b.gz").write_text("longer than it was")
    (mnist / "c.gz").write_text("new")
    assert hpcest("data", "show", "mnist:1", "--json").json["changes"] == {"lost": ["a.gz"], "changed": ["b.gz"], "new": ["c.gz"]}
    shown = hpcest("data", "show", "mnist:1").out
    assert "lost a.gz" in shown
    assert "changed b.gz" in shown


def test_what_is_not_there_is_named(workspace: WorkspaceFolder, hpcest: Hpcest, mnist: Path) -> None:
    hpcest("data", "register", "mnist", mnist)
    assert hpcest("data", "show", "minst").error == "registered dataset 'minst' is not known\nHint: did you mean 'mnist'?"
    assert hpcest("data", "show", "mnist:7").code == 2
    assert hpcest("data", "list", "--name", "x").err == "no dataset is called 'x'\n"
    assert hpcest("data", "register", "a/b", mnist).error.startswith("'a/b' can't be the name of a dataset")
    assert hpcest("data", "register", "a", f"{mnist}/*.png").error.startswith(f"nothing matches '{mnist}/*.png'")
    assert hpcest("data", "register", "a").code == 2


def test_a_run_gets_a_dataset_by_its_name(workspace: WorkspaceFolder, hpcest: Hpcest, mnist: Path) -> None:
    hpcest("data", "register", "mnist", mnist)
    (workspace.root / "hello.py").write_text("import os; print(sorted(os.listdir(os.environ['AZURE_ML_INPUT_d'])))\n")
    submitted = hpcest("submit", "hello.py", "--input", "d=azureml:mnist,download", "--json").json
    assert hpcest("wait", submitted["id"]).code == 0
    assert hpcest("logs", submitted["id"]).out == "['a.gz', 'b.gz']\n"
    spec = json.loads((workspace.run(submitted["id"]).header).read_text())["spec"]
    assert (spec["data"]["d"]["dataset"], spec["data"]["d"]["version"], spec.get("inputs")) == ("mnist", 1, None)
