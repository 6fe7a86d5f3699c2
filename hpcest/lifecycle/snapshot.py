"""The snapshot of a source directory: frozen by content, so that a run can be repeated and nothing is stored twice.

``snapshots/objects`` of the workspace has every file once, ``snapshots/manifests`` one list of names for
each snapshot, whose format ``hpcest.onnode.workdir`` fixes; ``snapshots/cache`` remembers the last walk over
each source directory, and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcest.errors import HpcestError, SnapshotError
from hpcest.kit.files import freshened, write_text
from hpcest.lifecycle import refusals, tree
from hpcest.lifecycle.ignore import Rules
from hpcest.lifecycle.objects import KeepsChangingError, ObjectStore, storing
from hpcest.lifecycle.tree import Folder, Tree, Walk
from hpcest.model.folders import WorkspaceFolder
from hpcest.onnode import workdir

MAX_FILES = 50_000
MAX_BYTES = 5 << 30


@dataclass(frozen=True)
class Snapshot:
    """A frozen source directory: ``digest`` names it, ``copied`` counts the contents that were new to the store.

    ``skipped`` has a phrase for each entry that can't be kept (``'run/pipe' is a FIFO``).
    """

    digest: str
    files: int
    bytes: int
    copied: int
    skipped: tuple[str, ...] = ()


def take_snapshot(
    source: Path,
    workspace: WorkspaceFolder,
    *,
    extra_ignore: Sequence[str] = (),
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> Snapshot:
    """Freeze what is in ``source`` now, less what the ignore files and ``extra_ignore`` patterns leave out.

    Nothing of a file that is the same as the last time is read. Symbolic links are kept as links. Raises
    SnapshotError where the directory can't be frozen as it is, HpcestError where the workspace can't be
    written. Safe beside other snapshots of the same directory.
    """
    root = _root(source)
    cache = _cache_file(workspace, root)
    known = tree.load(cache)
    if not known.snapshot or not freshened(workspace.manifest(known.snapshot)):
        known = Tree()  # the manifest is what vouches for the objects
    limits = refusals.Limits(max_files, max_bytes)
    try:
        walk = Walk(root, Rules(extra_ignore), known, enough=limits.enough).go()
        limits.check(walk)
        copied = _freeze(walk, workspace) if walk.changed else 0
    except OSError as error:
        raise refusals.unreadable(root, error) from error
    if walk.changed:
        tree.save(cache, walk.tree)
    else:
        walk.tree.snapshot = known.snapshot
    return Snapshot(walk.tree.snapshot, walk.files, walk.size, copied, _skipped(walk.tree))


def restore(snapshot: str, workspace: WorkspaceFolder, target: Path) -> None:
    """Write the files of a snapshot to ``target``, which must not be there yet, or be empty.

    Raises SnapshotError for a target with something in it or a snapshot that the workspace hasn't, HpcestError
    where an object is missing or the disk refuses. A target that was not there is only there if all went well.
    """
    there = os.path.lexists(target)
    if there and not (target.is_dir() and not os.listdir(target)):
        raise SnapshotError(f"{str(target)!r} is there already, and not an empty directory", hint="name a directory that is not there yet")
    manifest = _manifest_of(snapshot, workspace)
    write = workdir.write_tree if there else workdir.write_new_tree
    try:
        write(workdir.read_manifest(manifest), os.fsencode(workspace.objects), os.fsencode(os.path.abspath(target)))
    except (workdir.LayoutError, OSError) as error:
        raise HpcestError(f"snapshot {snapshot[:12]} can't be restored to {str(target)!r}: {error}") from error


def holds(workspace: WorkspaceFolder, snapshot: str, path: str) -> bool:
    """Whether the snapshot has a file or link at ``path`` (relative), or one of its links stands above it."""
    data = json.loads(_manifest_of(snapshot, workspace).read_bytes())
    wanted = os.path.normpath(path)
    links = {link[0] for link in data["links"]}
    above = {parent.as_posix() for parent in Path(wanted).parents}
    return wanted in links or not links.isdisjoint(above) or any(file[0] == wanted for file in data["files"])


def store_bytes(workspace: WorkspaceFolder, data: bytes) -> str:
    """Keep ``data`` as an object of the store; return its sha256. Raises HpcestError."""
    return ObjectStore(workspace).put(data)


def _manifest_of(snapshot: str, workspace: WorkspaceFolder) -> Path:
    path = workspace.manifest(snapshot)
    if os.sep in snapshot or not path.is_file():
        raise SnapshotError(
            f"snapshot {snapshot!r} is not in the workspace {str(workspace.root)!r}", hint="it is in the workspace of its run"
        )
    return path


def _cache_file(workspace: WorkspaceFolder, root: bytes) -> Path:
    return workspace.objects.parent / "cache" / f"{hashlib.sha256(root).hexdigest()[:32]}.json"


def _root(source: Path) -> bytes:
    try:
        is_dir = stat.S_ISDIR(os.stat(source).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        hint = "paths are relative to the current directory"
        raise SnapshotError(f"the source directory {str(source)!r} does not exist", hint=hint) from None
    except OSError as error:
        raise refusals.unreadable(os.fsencode(source), error) from error
    if not is_dir:
        hint = f"name the directory that it is in: {str(source.parent)!r}"
        raise SnapshotError(f"the source {str(source)!r} is a file, not a directory", hint=hint)
    return os.fsencode(os.path.realpath(source))


def _freeze(walk: Walk, workspace: WorkspaceFolder) -> int:
    """Store what is new in ``walk`` and the manifest; return how many contents the store had not."""
    if not any(folder.files or any(code[0] == "l" for code in folder.others.values()) for folder in walk.tree.folders.values()):
        raise refusals.nothing_left(walk)
    store = ObjectStore(workspace)
    _store_new(walk, store)
    walk.files = sum(len(folder.files) for folder in walk.tree.folders.values())
    walk.size = sum(stamp[tree.SIZE] for folder in walk.tree.folders.values() for stamp in folder.files.values())
    text = _manifest(walk.tree)
    walk.tree.snapshot = hashlib.sha256(text.encode()).hexdigest()
    path = workspace.manifest(walk.tree.snapshot)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not freshened(path):
            write_text(path, text)
    return len(store.added)


def _store_new(walk: Walk, store: ObjectStore) -> None:
    new = [
        (path, folder, name) for path, folder in walk.tree.folders.items() for name, stamp in folder.files.items() if not stamp[tree.DIGEST]
    ]
    if not new:
        return
    start = tree.clock(store.workspace.objects.parent)

    def put(job: tuple[str, Folder, str]) -> None:
        path, folder, name = job
        full = walk.source + b"/" + f"{path}/{name}".lstrip("/").encode("utf-8", "surrogateescape")
        try:
            found, digest = store.put_file(full)
            folder.files[name] = tree.new_stamp(found, digest, start)
        except FileNotFoundError:
            del folder.files[name]  # it went away meanwhile
        except KeepsChangingError as error:
            raise refusals.changing(walk.source, full) from error
        except OSError as error:
            error.filename = error.filename or full  # reading from an open file does not say which
            raise

    workdir.for_each(put, new)


def _manifest(found: Tree) -> str:
    """The text of a manifest: sorted and without blanks, so that the same content is the same text."""
    files, links, dirs = [], [], []
    for path, folder in found.folders.items():
        if folder.environment:
            continue
        prefix = f"{path}/" if path else ""
        files += [
            [prefix + name, bool(stamp[tree.MODE] & 0o100), stamp[tree.SIZE], stamp[tree.DIGEST]] for name, stamp in folder.files.items()
        ]
        links += [[prefix + name, code[1:]] for name, code in folder.others.items() if code[0] == "l"]
        if path and not folder.files and not any(_kept(found, prefix + name, code) for name, code in folder.others.items()):
            dirs.append(path)
    manifest = {"format": workdir.FORMAT, "files": sorted(files), "links": sorted(links), "dirs": sorted(dirs)}
    return json.dumps(manifest, separators=(",", ":")) + "\n"


def _skipped(found: Tree) -> tuple[str, ...]:
    special = [
        (f"{path}/{name}".lstrip("/"), code[1:])
        for path, folder in found.folders.items()
        for name, code in folder.others.items()
        if code[0] == "s"
    ]
    return tuple(f"{path!r} is {kind}" for path, kind in sorted(special))


def _kept(found: Tree, path: str, code: str) -> bool:
    """Whether an entry with ``code`` is in the snapshot, and its folder not empty."""
    return code[0] == "l" or (code == "d" and path in found.folders and not found.folders[path].environment)
