"""Finding Apptainer (or SingularityCE), and what it can do on this host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpcest.kit.files import read_json, write_json
from hpcest.kit.process import run
from hpcest.kit.userdirs import user_folder

#: Names the program to use, for who has several.
CHOICE = "HPCEST_APPTAINER"
NAMES = ("apptainer", "singularity")
#: Seconds for which an answer is believed; what looks the same may be a script that starts another program by now.
_REMEMBERED_S = 86400.0
_BUNDLED = ("libexec/apptainer/bin", "lib/x86_64-linux-gnu/apptainer/bin", "libexec/singularity/bin")


@dataclass(frozen=True)
class Program:
    """One Apptainer: its path, and the version that it says (``apptainer 1.4.5``)."""

    path: str
    version: str

    @property
    def mksquashfs(self) -> str:
        """The squasher of this host: the one on PATH, else the one that Apptainer came with; empty without any."""
        root = Path(self.path).resolve().parent.parent
        bundled = [str(root / place / "mksquashfs") for place in _BUNDLED]
        return shutil.which("mksquashfs") or next((path for path in bundled if os.access(path, os.X_OK)), "")


def find(variables: Mapping[str, str] = os.environ) -> Program | None:
    """The Apptainer to use: what HPCEST_APPTAINER names, else the first on PATH."""
    names = (variables[CHOICE],) if variables.get(CHOICE) else NAMES
    path = next(filter(None, (shutil.which(name, path=variables.get("PATH", os.defpath)) for name in names)), None)
    if not path:
        return None
    version = _version(path, user_folder("XDG_CACHE_HOME", variables) / "programs")
    return Program(path, version) if version else None


@cache
def _version(path: str, memory: Path) -> str:
    """What the program at ``path`` says it is, empty for no Apptainer; ``memory`` is the folder that remembers it."""
    try:
        facts = os.stat(path)
    except OSError:
        return ""
    looks = f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}"
    note = memory / f"{hashlib.sha256(os.fsencode(looks)).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if 0 <= time.time() - note.stat().st_mtime < _REMEMBERED_S:
            return str(read_json(note)["version"])
    version = _asked(path)
    if version:
        with contextlib.suppress(OSError):  # asked again next time
            memory.mkdir(parents=True, exist_ok=True)
            write_json(note, {"path": path, "version": version})
    return version


def _asked(path: str) -> str:
    done = run([path, "--version"], timeout=20)
    found = re.search(r"(apptainer|singularity(?:-ce)?)\s+version\s+(\S+)", done.out)
    return f"{found[1]} {found[2]}" if done.ok and found else ""


def missing(variables: Mapping[str, str] = os.environ) -> str:
    """Why containers can't be used on this host, in a sentence; empty where they can."""
    if find(variables) is None:
        named = variables.get(CHOICE)
        return (
            f"{CHOICE} is {named!r}, which is no Apptainer"
            if named
            else "neither apptainer nor singularity is on PATH; try: module load apptainer"
        )
    return _no_namespaces()


def _no_namespaces() -> str:
    """Unprivileged containers need user namespaces; an Apptainer that is installed setuid does without."""
    for setting in ("/proc/sys/user/max_user_namespaces", "/proc/sys/kernel/unprivileged_userns_clone"):
        try:
            if int(Path(setting).read_text()) == 0 and not _is_setuid():
                return f"this host forbids user namespaces ({setting} is 0), and Apptainer is not installed setuid"
        except (OSError, ValueError):
            pass
    return ""


def _is_setuid() -> bool:
    program = find()
    if program is None:
        return False
    root = Path(program.path).resolve().parent.parent
    return any(path.stat().st_mode & 0o4000 for path in root.glob("lib*/**/bin/starter-suid"))
