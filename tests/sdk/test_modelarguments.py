"""What a model is registered with: in Azure's places, of a folder only what is asked for, and refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcest import Dataset, Model, Workspace
from hpcest.errors import SpecError


def test_arguments_may_stand_in_azures_places(workspace: Workspace, project: Path) -> None:
    data = Dataset.File.from_files(project).register(workspace, "data")
    model = Model.register(
        workspace, "train.py", "net", {"a": None}, {"p": 1}, "what", [("training", data)], Model.Framework.PYTORCH, "2.9"
    )
    assert (model.tags, model.properties, model.description, model.framework, model.framework_version) == (
        {"a": ""}, {"p": "1"}, "what", "PyTorch", "2.9",
    )  # fmt: skip
    assert model.datasets == {Dataset.Scenario.TRAINING: ["data:1"]}
    assert model.url == model.path.as_uri()


def test_only_some_files_of_a_folder(workspace: Workspace, project: Path) -> None:
    for name in ("net/a", "net/deep/b", "net/deep/c", "net/more/d"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    model = Model.register(workspace, "net", "chosen", child_paths=["a", Path("deep/b"), "more"])
    found = {str(path.relative_to(model.path)): path.read_text() for path in model.path.rglob("*") if path.is_file()}
    assert (model.path.name, found) == ("net", {"a": "net/a", "deep/b": "net/deep/b", "more/d": "net/more/d"})
    assert not any(path.is_symlink() for path in model.path.rglob("*"))
    for wrong in ("gone", "../train.py", str(project / "train.py")):
        with pytest.raises(SpecError, match="is not in the folder 'net'"):
            Model.register(workspace, "net", "chosen", child_paths=["a", wrong])
    assert len(Model.list(workspace, "chosen")) == 1


def test_what_can_not_be_said_of_a_model(workspace: Workspace, project: Path) -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"tags": ["a"]}, "tags must be a dict"),
        ({"properties": "a"}, "properties must be a dict"),
        ({"datasets": ["data"]}, "datasets has 'data'"),
    )
    for keywords, message in wrong:
        with pytest.raises(SpecError, match=message):
            Model.register(workspace, "train.py", "net", **keywords)
    with pytest.raises(SpecError, match="has no keyword 'model_framwork'") as error:
        Model.register(workspace, "train.py", "net", model_framwork="x")
    assert error.value.hint == "did you mean 'model_framework'?"
    with pytest.raises(SpecError, match="has no 'id'"):
        Model.deserialize(workspace, {})


@pytest.mark.parametrize("name", ["deploy", "package", "profile", "print_configuration", "get_sas_urls"])
def test_serving_says_what_to_do_instead(workspace: Workspace, project: Path, name: str) -> None:
    for owner in (Model, Model.register(workspace, "train.py", "net")):
        with pytest.raises(SpecError, match=f"Model.{name}: hpcest does not deploy models") as error:
            getattr(owner, name)
        assert "Model.get_model_path" in str(error.value.hint)
    assert not hasattr(Model, "nothing_of_the_kind")
