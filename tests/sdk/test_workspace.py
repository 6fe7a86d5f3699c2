"""Workspaces are made, found and named; what Azure ML's need beside a directory is accepted, and said to have no effect."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Experiment, Run, Workspace
from hpcest.errors import SpecError, UnknownNameError, UsageError, WorkspaceError
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.data.dataset import Dataset
from hpcest.sdk.data.datastore import Datastore

MakeRun = Callable[..., Run]


def test_create_and_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Workspace.create("lab", path=tmp_path / "deep/er")
    assert (made.name, made.root, made.location) == ("lab", tmp_path / "deep/er", str(tmp_path / "deep/er"))
    assert repr(made) == f"Workspace(name='lab', root={str(tmp_path / 'deep/er')!r})"
    monkeypatch.chdir(made.root)
    for opened in (
        Workspace(str(made.root)),
        Workspace(made.root),
        Workspace.get("lab"),
        Workspace.get(path=made.root),
        Workspace.create(),
    ):
        assert (opened.name, opened.root) == (made.name, made.root)
    details = made.get_details()
    assert (details["name"], details["location"], set(details)) == ("lab", str(made.root), {"schema", "id", "name", "created", "location"})
    with pytest.raises(WorkspaceError, match="is a workspace already"):
        Workspace.create("lab", path=made.root, exist_ok=False)
    with pytest.raises(WorkspaceError, match=r"is called 'lab', not 'other'"):
        Workspace.get("other")
    with pytest.raises(WorkspaceError, match="is not a workspace") as error:
        Workspace(tmp_path)
    assert error.value.hint == f"make it one: hpcest init {tmp_path}"


def test_found_like_a_repository(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the inside out, then HPCEST_WORKSPACE, then ~/hpcest."""
    outer = Workspace.create(path=tmp_path / "outer")
    inner = Workspace.create(path=outer.root / "a/inner")
    named = Workspace.create(path=tmp_path / "named")
    (inner.root / "x/y").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    assert Workspace.from_config(inner.root / "x/y").root == inner.root
    assert Workspace.from_config(outer.root / "a").root == outer.root
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match="is not in a workspace, HPCEST_WORKSPACE is not set, and there is none in ~/hpcest"):
        Workspace.from_config()
    home = Workspace.create(path=own_home / "hpcest")
    assert Workspace.from_config().root == home.root
    monkeypatch.setenv("HPCEST_WORKSPACE", str(named.root))
    assert Workspace.from_config().root == named.root


def test_a_file_leads_from_a_project_to_its_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace.create("lab", path=tmp_path / "scratch/ws")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    workspace.write_config(project)
    assert json.loads((project / ".hpcest.json").read_text()) == {"workspace": str(workspace.root), "name": "lab"}
    assert Workspace.from_config(project / "src").root == workspace.root
    assert Workspace.from_config(project / "src/train.py").root == workspace.root
    nearer = Workspace.create(path=project / "src")
    assert Workspace.from_config(project / "src").root == nearer.root
    workspace.write_config(project, "other.json")
    assert Workspace.from_config(project / "other.json").root == workspace.root
    monkeypatch.chdir(project)
    assert Workspace.from_config("other.json").root == workspace.root


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "names no workspace"),
        ("[1]", "names no workspace"),
        ("{", "can't be read"),
        ('{"workspace": "/none/such"}', "leads to a workspace that is not there: /none/such is not a workspace"),
    ],
)
def test_a_file_that_leads_nowhere_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / ".hpcest.json").write_text(text)
    with pytest.raises(WorkspaceError, match=message) as error:
        Workspace.from_config(tmp_path)
    assert str(tmp_path / ".hpcest.json") in error.value.message


def test_azures_keywords_have_no_effect_and_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.warns(OffAzureWarning) as caught:
        made = Workspace.create(
            "lab", subscription_id="s", resource_group="g", location="westeurope", create_resource_group=True, sku="basic", auth=None
        )
    assert [str(one.message) for one in caught] == [
        "Workspace.create: no effect here: "
        "subscription_id, resource_group, location, create_resource_group, sku (a workspace is a directory)"
    ]
    assert caught[0].filename == __file__
    assert (made.subscription_id, made.resource_group) == ("", "")
    with pytest.warns(OffAzureWarning, match=r"^Workspace.get: no effect here: auth \(files' permissions"):
        Workspace.get("lab", auth=object())
    with pytest.warns(OffAzureWarning, match="^Workspace.from_config: no effect here: auth"):
        Workspace.from_config(None, object())


def test_wrong_keywords_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create: Any = Workspace.create
    with pytest.raises(SpecError, match=r"Workspace.create has no keyword 'subscripton_id'") as error:
        create("lab", subscripton_id="s")
    assert error.value.hint == "did you mean 'subscription_id'?"
    with pytest.raises(SpecError, match=r"takes only the name without a keyword, not '/elsewhere' as well") as error:
        create("lab", "/elsewhere")
    assert error.value.hint == "name the directory: path='…'"
    assert os.listdir(tmp_path) == []
    Workspace.create("lab")
    with pytest.raises(WorkspaceError, match=f"^{re.escape(str(tmp_path))} is a workspace already"):
        Workspace.create("lab", exist_ok=False)


def test_what_it_holds(workspace: Workspace, made_run: MakeRun) -> None:
    first, second = made_run(experiment="iris"), made_run(experiment="mnist", files={"outputs/m": "1"})
    second.register_model("net", "outputs/m")
    assert list(workspace.experiments) == ["mnist", "iris"]
    assert Experiment.list(workspace) == [Experiment(workspace, "mnist"), Experiment(workspace, "iris")]
    assert {name: model.version for name, model in workspace.models.items()} == {"net": 1}
    assert workspace.get_run(first.id).id == first.id
    assert workspace.get_run("@latest").id == second.id
    with pytest.raises(UnknownNameError, match="run 'zzzz' is not known"):
        workspace.get_run("zzzz")


