"""``hpcest gc`` takes what nothing refers to and what is old, and nothing else, also beside submissions."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from hpcest.errors import HpcestError, UsageError
from hpcest.kit.files import freshened
from hpcest.lifecycle.snapshot import restore, take_snapshot
from hpcest.lifecycle.sweep import LEAST_S, sweep
from hpcest.model.folders import WorkspaceFolder
from tests.lifecycle.conftest import Site

MONTH_S = 30 * 86400.0


def aged(*folders: Path, by: float = MONTH_S) -> None:
    """Make every file below ``folders`` that much older."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path, (time.time() - by,) * 2)


def stored(workspace: WorkspaceFolder) -> tuple[set[str], set[str]]:
    """The snapshots and the objects that are there."""
    objects = {path.parent.name + path.name for path in workspace.objects.glob("*/*")}
    return {path.stem for path in workspace.manifests.glob("*.json")}, objects


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    folder = WorkspaceFolder(tmp_path / "space")
    folder.runs.mkdir(parents=True)
    return folder


def test_what_only_a_purged_run_had_goes(site: Site) -> None:
    """What runs share stays, and each that stays can be submitted again."""
    site.write("shared = 1\n", "shared.py")
    first = site.submit("print(1)\n")
    second = site.submit("print(2)\n")
    site.wait(first, second)
    everything = stored(site.workspace)
    aged(site.workspace.objects.parent)
    assert json.loads(site.cli("gc", "--json").ok().out)["snapshots"] == 0
    site.cli("delete", first.id).ok()
    assert site.cli("gc").ok().err == "nothing to remove\n"  # it may be taken back
    site.cli("delete", "--purge", "--yes", first.id).ok()
    looked = json.loads(site.cli("gc", "--dry-run", "--json").ok().out)
    assert (looked["snapshots"], looked["objects"], looked["dry_run"]) == (1, 1, True)
    assert stored(site.workspace) == everything
    done = json.loads(site.cli("gc", "--json").ok().out)
    assert done == {**looked, "dry_run": False}
    assert [len(part) for part in stored(site.workspace)] == [len(everything[0]) - 1, len(everything[1]) - 1]
    again = site.run(site.cli("rerun", second.id).ok().out.strip())
    assert site.ended(again)["status"] == "Completed"
    assert again.rank_log(0).read_text() == "2\n"


def test_the_trash_is_emptied_of_what_has_lain_in_it(site: Site) -> None:
    old = site.submit("print(1)\n")
    site.wait(old)
    site.cli("delete", old.id).ok()
    assert site.cli("gc", "--trash", "1h").ok().err == "nothing to remove\n"
    time.sleep(1.1)
    assert json.loads(site.cli("gc", "--trash", "1s", "--dry-run", "--json").ok().out)["runs"] == [old.id]
    assert (site.workspace.trash / old.id).is_dir()
    assert site.cli("gc", "--trash", "1s").ok().err.startswith("removed 1 run: ")
    assert not (site.workspace.trash / old.id).exists()


def test_a_model_keeps_the_code_of_its_run(site: Site) -> None:
    run = site.submit("open('outputs/m', 'w').write('x')\n")
    site.wait(run)
    site.cli("models", "register", run.id, "net", "outputs/m").ok()
    site.cli("delete", "--purge", "--yes", run.id).ok()
    aged(site.workspace.objects.parent)
    assert site.cli("gc").ok().err == "nothing to remove\n"


