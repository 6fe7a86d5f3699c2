"""A working directory is a copy of the snapshot that belongs to the run, and only what the run made of it stays."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcest.onnode import workdir

STAMP = 1_700_000_000


class Store:
    """A store and a run folder beside it; ``manifest`` writes one with the given files, links and directories."""

    def __init__(self, root: Path) -> None:
        self.objects, self.path, self.run = root / "objects", root / "manifest.json", root / "runs" / "r"
        self.work, self.outputs, self.logs = self.run / "work", self.run / "outputs", self.run / "logs"
        self.objects.mkdir(parents=True)

    def manifest(self, files: dict[str, bytes], *, links: dict[str, str] | None = None, dirs: tuple[str, ...] = ()) -> None:
        listed = []
        for name, content in files.items():
            digest = hashlib.sha256(content).hexdigest()
            (self.objects / digest[:2]).mkdir(exist_ok=True)
            (self.objects / digest[:2] / digest[2:]).write_bytes(content)
            listed.append([name, name.endswith(".sh"), len(content), digest])
        self.write({"format": 1, "files": listed, "links": [[*link] for link in (links or {}).items()], "dirs": [*dirs]})

    def write(self, data: Any) -> None:
        self.path.write_text(json.dumps(data))

    def lay_out(self, stamp: float = STAMP) -> None:
        workdir.lay_out(str(self.path), str(self.objects), str(self.work), str(self.outputs), str(self.logs), stamp)

    def tidy(self) -> bool:
        return bool(workdir.tidy(str(self.path), str(self.work), STAMP))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def below(folder: Path) -> list[str]:
    """All in ``folder``, directories with a slash."""
    found = [
        path
        for path in folder.rglob("*")
        if "outputs/" not in str(path.relative_to(folder)) and "logs/" not in str(path.relative_to(folder))
    ]
    return sorted(str(path.relative_to(folder)) + ("/" if path.is_dir() and not path.is_symlink() else "") for path in found)


def test_lay_out(store: Store) -> None:
    """Copies with the given time, executable where they were, links as they were, and the run's own outputs and logs."""
    store.manifest(
        {"train.py": b"print(1)", "sub/run.sh": b"#!"}, links={"sub/l": "../train.py", "gone": "/no/where"}, dirs=("empty/deep",)
    )
    store.lay_out(STAMP + 0.7)
    assert below(store.work) == ["empty/", "empty/deep/", "gone", "logs", "outputs", "sub/", "sub/l", "sub/run.sh", "train.py"]
    for name, content in (("train.py", b"print(1)"), ("sub/run.sh", b"#!")):
        found = (store.work / name).stat()
        assert ((store.work / name).read_bytes(), found.st_mtime_ns, found.st_nlink) == (content, STAMP * 10**9, 1)
        assert found.st_mode & 0o200
    assert os.access(store.work / "sub/run.sh", os.X_OK)
    assert not (store.work / "train.py").stat().st_mode & 0o111
    assert [os.readlink(store.work / name) for name in ("sub/l", "gone", "outputs", "logs")] == [
        "../train.py",
        "/no/where",
        "../outputs",
        "../logs",
    ]
    (store.work / "outputs/model").write_text("m")
    assert (store.outputs / "model").read_text() == "m"


def test_a_run_edits_its_own_copy(store: Store) -> None:
    store.manifest({"a": b"same", "b": b"same"})
    store.lay_out()
    (store.work / "a").write_text("changed")
    (store.work / "b").unlink()
    assert [path.read_bytes() for path in store.objects.rglob("*/*")] == [b"same"]


def test_a_run_folder_can_be_moved_and_a_far_work_finds_its_outputs(store: Store, tmp_path: Path) -> None:
    """Links between neighbours are relative; from node-local scratch they name the whole path."""
    store.manifest({"a": b""})
    store.lay_out()
    store.run.rename(tmp_path / "moved")
    (tmp_path / "moved/work/outputs/x").touch()
    assert (tmp_path / "moved/outputs/x").exists()
    store.work = tmp_path / "scratch/job/work"
    store.lay_out()
    assert os.readlink(store.work / "outputs") == str(store.outputs)
    assert store.tidy()