def test_compute_targets(workspace: Workspace) -> None:
    workspace.folder.config.write_text("default_compute: night\ncompute:\n  night: {backend: local, slots: 3}\n")
    workspace = Workspace(workspace.root)
    assert {name: target.serialize() for name, target in workspace.compute_targets.items()} == {
        "local": {"name": "local", "type": "local"},
        "night": {"name": "night", "type": "local", "slots": 3},
    }
    assert repr(ComputeTarget(workspace, "night")) == "ComputeTarget(name='night', type='local')"
    for wrong, hint in {"nihgt": "did you mean 'night'?", "": "known: local, night"}.items():
        with pytest.raises(UnknownNameError) as error:
            ComputeTarget(workspace, wrong)
        assert error.value.hint == hint


def test_azures_constructor_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that names a subscription, or has Azure's config.json beside it, finds the workspace that it is in."""
    made = Workspace.create("lab", path=tmp_path)
    (tmp_path / "code").mkdir()
    azures = tmp_path / "code/config.json"
    azures.write_text('{"subscription_id": "s", "resource_group": "g", "workspace_name": "other"}')
    monkeypatch.chdir(tmp_path / "code")
    for path in (azures, "config.json", None):
        assert Workspace.from_config(path).root == made.root
    assert Workspace().root == made.root
    with pytest.warns(OffAzureWarning, match="^Workspace: no effect here: resource_group, subscription_id"):
        assert Workspace(subscription_id="s", resource_group="g", workspace_name="lab").root == made.root
    with pytest.warns(OffAzureWarning):
        assert Workspace("s", "g", "lab").root == made.root
    with pytest.warns(OffAzureWarning), pytest.raises(WorkspaceError, match="is called 'lab', not 'other'"):
        Workspace("s", "g", "other")


def test_tags_and_names_of_a_workspace(tmp_path: Path) -> None:
    made = Workspace.create("lab", path=tmp_path, tags={"group": "phys", "n": 1})
    assert Workspace(tmp_path).tags == made.tags == {"group": "phys", "n": "1"}
    assert made.update(friendly_name="new", description="what for", tags={"n": None}) is made
    again = Workspace(tmp_path)
    assert (again.name, again.description, again.tags) == ("new", "what for", {"n": ""})
    assert again.get_details()["id"] == made.get_details()["id"]
    misspelt: Any = {"tag": {}}
    with pytest.raises(SpecError, match="has no keyword 'tag'"):
        made.update(**misspelt)


def test_the_workspaces_that_can_be_found(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workspace.list() == {}
    home = Workspace.create("lab", path=own_home / "hpcest")
    here = Workspace.create("lab", path=tmp_path / "here")
    monkeypatch.setenv("HPCEST_WORKSPACE", str(Workspace.create("named", path=tmp_path / "named").root))
    monkeypatch.chdir(here.root)
    with pytest.warns(OffAzureWarning):
        found = Workspace.list("s", None, "group")
    assert {name: [one.root for one in several] for name, several in found.items()} == {
        "lab": [here.root, home.root],
        "named": [tmp_path / "named"],
    }


def test_deleting_a_workspace_keeps_what_was_in_it_unless_told_otherwise(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run()
    (workspace.root / "mine.txt").write_text("x")
    going = Experiment(workspace, "iris").start_logging(snapshot_directory=None)
    with pytest.raises(UsageError, match=f"run {going.id} goes on in"):
        workspace.delete()
    going.complete()
    workspace.delete()
    with pytest.raises(WorkspaceError, match="is not a workspace"):
        Workspace(workspace.root)
    kept, mine = sorted(os.listdir(workspace.root))
    assert (kept.startswith(".hpcest-deleted-"), mine) == (True, "mine.txt")
    (workspace.root / kept).rename(workspace.root / ".hpcest")
    again = Workspace(workspace.root)
    assert again.get_run(run.id).id == run.id
    again.delete(delete_dependent_resources=True)
    assert os.listdir(workspace.root) == ["mine.txt"]


def test_secrets_are_variables(workspace: Workspace, made_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="hpcest keeps no secrets"):
        workspace.get_default_keyvault()
    run = made_run()
    monkeypatch.setenv("DB_PASSWORD", "p")
    assert (run.get_secret("db-password"), run.get_secrets(["DB_PASSWORD"])) == ("p", {"DB_PASSWORD": "p"})
    with pytest.raises(KeyError, match="there is no environment variable 'other'"):
        run.get_secret("other")


def test_all_that_is_kept_is_found_by_name(workspace: Workspace, project: Path) -> None:
    """Datastores, datasets and environments; a workspace has a datastore from the beginning."""
    default = workspace.get_default_datastore()
    (project / "store").mkdir()
    Datastore.register(workspace, "mine", project / "store")
    workspace.set_default_datastore("mine")
    assert workspace.get_default_datastore().name == "mine"
    assert {default.name, "mine"} <= set(workspace.datastores)
    Dataset.File.from_files(project / "train.py").register(workspace, "scripts")
    Environment("bare", kind="venv").register(workspace)
    assert (list(workspace.datasets), list(workspace.environments)) == (["scripts"], ["bare"])
    with pytest.raises(UnknownNameError, match="datastore 'nowhere' is not known"):
        workspace.set_default_datastore("nowhere")
