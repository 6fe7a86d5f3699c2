"""Whether what lies in a site's store can be relied on: nobody but its owner, root and trusted users may write it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path


def distrust(root: Path, paths: Iterable[Path], trusted: Collection[int]) -> str:
    """Why the store at ``root``, or one of the ``paths`` in it, can't be relied on; empty where it can.

    ``trusted`` are uids beside root and whoever owns ``root``. Links are refused. A path that is not there
    is none of our business. Raises OSError for what can't be looked at.
    """
    facts = os.stat(root)
    allowed = {0, facts.st_uid, *trusted}
    problem = _loose(root, facts)
    for path in paths if not problem else ():
        try:
            facts = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        problem = _wrong(path, facts, allowed)
        if problem:
            break
    return problem


def _wrong(path: Path, facts: os.stat_result, allowed: Collection[int]) -> str:
    if stat.S_ISLNK(facts.st_mode):
        return f"{path} is a link"
    if facts.st_uid not in allowed:
        return f"{path} belongs to {user_name(facts.st_uid)}, who is neither root, nor the store's owner, nor trusted"
    return _loose(path, facts)


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