def test_what_the_snapshot_has_below_outputs_is_put_there(store: Store) -> None:
    """Once: what the run has made of it stays. A file that is called outputs gives way."""
    store.manifest(
        {"outputs/start/w.bin": b"w", "logs/l.txt": b"l", "a": b"a"}, links={"outputs/latest": "start"}, dirs=("outputs/tables", "logs/x")
    )
    store.lay_out()
    assert below(store.outputs) == ["latest", "start/", "start/w.bin", "tables/"]
    assert below(store.logs) == ["l.txt", "x/"]
    (store.outputs / "start/w.bin").write_text("better")
    store.lay_out()
    assert (store.outputs / "start/w.bin").read_text() == "better"
    assert store.tidy()
    assert (store.outputs / "start/w.bin").exists()
    store.manifest({"outputs": b"file"}, links={"logs": "elsewhere"})
    store.lay_out()
    assert [os.readlink(store.work / name) for name in ("outputs", "logs")] == ["../outputs", "../logs"]


def test_a_second_attempt_finds_what_the_first_wrote(store: Store) -> None:
    """Only what is missing is laid out again, and nothing is written where a link leads out."""
    store.manifest({"a": b"a", "b": b"b", "sub/c": b"c", "other/d": b"d"}, links={"l": "a"})
    store.lay_out()
    (store.work / "a").write_text("changed")
    (store.work / "checkpoint").touch()
    (store.work / "b").unlink()
    shutil.rmtree(store.work / "sub")
    (store.run / "elsewhere").mkdir()
    (store.work / "sub").symlink_to("../elsewhere")
    shutil.rmtree(store.work / "other")
    (store.work / "other").write_text("a file now")
    store.lay_out()
    assert below(store.work) == ["a", "b", "checkpoint", "l", "logs", "other", "outputs", "sub"]
    assert ((store.work / "a").read_text(), (store.work / "b").read_text()) == ("changed", "b")
    assert list((store.run / "elsewhere").iterdir()) == []


def test_an_empty_work_and_the_rest_of_a_killed_attempt_are_no_trouble(store: Store) -> None:
    store.manifest({"a": b"a"})
    store.work.mkdir(parents=True)
    (store.run / "work.tmp/sub").mkdir(parents=True)
    (store.run / "work.tmp/half").touch()
    store.lay_out()
    assert sorted(os.listdir(store.run)) == ["logs", "outputs", "work"]
    assert below(store.work) == ["a", "logs", "outputs"]


GOOD = ["a", False, 0, hashlib.sha256(b"").hexdigest()]


def file(name: object) -> dict[str, Any]:
    return {"format": 1, "files": [[name, *GOOD[1:]]], "links": [], "dirs": []}


@pytest.mark.parametrize(
    "data",
    [
        *(file(name) for name in ("../a", "/a", "a/../../b", "", ".", "..", "a//b", "a/", "./a", "a\0b", 7, None)),
        *({"format": 1, "files": [], "links": [[name, "x"]], "dirs": []} for name in ("../a", "/a")),
        {"format": 1, "files": [], "links": [], "dirs": ["../x"]},
        {"format": 1, "files": [["l/x", *GOOD[1:]]], "links": [["l", "/tmp"]], "dirs": []},
        {"format": 1, "files": [], "links": [["l", "/tmp"], ["l/m", "x"]], "dirs": []},
        {"format": 1, "files": [], "links": [["l", "/tmp"]], "dirs": ["l/d"]},
        {"format": 1, "files": [GOOD, GOOD], "links": [], "dirs": []},
        {"format": 1, "files": [GOOD], "links": [["a", "x"]], "dirs": []},
        {"format": 1, "files": [["a", False, 0, "../../../etc/passwd"]], "links": [], "dirs": []},
        {"format": 1, "files": [["a", False, 0, "G" * 64]], "links": [], "dirs": []},
        {"format": 2, "files": [], "links": [], "dirs": []},
        {"format": 1},
        [],
        None,
    ],
)
def test_a_manifest_that_leads_out_or_is_damaged_is_refused(store: Store, data: object) -> None:
    """Nothing is laid out, and tidying up after it does nothing."""
    store.manifest({"a": b""})
    store.write(data)
    with pytest.raises(workdir.LayoutError):
        store.lay_out()
    assert not store.run.exists()
    store.work.mkdir(parents=True)
    (store.work / "a").touch()
    assert not store.tidy()
    assert below(store.work) == ["a"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "can't be read: No such file or directory"),
        (lambda path: path.write_bytes(b"12"), "has 2 bytes, not 3"),
        (lambda path: path.write_bytes(b"1234"), "has 4 bytes, not 3"),
    ],
)
def test_a_damaged_object_is_named(store: Store, spoil: Callable[[Path], None], words: str) -> None:
    """With what to do; a work that was not there is still not there."""
    store.manifest({"train.py": b"123"})
    (path,) = store.objects.rglob("*/*")
    spoil(path)
    with pytest.raises(workdir.LayoutError) as caught:
        store.lay_out()
    assert f"the snapshot's object {str(path)!r} for 'train.py' {words}; remove the folder snapshots/cache" in str(caught.value)
    assert sorted(os.listdir(store.run)) == ["logs", "outputs"]


