"""Walking a source directory: what is in it, and what is still as it was the last time.

The last walk is remembered in a file, one record for each folder. A folder whose entries all have the
stat and the kind that its record says is taken over as it is: no pattern is matched, nothing is read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcest.kit.files import written_beside
from hpcest.lifecycle.ignore import AMLIGNORE, Rules

FORMAT = 1
# A file that was changed this shortly before it was read may change again with the same time stamps: some
# file systems count in whole, or in two, seconds.
_GRAIN_NS = 2_000_000_000
_ENVIRONMENT = (b"pyvenv.cfg", b"conda-meta")
_SPECIAL = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

# What is kept of a file, a list since there are many: mtime_ns, ctime_ns, bytes, inode, mode, sha256 or "".
Stamp = list[Any]
SIZE, MODE, DIGEST = 2, 4, 5


@dataclass
class Folder:
    """What a walk found in one folder.

    ``given`` is the key of the rules that its parent handed down, ``rules`` of those in effect in it.
    ``others`` has a code for each entry that is no file of the snapshot: ``d`` a folder, ``l`` and the
    target a link, ``i`` something ignored (``I`` a folder), ``s`` and its name something that can't be
    copied. ``watched`` is the name and the stamp of its ignore file. An ``environment`` is not looked into.
    """

    given: str
    rules: str
    files: dict[str, Stamp] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    watched: list[Any] = field(default_factory=list)
    environment: bool = False


@dataclass
class Tree:
    """The folders of a source directory by their path, ``""`` being the directory itself.

    ``snapshot`` is the digest of the manifest that this became, or empty.
    """

    folders: dict[str, Folder] = field(default_factory=dict)
    snapshot: str = ""


@dataclass
class Walk:
    """One walk over ``source``. ``changed`` says whether anything differs from the tree ``known``.

    ``files`` and ``size`` (bytes) count what is in the tree; ``ignored`` collects who ignored what, for the
    folders that had to be looked at anew.
    """

    source: bytes
    rules: Rules
    known: Tree = field(default_factory=Tree)
    tree: Tree = field(default_factory=Tree)
    files: int = 0
    size: int = 0
    changed: bool = False
    ignored: list[str] = field(default_factory=list)
    enough: Callable[[Walk], bool] = lambda walk: False

    def go(self) -> Walk:
        """Walk until all is seen, or ``enough`` says so. Raises OSError for what can't be read."""
        waiting = [("", self.source, self.rules)]
        while waiting and not self.enough(self):
            path, full, rules = waiting.pop()
            try:
                folder, rules = self._look(path, full, rules)
            except (FileNotFoundError, NotADirectoryError):
                if not path:
                    raise
                self.changed = True  # it went away meanwhile
                continue
            self.tree.folders[path] = folder
            if folder is self.known.folders.get(path):
                self.files += len(folder.files)
                self.size += sum([stamp[SIZE] for stamp in folder.files.values()])
            for name, code in folder.others.items():
                if code == "d":
                    waiting.append((f"{path}/{name}" if path else name, full + b"/" + _encode(name), rules))
        return self

    def _look(self, path: str, full: bytes, rules: Rules) -> tuple[Folder, Rules]:
        known = self.known.folders.get(path)
        if known is not None and known.given == rules.key and _unchanged(full, known):
            return known, _rules_of(path, full, known, rules)
        self.changed = True
        return self._look_anew(path, full, rules)

    def _look_anew(self, path: str, full: bytes, rules: Rules) -> tuple[Folder, Rules]:
        folder = Folder(rules.key, rules.key)
        with os.scandir(full) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        names = {entry.name for entry in entries}
        if path and not names.isdisjoint(_ENVIRONMENT) and not rules.brings_back(path):
            folder.environment = True
            return folder, rules
        rules = _watch(path, full, folder, rules, names)
        known = self.known.folders.get(path) or Folder("", "")
        for number, entry in enumerate(entries):
            if number % 1000 == 999 and self.enough(self):
                break
            try:
                self._note(entry, f"{path}/" if path else "", (folder, known), rules)
            except FileNotFoundError:
                continue  # it went away meanwhile
        return folder, rules

    def _note(self, entry: os.DirEntry[bytes], prefix: str, records: tuple[Folder, Folder], rules: Rules) -> None:
        """Put ``entry`` into the first record; the second is what was known, its decisions and digests."""
        folder, known = records
        name = _decode(entry.name)
        is_dir = entry.is_dir(follow_symlinks=False)
        code = ("f" if name in known.files else known.others.get(name, "")) if known.rules == folder.rules else ""
        if not code or is_dir != (code in ("d", "I")):
            by = rules.ignoring(prefix + name, is_dir=is_dir)
            self.ignored += [by] if by else []
            code = "I" if by and is_dir else "i" if by else ""
        if code in ("i", "I"):
            folder.others[name] = code
        elif is_dir:
            folder.others[name] = "d"
        elif entry.is_symlink():
            folder.others[name] = "l" + _target(entry.path)
        else:
            found = entry.stat(follow_symlinks=False)
            kind = stat.S_IFMT(found.st_mode)
            if kind == stat.S_IFREG:
                folder.files[name] = _stamp(found, known.files.get(name))
                self.files += 1
                self.size += found.st_size
            else:
                folder.others[name] = "s" + _SPECIAL.get(kind, "a special file")


