"""Data of an attempt on its node: copies, links and uploads, and what of them is left when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import RunFolder
from hpcest.onnode import processes
from hpcest.onnode.data import keeper
from hpcest.onnode.data.datasets import Datasets

WaitUntil = Callable[..., None]
PACKAGES = str(Path(processes.__file__).parents[2])

#: Prints what is at the path that it is told, and what it holds.
SHOW = """if True:
    import os
    path = os.environ["AZURE_ML_INPUT_d"]
    print(path, sorted(os.listdir(path)) if os.path.isdir(path) else open(path).read())
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with some data in it, one file of it deeper."""
    folder = tmp_path / "da ta"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "deep/c.txt"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where copies go in these tests."""
    folder = tmp_path / "scr atch"
    folder.mkdir()
    return folder


def manifest(files: Path, names: list[str]) -> Path:
    """A list of files as it is made when a run is submitted."""
    rows = [[name, (files / name).stat().st_size, (files / name).stat().st_mtime_ns, ""] for name in names]
    path = files.parent / "manifest.json"
    path.write_text(json.dumps({"format": 1, "root": str(files), "taken": 0.0, "files": rows}))
    return path


def one(files: Path, **changes: Any) -> dict[str, Any]:
    """The launch manifest's facts of an input ``d``, which is the folder ``files``."""
    facts = {"path": str(files), "paths": [str(files)], "root": str(files), "mode": "mount", "target": "", "size": 0}
    return {**facts, "manifest": "", "variables": ["AZURE_ML_INPUT_d", "d"], **changes}


def told(files: Path, scratch: Path, outputs: Any = None, **changes: Any) -> dict[str, Any]:
    """What of a launch manifest says that the input ``d`` is there."""
    return {"data": {"inputs": {"d": one(files, **changes)}, "outputs": outputs or {}}, "variables": {"HPCEST_SCRATCH": str(scratch)}}


def ended(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.sentinel(0).read_text())
    return found


def printed(folder: RunFolder) -> str:
    return (folder.user_logs / "std_log.txt").read_text()


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for path in folder.events.iterdir() for line in path.read_text().splitlines()]
    return [line for line in lines if line["e"] == kind]


def test_a_download_is_one_copy_for_all_ranks_that_goes_with_the_attempt(bench: Any, files: Path, scratch: Path) -> None:
    changes = told(files, scratch, mode="download", manifest=str(manifest(files, ["a.txt", "deep/c.txt"])))
    folder = bench.run(SHOW, procs_per_node=2, **changes)
    assert ended(folder)["status"] == "Completed", ended(folder)
    logs = [(folder.user_logs / f"std_log_{rank}.txt").read_text() for rank in range(2)]
    copy = scratch / f"hpcest-{os.getuid()}" / f"{folder.id}.a0" / "d"
    assert logs == [f"{copy} ['a.txt', 'deep']\n"] * 2
    assert list(scratch.iterdir()) == []
    assert (files / "a.txt").read_text() == "a.txt"


def test_a_download_of_one_file_is_told_as_that_file(bench: Any, files: Path, scratch: Path) -> None:
    file = files / "a.txt"
    folder = bench.run(SHOW, **told(file, scratch, mode="download", root=str(files), manifest=str(manifest(files, ["a.txt"]))))
    assert printed(folder).endswith("/d/a.txt a.txt\n")


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise SystemExit(3)"])
def test_copies_are_removed_also_after_a_program_that_failed(bench: Any, files: Path, scratch: Path, end: str) -> None:
    folder = bench.run(f"import os; assert os.path.isdir(os.environ['d']); {end}", **told(files, scratch, mode="download"))
    assert ended(folder)["status"] == "Failed"
    assert ended(folder)["rc"] in (3, 137)
    assert list(scratch.iterdir()) == []


