"""What can't be frozen is refused with its name, its cause and the way out, and leaves nothing half done."""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.errors import HpcestError, SnapshotError
from hpcest.lifecycle.objects import storing
from hpcest.lifecycle.snapshot import take_snapshot
from hpcest.model.folders import WorkspaceFolder


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    return WorkspaceFolder(tmp_path / "space")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def refusal(action: Callable[[], object], kind: type[HpcestError] = SnapshotError) -> tuple[str, str]:
    """The message and the hint of the error that ``action`` raises."""
    with pytest.raises(kind) as caught:
        action()
    return caught.value.message, caught.value.hint


def without_privileges(action: Callable[[], object]) -> Callable[[], object]:
    """``action`` by somebody whom file modes stop, also where the tests run as root."""

    def act() -> object:
        result: list[object] = []
        errors: list[HpcestError] = []

        def run() -> None:
            header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert ctypes.CDLL(None).capset(header, nothing) == 0  # of this thread alone
            try:
                result.append(action())
            except HpcestError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]

    return act


ME = pwd.getpwuid(os.getuid()).pw_name


def test_no_such_directory(source: Path, workspace: WorkspaceFolder) -> None:
    missing = source / "missing"
    assert refusal(lambda: take_snapshot(missing, workspace)) == (
        f"the source directory {str(missing)!r} does not exist",
        "paths are relative to the current directory",
    )
    (source / "train.py").touch()
    assert refusal(lambda: take_snapshot(source / "train.py", workspace)) == (
        f"the source {str(source / 'train.py')!r} is a file, not a directory",
        f"name the directory that it is in: {str(source)!r}",
    )
    message, _ = refusal(lambda: take_snapshot(source / "train.py/x", workspace))
    assert message.endswith("does not exist")
    assert not workspace.home.exists()


def test_nothing_in_it(source: Path, workspace: WorkspaceFolder) -> None:
    """Empty directories and a FIFO are nothing to run."""
    (source / "sub").mkdir()
    os.mkfifo(source / "pipe")
    assert refusal(lambda: take_snapshot(source, workspace))[0] == f"the source directory {str(source)!r} has no files in it"


def test_everything_ignored(source: Path, workspace: WorkspaceFolder) -> None:
    """By whom is said, also when an earlier snapshot went well."""
    (source / "a").touch()
    take_snapshot(source, workspace)
    for name in ("b.pyc", "env/pyvenv.cfg", "sub/c"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).touch()
    (source / ".gitignore").write_text("/a\n/.gitignore\n")
    (source / "sub/.gitignore").write_text("*\n")
    for _ in range(2):
        message, hint = refusal(lambda: take_snapshot(source, workspace))
        assert message == (
            f"the source directory {str(source)!r} has no files left: everything in it was ignored, by "
            ".gitignore (2), sub/.gitignore (2), the built-in rules (1), holding a Python environment (1)"
        )
        assert hint == "a line with '!' before a name brings it back"
    (source / ".amlignore").write_text("*\n")
    message, _ = refusal(lambda: take_snapshot(source, workspace))
    assert message.endswith("everything in it was ignored, by .amlignore (6)")


def test_an_unreadable_file(source: Path, workspace: WorkspaceFolder) -> None:
    """Its owner is named; it is no trouble once it is ignored by what the hint says."""
    (source / "train.py").touch()
    (source / "sub").mkdir()
    (source / "sub/key [1]").touch(mode=0)
    message, hint = refusal(without_privileges(lambda: take_snapshot(source, workspace)))
    where = f"'sub/key [1]' in the source directory {str(source)!r}"
    assert message == f"{where} can't be read: Permission denied (it belongs to {ME}, mode 000)"
    line = "/sub/key \\[1]"
    assert hint == f"add {line!r} to .amlignore if the run doesn't need it, or have it made readable for you"
    assert list(workspace.manifests.glob("*")) == []
    (source / ".amlignore").write_text(f"{line}\n")
    without_privileges(lambda: take_snapshot(source, workspace))()


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_an_unreadable_directory(source: Path, workspace: WorkspaceFolder, mode: int) -> None:
    """One that can't be listed, or whose entries can't be looked at."""
    (source / "train.py").touch()
    (source / "sub").mkdir()
    (source / "sub/x").touch()
    (source / "sub").chmod(mode)
    message, hint = refusal(without_privileges(lambda: take_snapshot(source, workspace)))
    (source / "sub").chmod(0o755)
    assert message.startswith(("'sub' in the source", "'sub/x' in the source"))
    assert "can't be read: Permission denied" in message
    assert "add '/sub" in hint


def test_an_unreadable_source(source: Path, workspace: WorkspaceFolder) -> None:
    (source / "inner").mkdir()
    source.chmod(0)
    for path in (source, source / "inner"):
        message, _ = refusal(without_privileges(lambda path=path: take_snapshot(path, workspace)))  # type: ignore[misc]
        assert message.startswith(f"the source directory {str(path)!r} can't be read: Permission denied")
    source.chmod(0o700)


def test_the_hint_names_the_ignore_file_in_use(source: Path, workspace: WorkspaceFolder) -> None:
    """A new .amlignore would switch the .gitignore files off, so it isn't what is offered first."""
    (source / ".gitignore").write_text("*.log\n")
    (source / "key").touch(mode=0)
    _, hint = refusal(without_privileges(lambda: take_snapshot(source, workspace)))
    assert hint.startswith("add '/key' to .gitignore (or to an .amlignore, which then replaces it)")
    (source / ".amlignore").write_text("")
    _, hint = refusal(without_privileges(lambda: take_snapshot(source, workspace)))
    assert hint.startswith("add '/key' to .amlignore if")


