"""Datastores and datasets: where data is, what it was when it was registered, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from hpcest import Workspace
from hpcest.errors import HpcestError, SpecError, UnknownNameError
from hpcest.kit.codec import decode, encode
from hpcest.lifecycle.data import contents
from hpcest.model.spec import Command, DataInput, DataOutput, RunSpec
from hpcest.sdk.data.binding import data_named
from hpcest.sdk.data.configs import DataReference, DatasetConsumptionConfig, OutputFileDatasetConfig
from hpcest.sdk.data.dataset import Dataset, FileDataset
from hpcest.sdk.data.datastore import DataPath, Datastore


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder of data outside of the workspace, old enough to be settled."""
    folder = tmp_path / "mni st"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.gz", "b.gz", "notes.txt", "deep/c.gz"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1e9, 1e9))
    return folder


# ------------------------------------------------------------------ datastores
def test_every_workspace_has_a_default_datastore_to_put_data_into(workspace: Workspace, mnist: Path, tmp_path: Path) -> None:
    default = Datastore.get_default(workspace)
    assert (default.name, default.datastore_type) == ("workspaceblobstore", "folder")
    reference = default.upload(mnist, "mnist")
    assert sorted(path.name for path in reference.place.rglob("*.gz")) == ["a.gz", "b.gz", "c.gz"]
    (mnist / "a.gz").write_text("new")
    with pytest.warns(UserWarning, match=r"upload: a.gz and 3 more files are there already and not replaced"):
        default.upload(mnist, "mnist")
    default.upload_files([mnist / "a.gz"], target_path="mnist", show_progress=False)
    assert (reference.place / "a.gz").read_text() == "a.gz"
    default.upload(mnist, "mnist", overwrite=True)
    assert (reference.place / "a.gz").read_text() == "new"
    default.upload_files([mnist / "deep" / "c.gz", mnist / "b.gz"], target_path="single")
    assert (default.place("single/deep/c.gz").read_text(), default.place("single/b.gz").exists()) == ("deep/c.gz", True)
    assert default.download(tmp_path / "back", "mnist/deep") == 1
    assert (tmp_path / "back" / "mnist" / "deep" / "c.gz").exists()
    assert default.download(tmp_path / "back", "mnist/deep") == 0


def test_a_folder_gets_a_name_and_may_be_the_default(workspace: Workspace, mnist: Path, tmp_path: Path) -> None:
    scratch = Datastore.register(workspace, "scratch", mnist)
    assert Datastore.get(workspace, "scratch") == scratch == Datastore(workspace, "scratch")
    scratch.set_as_default()
    assert Datastore.get_default(workspace).folder == mnist
    with pytest.raises(SpecError, match=r"is .* already"):
        Datastore.register(workspace, "scratch", tmp_path)
    assert Datastore.register(workspace, "scratch", tmp_path, overwrite=True).folder == tmp_path
    scratch.unregister()
    assert Datastore.get_default(workspace).name == "workspaceblobstore"
    with pytest.raises(UnknownNameError, match="datastore 'scratch' is not known"):
        Datastore(workspace, "scratch")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/../x", "..", "a\0b", "a/..", "..\\x"])
def test_no_path_leads_out_of_a_datastore(workspace: Workspace, mnist: Path, path: str) -> None:
    store = Datastore(workspace)
    for action in (store.path, store.place, lambda name: store.upload(mnist, name), lambda name: DataPath(store, name)):
        with pytest.raises(SpecError, match="leads out of the datastore"):
            action(path)
    with pytest.raises(SpecError, match="leads out of the datastore"):
        OutputFileDatasetConfig(destination=(store, path))
    with pytest.raises(SpecError, match="leads out of the datastore"):
        Dataset.File.from_files((store, path))
    assert store.place("/a/./b") == store.folder / "a" / "b"


