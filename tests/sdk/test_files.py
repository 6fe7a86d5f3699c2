"""Copying what a run has made: every name stays in the run folder, and what is copied arrives whole."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Run, Workspace
from hpcest.errors import HpcestError, SpecError, UnknownNameError

MakeRun = Callable[..., Run]
FILES = {
    "outputs/model.pkl": "model",
    "outputs/deep/weights.bin": "weights",
    "logs/events": "events",
    "user_logs/std_log.txt": "said\n",
    "artifacts/images/a b.png": "image",
}


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run(made_run: MakeRun) -> Run:
    return made_run(files=FILES)


def test_names_are_those_that_downloads_take(run: Run, project: Path) -> None:
    names = ["images/a b.png", "logs/events", "outputs/deep/weights.bin", "outputs/model.pkl", "user_logs/std_log.txt"]
    assert run.get_file_names() == names
    for name in names:
        run.download_file(name, project / "all" / name)
    assert tree(project / "all") == {name.removeprefix("artifacts/"): text for name, text in sorted(FILES.items())}


def test_where_a_file_goes(run: Run, project: Path) -> None:
    """By default its last name here; into a directory that is there, or is meant to be; or exactly as said."""
    (project / "there").mkdir()
    run.download_file("outputs/model.pkl")
    run.download_file("outputs/deep/weights.bin", "there")
    run.download_file("outputs/deep/weights.bin", "new/")
    run.download_file("outputs/model.pkl", Path("a/b/renamed"))
    run.download_file("./outputs//model.pkl", "again")
    (project / "train.py").unlink()
    assert tree(project) == {
        "a/b/renamed": "model",
        "again": "model",
        "model.pkl": "model",
        "new/weights.bin": "weights",
        "there/weights.bin": "weights",
    }


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "outputs/../run.json", "..", "", ".", "outputs/../../x", "..\\x", "outputs\0"])
def test_a_name_that_leaves_the_run_folder_is_refused(name: str, run: Run, project: Path) -> None:
    for action in (run.download_file, lambda name: run.register_model("m", name or "/")):
        with pytest.raises(SpecError, match=r"must be a relative path without '\.\.'|can't be the name of a file"):
            action(name)
    run.download_files(prefix=name or "../")
    assert os.listdir(project) == ["train.py"]


def test_what_is_not_there_is_named_with_the_nearest(run: Run) -> None:
    with pytest.raises(UnknownNameError) as error:
        run.download_file("outputs/modle.pkl")
    assert (error.value.message, error.value.hint) == (
        f"file of run {run.id} 'outputs/modle.pkl' is not known",
        "did you mean 'outputs/model.pkl'?",
    )


@pytest.fixture
def odd(run: Run, tmp_path: Path) -> Run:
    """A run whose program left links, a pipe and a socket-like thing in its outputs."""
    (tmp_path / "private").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("secret")
    outputs = Path(run.folder, "outputs")
    (outputs / "out").symlink_to(tmp_path / "private")
    (outputs / "out_folder").symlink_to(tmp_path / "folder")
    (outputs / "inside").symlink_to("deep/weights.bin")
    (outputs / "inside_folder").symlink_to("deep")
    (outputs / "nowhere").symlink_to("gone")
    (outputs / "loop").symlink_to("loop")
    os.mkfifo(outputs / "pipe")
    return run


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("outputs/out", "is a link that leads out of the run folder, to "),
        ("outputs/out_folder", "is a link that leads out of the run folder, to "),
        ("outputs/out_folder/file", "is a link that leads out of the run folder, to "),
        ("outputs/inside_folder", "is a folder"),
        ("outputs/deep", "is a folder"),
        ("outputs/nowhere", "is a link that leads nowhere"),
        ("outputs/loop", "is a link that leads nowhere"),
        ("outputs/pipe", "is a pipe, a socket or a device"),
    ],
)
def test_links_that_lead_out_and_what_is_no_file(name: str, problem: str, odd: Run, project: Path) -> None:
    with pytest.raises(SpecError) as error:
        odd.download_file(name)
    assert error.value.message.startswith(f"{name!r} of run {odd.id} {problem}")
    assert os.listdir(project) == ["train.py"]


def test_a_link_within_the_run_is_as_good_as_the_file(odd: Run, project: Path) -> None:
    odd.download_file("outputs/inside")
    odd.download_file("outputs/inside_folder/weights.bin")
    assert not (project / "inside").is_symlink()
    assert ((project / "inside").read_text(), (project / "weights.bin").read_text()) == ("weights", "weights")


def test_downloads_leave_out_what_is_no_file_and_say_so(odd: Run, project: Path) -> None:
    with pytest.warns(UserWarning, match="left out") as caught:
        odd.download_files(output_directory="got")
    said = str(caught[0].message)
    assert said.startswith(f"run {odd.id}: left out: 'outputs/inside_folder' is a folder; 'outputs/loop' is a link that leads nowhere; ")
    assert [len(caught), said.count("leads out of the run folder")] == [1, 2]
    expected = {name.removeprefix("artifacts/"): text for name, text in FILES.items()} | {"outputs/inside": "weights"}
    assert tree(project / "got") == dict(sorted(expected.items()))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"prefix": "outputs"}, {"outputs/model.pkl", "outputs/deep/weights.bin"}),
        ({"prefix": "outputs/deep/", "append_prefix": False}, {"weights.bin"}),
        ({"prefix": "outputs", "append_prefix": False}, {"model.pkl", "deep/weights.bin"}),
        ({"prefix": "outputs/model.pkl", "append_prefix": False}, {"model.pkl"}),
        ({"prefix": "none"}, set()),
        ({"prefix": "outputs/deep", "output_paths": ["x/y"]}, {"x/y"}),
        ({"prefix": "logs", "output_directory": "d", "batch_size": 1, "timeout_seconds": 9}, {"d/logs/events"}),
        ({}, {name.removeprefix("artifacts/") for name in FILES}),
    ],
)
def test_several_files_at_once(given: dict[str, Any], expected: set[str], run: Run, project: Path) -> None:
    run.download_files(**given)
    assert set(tree(project)) - {"train.py"} == expected


def test_paths_must_fit(run: Run, project: Path) -> None:
    with pytest.raises(SpecError, match="output_paths must be one path for each of 2 files, not 1"):
        run.download_files("outputs", output_paths=["x"])
    with pytest.raises(SpecError, match="two files of the run would be copied to one path"):
        run.download_files("outputs", output_paths=["x", "x"])
    assert os.listdir(project) == ["train.py"]


def test_a_download_is_whole_or_not_there(run: Run, project: Path) -> None:
    """What can't be written is said in our words, and leaves what was there."""
    (project / "model.pkl").write_text("old")
    (project / "folder/model.pkl").mkdir(parents=True)
    (project / "file").write_text("in the way")
    for target in ("folder", "file/below", "/proc/none/such"):
        with pytest.raises(HpcestError, match=r"'model.pkl' can't be copied to "):
            run.download_file("outputs/model.pkl", target)
    assert tree(project) == {"file": "in the way", "model.pkl": "old", "train.py": "print('trained')\n"}


