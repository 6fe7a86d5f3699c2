"""A snapshot holds what was there, byte for byte, and restores it; what is the same is neither read nor stored again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcest.errors import HpcestError, SnapshotError
from hpcest.lifecycle.ignore import Rules
from hpcest.lifecycle.objects import ObjectStore
from hpcest.lifecycle.snapshot import Snapshot, holds, restore, store_bytes, take_snapshot
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import workdir

Listing = dict[bytes, tuple[str, bytes]]


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    folder = WorkspaceFolder(tmp_path / "space")
    folder.home.mkdir(parents=True)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def listing(root: Path) -> Listing:
    """All below ``root``: a file's executable bit and content, a link's target, an empty directory."""
    found: Listing = {}
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        for name in [*names, *folders]:
            path = os.path.join(folder, name)
            short = os.path.relpath(path, top)
            if os.path.islink(path):
                found[short] = ("link", os.readlink(path))
            elif os.path.isfile(path):
                found[short] = ("program" if os.stat(path).st_mode & 0o100 else "file", Path(os.fsdecode(path)).read_bytes())
            elif not os.listdir(path):
                found[short] = ("empty", b"")
    return found


def manifest(workspace: WorkspaceFolder, snapshot: Snapshot) -> dict[str, list[list[object]]]:
    data: dict[str, list[list[object]]] = json.loads(workspace.manifest(snapshot.digest).read_text())
    return data


def objects(workspace: WorkspaceFolder) -> list[Path]:
    return sorted(path for path in workspace.objects.rglob("*") if path.is_file())


def test_what_was_there_is_restored(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Executable bits, links of every kind, empty directories and names of all sorts."""
    for name in ["train.py", "a b/c'd\".txt", "-n", "line\nbreak", "äöü/ñ", os.fsdecode(b"not-\xff-utf8")]:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name.encode("utf-8", "backslashreplace").decode())
    (source / "empty.txt").touch()
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o744)
    (source / "deep/er/nothing").mkdir(parents=True)
    (source / "dangling").symlink_to("nowhere")
    (source / "to-folder").symlink_to("deep")
    (source / "out").symlink_to("../../etc/passwd")
    (source / "absolute").symlink_to("/usr/bin/env")
    before = listing(source)
    taken = take_snapshot(source, workspace)
    assert (taken.files, taken.copied, taken.skipped) == (8, 8, ())
    assert taken.bytes == sum(len(content) for kind, content in before.values() if kind in ("file", "program"))
    restore(taken.digest, workspace, tmp_path / "again")
    assert listing(tmp_path / "again") == before


SPECIAL = (b".", b"..", b".amlignore", b"pyvenv.cfg", b"conda-meta")
names = (
    st.binary(min_size=1, max_size=20)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in SPECIAL and not Rules().ignoring(raw.decode("utf-8", "surrogateescape"), is_dir=True))
)
contents = st.one_of(st.binary(max_size=50), st.integers(0, 9000).map(lambda count: b"line\r\n" * count))
entries = st.recursive(
    st.one_of(st.tuples(st.booleans(), contents), st.binary(min_size=1, max_size=30).map(lambda raw: raw.replace(b"\0", b"_"))),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def build(folder: bytes, content: object) -> None:
    """Make ``content``: a dict is a folder, a pair a file, bytes a link's target."""
    if isinstance(content, dict):
        os.makedirs(folder, exist_ok=True)
        for name, inner in content.items():
            build(os.path.join(folder, name), inner)
    elif isinstance(content, tuple):
        with open(folder, "wb") as stream:
            stream.write(content[1])
        os.chmod(folder, 0o755 if content[0] else 0o644)
    else:
        assert isinstance(content, bytes)
        os.symlink(content, folder)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, entries, max_size=5))
def test_any_names_and_contents_survive(tmp_path_factory: pytest.TempPathFactory, content: dict[bytes, object]) -> None:
    """Whatever the bytes of a name are; and a second snapshot is the same one."""
    base = tmp_path_factory.mktemp("odd")
    build(os.fsencode(base / "source"), {**content, b".amlignore": (False, b"")})
    workspace = WorkspaceFolder(base)
    taken = take_snapshot(base / "source", workspace)
    restore(taken.digest, workspace, base / "again")
    assert listing(base / "again") == listing(base / "source")
    assert take_snapshot(base / "source", workspace).digest == taken.digest


