"""Ignore files mean what git says they mean, and our defaults what the user says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcest.lifecycle.ignore import Rules, as_pattern
from hpcest.lifecycle.tree import Walk

NAMES = [
    "a",
    "b",
    "ab",
    "foo",
    "foo.log",
    "b.log",
    "x y",
    "-n",
    "#h",
    "!n",
    "é",
    "*",
    "[a]",
    "a\\b",
    " lead",
    "trail ",
    "tab\t",
    "new\nline",
    "c]",
]
SEGMENTS = [
    "a", "b", "foo", "*", "?", "**", "*.log", "foo*", "a?", "[ab]", "[!a]", "[^b]*", "[a-c]", "\\#h", "\\!n", "!n", "#h", "x y", "x\\ y",
    "trail ", "trail\\ ", "\\*", "[[:alpha:]]", "[[:alpha:]b]*", "é", "*b", "a**b", "**a", "*a*", "a\\\\b", "\\a", "new*", "tab\t", " lead",
    "[]c]", "[!]c]*", "a\\", "-n", "??", "foo[", "[z-a]",
]  # fmt: skip

lines = st.builds(
    lambda bang, start, segments, end, blanks: bang + start + "/".join(segments) + end + blanks,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=3).filter(lambda segments: "foo[" not in segments[:-1]),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", "", " ", "  "]),
)
files = st.lists(lines, max_size=4).flatmap(
    lambda text: st.sampled_from(["\n".join(text), "\r\n".join(text) + "\r\n", "\ufeff" + "\n".join(text)])
)
folder_of = st.lists(st.sampled_from(NAMES), max_size=2).map("/".join)


def put(root: Path, *paths: str) -> None:
    for path in paths:
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.touch()


def kept(root: Path, extra: tuple[str, ...] = ()) -> list[str]:
    """What is left of ``root``, ignore files left out of the list."""
    walk = Walk(os.fsencode(root), Rules(extra)).go()
    found = [f"{path}/{name}" if path else name for path, folder in walk.tree.folders.items() for name in folder.files]
    return sorted(name for name in found if not name.endswith("ignore"))


@pytest.fixture(scope="module")
def git_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder / ".git"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join), max_size=12),
    st.dictionaries(folder_of, files, max_size=3),
)
def test_gitignore_files_mean_what_git_says(
    tmp_path_factory: pytest.TempPathFactory, git_dir: Path, paths: list[str], ignore_files: dict[str, str]
) -> None:
    """Whatever the names, the patterns and the places of the ignore files, the same files are left as with git."""
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        full = root / path
        if not full.exists() and not any(parent.is_file() for parent in full.parents):
            put(root, path)
    for folder, text in ignore_files.items():
        if (root / folder).is_dir():
            (root / folder / ".gitignore").write_bytes(text.encode())
    words = ["git", f"--git-dir={git_dir}", "--work-tree=.", "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
    listed = subprocess.run(words, cwd=root, stdout=subprocess.PIPE, check=True).stdout
    theirs = sorted(name for name in listed.decode().split("\0") if name and not name.endswith(".gitignore"))
    assert kept(root) == theirs


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", ["a.py", "data/x.bin", "data/y.txt", "src/data/z.bin"]),
        ("data", ["a.py"]),
        ("/data", ["a.py", "src/data/z.bin"]),
        ("*.bin", ["a.py", "data/y.txt"]),
        ("data/*\n!data/y.txt", ["a.py", "data/y.txt", "src/data/z.bin"]),
        ("data/\n!data/y.txt", ["a.py"]),  # nothing comes back from an ignored directory
        ("data/**", ["a.py", "src/data/z.bin"]),
        ("src/**/z.bin", ["a.py", "data/x.bin", "data/y.txt"]),
        ("*\n!*/\n!*.py", ["a.py"]),
        ("# data\n\n   \n\\#\n", ["a.py", "data/x.bin", "data/y.txt", "src/data/z.bin"]),
        ("a.py\r\ndata\r\n", []),
        ("[z-a]\n[\n\\\n!\n/\n", ["a.py", "data/x.bin", "data/y.txt", "src/data/z.bin"]),
    ],
)
@pytest.mark.parametrize("name", [".amlignore", ".gitignore"])
def test_lines(tmp_path: Path, name: str, text: str, left: list[str]) -> None:
    put(tmp_path, "a.py", "data/x.bin", "data/y.txt", "src/data/z.bin")
    (tmp_path / name).write_text(text)
    assert kept(tmp_path) == left


def test_an_amlignore_wins_entirely(tmp_path: Path) -> None:
    """With one at the root no .gitignore is read, wherever it is."""
    put(tmp_path, "a.log", "b.txt", "sub/c.log", "sub/d.txt")
    (tmp_path / ".gitignore").write_text("*.log")
    (tmp_path / "sub/.gitignore").write_text("*.log")
    assert kept(tmp_path) == ["b.txt", "sub/d.txt"]
    (tmp_path / ".amlignore").write_text("b.txt")
    assert kept(tmp_path) == ["a.log", "sub/c.log", "sub/d.txt"]


def test_nested_amlignore_files_apply_below_their_directory(tmp_path: Path) -> None:
    """They add to what is above, and no .gitignore is read from there on."""
    put(tmp_path, "x", "y", "sub/x", "sub/y", "sub/z", "sub/deep/x", "sub/deep/z", "other/z")
    (tmp_path / ".gitignore").write_text("/x\n")
    (tmp_path / "sub/.amlignore").write_text("/y\n/deep/x\n")
    (tmp_path / "sub/.gitignore").write_text("z\n")
    (tmp_path / "sub/deep/.gitignore").write_text("z\n")
    (tmp_path / "other/.gitignore").write_text("z\n")
    assert kept(tmp_path) == ["sub/deep/z", "sub/x", "sub/z", "y"]


def test_an_amlignore_may_be_a_link_and_a_gitignore_not(tmp_path: Path) -> None:
    """Git follows no .gitignore that is a link; linking .amlignore to .gitignore is a habit."""
    put(tmp_path, "a", "b")
    (tmp_path / "rules").write_text("a\nrules\n")
    (tmp_path / ".gitignore").symlink_to("rules")
    assert kept(tmp_path) == ["a", "b", "rules"]
    (tmp_path / ".amlignore").symlink_to("rules")
    assert kept(tmp_path) == ["b"]


DEFAULTS = [
    ".git/HEAD", "sub/.git/HEAD", ".hg/x", ".svn/x", "__pycache__/m.pyc", "m.pyc", "sub/m.pyc", ".ipynb_checkpoints/x", ".venv/x", "venv/x",
    ".tox/x", ".nox/x", ".mypy_cache/x", ".pytest_cache/x", ".ruff_cache/x", "node_modules/x", ".azureml/x", ".DS_Store", "p.egg-info/x",
    "outputs/x", "logs/x",
]  # fmt: skip


def test_what_is_left_out_by_default(tmp_path: Path) -> None:
    """Also where an ignore file says nothing of it; outputs and logs at the root only."""
    put(tmp_path, *DEFAULTS, "train.py", "sub/outputs/x", "sub/logs/x", ".github/x", "git/x")
    (tmp_path / ".amlignore").write_text("nothing\n")
    assert kept(tmp_path) == [".github/x", "git/x", "sub/logs/x", "sub/outputs/x", "train.py"]


@pytest.mark.parametrize("path", [path for path in DEFAULTS if path.count("/") < 2])
def test_each_default_can_be_brought_back(tmp_path: Path, path: str) -> None:
    """By a line that names it."""
    put(tmp_path, path)
    (tmp_path / ".gitignore").write_text(f"!{path.split('/', 1)[0]}\n!*.pyc\n")
    assert kept(tmp_path) == [path]


@pytest.mark.parametrize("sweeping", ["!*", "!*/", "!**", "!/*", "!**/*/"])
def test_a_sweeping_line_does_not_bring_defaults_back(tmp_path: Path, sweeping: str) -> None:
    """``*``, ``!*/``, ``!*.py`` is how people keep their Python files, and not those of their .venv."""
    put(tmp_path, ".venv/lib/a.py", ".git/hooks/b.py", "src/c.py", "src/d.txt")
    (tmp_path / ".gitignore").write_text(f"*\n{sweeping}\n*.txt\n!*.py\n")
    assert "src/c.py" in kept(tmp_path)
    assert not [path for path in kept(tmp_path) if path.startswith((".venv", ".git/"))]
    (tmp_path / ".gitignore").write_text(f"!.venv\n{sweeping}\n")
    assert ".venv/lib/a.py" in kept(tmp_path)


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta/history"])
def test_environments_are_left_out_whatever_they_are_called(tmp_path: Path, mark: str) -> None:
    """A directory that is one is no directory to the snapshot, unless a line brings it back; the root may be one."""
    put(tmp_path, mark, "train.py", f"tools/myenv/{mark}", "tools/myenv/bin/python", "tools/x")
    assert kept(tmp_path) == sorted([mark, "tools/x", "train.py"])
    (tmp_path / ".amlignore").write_text("!tools/myenv\n")
    assert kept(tmp_path) == sorted([mark, "train.py", f"tools/myenv/{mark}", "tools/myenv/bin/python", "tools/x"])


def test_the_workspace_can_not_be_brought_back(tmp_path: Path) -> None:
    put(tmp_path, ".hpcest/runs/x", "sub/.hpcest/y", "a")
    (tmp_path / ".amlignore").write_text("!.hpcest\n!.hpcest/**\n!sub/.hpcest\n")
    assert kept(tmp_path, ("!.hpcest",)) == ["a"]


def test_patterns_given_with_the_call_have_the_last_word(tmp_path: Path) -> None:
    put(tmp_path, "a.log", "b.bin", "sub/c.bin")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "sub").joinpath(".gitignore").write_text("!c.bin\n")
    assert kept(tmp_path, ("*.bin", "!a.log")) == ["a.log"]


names = st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_").replace(b"\n", b"_"))


@given(st.lists(names.filter(lambda name: name not in (b".", b"..")), min_size=1, max_size=3), st.booleans())
def test_the_pattern_that_a_hint_offers_ignores_that_path_alone(path: list[bytes], is_dir: bool) -> None:
    """Any name without a newline can be ignored by what we tell people to write."""
    text = b"/".join(path).decode("utf-8", "surrogateescape")
    rules = Rules((as_pattern(text, is_dir=is_dir),))
    assert rules.ignoring(text, is_dir=is_dir)
    others = [f"{text}x", f"x{text}", f"x/{text}", text[:-1]]
    plain = Rules()
    assert [other for other in others if rules.ignoring(other, is_dir=is_dir) != plain.ignoring(other, is_dir=is_dir)] == []
