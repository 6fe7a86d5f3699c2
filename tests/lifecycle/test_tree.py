"""What is remembered of the last walk makes a snapshot cheap, and never makes it another one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcest.lifecycle import tree
from hpcest.lifecycle.snapshot import restore, take_snapshot
from hpcest.model.folders import WorkspaceFolder


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    return WorkspaceFolder(tmp_path / "space")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def names(workspace: WorkspaceFolder, source: Path, *, extra: tuple[str, ...] = ()) -> list[str]:
    """The files that a snapshot of ``source`` has now."""
    digest = take_snapshot(source, workspace, extra_ignore=extra).digest
    return [entry[0] for entry in json.loads(workspace.manifest(digest).read_text())["files"]]


@pytest.fixture
def fine_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """As if the file system's clock were known to be fine: what is remembered is believed at once.

    Call what this gives after each change, so that it is true.
    """
    monkeypatch.setattr(tree, "_GRAIN_NS", 0)
    return lambda: time.sleep(0.012)


def cache_of(workspace: WorkspaceFolder) -> Path:
    (path,) = (workspace.home / "snapshots/cache").iterdir()
    return path


OPENED = """
import sys; from pathlib import Path
from hpcest.lifecycle.snapshot import take_snapshot; from hpcest.model.folders import WorkspaceFolder
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
taken = take_snapshot(Path(sys.argv[1]), WorkspaceFolder(sys.argv[2]))
inside = [path for path in map(str, opened) if sys.argv[1] in path]
print(len(inside), taken.copied, "pathspec" in sys.modules)
"""


def test_of_an_unchanged_tree_nothing_is_read(source: Path, workspace: WorkspaceFolder) -> None:
    """No file, no ignore file; and of a changed one that file alone."""
    (source / ".gitignore").write_text("*.log\n")
    (source / "sub/deep").mkdir(parents=True)
    (source / "sub/.gitignore").write_text("!keep.log\n")
    for name in ("a", "b.log", "sub/c", "sub/keep.log", "sub/deep/d"):
        (source / name).write_text(name)

    def opened() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", OPENED, str(source), str(workspace.root)], stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.split()

    assert opened()[1] == "6"
    time.sleep(2.2)  # what was written just before a snapshot is read once more
    assert opened()[1] == "0"
    assert opened() == ["0", "0", "False"]
    (source / "sub/deep/d").write_text("changed")
    assert opened() == ["1", "1", "False"]


def test_a_change_within_a_tick_of_the_clock_is_seen(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """A file of the same size, written right after a snapshot, may well have the same time stamps."""
    for number in range(100, 300):
        with open(source / "a", "r+" if (source / "a").exists() else "w") as stream:
            stream.write(str(number))
        digest = take_snapshot(source, workspace).digest
        if number % 20 == 0:
            restore(digest, workspace, tmp_path / str(number))
            assert (tmp_path / str(number) / "a").read_text() == str(number)
    assert len(list(workspace.manifests.iterdir())) == 200


@pytest.mark.parametrize(
    "hide",
    [
        lambda path, found: os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns)),
        lambda path, found: os.utime(path, (2e9, 2e9)),
    ],
)
def test_a_change_with_the_old_time_is_seen(source: Path, workspace: WorkspaceFolder, hide: Callable[[Path, os.stat_result], None]) -> None:
    """Setting the time of a file, to the past or the future, hides nothing."""
    path = source / "a"
    path.write_text("one")
    hide(path, path.stat())
    first, found = take_snapshot(source, workspace).digest, path.stat()
    path.write_text("two")
    hide(path, found)
    assert take_snapshot(source, workspace).digest != first


def test_the_stamp_of_a_file_read_too_soon_is_like_no_other(source: Path) -> None:
    """A file system may count in whole or in two seconds: what was changed just before may change again unseen."""
    (source / "a").touch()
    found = (source / "a").stat()
    soon, later = (tree.new_stamp(found, "d", found.st_ctime_ns + after) for after in (1_900_000_000, 2_100_000_000))
    assert (soon[0], later[0]) == (-1, found.st_mtime_ns)
    os.utime(source / "a", (2e9, 2e9))
    found = (source / "a").stat()
    assert tree.new_stamp(found, "d", found.st_ctime_ns + 2_100_000_000)[0] == found.st_mtime_ns


def test_decisions_are_made_again_when_an_ignore_file_changes(
    source: Path, workspace: WorkspaceFolder, fine_clock: Callable[[], None]
) -> None:
    """Its own, one above, one that ignores itself, and one that is taken away."""
    (source / "sub").mkdir()
    for name in ("a.log", "b.txt", "sub/c.log", "sub/d.txt"):
        (source / name).touch()
    rules, below = source / ".gitignore", source / "sub/.gitignore"
    changes: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: rules.write_text("*.log\n.gitignore\n"), ["b.txt", "sub/d.txt"]),
        (lambda: rules.write_text("*.txt\n.gitignore\n"), ["a.log", "sub/c.log"]),
        (lambda: below.write_text("!d.txt\n*.log\n"), ["a.log", "sub/d.txt"]),
        (below.unlink, ["a.log", "sub/c.log"]),
        (rules.unlink, ["a.log", "b.txt", "sub/c.log", "sub/d.txt"]),
    ]
    for change, left in changes:
        change()
        fine_clock()
        assert names(workspace, source) == left
    assert names(workspace, source, extra=("sub",)) == ["a.log", "b.txt"]
    assert names(workspace, source) == left


def make(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "inner").touch()
    elif kind == "empty folder":
        path.mkdir()
    elif kind.startswith("link"):
        path.symlink_to(kind)
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.write_text(kind)


KINDS = ["file 1", "file 2", "folder", "empty folder", "link 1", "link 2", "FIFO"]


@pytest.mark.parametrize("name", ["plain", "ignored", "folders-ignored", "files-ignored"])
@pytest.mark.parametrize("before", KINDS)
def test_one_thing_in_place_of_another_is_seen(
    source: Path, workspace: WorkspaceFolder, tmp_path: Path, fine_clock: Callable[[], None], name: str, before: str
) -> None:
    """Whatever an entry was, whatever it is now, and whether it is ignored as both, as one, or not at all."""
    (source / ".gitignore").write_text("ignored\nfolders-ignored/\nfiles-ignored\n!files-ignored/\n")
    for after in KINDS:
        for number, kind in enumerate((before, after)):
            make(source / name, kind)
            fine_clock()
            taken = take_snapshot(source, workspace)
            first = take_snapshot(source, WorkspaceFolder(tmp_path / f"fresh {after} {number}"))
            assert replace(taken, copied=0) == replace(first, copied=0)
            if (source / name).is_dir() and not (source / name).is_symlink():
                shutil.rmtree(source / name)
            else:
                (source / name).unlink()


def test_an_amlignore_that_is_a_link_is_watched_where_it_leads(
    source: Path, workspace: WorkspaceFolder, tmp_path: Path, fine_clock: Callable[[], None]
) -> None:
    (tmp_path / "rules").write_text("a\n")
    (source / ".amlignore").symlink_to(tmp_path / "rules")
    for name in "ab":
        (source / name).touch()
    fine_clock()
    assert names(workspace, source) == ["b"]
    (tmp_path / "rules").write_text("b\n")
    assert names(workspace, source) == ["a"]


def test_an_environment_may_come_and_go(source: Path, workspace: WorkspaceFolder, fine_clock: Callable[[], None]) -> None:
    (source / "tools").mkdir()
    (source / "tools/x.py").touch()
    (source / "a").touch()
    fine_clock()
    assert names(workspace, source) == ["a", "tools/x.py"]
    (source / "tools/pyvenv.cfg").touch()
    fine_clock()
    assert names(workspace, source) == ["a"]
    (source / "tools/pyvenv.cfg").unlink()
    (source / "tools/y.py").touch()
    assert names(workspace, source) == ["a", "tools/x.py", "tools/y.py"]


def damage(cut: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(cut(path.read_bytes()))

    return spoil


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        damage(lambda data: b""),
        damage(lambda data: data[: len(data) // 2]),
        damage(lambda data: b"\0" * len(data)),
        damage(lambda data: data.replace(b"a.py", b"b.py")),
        damage(lambda data: data.replace(b'"format":1', b'"format":0')),
        damage(lambda data: b"null\n"),
        damage(lambda data: b"\xff\xfe\n{}"),
        directory_instead,
        Path.unlink,
    ],
)
def test_a_damaged_memory_is_as_good_as_none(source: Path, workspace: WorkspaceFolder, spoil: Callable[[Path], None]) -> None:
    (source / "a.py").write_text("1")
    first = take_snapshot(source, workspace)
    spoil(cache_of(workspace))
    again = take_snapshot(source, workspace)
    assert (again.digest, again.files, again.bytes, again.copied) == (first.digest, 1, 1, 0)


def test_what_was_deleted_from_the_store_is_stored_again(source: Path, workspace: WorkspaceFolder) -> None:
    """The objects of a manifest that is gone may be gone too; an object cut short by a crash is none."""
    (source / "a").write_text("aaa")
    (source / "b").write_text("bbb")
    first = take_snapshot(source, workspace)
    shutil.rmtree(workspace.manifests)
    kept, cut = sorted(path for path in workspace.objects.rglob("*") if path.is_file())
    kept.unlink()
    cut.chmod(0o600)
    cut.write_text("b")
    again = take_snapshot(source, workspace)
    assert (again.digest, again.copied) == (first.digest, 2)


def test_ten_thousand_files(source: Path, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """A changed file copies one, and all of them are restored."""
    for number in range(10_000):
        folder = source / f"{number % 40}/{number % 7}"
        if number < 280:
            folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.py").write_text(str(number))
    assert take_snapshot(source, workspace).copied == 10_000
    (source / "0/0/0.py").write_text("changed")
    taken = take_snapshot(source, workspace)
    assert (taken.files, taken.copied) == (10_000, 1)
    restore(taken.digest, workspace, tmp_path / "again")
    restored = {str(path.relative_to(tmp_path / "again")): path.read_text() for path in (tmp_path / "again").rglob("*.py")}
    assert len(restored) == 10_000
    assert restored["0/0/0.py"] == "changed"
    assert all(content == Path(name).stem for name, content in restored.items() if name != "0/0/0.py")


STEPS = ["write", "write", "write", "folder", "link", "remove", "mode", "move"]
PLACES = [
    "a",
    "b.log",
    "d",
    "d/a",
    "d/b.log",
    "d/e",
    "d/e/a",
    ".gitignore",
    "d/.gitignore",
    ".amlignore",
    "d/pyvenv.cfg",
    "d/__pycache__",
    "d/e/.git",
]
TEXTS = ["", "1", "2", "*.log", "d/", "!b.log", "/d/e\n!a", "!d\n!__pycache__", ".*"]
edits = st.lists(
    st.tuples(st.sampled_from(STEPS), st.sampled_from(PLACES), st.sampled_from(TEXTS)),
    min_size=2,
    max_size=8,
)


def edit(root: Path, what: str, place: str, text: str) -> None:
    """Do one thing to the tree, if it can be done."""
    path = root / place
    try:
        if what == "write":
            path.write_text(text)
        elif what == "folder":
            path.mkdir()
        elif what == "link":
            path.symlink_to(text or "nowhere")
        elif what == "mode":
            path.chmod(0o755 if text else 0o644)
        elif what == "move":
            path.rename(root / "moved")
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        pass


@settings(max_examples=60, deadline=None)
@given(edits)
def test_the_memory_never_changes_the_result(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]) -> None:
    """Whatever is done to a tree between two snapshots, it is what a first snapshot would be."""
    base = tmp_path_factory.mktemp("edits")
    source = base / "source"
    (source / "d/e").mkdir(parents=True)
    (source / "always").touch()
    remembering = WorkspaceFolder(base / "space")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "_GRAIN_NS", 0)
        for number, step in enumerate(steps):
            edit(source, *step)
            time.sleep(0.012)  # a tick of the kernel's clock
            taken = take_snapshot(source, remembering, extra_ignore=("!always",))
            first = take_snapshot(source, WorkspaceFolder(base / f"fresh{number}"), extra_ignore=("!always",))
            assert replace(taken, copied=0) == replace(first, copied=0)