def test_what_a_datastore_can_not_do_says_what_to_do(workspace: Workspace, mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"Datastore\.register_azure_blob_container: a datastore is a folder here"):
        Datastore.register_azure_blob_container(workspace, "x")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        Datastore.nonsense  # noqa: B018 - to look it up is what is tried
    for name in ("a/b", "", ".x", "a:b"):
        with pytest.raises(SpecError, match="can't be the name of a datastore"):
            Datastore.register(workspace, name, tmp_path)
    with pytest.raises(SpecError, match="needs a folder"):
        Datastore.register(workspace, "x", tmp_path / "nowhere")
    with pytest.raises(SpecError, match="is not a folder"):
        Datastore(workspace).upload(mnist / "a.gz")
    with pytest.raises(SpecError, match="is not below"):
        Datastore(workspace).upload_files([mnist / "a.gz"], relative_root=mnist / "deep")
    with pytest.raises(SpecError, match="not registered in this workspace"):
        Datastore(workspace).unregister()
    with pytest.raises(SpecError, match="has nothing in 'x'"):
        Datastore(workspace).download(tmp_path, "x")


# ------------------------------------------------------------------ datasets
def test_files_are_named_in_all_of_azures_ways(workspace: Workspace, mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Datastore.register(workspace, "s", mnist)
    whole = ["/a.gz", "/b.gz", "/deep/c.gz", "/notes.txt"]
    monkeypatch.chdir(mnist.parent)
    for path in (mnist, str(mnist), "mni st", (store, ""), (store, None), store, store.path(), DataPath(store), f"file://{mnist}"):
        assert Dataset.File.from_files(path).to_path() == whole
    assert Dataset.File.from_files((store, "*.gz")).to_path() == ["/a.gz", "/b.gz"]
    assert Dataset.File.from_files((store, "**/*.gz")).to_path() == ["/a.gz", "/b.gz", "/deep/c.gz"]
    assert Dataset.File.from_files((store, "**")).to_path() == whole
    assert Dataset.File.from_files([(store, "deep"), (store, "a.gz")]).to_path() == ["/a.gz", "/deep/c.gz"]
    assert Dataset.File.from_files((store, ["a.gz", "b.gz"])).to_path() == ["/a.gz", "/b.gz"]
    assert Dataset.File.from_files(mnist / "a.gz").to_path() == ["/a.gz"]
    (mnist / "[x].gz").write_text("a name, no pattern")
    assert Dataset.File.from_files(mnist / "[x].gz").to_path() == ["/[x].gz"]


def test_what_is_no_data_is_refused_with_what_there_is(mnist: Path) -> None:
    for path, message, hint in (
        (mnist / "*.png", "nothing matches", "has a.gz, b.gz, deep, notes.txt"),
        (mnist / "nowhere" / "x", "there is no file or folder", "has a.gz"),
        ("https://example.org/mnist.gz", "is on a network", "download it"),
        ("", "names no data", "give a path"),
        (7, "names no data", "give a path"),
    ):
        with pytest.raises(SpecError, match=message) as error:
            Dataset.File.from_files(path)
        assert hint in error.value.hint
    assert Dataset.File.from_files(mnist / "*.png", validate=False)._data.paths == (f"{mnist}/*.png",)
    (mnist / "empty").mkdir()
    with pytest.raises(SpecError, match="there is no file in"):
        Dataset.File.from_files(mnist / "empty")


def test_links_are_followed_but_not_in_a_circle_and_pipes_are_no_data(mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").write_text("x")
    (mnist / "link").symlink_to(tmp_path / "far")
    (mnist / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(mnist / "pipe")
    assert Dataset.File.from_files(mnist).to_path() == ["/a.gz", "/b.gz", "/deep/c.gz", "/link/x", "/notes.txt"]
    (mnist / "deep" / "up").symlink_to(mnist)
    with pytest.raises(SpecError, match="lead in a circle"):
        Dataset.File.from_files(mnist)


def test_versions_of_a_dataset_know_what_they_were(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    first = files.register(workspace, "mnist", description="digits", tags={"n": 1})
    assert (first.name, first.version, first.id, first.description, first.tags) == ("mnist", 1, "mnist:1", "digits", {"n": "1"})
    assert first.digest.startswith("sha256:")
    assert files.register(workspace, "mnist").version == 1
    (mnist / "a.gz").write_text("another")
    with pytest.raises(SpecError, match="a dataset 'mnist' is registered already"):
        files.register(workspace, "mnist")
    second = files.register(workspace, "mnist", create_new_version=True)
    assert (second.version, second.digest != first.digest) == (2, True)
    assert [Dataset.get_by_name(workspace, "mnist", version).digest for version in (1, 2, "latest")] == [first.digest, *[second.digest] * 2]
    assert Dataset.get_by_id(workspace, "mnist:1").digest == first.digest
    assert {name: one.version for name, one in Dataset.get_all(workspace).items()} == {"mnist": 2}
    with pytest.raises(UnknownNameError, match="version of dataset 'mnist' '3'"):
        Dataset.get_by_name(workspace, "mnist", 3)
    with pytest.raises(UnknownNameError) as error:
        Dataset.get_by_name(workspace, "minst")
    assert error.value.hint == "did you mean 'mnist'?"
    second.unregister_all_versions(workspace)
    assert Dataset.get_all(workspace) == {}
    assert files.register(workspace, "mnist").version == 3  # a number is never given again


def test_the_digest_is_of_names_and_contents_wherever_they_are(workspace: Workspace, mnist: Path, tmp_path: Path) -> None:
    shutil.copytree(mnist, tmp_path / "copy")
    one = Dataset.File.from_files(mnist).register(workspace, "one")
    assert Dataset.File.from_files(tmp_path / "copy").register(workspace, "two").digest == one.digest
    (tmp_path / "copy" / "a.gz").rename(tmp_path / "copy" / "z.gz")
    assert Dataset.File.from_files(tmp_path / "copy").register(workspace, "three").digest != one.digest


def test_what_is_as_it_was_is_not_read_again(workspace: Workspace, mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that keeps size and time goes unseen, which shows that nothing was read."""
    files = Dataset.File.from_files(mnist)
    first = files.register(workspace, "mnist")
    (mnist / "a.gz").write_text("GZ.a")
    os.utime(mnist / "a.gz", (1e9, 1e9))
    assert files.register(workspace, "mnist").digest == first.digest
    os.utime(mnist / "a.gz", (1e9, 1e9 + 1))
    second = files.register(workspace, "mnist", create_new_version=True)
    assert second.digest != first.digest
    monkeypatch.setenv("HPCEST_DATA_DIGEST", "stat")
    assert files.register(workspace, "cheap").digest.startswith("stat:")
    monkeypatch.setenv("HPCEST_DATA_DIGEST", "md5")
    with pytest.raises(SpecError, match="HPCEST_DATA_DIGEST='md5' is not known"):
        files.register(workspace, "cheap")


def test_a_file_that_was_just_written_is_read_again(workspace: Workspace, mnist: Path) -> None:
    """It may be written twice within one tick of the file system's clock."""
    now = (mnist / "notes.txt").stat().st_mtime
    (mnist / "a.gz").write_text("1")
    stamp = (mnist / "a.gz").stat().st_mtime_ns
    files = Dataset.File.from_files(mnist)
    first = files.register(workspace, "mnist")
    (mnist / "a.gz").write_text("2")
    os.utime(mnist / "a.gz", ns=(stamp, stamp))
    assert now == 1e9
    assert files.register(workspace, "mnist", create_new_version=True).digest != first.digest


def test_two_registrations_at_once_get_two_versions(workspace: Workspace, mnist: Path) -> None:
    made: list[int | None] = []

    def register(name: str) -> None:
        made.append(Dataset.File.from_files(mnist / name).register(workspace, "x", create_new_version=True).version)

    threads = [threading.Thread(target=register, args=(name,)) for name in ("a.gz", "b.gz", "notes.txt", "deep/c.gz")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filter(None, made)) == [1, 2, 3, 4]


def test_a_damaged_version_is_named_and_does_not_hide_the_others(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    files.register(workspace, "mnist")
    path = workspace.folder.home / "data" / "registered" / "mnist" / "1.json"
    path.write_text("{")
    with pytest.raises(HpcestError, match=r"1\.json can't be read"):
        Dataset.get_by_name(workspace, "mnist")
    assert files.register(workspace, "mnist").version == 2
    for name in ("a/b", "a:b", "", " a", "a" * 201, 7):
        with pytest.raises(SpecError, match="can't be the name of a dataset"):
            files.register(workspace, name)  # type: ignore[arg-type]  # what is tried
    assert files.register(workspace, "..").id == "..:1"
    assert sorted(os.listdir(path.parents[1])) == ["%2E.", "mnist"]


def test_files_are_taken_skipped_and_split(mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    assert (files.take(2).to_path(), files.skip(3).to_path()) == (["/a.gz", "/b.gz"], ["/notes.txt"])
    one, other = files.random_split(0.5, seed=3)
    assert sorted(one.to_path() + other.to_path()) == files.to_path()
    assert files.take_sample(0.5, seed=3).to_path() == one.to_path()
    with pytest.raises(SpecError, match="the share is 80"):
        files.random_split(80)
    with pytest.raises(SpecError, match=r"FileDataset\.partition_by is not there"):
        files.partition_by()
    assert not hasattr(files, "nonsense")


@pytest.mark.parametrize("count", [-1, 1.5, True, "2"])
def test_a_count_of_files_is_a_whole_number(mnist: Path, count: Any) -> None:
    for choose in (Dataset.File.from_files(mnist).take, Dataset.File.from_files(mnist).skip):
        with pytest.raises(SpecError, match="the count is"):
            choose(count)


def test_files_are_downloaded_and_mounted_here(mnist: Path, tmp_path: Path) -> None:
    files = Dataset.File.from_files(mnist / "*.gz")
    copies = files.download(tmp_path / "copies")
    assert [Path(copy).relative_to(tmp_path / "copies").as_posix() for copy in copies] == ["a.gz", "b.gz"]
    with pytest.raises(SpecError, match="is there already"):
        files.download(tmp_path / "copies")
    files.download(tmp_path / "copies", overwrite=True)
    with files.mount() as context:
        assert sorted(os.listdir(context.mount_point)) == ["a.gz", "b.gz"]
    assert not os.path.exists(context.mount_point)
    with Dataset.File.from_files(mnist).mount() as context:
        assert context.mount_point == str(mnist)
    with files.mount(tmp_path / "there"):
        assert (tmp_path / "there" / "a.gz").read_text() == "a.gz"
    assert not (tmp_path / "there").exists()
    with pytest.raises(SpecError, match="there is something at"):
        files.mount(mnist).start()
    assert sorted(os.listdir(mnist)) == ["a.gz", "b.gz", "deep", "notes.txt"]


def test_a_directory_is_uploaded_as_a_dataset(workspace: Workspace, mnist: Path) -> None:
    store = Datastore(workspace)
    made = Dataset.File.upload_directory(mnist, (store, "up"), pattern="*.gz")
    assert made.to_path() == ["/a.gz", "/b.gz"]
    assert sorted(os.listdir(store.place("up"))) == ["a.gz", "b.gz"]
    assert Dataset.File.upload_directory(mnist, DataPath(store, "all")).to_path()[-1] == "/notes.txt"


# ------------------------------------------------------------------ what becomes of them in a spec
def bound(*things: Any) -> tuple[dict[str, DataInput], dict[str, DataOutput], list[str]]:
    data: dict[str, DataInput] = {}
    outputs: dict[str, DataOutput] = {}
    for thing in things:
        thing.bind(data, outputs)
    return data, outputs, [thing.to_argument() for thing in things]


def test_a_named_input_is_bound_and_stands_for_its_path(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    data, _, words = bound(
        files.as_named_input("d").as_mount("/data"), files.register(workspace, "mnist").as_named_input("e").as_download()
    )
    assert words == ["$AZURE_ML_INPUT_d", "$AZURE_ML_INPUT_e"]
    assert (data["d"].mode, data["d"].target, data["d"].paths) == ("mount", "/data", (str(mnist),))
    assert (data["e"].mode, data["e"].dataset, data["e"].version, data["e"].files) == ("download", "mnist", 1, 4)
    assert str(files.as_named_input("d")) == "$AZURE_ML_INPUT_d"
    with pytest.raises(SpecError, match="two inputs are called 'd'"):
        bound(files.as_named_input("d"), files.as_named_input("d").as_download())
    for name in ("a-b", "1a", "", "a b", "../x", None):
        with pytest.raises(SpecError, match="can't be the name of an input"):
            files.as_named_input(name)  # type: ignore[arg-type]  # what is tried
    with pytest.raises(SpecError, match="the mode of input 'd' is 'hdfs'") as error:
        DatasetConsumptionConfig("d", files, "hdfs")
    assert error.value.hint == "allowed: mount, download, direct"


def test_a_dataset_without_a_name_gets_one_that_stays(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    data, _, words = bound(files, files.as_direct())
    assert len(set(words)) == 1
    assert list(data) == [words[0].removeprefix("$AZURE_ML_INPUT_")]


def test_outputs_and_references_are_bound(workspace: Workspace) -> None:
    store = Datastore(workspace)
    plain = OutputFileDatasetConfig("o")
    there = (
        OutputFileDatasetConfig("p", (store, "x/{run-id}")).as_upload(overwrite=True, source_globs="*.csv").register_on_complete("d", "why")
    )
    default = OutputFileDatasetConfig("q", (store, None)).as_mount()
    _, outputs, words = bound(plain, there, default)
    assert words == ["$AZURE_ML_OUTPUT_o", "$AZURE_ML_OUTPUT_p", "$AZURE_ML_OUTPUT_q"]
    assert outputs["o"] == DataOutput()
    assert outputs["p"] == DataOutput(
        f"{store.folder}/x/{{run-id}}", mode="upload", globs=("*.csv",), overwrite=True, dataset="d", description="why"
    )
    assert outputs["q"].path == f"{store.folder}/dataset/{{run-id}}/{{output-name}}"
    with pytest.raises(SpecError, match="is known when its run has an id"):
        default.as_input()
    given = OutputFileDatasetConfig("r", (store, "fixed")).as_input("s")
    assert bound(given)[0]["s"].paths == (f"{store.folder}/fixed",)
    data, outputs, words = bound(
        store.path("a/b.d"), store.path("e").as_upload(overwrite=True), DataReference(store, "f", "g").as_download()
    )
    assert words == ["$AZUREML_DATAREFERENCE_b_d", "$AZUREML_DATAREFERENCE_e", "$AZUREML_DATAREFERENCE_f"]
    assert ({name: one.mode for name, one in data.items()}, outputs["e"].mode) == ({"b_d": "direct", "f": "download"}, "upload")


def test_a_spec_with_data_comes_back_from_its_record_and_old_records_have_none() -> None:
    data, outputs = {"d": DataInput(("/a",), dataset="x", version=2)}, {"o": DataOutput("/b", tags={"k": "v"})}
    spec = RunSpec("e", Command("t.py"), data=data, outputs=outputs)
    assert decode(RunSpec, json.loads(json.dumps(encode(spec)))) == spec
    assert "data" not in encode(RunSpec("e", Command("t.py")))


def test_registered_data_is_named_on_the_command_line() -> None:
    assert data_named("azureml:mnist:2,download") == DataInput(dataset="mnist", version=2, mode="download")
    assert data_named("azureml:mnist@latest") == data_named("dataset:mnist") == DataInput(dataset="mnist")
    assert (data_named("/a/path"), data_named("azureml://datastores/x/paths/y")) == (None, None)
    for text in ("azureml:", "azureml:a:b", "azureml:a,copy", "azureml:a:0"):
        with pytest.raises(SpecError):
            data_named(text)


def test_lists_of_files_that_differ_say_in_what() -> None:
    before = contents.Listing("", "", "/", {"a": (1, 1, "x"), "b": (1, 1, "y"), "c": (1, 1, "")})
    now = {"b": (1, 2, "y"), "c": (1, 2, "z"), "d": (1, 1, "w")}
    assert contents.differences(before, now) == (["a"], ["c"], ["d"])


def test_a_dataset_shows_what_it_is(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    assert (repr(files), repr(files.register(workspace, "m"))) == (f"FileDataset({str(mnist)!r})", "FileDataset('m:1')")
    assert isinstance(Dataset.get_by_name(workspace, "m"), FileDataset)