def test_logs(run: Run, workspace: Workspace, project: Path, tmp_path: Path) -> None:
    Path(run.folder, "system_logs/controller.log").write_bytes(b"caf\xe9\n")
    (tmp_path / "private").write_text("secret")
    Path(run.folder, "user_logs/link").symlink_to(tmp_path / "private")
    assert run.get_all_logs("logs here") == ["logs here/system_logs/controller.log", "logs here/user_logs/std_log.txt"]
    assert (project / "logs here/user_logs/std_log.txt").read_text() == "said\n"
    details = run.get_details_with_logs()
    assert details["logFiles"] == {"system_logs/controller.log": "caf\ufffd\n", "user_logs/std_log.txt": "said\n"}
    assert run.get_details()["logFiles"]["user_logs/std_log.txt"] == str(Path(run.folder, "user_logs/std_log.txt"))


def test_uploads_stay_in_the_run_folder(run: Run, project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub/x").write_text("x")
    run.upload_file("kept/x", "sub/x")
    run.upload_folder("outputs/more", "sub")
    run.upload_files(["a", "b"], ["sub/x", "sub/x"])
    for name in ("../x", "/x", "outputs/../../x"):
        with pytest.raises(ValueError, match=r"must be a relative path without '\.\.'"):
            run.upload_file(name, "sub/x")
    assert {"kept/x", "outputs/more/x", "a", "b"} < set(run.get_file_names())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.download_files("kept", "back")
    assert tree(project / "back") == {"kept/x": "x"}