def test_copies_are_removed_after_a_controller_that_was_killed(bench: Any, files: Path, scratch: Path, wait_until: WaitUntil) -> None:
    folder = bench.prepare("import time; print('up', flush=True); time.sleep(60)", **told(files, scratch, mode="download"))
    controller = bench.start(folder)
    wait_until(lambda: (folder.user_logs / "std_log.txt").exists() and "up" in printed(folder))
    assert len(list(scratch.glob("*/*.a0/d/*"))) == 3
    controller.send_signal(signal.SIGKILL)
    controller.wait(30)
    wait_until(lambda: not list(scratch.iterdir()) and folder.sentinel(0).exists())
    assert ended(folder)["reason"] == "Lost"


def test_what_a_killed_node_has_left_goes_with_the_next_run_and_nothing_else(bench: Any, files: Path, scratch: Path) -> None:
    """Copies whose keeper is alive stay, and what is not known for copies does."""
    dead = subprocess.Popen(["true"])
    gone = processes.identity(dead.pid)
    dead.wait()
    home = scratch / f"hpcest-{os.getuid()}"
    for name, who in (("dead.a0", gone), ("alive.a0", processes.identity())):
        (home / name / ".users").mkdir(parents=True, mode=0o700)
        (home / name / ".users" / "x").write_text(json.dumps(who))
    for name in ("else", "empty.a0"):
        (home / name).mkdir()
    for name in ("dead", "lock", "empty", "alive"):
        (home / f"{name}.a0.lock").touch()
    bench.run(SHOW, **told(files, scratch, mode="download"))
    assert sorted(path.name for path in home.iterdir()) == ["alive.a0", "alive.a0.lock", "else"]


def test_a_lock_that_is_held_is_not_taken_for_one_that_was_left(bench: Any, files: Path, scratch: Path) -> None:
    """Its copies are about to be made; who waits for it asks again when its holder has removed it."""
    home = scratch / f"hpcest-{os.getuid()}"
    home.mkdir(mode=0o700)
    with keeper._Lock(str(home / "made.a0.lock")):
        bench.run(SHOW, **told(files, scratch, mode="download"))
        assert [path.name for path in home.iterdir()] == ["made.a0.lock"]
        waiting = keeper._Lock(str(home / "made.a0.lock"))
        thread = threading.Thread(target=waiting.__enter__)
        thread.start()
        (home / "made.a0.lock").unlink()
    thread.join(10)
    assert os.fstat(waiting.descriptor).st_ino == (home / "made.a0.lock").stat().st_ino
    waiting.__exit__(None, None, None)


