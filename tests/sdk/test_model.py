"""Registered models: every version is whole, its number is its own, and no name leaves the registry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hpcest import Dataset, Model, Run, Workspace
from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.sdk.azure import OffAzureWarning

HUGE = 3 << 30  # a hole that takes no room, but whose copying takes a while

MakeRun = Callable[..., Run]
WaitUntil = Callable[..., None]


def registry(workspace: Workspace) -> set[str]:
    return {str(path.relative_to(workspace.folder.models)) for path in workspace.folder.models.rglob("*") if not path.is_dir()}


def test_a_file_of_a_run(workspace: Workspace, made_run: MakeRun, project: Path) -> None:
    run = made_run(files={"outputs/model.pkl": "weights"})
    model = run.register_model(
        "iris", "outputs/model.pkl", tags={"kind": "tree"}, properties={"depth": "3"}, model_framework="sklearn",
        model_framework_version="1.5", description="a tree",
    )  # fmt: skip
    made = model.serialize()
    assert made.pop("created") == pytest.approx(model.created_time.timestamp(), abs=1e-5)
    assert model.created_time.utcoffset() == timedelta(0)
    assert made == {
        "name": "iris", "version": 1, "id": "iris:1", "run_id": run.id, "framework": "sklearn", "framework_version": "1.5",
        "description": "a tree", "tags": {"kind": "tree"}, "properties": {"depth": "3"},
        "datasets": {}, "lineage": {"run_id": run.id, "snapshot": "", "environment": "", "data": {}},
        "path": str(workspace.folder.models / "iris/1/data/model.pkl"),
    }  # fmt: skip
    assert repr(model) == "Model(name='iris', version=1)"
    assert model.run is not None
    assert (model.run.id, model.path.read_text()) == (run.id, "weights")
    assert model.download("got") == "got/model.pkl"
    assert Path("got/model.pkl").read_text() == "weights"
    assert Model.get_model_path("iris", _workspace=workspace) == str(model.path)


def test_all_outputs_by_default(workspace: Workspace, made_run: MakeRun) -> None:
    model = made_run(files={"outputs/a": "1", "outputs/b/c": "2"}).register_model("iris")
    assert registry(workspace) == {"iris/1/model.json", "iris/1/data/outputs/a", "iris/1/data/outputs/b/c"}
    assert model.path.is_dir()
    empty = made_run()
    with pytest.raises(UnknownNameError, match=f"file of run {empty.id} 'outputs' is not known"):
        empty.register_model("iris")
    with pytest.raises(UnknownNameError, match="'outputs/x' is not known"):
        made_run(files={"outputs/a": "1"}).register_model("iris", "outputs/x")


def test_azures_other_keywords(made_run: MakeRun, workspace: Workspace, project: Path) -> None:
    run = made_run(files={"outputs/m": "1"})
    with pytest.warns(OffAzureWarning, match="^Run.register_model: no effect here: sample_input_dataset, sample_output_dataset"):
        run.register_model("iris", "outputs/m", datasets=[], sample_input_dataset=1, sample_output_dataset=2)
    with pytest.warns(OffAzureWarning, match=r"^Model.register: no effect here: resource_configuration \(hpcest does not deploy"):
        Model.register(workspace, "train.py", "iris", resource_configuration=1)
    with pytest.raises(SpecError, match="no keyword 'dataset'") as error:
        run.register_model("iris", "outputs/m", dataset=[])
    assert error.value.hint == "did you mean 'datasets'?"


def test_choosing_a_version(workspace: Workspace, project: Path) -> None:
    for number, tags in enumerate(({"a": "1"}, {"a": "2", "b": ""}, {}), start=1):
        Model.register(workspace, "train.py", "iris", tags=tags, properties={"n": number}, model_framework="x" if number < 3 else None)
    assert Model(workspace, "iris").version == 3
    assert Model(workspace, name="iris", version=2).tags == {"a": "2", "b": ""}
    assert Model(workspace, id="iris:1").version == 1
    assert Model(workspace, "iris", tags={"a": None}).version == 2
    assert Model(workspace, "iris", tags=[["a", "1"]]).version == 1
    assert Model(workspace, "iris", tags=["a"], model_framework="x", properties={"n": "1"}).version == 1
    text: Any = "1"
    assert Model(workspace, "iris", version=text).version == 1
    for wrong, message in {
        "irsi": "model 'irsi' is not known",
        "iris:7": "version of model 'iris' '7' is not known",
        "iris": "'iris' is no id of a model",
    }.items():
        with pytest.raises(HpcestError) as error:
            Model(workspace, id=wrong) if wrong != "irsi" else Model(workspace, wrong)
        assert error.value.message == message
    with pytest.raises(UnknownNameError, match="model with run_id='nobody' 'iris' is not known"):
        Model(workspace, "iris", run_id="nobody")
    with pytest.raises(SpecError, match="a model needs a name or an id"):
        Model(workspace)


def test_listing(workspace: Workspace, project: Path, made_run: MakeRun) -> None:
    run = made_run(files={"outputs/m": "1"})
    Model.register(workspace, "train.py", "b", tags={"k": "1"})
    Model.register(workspace, "train.py", "a", tags={"k": "2"})
    run.register_model("b", "outputs/m", tags={"k": "3"}, model_framework="f")

    def ids(**conditions: Any) -> list[str]:
        return [model.id for model in Model.list(workspace, **conditions)]

    assert ids() == ["a:1", "b:2", "b:1"]
    assert ids(latest=True) == ["a:1", "b:2"]
    assert ids(name="b") == ["b:2", "b:1"]
    assert ids(tags=["k"]) == ["a:1", "b:2", "b:1"]
    assert ids(tags=[["k", "1"]]) == ids(tags={"k": "1"}) == ["b:1"]
    assert ids(run_id=run.id) == ids(model_framework="f") == ["b:2"]
    assert ids(name="c") == []


@pytest.mark.parametrize("name", ["org/model", "../../escape", "..", ".", ".hidden", "a b", "ü%2F", "1", "CON", "-x", "x" * 200, "a.b-c_d"])
def test_any_printable_name_stays_in_the_registry(name: str, workspace: Workspace, project: Path) -> None:
    before = {path for path in workspace.root.rglob("*") if workspace.folder.models not in path.parents}
    model = Model.register(workspace, "train.py", name)
    assert (model.name, model.id, model.path.read_text()) == (name, f"{name}:1", "print('trained')\n")
    assert [one.name for one in Model.list(workspace)] == [name]
    assert model.folder.parent.parent == workspace.folder.models
    assert {path for path in workspace.root.rglob("*") if workspace.folder.models not in path.parents} == before
    model.delete()
    assert Model.list(workspace) == []


@pytest.mark.parametrize("name", ["", " ", " x", "a:b", "a:1", "line\nbreak", "esc\x1b[31m", "nul\0", "\udc80", "x" * 201, "é" * 100])
def test_names_that_no_model_can_have(name: str, workspace: Workspace, project: Path) -> None:
    with pytest.raises(SpecError, match="can't be the name of a model"):
        Model.register(workspace, "train.py", name)
    assert os.listdir(workspace.folder.models) == []


def test_links_of_a_run_that_lead_out_are_refused(workspace: Workspace, made_run: MakeRun, tmp_path: Path) -> None:
    """A model that can be registered is complete, and holds nothing of anybody else's."""
    run = made_run(files={"outputs/m/a": "1", "outputs/shared/b": "2", "outputs/m/deep/x": "3"})
    (tmp_path / "private").write_text("secret")
    folder = Path(run.folder, "outputs/m")
    (folder / "latest").symlink_to("deep/x")
    (folder / "absolute").symlink_to(folder / "a")
    (folder / "up").symlink_to("../shared")
    (folder / "self").symlink_to(".")
    model = run.register_model("ok", "outputs/m")
    assert sorted(os.listdir(model.path)) == ["a", "absolute", "deep", "latest", "self", "up"]
    assert [os.readlink(model.path / name) for name in ("latest", "absolute", "self")] == ["deep/x", "a", "."]
    assert not (model.path / "up").is_symlink()
    assert ((model.path / "up/b").read_text(), (model.path / "latest").read_text()) == ("2", "3")
    for name in ("out", "m/out"):
        Path(run.folder, "outputs", name).symlink_to(tmp_path / "private")
        with pytest.raises(SpecError, match=r"is a link that leads out of the run folder, .* would not be complete"):
            run.register_model("bad", f"outputs/{name}" if name == "out" else "outputs/m")
    os.unlink(folder / "out")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SpecError, match="is a pipe, a socket or a device"):
        run.register_model("bad", "outputs/m")
    assert [one.id for one in Model.list(workspace)] == ["ok:1"]


