"""Where a source directory stands in git: commit, branch, remote, and what was changed since the commit.

Two short git processes for a clean work tree, a third for the changes of a dirty one.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hpcest.kit import process
from hpcest.kit.codec import encode
from hpcest.model.spec import GitFacts, RunSpec
from hpcest.onnode.gitfacts import git_properties

_STATUS_S, _CONFIG_S, _DIFF_S = 30.0, 5.0, 30.0
# Set where hpcest is called from a git hook: they would have git look at another work tree than the source's.
_NOT_OURS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")
# Takes no lock, asks nobody, fetches nothing.
_OURS = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none", "LC_ALL": "C"}
# What may be overridden → how Azure ML's variable for it ends.
_OVERRIDES = {"commit": "COMMIT", "branch": "BRANCH", "remote": "REPOSITORY_URI", "dirty": "DIRTY"}
# A user's settings must not change what a patch looks like, nor start a program.
_SETTINGS = ("core.fsmonitor=false", "diff.noprefix=false", "diff.mnemonicPrefix=false", "diff.relative=false")
_DIFF = ("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short")
_STRIPPED = re.compile(r"^(?P<scheme>[A-Za-z][\w+.-]*(?:::[A-Za-z][\w+.-]*)?://)(?:(?P<user>[^/?#]*)@)?(?P<rest>[^?#]*)")


def git_facts(source: Path, store_patch: Callable[[bytes], str]) -> GitFacts | None:
    """What git knows of ``source``; None where it is in no work tree, or git is missing or refuses.

    ``dirty`` is about tracked files below ``source``, as in ``git describe --dirty``: untracked ones are in the
    snapshot. Their changes against the commit, staged or not, go to ``store_patch`` as a patch for
    ``git apply``; it returns the name to record. The variables ``HPCEST_GIT_COMMIT``, ``_BRANCH``,
    ``_REMOTE`` and ``_DIRTY``, or Azure ML's ``AZUREML_GIT_COMMIT``, ``_BRANCH``, ``_REPOSITORY_URI`` and ``_DIRTY``, replace
    what was found, for CI systems that export a tree without ``.git``.
    """
    return _overridden(_found(source, store_patch), os.environ)


def with_source(spec: RunSpec, source: Path, snapshot: str, store_patch: Callable[[bytes], str]) -> RunSpec:
    """``spec`` with the snapshot of ``source``, what git knows of that, and the same as properties, which its own go before."""
    git = git_facts(source, store_patch)
    properties = {**git_properties(encode(git), os.environ), **spec.properties}
    return replace(spec, source=str(source), snapshot=snapshot, git=git, properties=properties)


def _found(source: Path, store_patch: Callable[[bytes], str]) -> GitFacts | None:
    if not _may_be_in_git(source):
        return None
    status = _git(source, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=no", "--no-renames", "--", ".", limit=_STATUS_S)
    if not status.ok:
        return None
    facts: dict[str, str] = {}
    dirty = False
    for line in status.out.split("\0"):
        if line.startswith("# "):
            name, _, value = line[2:].partition(" ")
            facts[name] = value
        elif line:
            dirty = True
    commit = facts.get("branch.oid", "").removeprefix("(initial)")
    branch = facts.get("branch.head", "").removeprefix("(detached)")
    patch = _patch(source) if dirty and commit else b""
    return GitFacts(commit, branch, _remote(source, branch), dirty, store_patch(patch) if patch else "")


def _may_be_in_git(source: Path) -> bool:
    """False where no folder on the way up has a ``.git``: then git, which takes milliseconds to say so, is not asked."""
    real = Path(os.path.realpath(source))
    return any((folder / ".git").exists() for folder in (real, *real.parents))


def _patch(source: Path) -> bytes:
    """The changes below ``source`` against HEAD; nothing where git takes too long over them."""
    with tempfile.TemporaryDirectory(prefix="hpcest-") as folder:
        output = Path(folder, "patch")  # what a program prints is taken for text, and a patch may be anything
        done = _git(source, "diff", *_DIFF, f"--output={output}", "HEAD", "--", ".", limit=_DIFF_S)
        return output.read_bytes() if done.ok and output.exists() else b""


def _remote(source: Path, branch: str) -> str:
    """The URL of the remote that ``branch`` follows, else of origin, else of the first one."""
    listed = _git(source, "config", "-z", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$", limit=_CONFIG_S)
    settings: dict[str, str] = {}
    for entry in listed.out.split("\0") if listed.ok else ():
        name, _, value = entry.partition("\n")
        settings.setdefault(name, value)
    follows = settings.get(f"branch.{branch}.remote", "")
    urls = [value for name, value in settings.items() if name.startswith("remote.")]
    chosen = settings.get(f"remote.{follows}.url") or settings.get("remote.origin.url") or (urls[0] if urls else "")
    return without_credentials(chosen)


def without_credentials(url: str) -> str:
    """``url`` without user, password, query and fragment; over ssh the user stays, who is no secret there."""
    parts = _STRIPPED.match(url)
    if parts is None:
        return re.sub(r"^[^/@:]*:[^/@]*@", "", url)  # no URL: a path, git@host:path, or a slip with a password in it
    user = (parts["user"] or "").partition(":")[0]
    keep = f"{user}@" if user and "ssh" in parts["scheme"] else ""
    return f"{parts['scheme']}{keep}{parts['rest']}"


def _overridden(facts: GitFacts | None, environ: Mapping[str, str]) -> GitFacts | None:
    given = {
        name: environ.get(f"HPCEST_GIT_{name.upper()}") or environ.get(f"AZUREML_GIT_{azures}", "") for name, azures in _OVERRIDES.items()
    }
    if not any(given.values()):
        return facts
    facts = facts or GitFacts()
    return replace(
        facts,
        commit=given["commit"] or facts.commit,
        branch=given["branch"] or facts.branch,
        remote=without_credentials(given["remote"]) or facts.remote,
        dirty=given["dirty"].strip().lower() not in ("0", "false", "no", "off") if given["dirty"] else facts.dirty,
    )


def _git(source: Path, *words: str, limit: float) -> process.Finished:
    env = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    return process.run(["git", *settings, *words], cwd=source, env={**env, **_OURS}, timeout=limit)