def test_lists_of_data_go_with_the_runs_that_had_them(site: Site) -> None:
    data = site.root / "data"
    data.mkdir()
    (data / "a.csv").write_text("1\n")
    lists = site.workspace.home / "data" / "manifests"
    job = site.write("command: cat ${{inputs.table}}/a.csv\ncode: .\ninputs: {table: {type: uri_folder, path: ../data}}\n", "job.yml")
    run = site.run(site.cli("submit", job).ok().out.strip())
    site.wait(run)
    (data / "a.csv").write_text("22\n")
    site.cli("data", "register", "kept", data).ok()
    assert len(list(lists.iterdir())) == 2
    site.cli("delete", "--purge", "--yes", run.id).ok()
    aged(site.workspace.home / "data")
    assert json.loads(site.cli("gc", "--json").ok().out)["data_lists"] == 1
    assert len(list(lists.iterdir())) == 1
    assert [file["name"] for file in json.loads(site.cli("data", "show", "kept", "--files", "--json").ok().out)] == ["a.csv"]


def test_what_killed_writers_have_left_goes(workspace: WorkspaceFolder) -> None:
    shelf = workspace.objects / "ab"
    shelf.mkdir(parents=True)
    (shelf / ".0123.tmp").write_text("half")
    assert sweep(workspace).objects == 0
    aged(workspace.objects)
    assert sweep(workspace).objects == 1
    assert list(shelf.iterdir()) == []


def test_what_is_young_stays(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Who relies on a snapshot again makes it young, though nothing of it was written."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    taken = take_snapshot(source, workspace)
    aged(workspace.objects.parent, by=LEAST_S + 60)
    assert take_snapshot(source, workspace) == taken.__class__(taken.digest, taken.files, taken.bytes, 0)
    assert sweep(workspace).snapshots == 0
    restore(taken.digest, workspace, tmp_path / "there")
    with pytest.raises(UsageError, match="too little"):
        sweep(workspace, older_than=LEAST_S - 1)


def test_nothing_goes_where_not_everything_can_be_read(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    take_snapshot(tmp_path / "source", workspace)
    aged(workspace.objects.parent)
    (workspace.run("abc").header).mkdir(parents=True)  # reading a directory fails for root too
    with pytest.raises(HpcestError, match=r"run\.json can't be read: Is a directory"):
        sweep(workspace)
    assert len(stored(workspace)[0]) == 1


def test_submissions_beside_a_sweep_have_all_they_need(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Everything is old when both begin at the same moment; whoever comes first, the snapshot is whole."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"{number}.py").write_text(f"x = {number}\n")
    for turn in range(60):
        if turn % 3 == 1:
            (source / "0.py").write_text(f"x = {turn % 2}\n")  # what was there some turns ago, or another one
        aged(workspace.home)
        together = threading.Barrier(2)
        sweeper = threading.Thread(target=lambda start: (start.wait(), sweep(workspace)), args=(together,))
        sweeper.start()
        together.wait()
        time.sleep(turn % 6 / 3000)
        taken = take_snapshot(source, workspace)
        sweeper.join()
        restore(taken.digest, workspace, tmp_path / f"there{turn}")
        assert len(os.listdir(tmp_path / f"there{turn}")) == 20


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An old file whose times can't be set by who may replace it; as root in the place of somebody else."""
    path = tmp_path / "foreign" / "object"
    path.parent.mkdir(mode=0o777)
    path.write_text("content")
    path.chmod(0o444)
    os.utime(path, (1, 1))
    return path


def test_a_file_of_somebody_else_is_replaced_by_a_young_copy(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **more: object) -> None:
        raise PermissionError

    inode = foreign.stat().st_ino
    monkeypatch.setattr(os, "utime", refuse)  # what the kernel says to who isn't the owner
    assert freshened(foreign)
    assert foreign.read_text() == "content"
    assert (foreign.stat().st_mtime > time.time() - 60, foreign.stat().st_mode & 0o777) == (True, 0o444)
    assert foreign.stat().st_ino != inode
    assert not freshened(foreign.with_name("nothing"))


def test_a_file_that_can_not_be_made_young_is_relied_on(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of somebody else's, where only that one can write: nothing was submitted from there otherwise."""

    def refuse(*words: object, **more: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr("hpcest.kit.files.written_beside", refuse)
    assert freshened(foreign)
    assert foreign.stat().st_mtime == 1