def test_the_digest_is_over_content_alone(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Times and places don't matter; a name, a byte, an executable bit, a link and an empty directory do."""
    (source / "a").write_text("1")
    os.utime(source / "a", (1, 1))
    first = take_snapshot(source, workspace).digest
    shutil.copytree(source, tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere/a", (5, 5))
    assert take_snapshot(tmp_path / "elsewhere", WorkspaceFolder(tmp_path / "other")).digest == first
    digests = [first]
    other = tmp_path / "other-link"
    other.symlink_to("a")
    for change in (
        lambda: (source / "a").chmod(0o755),
        lambda: (source / "a").write_text("2"),
        lambda: (source / "a").rename(source / "b"),
        lambda: (source / "l").symlink_to("b"),
        lambda: os.rename(other, source / "l"),
        (source / "d").mkdir,
    ):
        change()
        digests.append(take_snapshot(source, workspace).digest)
    assert len(set(digests)) == 7


def test_the_manifest_is_named_by_its_bytes_and_the_objects_by_theirs(source: Path, workspace: WorkspaceFolder) -> None:
    (source / "a.py").write_text("print(1)\n")
    (source / "d/e").mkdir(parents=True)
    (source / "l").symlink_to("a.py")
    taken = take_snapshot(source, workspace)
    digest = hashlib.sha256(b"print(1)\n").hexdigest()
    path = workspace.manifest(taken.digest)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == taken.digest
    assert manifest(workspace, taken) == {"format": 1, "files": [["a.py", False, 9, digest]], "links": [["l", "a.py"]], "dirs": ["d/e"]}
    assert objects(workspace) == [workspace.object(digest)]
    assert stat.S_IMODE(workspace.object(digest).stat().st_mode) & 0o222 == 0


def test_content_is_stored_once(source: Path, workspace: WorkspaceFolder) -> None:
    for name in "abc":
        (source / name).write_text("the same")
    assert take_snapshot(source, workspace).copied == 1
    (source / "d").write_text("the same")
    assert take_snapshot(source, workspace).copied == 0
    assert len(objects(workspace)) == 1


def test_what_others_may_not_read_they_may_not_read_in_the_store(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Neither there nor in a copy that is made from it."""
    (source / "key").write_text("secret")
    (source / "key").chmod(0o600)
    (source / "open").write_text("open")
    (source / "open").chmod(0o644)
    old = os.umask(0o022)
    try:
        restore(take_snapshot(source, workspace).digest, workspace, tmp_path / "again")
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in objects(workspace)} == {0o400, 0o444}
    assert [stat.S_IMODE((tmp_path / "again" / name).stat().st_mode) for name in ("key", "open")] == [0o600, 0o644]


def test_what_can_not_be_kept_is_named(source: Path, workspace: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIFO is not waited for."""
    (source / "a").touch()
    os.mkfifo(source / "pipe")
    (source / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(source / "d")  # the path of a socket may be no longer than 107 bytes
        server.bind("sock\n")
    for _ in range(2):  # the second one from what is remembered
        assert take_snapshot(source, workspace).skipped == ("'d/sock\\n' is a socket", "'pipe' is a FIFO")


def test_a_source_may_be_the_workspace_or_lie_in_it(tmp_path: Path) -> None:
    """What is in .hpcest never gets into a snapshot, so that one snapshot does not change the next."""
    workspace = WorkspaceFolder(tmp_path)
    (tmp_path / "train.py").touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/x.py").touch()
    first, second = (take_snapshot(tmp_path, workspace) for _ in range(2))
    assert first.digest == second.digest
    assert [entry[0] for entry in manifest(workspace, first)["files"]] == ["inner/x.py", "train.py"]
    assert take_snapshot(tmp_path / "inner", workspace).files == 1
    (workspace.home / "runs/r/work").mkdir(parents=True)
    (workspace.home / "runs/r/work/z.py").touch()
    assert take_snapshot(workspace.home / "runs/r/work", workspace).files == 1


def test_a_relative_source_and_a_link_to_it_are_the_same(source: Path, workspace: WorkspaceFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "a").touch()
    (source.parent / "link").symlink_to(source)
    monkeypatch.chdir(source)
    digests = {take_snapshot(path, workspace).digest for path in (Path(), Path("../link"), source)}
    assert len(digests) == 1
    assert len(list((workspace.home / "snapshots/cache").iterdir())) == 1


def test_holds(source: Path, workspace: WorkspaceFolder) -> None:
    """What can be started is a file, a link, or something below a link."""
    (source / "src").mkdir()
    (source / "src/train.py").touch()
    (source / "code").symlink_to("src")
    digest = take_snapshot(source, workspace).digest
    asked = ["src/train.py", "./src/../src/train.py", "code", "code/train.py", "train.py", "src", "src/train", "../src/train.py"]
    assert [holds(workspace, digest, path) for path in asked] == [True, True, True, True, False, False, False, False]


def test_store_bytes(workspace: WorkspaceFolder) -> None:
    digest = store_bytes(workspace, b"\0\xffpatch")
    assert digest == hashlib.sha256(b"\0\xffpatch").hexdigest() == store_bytes(workspace, b"\0\xffpatch")
    assert workspace.object(digest).read_bytes() == b"\0\xffpatch"


def test_restore_spares_what_is_there(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """A directory with something in it is refused; an empty one is filled, an unknown snapshot named."""
    (source / "outputs").mkdir()
    (source / "outputs/x").write_text("x")
    (source / ".amlignore").write_text("!outputs\n")
    digest = take_snapshot(source, workspace).digest
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(SnapshotError, match="is there already"):
        restore(digest, workspace, target)
    assert os.listdir(target) == ["mine"]
    (target / "mine").unlink()
    inode = target.stat().st_ino
    restore(digest, workspace, target)
    assert ((target / "outputs/x").read_text(), target.stat().st_ino) == ("x", inode)
    for unknown in ("0" * 64, "../../secret", ""):
        with pytest.raises(SnapshotError, match="is not in the workspace"):
            restore(unknown, workspace, tmp_path / "new")


def test_restoring_from_a_damaged_store_leaves_nothing(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    for name in "abc":
        (source / name).write_text(name)
    digest = take_snapshot(source, workspace).digest
    objects(workspace)[1].unlink()
    with pytest.raises(HpcestError, match="can't be read: No such file"):
        restore(digest, workspace, tmp_path / "again")
    assert sorted(os.listdir(tmp_path)) == ["source", "space"]


PROGRAM = """
import sys; from pathlib import Path
from hpcest.lifecycle.ignore import Rules
from hpcest.lifecycle.snapshot import take_snapshot; from hpcest.model.folders import WorkspaceFolder
print(take_snapshot(Path(sys.argv[1]), WorkspaceFolder(sys.argv[2])).digest)
"""


def test_snapshots_of_several_processes_at_once_are_one(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """They store the same files at the same time, and every object is whole."""
    for number in range(300):
        (source / str(number)).write_text(f"{number % 250}" * 1000)
    argv = [sys.executable, "-c", PROGRAM, str(source), str(workspace.root)]
    for _ in range(2):
        running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        digests = {process.communicate()[0] for process in running}
        assert [process.returncode for process in running] == [0, 0, 0, 0]
        assert len(digests) == 1
        (source / "one-more").touch()
    assert len(objects(workspace)) == 251
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.name for path in objects(workspace))
    assert list(workspace.home.rglob("*.tmp")) == []


def test_the_locale_makes_no_difference(source: Path, workspace: WorkspaceFolder) -> None:
    """The same names give the same digest where Python takes them for ASCII or for Latin-1."""
    for name in ["plain", "ä", os.fsdecode(b"\xff")]:
        (source / name).touch()
    digest = take_snapshot(source, workspace).digest
    for number, locale in enumerate(("C", "en_US.ISO-8859-1")):
        env = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        argv = [sys.executable, "-c", PROGRAM, str(source), str(workspace.root / str(number))]
        assert subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.strip() == digest


def test_a_file_that_is_written_to_is_read_until_it_is_whole(source: Path, workspace: WorkspaceFolder) -> None:
    """The content stored is one that the file had, not half of each."""
    with open(source / "big", "wb") as stream:
        stream.truncate(32 << 20)
    stop = time.monotonic() + 0.15

    def change() -> None:
        with open(source / "big", "r+b", buffering=0) as stream:
            while time.monotonic() < stop:
                stream.seek(0, os.SEEK_END)
                stream.write(b"x")

    writer = threading.Thread(target=change)
    writer.start()
    taken = take_snapshot(source, workspace)
    writer.join()
    content = (source / "big").read_bytes()[: taken.bytes]  # it only grew
    assert manifest(workspace, taken)["files"] == [["big", False, taken.bytes, hashlib.sha256(content).hexdigest()]]
    assert len(content) == taken.bytes >= 32 << 20
    assert len(objects(workspace)) == 1


@pytest.mark.parametrize("kind", ["link", "folder", "FIFO", "nothing"])
def test_what_is_no_file_any_more_is_not_stored(source: Path, workspace: WorkspaceFolder, kind: str) -> None:
    """Between the walk and the reading a file may have become something else; a FIFO is not waited for."""
    path = source / "was-a-file"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    with pytest.raises(FileNotFoundError):
        ObjectStore(workspace).put_file(os.fsencode(path))
    assert not workspace.home.exists() or objects(workspace) == []


CHURN = """
import os, shutil, sys
os.chdir(sys.argv[1])
while True:
    os.makedirs("d/e/f")
    for name in ("d/a", "d/e/b", "d/e/f/c", "x"):
        with open(name, "w") as stream: stream.write(name * 3000)
    os.replace("x", "y")
    os.symlink("y", "l")
    os.unlink("l"); os.mkdir("l"); os.rmdir("l")
    shutil.rmtree("d")
"""


def test_a_tree_that_comes_and_goes_is_frozen_as_some_of_it_was(source: Path, workspace: WorkspaceFolder) -> None:
    """What goes away during a walk is left out, and what the manifest names is in the store, whole."""
    (source / "train.py").touch()
    writer = subprocess.Popen([sys.executable, "-c", CHURN, str(source)])
    try:
        for _ in range(150):
            digest = take_snapshot(source, workspace).digest
            for _, _, size, name in workdir.read_manifest(str(workspace.manifest(digest)))["files"]:
                content = workspace.object(name.decode()).read_bytes()
                assert (len(content), hashlib.sha256(content).hexdigest()) == (size, name.decode())
    finally:
        assert writer.poll() is None
        writer.kill()
        writer.wait()
    assert len(list(workspace.manifests.iterdir())) > 1
