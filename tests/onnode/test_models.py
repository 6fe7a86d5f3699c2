"""Models that a program registers where hpcest is not installed, and what is said of them later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import models
from hpcest.onnode.edits import say
from hpcest.onnode.offline import OfflineRun
from hpcest.onnode.record import put_json
from hpcest.onnode.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that goes on, in a workspace with an awkward path."""
    folder = tmp_path / "w s'é" / ".hpcest" / "runs" / "abc12345"
    (folder / "outputs").mkdir(parents=True)
    put_json(str(folder / "run.json"), {"id": "abc12345", "spec": {"experiment": "iris", "snapshot": "5a"}})
    (folder / "outputs" / "model.bin").write_text("weights")
    return Run(folder)


def registry(run: Run) -> str:
    return str(models.of_run(run.folder))


def test_a_model_is_registered_at_once(run: Run) -> None:
    """As it is now: the program may write to its file again."""
    model = run.register_model("net", "outputs/model.bin", {"kind": "x", "n": None}, {"depth": 3}, "own", "1.5", "a net", [("read", "d:1")])
    assert (model.name, model.version, model.id, model.run_id) == ("net", 1, "net:1", "abc12345")
    assert (model.tags, model.properties, model.description) == ({"kind": "x", "n": ""}, {"depth": "3"}, "a net")
    assert (model.framework, model.framework_version, repr(model)) == ("own", "1.5", "Model(name='net', version=1)")
    Path(run.folder, "outputs", "model.bin").write_text("trained further")
    assert Path(model.path).read_text() == "weights"
    facts = models.facts_of(registry(run), "net", 1)
    assert facts is not None
    assert (facts["made"]["snapshot"], facts["datasets"]) == ("5a", [["read", "d:1"]])
    again = run.register_model("net")
    assert (again.version, sorted(os.listdir(again.path))) == (2, ["model.bin"])
    assert models.versions(registry(run), "net") == [1, 2]


def test_words_without_effect_are_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.register_model("net", sample_input_dataset=1, desciption="misspelt").version == 1
    assert capsys.readouterr().err == "hpcest: register_model: no effect here: desciption, sample_input_dataset\n"


def test_what_it_is_can_be_changed(run: Run) -> None:
    model = run.register_model("net", tags={"kind": "x"}, properties={"depth": 3})
    model.add_tags({"stage": "test", "none": None})
    model.remove_tags("none")
    model.add_properties({"depth": 4, "width": 5})
    model.update(description="better")
    assert (model.tags, model.properties, model.description) == ({"kind": "x", "stage": "test"}, {"depth": "3", "width": "5"}, "better")
    model.update(tags={"only": 1})
    model.update_tags_properties({"and": "that"}, ["only"], {"last": "one"})
    assert (model.serialize()["tags"], model.properties["last"]) == ({"and": "that"}, "one")


def test_what_can_not_be_registered_raises_and_is_not_asked_for(run: Run, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the run has no file 'outputs/nothing'"):
        run.register_model("net", "outputs/nothing")
    with pytest.raises(ValueError, match=r"'a:b' can't be the name of a model; use up to 200 letters"):
        run.register_model("a:b")
    (tmp_path / "private").write_text("secret")
    Path(run.folder, "outputs", "link").symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match="is a link that leads out of the run folder"):
        run.register_model("net")
    assert [facts for facts in run._state().models.values() if facts] == []
    assert models.names(registry(run)) == []


def test_a_registry_that_can_not_be_written_stops_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The record asks for the model, with all that was said of it."""
    Path(registry(run)).write_text("no folder")
    model = run.register_model("net", "outputs/model.bin", tags={"kind": "x"})
    assert (model.name, model.version, model.run_id, model.tags) == ("net", 0, "abc12345", {"kind": "x"})
    model.add_tags({"a": "b"})
    assert "the model 'net' can't be registered" in capsys.readouterr().err
    (asked,) = run._state().models.values()
    assert (asked["name"], asked["path"], asked["tags"]) == ("net", "outputs/model.bin", {"kind": "x"})


def test_the_key_of_a_version_stays_known(run: Run) -> None:
    """Also of one that was deleted: collecting the run must not bring it back."""
    run.register_model("net")
    (key,) = run._state().models
    assert models.has_key(registry(run), "net", key)
    models.delete(registry(run), "net", 1)
    assert models.versions(registry(run), "net") == []
    assert models.has_key(registry(run), "net", key)
    assert not models.has_key(registry(run), "net", "other")
    with pytest.raises(FileNotFoundError):
        models.delete(registry(run), "net", 1)
    assert run.register_model("net").version == 2


def test_any_python_without_anything_installed_can_do_it(run: Run) -> None:
    """With what travels alone."""
    code = "from hpcest import Run; model = Run.get_context().register_model('net', tags={'a': 1}); print(model, model.tags, model.run_id)"
    runtime = travelling_runtime(WorkspaceFolder(Path(registry(run)).parents[1]))
    env = {"PATH": os.environ["PATH"], "HPCEST_RUN_DIR": run.folder, "PYTHONPATH": str(runtime)}
    known = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=run.folder, env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert (known.stdout, known.stderr) == ("Model(name='net', version=1) {'a': '1'} abc12345\n", "")


def test_offline_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    model = OfflineRun().register_model("net", "outputs/m", tags={"a": 1}, model_framework="own")
    assert (model.name, model.version, model.tags, model.framework) == ("net", 0, {"a": "1"}, "own")
    assert capsys.readouterr().out == "[offline] would register outputs/m as the model net\n"


def test_words_for_a_version_that_has_gone_make_no_version(run: Run) -> None:
    model = run.register_model("net")
    models.delete(registry(run), "net", 1)
    model.add_tags({"late": 1})
    assert models.versions(registry(run), "net") == []


def test_the_last_word_of_an_alias_holds(run: Run) -> None:
    """Of whichever process, and one that was taken away is gone."""
    home = models.home(registry(run), "net")
    run.register_model("net")
    say(home, {"e": "alias", "k": "best", "v": 1}, {"e": "alias", "k": "best", "v": 2}, {"e": "alias", "k": "old", "v": 1})
    say(home, {"e": "alias", "k": "old"})
    found: dict[str, Any] = {name: version for name, (_, version) in models.later(home).aliases.items()}
    assert found == {"best": 2, "old": None}
    assert json.loads(Path(home, "1", "model.json").read_text())["version"] == 1
