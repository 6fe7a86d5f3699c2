"""What is recorded of git is true, has no password in it, and is not worth a failed run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.lifecycle.git import git_facts, without_credentials
from hpcest.model.spec import GitFacts

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")


def git(folder: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit: a text, a binary file and one that isn't UTF-8."""
    folder = tmp_path / "repository with 'quotes'"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one\n")
    (folder / "sub/b.bin").write_bytes(bytes(range(256)))
    (folder / "sub/c.txt").write_bytes(b"caf\xe9\r\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


class Patches:
    """Where patches go; ``name`` is what is recorded for one."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []

    def __call__(self, data: bytes) -> str:
        self.stored.append(data)
        return f"patch{len(self.stored)}"


def test_a_clean_work_tree(repository: Path) -> None:
    """Untracked files don't make it dirty: they are in the snapshot."""
    (repository / "new.txt").touch()
    (repository / "a.txt").touch()  # a new time, the same content
    patches = Patches()
    commit = git(repository, "rev-parse", "HEAD")
    assert git_facts(repository, patches) == GitFacts(commit=commit, branch="main")
    git(repository, "checkout", "-q", "--detach")
    git(repository, "remote", "add", "elsewhere", "git@host:b/c.git")
    git(repository, "remote", "add", "origin", "https://me:secret@host/a.git")
    assert git_facts(repository / "sub", patches) == GitFacts(commit=commit, remote="https://host/a.git")
    assert patches.stored == []


def test_the_changes_of_a_dirty_one_can_be_applied(repository: Path, tmp_path: Path) -> None:
    """Staged and unstaged, binary and not UTF-8, new, deleted and renamed files: the patch makes them all."""
    (repository / "sub/b.bin").write_bytes(bytes(range(255, -1, -1)) + b"\n\0")
    (repository / "sub/c.txt").write_bytes(b"na\xefve\r\n")
    (repository / "added").write_bytes(b"\0")
    git(repository, "add", "added", "sub/c.txt")
    (repository / "sub/c.txt").write_bytes(b"na\xefve\r\nmore")
    git(repository, "mv", "a.txt", "z.txt")
    patches = Patches()
    facts = git_facts(repository, patches)
    assert facts is not None
    assert (facts.dirty, facts.patch) == (True, "patch1")
    shutil.copytree(repository, tmp_path / "clean")
    git(tmp_path / "clean", "reset", "-q", "--hard")
    (tmp_path / "the.patch").write_bytes(patches.stored[0])
    git(tmp_path / "clean", "apply", str(tmp_path / "the.patch"))
    for folder in (repository, tmp_path / "clean"):
        shutil.rmtree(folder / ".git")
    assert subprocess.run(["diff", "-r", repository, tmp_path / "clean"], check=False).returncode == 0


def test_only_what_is_below_the_source_counts(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    patches = Patches()
    inner = git_facts(repository / "sub", patches)
    assert inner is not None
    assert (inner.dirty, inner.patch, patches.stored) == (False, "", [])
    outer = git_facts(repository, patches)
    assert outer is not None
    assert outer.dirty


def test_the_users_settings_do_not_change_the_patch(repository: Path, own_home: Path) -> None:
    """Colours, prefixes, an external diff and a text conversion are for people."""
    (repository / "sub/c.txt").write_text("two\n")
    plain, coloured = Patches(), Patches()
    git_facts(repository, plain)
    (own_home / ".gitconfig").write_text(
        "[diff]\n noprefix = true\n mnemonicPrefix = true\n external = touch ran; true\n relative = true\n"
        "[color]\n ui = always\n[core]\n fsmonitor = touch ran\n[diff \"x\"]\n textconv = touch ran; cat\n"
    )  # fmt: skip
    (repository / ".git/info/attributes").write_text("*.txt diff=x\n")
    git_facts(repository, coloured)
    assert coloured.stored == plain.stored != []
    assert not list(repository.rglob("ran"))


def test_no_commit_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").touch()
    assert git_facts(tmp_path, Patches()) == GitFacts(branch="main")
    git(tmp_path, "add", "a")
    assert git_facts(tmp_path, Patches()) == GitFacts(branch="main", dirty=True)


def test_the_remote_is_the_one_that_the_branch_follows(repository: Path) -> None:
    for name in ("first", "origin", "my/fork"):
        git(repository, "remote", "add", name, f"https://host/{name}.git")
    for words, remote in [
        ((), "origin"),
        (("config", "branch.main.remote", "my/fork"), "my/fork"),
        (("remote", "remove", "my/fork"), "origin"),
    ]:
        if words:
            git(repository, *words)
        facts = git_facts(repository, Patches())
        assert facts is not None
        assert facts.remote == f"https://host/{remote}.git"
    git(repository, "remote", "remove", "origin")
    facts = git_facts(repository, Patches())
    assert facts is not None
    assert facts.remote == "https://host/first.git"


@pytest.mark.parametrize(
    ("url", "stripped"),
    [
        ("https://user:token@host/a.git", "https://host/a.git"),
        ("https://token@host:8443/a.git", "https://host:8443/a.git"),
        ("https://user:p@ss@host/a.git", "https://host/a.git"),
        ("https://host/a.git?private_token=x&b=c#d", "https://host/a.git"),
        ("http://host/@scope/a", "http://host/@scope/a"),
        ("git@host:a/b.git", "git@host:a/b.git"),
        ("ssh://git@host:22/a.git", "ssh://git@host:22/a.git"),
        ("ssh://git:secret@host/a.git", "ssh://git@host/a.git"),
        ("git+ssh://git@host/a", "git+ssh://git@host/a"),
        ("helper::https://user:token@host/a", "helper::https://host/a"),
        ("HTTPS://u:p@host/a", "HTTPS://host/a"),
        ("user:secret@host:a.git", "host:a.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("../a@b:c.git", "../a@b:c.git"),
        ("", ""),
    ],
)
def test_no_credentials_are_recorded(url: str, stripped: str) -> None:
    assert without_credentials(url) == stripped


def not_there(source: Path, bin_: Path) -> None:
    (bin_ / "git").unlink()


def broken(source: Path, bin_: Path) -> None:
    (source / ".git/HEAD").write_text("nonsense")


def not_a_repository(source: Path, bin_: Path) -> None:
    shutil.rmtree(source / ".git")


def bare(source: Path, bin_: Path) -> None:
    git(source, "config", "core.bare", "true")


def unsafe(source: Path, bin_: Path) -> None:
    """Git itself says so where somebody else owns the repository; this variable is how it tests that."""
    (bin_ / "git").unlink()
    (bin_ / "git").write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {shutil.which("git")} "$@"\n')
    (bin_ / "git").chmod(0o755)


@pytest.mark.parametrize("spoil", [not_there, broken, not_a_repository, bare, unsafe])
def test_where_git_has_nothing_to_say(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path, Path], None]
) -> None:
    """There are no facts, and nothing is raised."""
    found = shutil.which("git")
    assert found
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "git").symlink_to(found)
    spoil(repository, bin_)
    monkeypatch.setenv("PATH", str(bin_))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert git_facts(repository, Patches()) is None
    assert git_facts(repository / ".git", Patches()) is None
    assert git_facts(tmp_path / "missing", Patches()) is None


