"""A directory of ours on a disk of this node: for what a network file system can't keep, or can't lock."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from hpcest.errors import HpcestError

VARIABLE = "HPCEST_LOCAL_DIR"
_USUAL = ("/var/tmp", "/tmp")  # noqa: S108  # what is made there is private: see _private


def node_local_dir(environ: Mapping[str, str]) -> Path:
    """``hpcest-UID`` below HPCEST_LOCAL_DIR, else below the first usable one of /var/tmp and /tmp; made if need be.

    It is a real directory, owned by this user and closed to all others. Raises HpcestError, saying what
    is wrong with each place.
    """
    named = environ.get(VARIABLE, "")
    problems = []
    for base in (named,) if named else _USUAL:
        path = Path(base, f"hpcest-{os.getuid()}")
        problem = _private(path)
        if not problem:
            return path
        problems.append(f"{path} {problem}")
    raise HpcestError(
        f"no directory on a disk of this node can be used: {'; '.join(problems)}",
        hint=f"set {VARIABLE} to a directory on a local disk where you may write",
    )


def _private(path: Path) -> str:
    """Why ``path`` is no directory for this user alone; empty where it is one, also if it was made just now."""
    if not path.is_absolute():
        return "is not an absolute path"
    try:
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)  # the umask may have taken bits away
    except FileExistsError:
        pass
    except OSError as error:
        return f"can't be made ({error.strerror})"
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode) or not stat.S_ISDIR(facts.st_mode):
        return "is not a directory, or only a link to one"
    if facts.st_uid != os.getuid():
        return f"belongs to another user (uid {facts.st_uid})"
    if stat.S_IMODE(facts.st_mode) & 0o077 or stat.S_IMODE(facts.st_mode) & 0o700 != 0o700:
        return f"has the mode {stat.S_IMODE(facts.st_mode):04o}, not 0700"
    return "" if os.access(path, os.W_OK | os.X_OK) else "can't be written"