def test_links_in_a_circle_end(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run(files={"outputs/a/x": "1", "outputs/b/y": "2"})
    Path(run.folder, "outputs/a/other").symlink_to("../b")
    Path(run.folder, "outputs/b/other").symlink_to("../a")
    with pytest.raises(SpecError, match=r"the links in .*/a. lead in a circle"):
        run.register_model("m", "outputs/a")
    assert Model.list(workspace) == []


def test_links_of_ones_own_folder_are_followed(workspace: Workspace, project: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_text("big")
    (project / "model").mkdir()
    (project / "model/weights").symlink_to(tmp_path / "big")
    model = Model.register(workspace, "model", "m")
    assert not (model.path / "weights").is_symlink()
    assert (model.path / "weights").read_text() == "big"
    (project / "model/broken").symlink_to("gone")
    with pytest.raises(SpecError, match="leads nowhere"):
        Model.register(workspace, "model", "m")
    with pytest.raises(SpecError, match="there is no file or folder 'none'"):
        Model.register(workspace, "none", "m")
    assert [one.version for one in Model.list(workspace)] == [1]


def test_downloads_don_t_overwrite(workspace: Workspace, project: Path) -> None:
    (project / "m").mkdir()
    (project / "m/a").write_text("1")
    model = Model.register(workspace, "m", "m")
    (project / "m/a").write_text("mine")
    with pytest.raises(SpecError, match="m exists already"):
        model.download()
    model.download(exist_ok=True)
    assert (project / "m/a").read_text() == "1"
    (project / "file").write_text("")
    with pytest.raises(HpcestError, match="m:1 can't be copied to file/m: "):
        model.download("file")


def test_a_version_that_was_deleted_meanwhile(workspace: Workspace, project: Path) -> None:
    model = Model.register(workspace, "train.py", "net")
    Model(workspace, "net").delete()
    for use in (model.download, model.delete):
        with pytest.raises(UnknownNameError, match="version of model 'net' '1' is not known"):
            use()


def test_a_number_is_not_given_twice(workspace: Workspace, project: Path) -> None:
    first, second = (Model.register(workspace, "train.py", "m") for _ in range(2))
    again = Model(workspace, "m", version=2)
    second.delete()
    assert [one.id for one in Model.list(workspace)] == ["m:1"]
    with pytest.raises(UnknownNameError, match="version of model 'm' '2' is not known"):
        again.delete()
    first.delete()
    assert Model.list(workspace) == []
    with pytest.raises(UnknownNameError, match="model 'm' is not known"):
        Model(workspace, "m")
    assert Model.register(workspace, "train.py", "m").version == 3


def test_a_damaged_version_is_named(workspace: Workspace, project: Path) -> None:
    model = Model.register(workspace, "train.py", "m")
    for text, message in {"{": "can't be read", "[]": "is damaged", "{}": "is damaged"}.items():
        (model.folder / "model.json").write_text(text)
        with pytest.raises(HpcestError, match=message) as error:
            Model(workspace, "m")
        assert str(model.folder / "model.json") in error.value.message


REGISTER = """
import sys
from hpcest import Model, Workspace
workspace = Workspace(sys.argv[1])
for number in range(int(sys.argv[3])):
    print(Model.register(workspace, sys.argv[2], "m", tags={"by": sys.argv[4]}).version)
"""


def test_registrations_at_once_get_a_version_each(workspace: Workspace, project: Path) -> None:
    folder = project / "model"
    folder.mkdir()
    for number in range(20):
        (folder / f"part{number}").write_text(str(number) * 100)
    command = [sys.executable, "-c", REGISTER, str(workspace.root), str(folder), "5"]
    running = [subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(4)]
    versions = sorted(int(line) for process in running for line in process.communicate(timeout=60)[0].split())
    assert versions == list(range(1, 21))
    models = Model.list(workspace, "m")
    assert sorted(model.version for model in models) == versions
    assert {len(os.listdir(model.path)) for model in models} == {20}
    assert sorted(model.tags["by"] for model in models) == sorted("0123" * 5)
    assert not list(workspace.folder.models.glob("m/.*"))


def test_an_interrupted_registration_leaves_no_version(workspace: Workspace, project: Path, wait_until: WaitUntil) -> None:
    """Killed in the middle of copying; what it left is swept away by the next registration."""
    folder = project / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    with open(folder / "huge", "wb") as stream:
        stream.truncate(HUGE)
    command = [sys.executable, "-c", REGISTER, str(workspace.root), str(folder), "1", "x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: list(workspace.folder.models.glob("m/.new-*/data/model/huge")), "the copy to begin")
        assert Model.list(workspace) == []
        process.send_signal(signal.SIGKILL)
    assert list(workspace.folder.models.glob("m/.new-*"))
    assert Model.list(workspace) == []
    os.unlink(folder / "huge")
    assert Model.register(workspace, folder, "m").version == 1
    assert os.listdir(workspace.folder.models / "m") == ["1"]


def test_ctrl_c_leaves_nothing(workspace: Workspace, project: Path, wait_until: WaitUntil) -> None:
    with open(project / "huge", "wb") as stream:
        stream.truncate(HUGE)
    command = [sys.executable, "-c", REGISTER, str(workspace.root), str(project / "huge"), "1", "x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: list(workspace.folder.models.glob("m/.new-*/data/huge")), "the copy to begin")
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert os.listdir(workspace.folder.models / "m") == []


def test_nothing_of_an_ended_run_is_copied(workspace: Workspace, made_run: MakeRun) -> None:
    """The model's file is the run's, and neither changes any more. (Root may write to anything, so for root it is a copy.)"""
    run = made_run(files={"outputs/model.pkl": "weights", "outputs/more/a": "1"})
    model = run.register_model("iris")
    theirs, ours = Path(run.folder, "outputs/model.pkl"), model.path / "model.pkl"
    if os.geteuid() == 0:
        theirs.write_text("changed")
    else:
        assert theirs.stat().st_ino == ours.stat().st_ino
        assert (model.path / "more/a").stat().st_nlink == 2
        with pytest.raises(PermissionError):
            theirs.write_text("changed")
        theirs.unlink()
        theirs.write_text("another file")
    assert ours.read_text() == "weights"
    assert run.register_model("iris", "outputs/more").version == 2
    model.delete()
    assert theirs.exists()


def test_a_run_that_goes_on_keeps_its_files(workspace: Workspace, made_run: MakeRun) -> None:
    """It may write to them: its model is a copy."""
    run = made_run(status="Running", files={"outputs/model.pkl": "weights"})
    model = run.register_model("iris", "outputs/model.pkl")
    Path(run.folder, "outputs/model.pkl").write_text("trained further")
    assert model.path.read_text() == "weights"


def test_a_large_model_takes_no_room(workspace: Workspace, made_run: MakeRun) -> None:
    """Without a copy a file of 3 GiB is registered at once. (Its hole would become zeros in a copy.)"""
    run = made_run()
    with Path(run.folder, "outputs/model.bin").open("wb") as stream:
        stream.truncate(HUGE)
    if os.geteuid() == 0:
        pytest.skip("root's files are copied, since root may write to read-only ones")
    before = shutil.disk_usage(workspace.root).used
    model = run.register_model("large")
    assert (model.path / "model.bin").stat().st_size == HUGE
    assert shutil.disk_usage(workspace.root).used - before < HUGE // 2


def test_changing_a_model(workspace: Workspace, project: Path) -> None:
    """Tags come and go, properties stay, the description changes; other versions know nothing of it."""
    (project / "m").write_text("1")
    first, second = (Model.register(workspace, project / "m", "net", tags={"kind": "tree"}, properties={"depth": 3}) for _ in range(2))
    first.add_tags({"stage": "test", "kind": "forest", "none": None})
    first.remove_tags("none")
    first.add_properties({"depth": 4, "width": 5})
    first.update(description="better")
    again = Model(workspace, id="net:1")
    assert (again.tags, again.properties) == ({"kind": "forest", "stage": "test"}, {"depth": "3", "width": "5"})
    assert again.description == "better"
    first.update(tags={"only": "this"})
    first.update_tags_properties({"and": "that"}, ["only"], {"last": "one"})
    assert again.tags == {"and": "that"}
    assert again.serialize()["properties"] == {"depth": "3", "width": "5", "last": "one"}
    assert (second.tags, second.properties, second.description) == ({"kind": "tree"}, {"depth": "3"}, "")
    assert [model.id for model in Model.list(workspace, tags=["and"])] == ["net:1"]
    assert Model.deserialize(workspace, again.serialize()).id == "net:1"


def test_where_a_model_comes_from(workspace: Workspace, made_run: MakeRun, project: Path) -> None:
    """The run, its code and data, and the datasets that were named."""
    (project / "a.csv").write_text("x\n1\n")
    registered = Dataset.File.from_files(str(project / "*.csv")).register(workspace, "numbers")
    reads = {"train": {"dataset": "numbers", "version": 1, "digest": "d"}, "more": {"digest": "e"}}
    run = made_run(files={"outputs/m": "1"}, snapshot="abc", data=reads)
    model = run.register_model("net", datasets=[("training", registered), ("training", "elsewhere")])
    assert model.datasets == {"training": ["numbers:1", "elsewhere"]}
    lineage = {"run_id": run.id, "snapshot": "abc", "environment": "", "data": {"train": "numbers:1", "more": "e"}}
    assert model.lineage == model.serialize()["lineage"] == lineage
    Model.register(workspace, project / "a.csv", "other")
    assert [one.id for one in Model.list(workspace, dataset_id="numbers:1")] == ["net:1"]