def _unchanged(full: bytes, known: Folder) -> bool:
    """Whether a folder is as its record says. All the time of an unchanged snapshot is spent here."""
    if known.environment:
        return any(os.path.lexists(full + b"/" + name) for name in _ENVIRONMENT)
    files, others, seen = known.files, known.others, 0
    try:
        if known.watched and known.watched[1:-1] != _stamp(os.stat(full + b"/" + _encode(known.watched[0])))[:-1]:
            return False
        with os.scandir(full) as entries:
            for entry in entries:
                name = entry.name.decode("utf-8", "surrogateescape")
                stamp = files.get(name)
                if stamp is None:
                    if name not in others or not _still(entry, others[name]):
                        return False
                else:
                    found = entry.stat(follow_symlinks=False)
                    if (
                        found.st_mtime_ns != stamp[0]
                        or found.st_ctime_ns != stamp[1]
                        or found.st_size != stamp[2]
                        or found.st_ino != stamp[3]
                        or found.st_mode != stamp[4]
                    ):
                        return False
                seen += 1
    except FileNotFoundError:
        return False
    return seen == len(files) + len(others)


def _still(entry: os.DirEntry[bytes], code: str) -> bool:
    """Whether ``entry`` is what its code says; an ignored file may become any other thing but a folder."""
    if code in ("d", "I"):
        return entry.is_dir(follow_symlinks=False)
    if code == "i":
        return not entry.is_dir(follow_symlinks=False)
    if code[0] == "l":
        return entry.is_symlink() and _target(entry.path) == code[1:]
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) in _SPECIAL


def _target(link: bytes) -> str:
    try:
        return _decode(os.readlink(link))
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "no link any more", link) from error
        raise


def _watch(path: str, full: bytes, folder: Folder, rules: Rules, names: set[bytes]) -> Rules:
    """The rules with those of the folder's own ignore file, which is written down in its record."""
    for name in rules.looks_for:
        file = full + b"/" + name.encode()
        # Like git, a .gitignore that is a link is not followed; one may well link .amlignore to it.
        if name.encode() in names and os.path.isfile(file) and (name == AMLIGNORE or not os.path.islink(file)):
            start = time.time_ns()
            found = os.stat(file)
            folder.watched = [name, *new_stamp(found, hashlib.sha256(_read(file)).hexdigest(), start)]
            rules = _rules_of(path, full, folder, rules)
            folder.rules = rules.key
            break
    return rules


def _rules_of(path: str, full: bytes, folder: Folder, rules: Rules) -> Rules:
    """The rules with those of the ignore file in the folder's record; it is read when a line is asked for."""
    if not folder.watched:
        return rules
    name = folder.watched[0]
    return rules.below(f"{path}/{name}" if path else name, folder.watched[-1], lambda: _read(full + b"/" + name.encode()))


def _read(file: bytes) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


def _stamp(found: os.stat_result, known: Stamp | None = None) -> Stamp:
    """The stamp of a file, with the digest that ``known`` has if it is the same file, unchanged."""
    stamp: Stamp = [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode, ""]
    if known is not None and known[:DIGEST] == stamp[:DIGEST]:
        stamp[DIGEST] = known[DIGEST]
    return stamp


def new_stamp(found: os.stat_result, digest: str, start: int) -> Stamp:
    """The stamp of a file read after the time ``start``; one that no later stat equals where that is too near."""
    stamp = _stamp(found)
    stamp[DIGEST] = digest
    if is_racy(found, start):
        stamp[0] = -1
    return stamp


def is_racy(found: os.stat_result, start: int) -> bool:
    """Whether a file read after ``start`` could be changed once more without its time stamps telling."""
    # The second condition is for file systems without a ctime worth the name; a time set to the far
    # future by hand says nothing, and must not have the file read again for ever.
    return found.st_ctime_ns > start - _GRAIN_NS or start - _GRAIN_NS < found.st_mtime_ns < start + _GRAIN_NS


def clock(folder: Path) -> int:
    """Now in ns: by this machine or by the file system of ``folder``, whichever is behind."""
    now = time.time_ns()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".clock.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            return min(now, os.fstat(descriptor).st_mtime_ns)
        finally:
            os.close(descriptor)
            os.unlink(probe)
    except OSError:
        return now


def load(path: Path) -> Tree:
    """The tree that ``save`` wrote to ``path``; an empty one if it is not there, damaged, or of another version."""
    try:
        data = path.read_bytes()
        check, _, body = data.partition(b"\n")
        if check.decode() != hashlib.sha256(body).hexdigest():
            return Tree()
        content = json.loads(body)
        if content["format"] != FORMAT:
            return Tree()
        return Tree({name: Folder(*record) for name, record in content["folders"].items()}, content["snapshot"])
    except (OSError, ValueError, KeyError, TypeError):
        return Tree()


def save(path: Path, tree: Tree) -> None:
    """Write ``tree`` to ``path``. Trouble is passed over: the next walk only takes longer."""
    folders = {name: [f.given, f.rules, f.files, f.others, f.watched, f.environment] for name, f in tree.folders.items()}
    body = json.dumps({"format": FORMAT, "snapshot": tree.snapshot, "folders": folders}, separators=(",", ":")).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as beside:
            beside.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    except OSError:
        pass


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