def test_no_manifest(store: Store) -> None:
    with pytest.raises(workdir.LayoutError, match="manifest can't be read"):
        store.lay_out()
    assert store.tidy()  # nothing is there


def test_tidy_leaves_what_the_run_wrote(store: Store) -> None:
    """Changed, new and touched files stay, in their folders; unchanged ones and links go."""
    files = dict.fromkeys(("a", "changed", "touched", "sub/b", "sub/deep/c", "whole/d", "longer"), b"1")
    store.manifest(files, links={"l": "a", "sub/m": "b", "turned": "a"}, dirs=("empty", "filled"))
    store.lay_out()
    (store.work / "changed").write_text("2")  # of the same size
    (store.work / "touched").touch()
    (store.work / "longer").write_text("22")
    os.utime(store.work / "longer", (STAMP, STAMP))
    (store.work / "sub/new").touch()
    (store.work / "filled/x").touch()
    (store.work / "mine").mkdir()
    (store.work / "turned").unlink()
    (store.work / "turned").symlink_to("b")
    assert not store.tidy()
    assert below(store.work) == ["changed", "filled/", "filled/x", "longer", "mine/", "sub/", "sub/new", "touched", "turned"]
    assert not store.tidy()


def test_tidy_removes_a_work_with_nothing_left(store: Store) -> None:
    """What Python cached of the snapshot's modules is nothing that the run wrote; of the run's own modules it is."""
    store.manifest({"helper.py": b"", "sub/__init__.py": b"", "sub/inner.py": b""})
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    store.lay_out()
    for option in ("-O", "-q"):
        subprocess.run([sys.executable, option, "-c", "import helper, sub.inner"], cwd=store.work, env=env, check=True)
    assert len(list(store.work.rglob("__pycache__/*.pyc"))) == 6
    assert store.tidy()
    assert not store.work.exists()
    store.lay_out()
    (store.work / "made.py").touch()
    subprocess.run([sys.executable, "-c", "import helper, made"], cwd=store.work, env=env, check=True)
    assert not store.tidy()
    cache, cached, made = below(store.work)
    assert (cache, made, cached.startswith("__pycache__/made.")) == ("__pycache__/", "made.py", True)


def replace_by_link(store: Store) -> None:
    shutil.rmtree(store.work / "sub")
    shutil.copytree(store.objects.parent / "outside", store.objects.parent / "outside2", copy_function=shutil.copy2)
    (store.work / "sub").symlink_to(store.objects.parent / "outside2")


def work_by_link(store: Store) -> None:
    store.work.rename(store.run / "aside")
    store.work.symlink_to(store.objects.parent / "outside")


def file_for_folder(store: Store) -> None:
    shutil.rmtree(store.work / "sub")
    (store.work / "sub").write_text("x")


def folder_for_file(store: Store) -> None:
    (store.work / "a").unlink()
    (store.work / "a/b").mkdir(parents=True)


