"""Knowing data by its content: a digest of names and bytes, and the list of files that it was made of.

    .hpcest/data/manifests/ID.json    the files of some data as they were: {"format", "root", "taken", "files": [[name, size,
                                      time in ns, sha256], …]}; ID is the sha256 of the file itself
    .hpcest/data/known/KEY.json       the manifest that was made last of the paths with this key

A file whose size and time are as they were is not read again. HPCEST_DATA_DIGEST=stat reads none at all: the digest,
which then starts with ``stat:`` and not with ``sha256:``, is of names, sizes and times. So it is where a run is submitted
with very much data that nobody has registered; HPCEST_DATA_DIGEST=contents reads that too.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcest.contracts import Say, silent
from hpcest.errors import HpcestError, SpecError
from hpcest.kit.files import freshened, read_json, write_json, write_text
from hpcest.lifecycle.data.files import File, Found
from hpcest.model.folders import WorkspaceFolder

FORMAT = 1
VARIABLE, MODES = "HPCEST_DATA_DIGEST", ("contents", "stat")
_CHUNK, _THREADS, _WORTH_SAYING = 1 << 22, 8, 1 << 30
#: A file that was written this shortly before it was read may be written again without another time.
_SETTLED_NS = 2 * 10**9


@dataclass(frozen=True)
class Listing:
    """What data was found to be: its digest, and the files with their own, by name."""

    digest: str
    manifest: str
    root: str
    files: Mapping[str, tuple[int, int, str]]
    taken: float = 0.0

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return sum(size for size, _, _ in self.files.values())


def listing_of(
    workspace: WorkspaceFolder, found: Found, key: Sequence[str], say: Say = silent, *, known: str = "", most: int | None = None
) -> Listing:
    """The digest of what was found, kept with its list; files that are as they were are not read again.

    ``key`` are the paths that led to it, ``known`` is another manifest that may save reading. Where more than ``most`` bytes
    would have to be read, none are, unless HPCEST_DATA_DIGEST asks for it. Raises SpecError for what can't be read, or
    changes meanwhile, HpcestError where the list can't be kept.
    """
    mode = os.environ.get(VARIABLE) or MODES[0]
    if mode not in MODES:
        raise SpecError(f"{VARIABLE}={mode!r} is not known", hint="set it to 'contents' or 'stat'")
    place = _home(workspace) / "known" / f"{hashlib.sha256(json.dumps([*key]).encode()).hexdigest()[:32]}.json"
    before = dict(_digests(read_manifest(workspace, known), found.root) if known else {})
    before.update(_digests(read_manifest(workspace, _last(place)), found.root))
    taken = time.time()
    if mode == "contents":
        digests = _contents(found, before, say, None if os.environ.get(VARIABLE) else most)
    else:
        digests = dict.fromkeys((name for name, _, _ in found.files), "")
    files = {name: (size, stamp, digests[name]) for name, size, stamp in found.files}
    try:
        identity = _keep(workspace, found.root, files, taken)
        if identity != _last(place):
            write_json(place, {"manifest": identity})
    except OSError as error:
        home, problem = _home(workspace), error.strerror or error
        raise HpcestError(f"{home} can't be written: {problem}", hint="check its space and permissions") from error
    return Listing(digest_of(files), identity, found.root, files, taken)


def digest_of(files: Mapping[str, tuple[int, int, str]]) -> str:
    """One digest for all files: of names and contents, or of names, sizes and times where no contents were read."""
    whole, read = hashlib.sha256(), all(content for _, _, content in files.values())
    for name, (size, stamp, content) in sorted(files.items()):
        facts = content if read else f"{size} {stamp}"
        whole.update(name.encode("utf-8", "surrogatepass") + b"\0" + facts.encode() + b"\n")
    return f"{'sha256' if read else 'stat'}:{whole.hexdigest()}"


def read_manifest(workspace: WorkspaceFolder, identity: str) -> Listing | None:
    """The list that is kept under ``identity``; None where there is none any more, or a damaged one."""
    try:
        data: Any = read_json(manifest_path(workspace, identity)) if identity else None
        files = {str(name): (int(size), int(stamp), str(content)) for name, size, stamp, content in data["files"]} if data else {}
        return Listing(digest_of(files), identity, str(data["root"]), files, float(data["taken"])) if data else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def manifest_path(workspace: WorkspaceFolder, identity: str) -> Path:
    """Where a list of files is kept."""
    return _home(workspace) / "manifests" / f"{identity}.json"


def differences(before: Listing, now: Mapping[str, tuple[int, int, str]]) -> tuple[list[str], list[str], list[str]]:
    """The names that have gone since ``before``, those whose content is another, and those that are new."""
    gone = [name for name in before.files if name not in now]
    changed = [name for name, facts in before.files.items() if name in now and _is_other(facts, now[name])]
    return gone, changed, [name for name in now if name not in before.files]


def _is_other(before: tuple[int, int, str], now: tuple[int, int, str]) -> bool:
    return before[2] != now[2] if before[2] and now[2] else before[:2] != now[:2]


def _home(workspace: WorkspaceFolder) -> Path:
    return workspace.home / "data"


def _last(place: Path) -> str:
    try:
        return str((read_json(place) or {}).get("manifest") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _digests(known: Listing | None, root: str) -> Mapping[File, str]:
    """What is known of files as they were. One that had just been written when it was read is not trusted."""
    if known is None or known.root != root:
        return {}
    settled = known.taken * 10**9 - _SETTLED_NS
    return {(name, size, stamp): content for name, (size, stamp, content) in known.files.items() if content and stamp < settled}


def _contents(found: Found, before: Mapping[File, str], say: Say, most: int | None) -> dict[str, str]:
    unknown = [file for file in found.files if file not in before]
    amount = sum(size for _, size, _ in unknown)
    if most is not None and amount > most:
        say(f"{amount / 2**30:.1f} GB of data in {found.root} are known by names, sizes and times alone; register it to have it read once")
        return {file[0]: before.get(file, "") for file in found.files}
    if amount > _WORTH_SAYING:
        say(f"reading {len(unknown)} files of data, {amount / 2**30:.1f} GB, to know them again ({VARIABLE}=stat reads none)")
    with ThreadPoolExecutor(_THREADS) as pool:
        read = list(pool.map(lambda file: _sha256(os.path.join(found.root, file[0]), file), unknown))
    fresh = dict(zip(unknown, read, strict=True))
    return {file[0]: before.get(file) or fresh[file] for file in found.files}


def _sha256(path: str, facts: File) -> str:
    whole = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as stream:
            while data := stream.read(_CHUNK):
                whole.update(data)
            now = os.fstat(stream.fileno())
    except OSError as error:
        raise SpecError(f"the data {path!r} can't be read: {error.strerror}", hint="check that it is there, and its permissions") from error
    if (now.st_size, now.st_mtime_ns) != facts[1:]:
        raise SpecError(f"the data {path!r} changed while it was read", hint="wait until whatever writes it has ended")
    return whole.hexdigest()


def _keep(workspace: WorkspaceFolder, root: str, files: Mapping[str, tuple[int, int, str]], taken: float) -> str:
    rows = [[name, *facts] for name, facts in sorted(files.items())]
    # A list of files that all have settled says the same whenever it was made.
    newest = max((stamp for _, stamp, _ in files.values()), default=0)
    settled = newest < taken * 10**9 - _SETTLED_NS
    moment = newest / 10**9 + _SETTLED_NS / 10**9 + 1 if settled else taken
    text = json.dumps({"format": FORMAT, "root": root, "taken": moment, "files": rows}, separators=(",", ":"))
    identity = hashlib.sha256(text.encode()).hexdigest()
    path = manifest_path(workspace, identity)
    (path.parent.parent / "known").mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    if not freshened(path):
        write_text(path, text)
    return identity
