"""Whether a site's store can be relied on: its owner, root and trusted users alone may write it, or put another in its place."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path


def distrust(root: Path, paths: Iterable[Path], trusted: Collection[int]) -> str:
    """Why the store at ``root``, or one of the ``paths`` in it, can't be relied on; empty where it can.

    ``trusted`` are uids beside root and whoever owns ``root``. Links in it are refused. A path that is not there
    is none of our business. The directories above ``root`` are looked at once in a process, as far as /: who can write one
    of them can put another store in the place of this one. Raises OSError for what can't be looked at.
    """
    facts = os.stat(root)
    allowed = frozenset({0, facts.st_uid, *trusted})
    problem = _loose(root, facts) or _loose_above(os.path.abspath(root), allowed)
    for path in paths if not problem else ():
        try:
            facts = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        problem = _wrong(path, facts, allowed)
        if problem:
            break
    return problem


@lru_cache(maxsize=64)
def _loose_above(root: str, allowed: frozenset[int]) -> str:
    for path in _way_to(root):
        try:
            facts = os.lstat(path)
        except PermissionError:  # the store was named relative to a directory that nobody comes to in this way
            continue
        problem = _of_stranger(path, facts, allowed)
        if not problem and stat.S_ISDIR(facts.st_mode) and not facts.st_mode & stat.S_ISVTX:  # a sticky one's entries are their owners'
            problem = _loose(path, facts)
        if problem:
            return f"{problem}, and the store lies below it"
    return ""


def _way_to(root: str) -> Iterator[Path]:
    """Every directory and link that is passed through on the way from / to ``root``, which is not among them itself."""
    here, rest = Path("/"), list(Path(root).parts[1:])
    while rest:
        yield here
        name = rest.pop(0)
        step = here.parent if name == ".." else here / name
        try:
            target = Path(os.readlink(step))
        except OSError:  # no link
            here = step
            continue
        yield step
        here = Path("/") if target.is_absolute() else here
        rest = [*(part for part in target.parts if part != "/"), *rest]


def _wrong(path: Path, facts: os.stat_result, allowed: Collection[int]) -> str:
    if stat.S_ISLNK(facts.st_mode):
        return f"{path} is a link"
    return _of_stranger(path, facts, allowed) or _loose(path, facts)


def _of_stranger(path: Path, facts: os.stat_result, allowed: Collection[int]) -> str:
    if facts.st_uid not in allowed:
        return f"{path} belongs to {user_name(facts.st_uid)}, who is neither root, nor the store's owner, nor trusted"
    return ""


def _loose(path: Path, facts: os.stat_result) -> str:
    if facts.st_mode & stat.S_IWOTH:
        return f"{path} is writable by everybody (mode {stat.S_IMODE(facts.st_mode):04o})"
    if facts.st_mode & stat.S_IWGRP:
        return f"{path} is writable by its group {group_name(facts.st_gid)} (mode {stat.S_IMODE(facts.st_mode):04o})"
    return ""


def user_name(uid: int) -> str:
    """``alice (uid 1000)``, or the number alone."""
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def group_name(gid: int) -> str:
    """``users``, or ``gid 100`` where it has no name."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"