def test_an_end_that_is_told_in_two_ways_at_once_leaves_nothing(tmp_path: Path, files: Path, scratch: Path) -> None:
    """By SIGTERM and by the end of the input, fifty times: one comes while the other is handled."""
    home = scratch / f"hpcest-{os.getuid()}"
    program = [sys.executable, "-I", "-S", str(keeper.__file__), "keep"]
    for number in range(5):
        running = []
        for which in range(10):
            orders = tmp_path / f"orders.{which}"
            asked = {"scratch": str(home / f"r{which}.a0"), "links": [], "downloads": {"d": one(files, mode="download")}}
            orders.write_text(json.dumps(asked))
            running.append(subprocess.Popen([*program, str(orders)], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for process in running:
            assert process.stdout is not None
            assert "notes" in json.loads(process.stdout.readline())
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
            for _ in range(number):
                process.send_signal(signal.SIGTERM)
        for process in running:
            with process:
                assert process.wait(20) in (0, -signal.SIGTERM)  # it may come when all is done
        assert list(scratch.iterdir()) == []


def test_a_folder_of_somebody_else_is_not_used_for_copies(bench: Any, files: Path, scratch: Path) -> None:
    (scratch / f"hpcest-{os.getuid()}").symlink_to(files)
    folder = bench.run(SHOW, **told(files, scratch, mode="download"))
    assert "belongs to somebody else; set HPCEST_SCRATCH" in ended(folder)["message"]
    assert sorted(path.name for path in files.iterdir()) == ["a.txt", "b.txt", "deep"]


def test_a_download_without_room_fails_before_it_begins(bench: Any, files: Path, scratch: Path) -> None:
    listed = manifest(files, ["a.txt"])
    listed.write_text(listed.read_text().replace('["a.txt", 5,', f'["a.txt", {1 << 60},'))
    folder = bench.run(SHOW, **told(files, scratch, mode="download", manifest=str(listed)))
    assert ended(folder)["reason"] == "LaunchFailed"
    assert "input 'd': to download it takes 1.049e+06 TB, and" in ended(folder)["message"]
    assert "use as_mount(), or set HPCEST_SCRATCH to a larger disk" in ended(folder)["message"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("mode", ["mount", "download", "direct"])
def test_a_file_that_has_gone_is_named_and_the_program_does_not_start(bench: Any, files: Path, scratch: Path, mode: str) -> None:
    listed = manifest(files, ["a.txt", "deep/c.txt"])
    (files / "deep" / "c.txt").unlink()
    folder = bench.run(SHOW, **told(files, scratch, mode=mode, manifest=str(listed)))
    assert (ended(folder)["status"], ended(folder)["reason"]) == ("Failed", "LaunchFailed")
    assert ended(folder)["message"] == f"input 'd': the file {files}/deep/c.txt is gone; it was there when the run was submitted"
    assert not (folder.user_logs / "std_log.txt").exists()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("now", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_file_that_became_something_else_has_gone_too(
    bench: Any, files: Path, scratch: Path, mode: str, now: Callable[[Path], None]
) -> None:
    """A pipe is not waited for: nobody may ever write into it."""
    listed = manifest(files, ["a.txt", "deep/c.txt"])
    (files / "deep/c.txt").unlink()
    now(files / "deep/c.txt")
    folder = bench.run(SHOW, **told(files, scratch, mode=mode, manifest=str(listed)))
    assert f"the file {files}/deep/c.txt is gone" in ended(folder)["message"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("what", ["deep/c.txt", "deep"])
def test_data_that_can_not_be_read_any_more_is_said_before_the_program_starts(tmp_path: Path, files: Path, what: str) -> None:
    """Of a file and of a folder on the way to it, by somebody to whom permissions mean something."""
    facts = one(files, manifest=str(manifest(files, ["a.txt", "deep/c.txt"])))
    if os.geteuid() == 0:
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, 65534, 65534)
    (files / what).chmod(0)
    code = f"""if True:
        import os
        from hpcest.onnode.data.files import DataError, check
        os.chdir({str(tmp_path)!r})  # the folders above are somebody else's
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            check("d", {json.loads(json.dumps(facts).replace(str(tmp_path), "."))!r})
        except DataError as error:
            print(error)
    """
    listed = Path(facts["manifest"])
    listed.write_text(listed.read_text().replace(str(tmp_path), "."))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": PACKAGES}
    )
    (files / what).chmod(0o755)
    assert done.stdout == "input 'd': ./da ta/deep/c.txt can't be read: Permission denied\n"


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_a_file_that_has_changed_is_recorded_and_the_run_goes_on(bench: Any, files: Path, scratch: Path, mode: str) -> None:
    listed = manifest(files, ["a.txt", "b.txt"])
    (files / "b.txt").write_text("another")
    folder = bench.run(SHOW, **told(files, scratch, mode=mode, manifest=str(listed)))
    assert ended(folder)["status"] == "Completed"
    (trouble,) = events(folder, "trouble")
    assert trouble["m"] == f"input 'd' has changed since the run was submitted: {files}/b.txt (files in all: 1)"


def test_several_files_are_a_folder_of_links(bench: Any, files: Path, scratch: Path) -> None:
    several = {"path": "", "paths": [f"{files}/*.txt"], "manifest": str(manifest(files, ["a.txt", "deep/c.txt"]))}
    folder = bench.run(SHOW, **told(files, scratch, **several))
    assert printed(folder) == f"{folder.state}/inputs/d ['a.txt', 'deep']\n"
    assert os.readlink(folder.state / "inputs" / "d" / "deep" / "c.txt") == f"{files}/deep/c.txt"


def test_data_that_an_earlier_run_has_made_is_found_when_the_run_starts(bench: Any, files: Path, scratch: Path) -> None:
    """There is no list of its files; a pattern is looked up on the node."""
    folder = bench.run(SHOW, **told(files, scratch, path="", paths=[f"{files}/*.txt"], root=""))
    assert printed(folder) == f"{folder.state}/inputs/d ['a.txt', 'b.txt']\n"
    folder = bench.run(SHOW, **told(files, scratch, path="", paths=[f"{files}/*.gz"], root=""))
    assert f"input 'd': there is no file in {files}/*.gz on" in ended(folder)["message"]


def test_a_list_of_files_never_leads_out_of_its_folder(bench: Any, files: Path, scratch: Path) -> None:
    (files.parent / "secret").write_text("secret")
    listed = manifest(files, ["../secret"])
    folder = bench.run(SHOW, **told(files, scratch, mode="download", manifest=str(listed)))
    assert ended(folder)["message"] == f"input 'd': the file '../secret' is not below {files}"


@pytest.mark.parametrize("mode", ["mount", "download"])
def test_data_is_where_the_program_wants_it_for_as_long_as_it_runs(
    bench: Any, files: Path, scratch: Path, tmp_path: Path, mode: str
) -> None:
    target = tmp_path / "wanted" / "here"
    folder = bench.run(SHOW, **told(files, scratch, mode=mode, target=str(target)))
    assert printed(folder) == f"{target} ['a.txt', 'b.txt', 'deep']\n"
    assert not os.path.lexists(target)
    folder = bench.run(SHOW, **told(files, scratch, mode=mode, target="in/put"))
    assert printed(folder) == f"{folder.work}/in/put ['a.txt', 'b.txt', 'deep']\n"
    assert not os.path.lexists(folder.work)


@pytest.mark.parametrize(("mode", "suffix"), [("mount", ":ro"), ("direct", "")])
def test_in_a_container_mounted_data_is_bound_where_it_is_wanted_to_be_read_only(
    bench: Any, files: Path, scratch: Path, tmp_path: Path, mode: str, suffix: str
) -> None:
    """``apptainer`` is a script here that shows what it is told."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apptainer").write_text('#!/bin/sh\necho "$APPTAINER_BIND $AZURE_ML_INPUT_d"\n')
    (tmp_path / "bin/apptainer").chmod(0o755)
    plain = tmp_path / "plain"
    files.rename(plain)
    folder = bench.run("", prefix=[str(tmp_path / "bin/apptainer")], **told(plain, scratch, mode=mode, target="/data/here"))
    assert printed(folder) == f"{plain}:/data/here{suffix} /data/here\n"


def test_data_takes_nobody_elses_place(bench: Any, files: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    folder = bench.run(SHOW, **told(files, scratch, target=str(tmp_path / "taken")))
    assert f"{files} can't be put at {tmp_path}/taken on" in ended(folder)["message"]
    folder = bench.run(SHOW, **told(files, scratch, target="train.py"))
    assert "there is something at" in ended(folder)["message"]
    assert (tmp_path / "taken").read_text() == "mine"


def upload(folder: Path, **changes: Any) -> dict[str, Any]:
    facts = {"path": str(folder / "made"), "upload": str(folder / "end"), "type": "uri_folder", "globs": [], "overwrite": False}
    return {"o": {**facts, "target": "", "variables": ["AZURE_ML_OUTPUT_o"], **changes}}


WRITE = """if True:
    import os, sys
    out = os.environ["AZURE_ML_OUTPUT_o"]
    os.makedirs(out + "/deep", exist_ok=True)
    open(out + "/deep/x.csv", "w").write("1")
    open(out + "/y.tmp", "w").write("2")
"""


def test_an_output_is_uploaded_when_the_run_has_completed_and_only_then(bench: Any, files: Path, scratch: Path, tmp_path: Path) -> None:
    folder = bench.run(WRITE + "    sys.exit(1)\n", **told(files, scratch, upload(tmp_path)))
    assert ended(folder)["status"] == "Failed"
    assert not (tmp_path / "end").exists()
    folder = bench.run(WRITE, **told(files, scratch, upload(tmp_path, globs=["**/*.csv"])))
    assert ended(folder)["status"] == "Completed"
    assert [path.relative_to(tmp_path / "end").as_posix() for path in (tmp_path / "end").rglob("*.*")] == ["deep/x.csv"]


def test_an_upload_that_would_replace_a_file_fails_the_run_unless_it_may(bench: Any, files: Path, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "end").mkdir()
    (tmp_path / "end" / "y.tmp").write_text("old")
    folder = bench.run(WRITE, **told(files, scratch, upload(tmp_path)))
    assert ended(folder)["status"] == "Failed"
    assert ended(folder)["message"] == f"output 'o': {tmp_path}/end/y.tmp exists already, and may not be overwritten"
    assert ((tmp_path / "end" / "y.tmp").read_text(), (tmp_path / "end" / "deep").exists()) == ("old", False)
    (tmp_path / "end" / "y.tmp").write_text("2")  # the same: an attempt that was killed has left it
    assert ended(bench.run(WRITE, **told(files, scratch, upload(tmp_path))))["status"] == "Completed"
    (tmp_path / "end" / "y.tmp").write_text("old")
    folder = bench.run(WRITE, **told(files, scratch, upload(tmp_path, overwrite=True)))
    assert ended(folder)["status"] == "Completed"
    assert (tmp_path / "end" / "y.tmp").read_text() == "2"


def test_a_run_that_is_canceled_while_it_downloads_leaves_nothing(bench: Any, tmp_path: Path, scratch: Path, wait_until: WaitUntil) -> None:
    """Of thousands of files the first few have been copied by then."""
    folder_of_data = tmp_path / "much"
    folder_of_data.mkdir()
    names = [f"{number}" for number in range(6000)]
    (folder_of_data / "0").write_bytes(bytes(1 << 16))
    for name in names[1:]:
        (folder_of_data / name).hardlink_to(folder_of_data / "0")
    listed = manifest(folder_of_data, names)
    folder = bench.prepare(SHOW, **told(folder_of_data, scratch, mode="download", manifest=str(listed)))
    controller = bench.start(folder)
    wait_until(lambda: bool(list(scratch.glob("*/*.a0/d.tmp/0"))))
    began = time.monotonic()
    controller.send_signal(signal.SIGTERM)
    controller.wait(30)
    assert time.monotonic() - began < 10
    assert ended(folder)["status"] == "Canceled"
    assert list(scratch.iterdir()) == []


def test_a_program_finds_its_data_by_name(bench: Any, files: Path, scratch: Path, tmp_path: Path) -> None:
    """The path is a text with what the record says; from outside of the run it is where it was."""
    folder = bench.prepare("", **told(files, scratch))
    facts = {"paths": [str(files)], "dataset": "mnist", "version": 3, "digest": "sha256:abc", "root": str(files)}
    spec = {"data": {"d": facts}, "inputs": {"lr": "0.1"}, "outputs": {"o": {}, "p": {"path": "/x/{run-id}/{output-name}"}}}
    folder.header.write_text(json.dumps({"id": folder.id, "spec": spec}))
    found, outputs = Datasets(folder.path, "input"), Datasets(folder.path, "output")
    assert (list(found), str(found["d"]), str(found["lr"])) == (["d", "lr"], str(files), "0.1")
    assert (found["d"].dataset, found["d"].version, found["d"].digest, found["d"].id) == ("mnist", 3, "sha256:abc", "mnist:3")
    assert found["d"].to_path() == ["/a.txt", "/b.txt", "/deep/c.txt"]
    with found["d"].mount() as context:
        assert context.mount_point == str(files)
    copies = found["d"].download(tmp_path / "copies")
    assert [Path(copy).read_text() for copy in copies] == ["a.txt", "b.txt", "deep/c.txt"]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        found["d"].download(tmp_path / "copies")
    assert (str(outputs["o"]), str(outputs["p"])) == (f"{folder.outputs}/o", f"/x/{folder.id}/p")
    with pytest.raises(KeyError, match="this run has no input 'mnist'; it has: d, lr"):
        found["mnist"]