def test_too_many_files(source: Path, workspace: WorkspaceFolder) -> None:
    """The folders to blame are named, nothing is read, and ignoring what the hint says helps."""
    (source / "train.py").touch()
    for folder, count in (("data", 1500), ("src", 30), ("b*g", 400)):
        (source / folder / "deep").mkdir(parents=True)
        for number in range(count):
            (source / folder / "deep" / str(number)).touch()
    message, hint = refusal(lambda: take_snapshot(source, workspace, max_files=1000))
    assert message == (
        f"the source directory {str(source)!r} has more than 1,000 files; most are in 'data/' (1,500 files, 0 bytes), "
        "'b*g/' (400 files, 0 bytes), 'src/' (30 files, 0 bytes), 'train.py' (1 file, 0 bytes)"
    )
    assert hint == "add '/data/' to .amlignore, or raise snapshot.max_files in the configuration"
    assert not workspace.home.exists()
    (source / ".amlignore").write_text("/data/\n")
    assert take_snapshot(source, workspace, max_files=1000).files == 432
    with pytest.raises(SnapshotError):
        take_snapshot(source, workspace, max_files=431)


def test_too_many_bytes(source: Path, workspace: WorkspaceFolder) -> None:
    """A large file at the root is to blame itself."""
    for name, size in (("model.bin", 3 << 30), ("data.bin", 700 << 20), ("train.py", 10)):
        with open(source / name, "wb") as stream:
            stream.truncate(size)
    began = time.monotonic()
    message, hint = refusal(lambda: take_snapshot(source, workspace, max_bytes=1 << 30))
    assert "has more than 1.0 GiB; most are in 'model.bin' (1 file, 3.0 GiB), 'data.bin' (1 file, 700 MiB), 'train.py'" in message
    assert hint == "add '/model.bin' to .amlignore, or raise snapshot.max_bytes in the configuration"
    assert time.monotonic() - began < 2  # to read them takes longer


def test_a_file_that_keeps_changing(source: Path, workspace: WorkspaceFolder) -> None:
    """It is tried a few times, and then named."""
    with open(source / "run.log", "wb") as stream:
        stream.truncate(32 << 20)
    program = "import sys; f = open(sys.argv[1], 'ab', buffering=0)\nwhile True: f.write(b'x')"
    writer = subprocess.Popen([sys.executable, "-c", program, str(source / "run.log")])
    try:
        size = (source / "run.log").stat().st_size
        while (source / "run.log").stat().st_size == size:
            time.sleep(0.01)
        message, hint = refusal(lambda: take_snapshot(source, workspace))
    finally:
        writer.kill()
        writer.wait()
    assert message == f"'run.log' in the source directory {str(source)!r} keeps changing while it is read"
    assert hint == "add '/run.log' to .amlignore if the run doesn't need it, or stop what writes to it"
    assert list(workspace.home.rglob("*.tmp")) == []


def test_a_store_that_can_not_be_written(source: Path, workspace: WorkspaceFolder) -> None:
    """The path and the system's words; and an unchanged tree still has its snapshot."""
    (source / "a").touch()
    workspace.home.mkdir(parents=True)
    workspace.home.chmod(0o555)
    message, hint = refusal(without_privileges(lambda: take_snapshot(source, workspace)), HpcestError)
    assert message == f"can't store the snapshot in {str(workspace.home / 'snapshots')!r}: Permission denied"
    assert "nothing was submitted" in hint
    workspace.home.chmod(0o755)
    digest = take_snapshot(source, workspace).digest
    folders = (workspace.manifests, workspace.objects, workspace.objects.parent, workspace.home)
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert without_privileges(lambda: take_snapshot(source, workspace).digest)() == digest
    finally:
        for folder in reversed(folders):  # pytest could not remove them
            folder.chmod(0o755)


LIMITED = """
import resource, sys; from pathlib import Path
from hpcest.errors import HpcestError
from hpcest.lifecycle.snapshot import take_snapshot; from hpcest.model.folders import WorkspaceFolder
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try: take_snapshot(Path(sys.argv[1]), WorkspaceFolder(sys.argv[2]))
except HpcestError as error: print(type(error).__name__, error)
"""


@pytest.mark.parametrize("size", [20_000, 6 << 20])
def test_a_store_that_is_full_half_way(source: Path, workspace: WorkspaceFolder, size: int) -> None:
    """A small file and one that is copied piece by piece: no half object, no manifest."""
    (source / "small").write_text("small")
    (source / "zbig").write_bytes(b"x" * size)
    argv = [sys.executable, "-c", LIMITED, str(source), str(workspace.root)]
    printed = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert printed.startswith("HpcestError can't store the snapshot in ")
    assert printed.endswith(": File too large\n")
    left = [path for path in workspace.home.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ["small"]


def test_a_full_disk_is_told_in_its_words(tmp_path: Path) -> None:
    words = r"can't store the snapshot in '.*': No space left on device"
    with pytest.raises(HpcestError, match=words), storing(tmp_path / "object"), open("/dev/full", "wb", buffering=0) as stream:
        stream.write(b"x")