def test_a_git_that_hangs_is_not_waited_for(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is known where only the diff takes too long; and a child that holds the pipe keeps nobody."""
    from hpcest.lifecycle import git as module

    (repository / "a.txt").write_text("two\n")
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\ncase "$*" in *" $SLOW "*) sleep 20;; *) exec {shutil.which("git")} "$@";; esac\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)
    for name in ("_STATUS_S", "_CONFIG_S", "_DIFF_S"):
        monkeypatch.setattr(module, name, 0.5)
    began = time.monotonic()
    monkeypatch.setenv("SLOW", "diff")
    facts = git_facts(repository, Patches())
    assert facts is not None
    assert (len(facts.commit), facts.dirty, facts.patch) == (40, True, "")
    monkeypatch.setenv("SLOW", "config")
    facts = git_facts(repository, Patches())
    assert facts is not None
    assert facts.patch == "patch1"
    monkeypatch.setenv("SLOW", "status")
    assert git_facts(repository, Patches()) is None
    assert time.monotonic() - began < 10


def test_the_variables_of_a_git_hook_lead_nowhere_else(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-qm", "other", "--allow-empty")
    commit = git(repository, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    facts = git_facts(repository, Patches())
    assert facts is not None
    assert facts.commit == commit


def test_nothing_is_written_to_the_repository(repository: Path) -> None:
    """No lock is taken and the index is not refreshed, as somebody may be working there."""
    (repository / "a.txt").touch()
    before = {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")}
    (repository / ".git/index.lock").touch()
    assert git_facts(repository, Patches()) is not None
    (repository / ".git/index.lock").unlink()
    before[repository / ".git"] = (repository / ".git").stat().st_mtime_ns
    assert {path: path.stat().st_mtime_ns for path in (repository / ".git").rglob("*")} | {
        repository / ".git": before[repository / ".git"]
    } == before


def test_variables_replace_what_was_found(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CI systems there may be an export without .git, or a detached HEAD that is a branch all the same."""
    monkeypatch.setenv("HPCEST_GIT_BRANCH", "feature")
    commit = git(repository, "rev-parse", "HEAD")
    assert git_facts(repository, Patches()) == GitFacts(commit=commit, branch="feature")
    monkeypatch.setenv("HPCEST_GIT_COMMIT", "abc")
    monkeypatch.setenv("HPCEST_GIT_REMOTE", "https://ci:token@host/a")
    monkeypatch.setenv("HPCEST_GIT_DIRTY", "true")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "export").mkdir()
    assert git_facts(tmp_path / "export", Patches()) == GitFacts("abc", "feature", "https://host/a", True)
    (repository / "a.txt").write_text("two\n")
    monkeypatch.setenv("HPCEST_GIT_DIRTY", "0")
    facts = git_facts(repository, Patches())
    assert facts is not None
    assert not facts.dirty


def test_azure_mls_variables_do_too(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hpcest's own go before them."""
    given = {"COMMIT": "abc", "BRANCH": "main", "REPOSITORY_URI": "https://ci:token@host/a", "DIRTY": "True"}
    for name, value in given.items():
        monkeypatch.setenv(f"AZUREML_GIT_{name}", value)
    monkeypatch.setenv("HPCEST_GIT_BRANCH", "feature")
    assert git_facts(repository, Patches()) == GitFacts("abc", "feature", "https://host/a", True)


def test_few_processes_are_started(repository: Path) -> None:
    """Two where all is clean, three where there is something to tell."""
    program = """
import sys; from pathlib import Path
from hpcest.lifecycle.git import git_facts
started = []
sys.addaudithook(lambda event, args: started.append(1) if event == "subprocess.Popen" else None)
git_facts(Path(sys.argv[1]), lambda data: "x")
print(len(started))
"""
    argv = [sys.executable, "-c", program, str(repository)]
    assert subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout == "2\n"
    (repository / "a.txt").write_text("two\n")
    assert subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout == "3\n"