@pytest.mark.parametrize("what", [replace_by_link, work_by_link, file_for_folder, folder_for_file])
def test_tidy_goes_through_no_link_and_takes_what_comes(store: Store, what: Callable[[Store], None]) -> None:
    """What looks just like the snapshot's files elsewhere stays there."""
    outside = store.objects.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    for name in ("a", "x", "sub/x"):
        (outside / name).write_text("1")
        os.utime(outside / name, (STAMP, STAMP))
    store.manifest({"a": b"1", "sub/x": b"1"})
    store.lay_out()
    what(store)
    assert not store.tidy()
    assert sorted(below(outside)) == ["a", "sub/", "sub/x", "x"]
    if (outside.parent / "outside2").exists():
        assert below(outside.parent / "outside2") == ["a", "sub/", "sub/x", "x"]


def test_tidy_of_a_work_that_is_gone(store: Store) -> None:
    store.manifest({"a": b"1"})
    assert store.tidy()


def test_many_files_are_copied_whole(store: Store) -> None:
    """Also by several threads, and when one of the objects is bad."""
    store.manifest({f"{number % 13}/{number}": str(number).encode() * 50 for number in range(600)})
    for slow in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if slow:
                patch.setattr(workdir, "_QUICK_S", 0.0)
            store.lay_out()
            assert all((store.work / f"{number % 13}/{number}").read_text() == str(number) * 50 for number in range(600))
            assert store.tidy()
            digest = hashlib.sha256(b"77" * 50).hexdigest()
            path = store.objects / digest[:2] / digest[2:]
            path.rename(store.objects / "aside")
            with pytest.raises(workdir.LayoutError, match="for '12/77' can't be read"):
                store.lay_out()
            (store.objects / "aside").rename(path)
            assert not store.work.exists()


names = (
    st.binary(min_size=1, max_size=15)
    .map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda raw: raw not in (b".", b".."))
)


@settings(max_examples=40, deadline=None)
@given(st.sets(names, min_size=1, max_size=6), st.binary(max_size=5))
def test_names_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, parts: set[bytes], content: bytes) -> None:
    """They come out as they went in, and are found again."""
    store = Store(tmp_path_factory.mktemp("names"))
    wanted = {part for part in parts if part not in (b"outputs", b"logs")}
    store.manifest(
        {(b"d/" + part).decode("utf-8", "surrogateescape"): content for part in parts}
        | {part.decode("utf-8", "surrogateescape") + "x": b"" for part in wanted if part + b"x" not in (b"outputs", b"logs", b"d")}
    )
    store.lay_out()
    assert set(os.listdir(os.fsencode(store.work / "d"))) == parts
    assert store.tidy()


OLD = """
import sys; sys.path.insert(0, sys.argv[1]); import importlib.util
spec = importlib.util.spec_from_file_location("workdir", sys.argv[1])
workdir = importlib.util.module_from_spec(spec); spec.loader.exec_module(workdir)
workdir.lay_out(*sys.argv[2:7], 1700000000)
print(sys.getfilesystemencoding(), workdir.tidy(sys.argv[2], sys.argv[4], 1700000000))
"""


def test_the_locale_and_the_house_do_not_matter(store: Store) -> None:
    """The file alone, in a Python that takes names for ASCII."""
    store.manifest({"ä/ñ": b"1", os.fsdecode(b"\xff"): b"2", "train.py": b"3"}, links={"é": "ü"})
    paths = [str(path) for path in (store.path, store.objects, store.work, store.outputs, store.logs)]
    argv = [sys.executable, "-I", "-S", "-c", OLD, workdir.__file__, *paths]
    env = {**os.environ, "LC_ALL": "C"}
    for options in ([], ["-X", "utf8=0"]):
        done = subprocess.run([argv[0], *options, *argv[1:]], env=env, capture_output=True, text=True, check=True)
        assert done.stdout.endswith(" True\n")
    store.lay_out()
    assert sorted(os.listdir(os.fsencode(store.work))) == sorted([b"\xff", "é".encode(), "ä".encode(), b"train.py", b"outputs", b"logs"])


def test_it_is_python_38_and_needs_nothing() -> None:
    tree = ast.parse(Path(workdir.__file__).read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
