"""Where the index of a workspace lies: in the workspace, or on this node's own disk.

SQLite needs a local file system to be fast, and locks that work to be safe; several login nodes then
have an index each, which costs nothing but the time to build them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpcest.errors import HpcestError, UsageError
from hpcest.kit.localdir import node_local_dir
from hpcest.model.folders import WorkspaceFolder

CHOICES = ("auto", "workspace", "node")
VARIABLE = "HPCEST_HISTORY_INDEX"
MOUNTINFO = "/proc/self/mountinfo"
# fmt: off
_NETWORK = frozenset((
    "9p", "acfs", "afs", "beegfs", "ceph", "cephfs", "cifs", "coda", "cvfs", "dvs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte", "smb", "smb2", "smb3", "smbfs",
    "vboxsf", "virtiofs", "wekafs", "xtreemfs",
))  # and every fuse.* but these:
_LOCAL_FUSE = frozenset((
    "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.squashfuse", "fuse.squashfuse_ll",
))
# fmt: on


class Place(NamedTuple):
    """Where an index is, and whether that is a network file system."""

    path: Path
    network: bool


def index_location(workspace: WorkspaceFolder) -> Path:
    """The file that holds the workspace's index on this node, as the configuration says."""
    return locate(workspace).path


def locate(workspace: WorkspaceFolder, choice: str = "", *, environ: Mapping[str, str] = os.environ, mountinfo: str = MOUNTINFO) -> Place:
    """The place of the workspace's index: ``choice`` is ``workspace``, ``node``, ``auto``, or empty for what is configured.

    ``auto`` takes the workspace if it is this user's own and on a local file system, else a directory of
    this node's own disk (see ``node_local_dir``), else the workspace nonetheless. Makes nothing in the
    workspace. Raises UsageError for another choice, HpcestError if ``node`` was asked for in vain.
    """
    choice = choice or environ.get(VARIABLE, "") or _configured(workspace)
    if choice not in CHOICES:
        raise UsageError(f"history.index: {choice!r} is no place for the index", hint=f"allowed: {', '.join(CHOICES)}")
    network = on_network(workspace.home, mountinfo=mountinfo)
    if choice == "node" or (choice == "auto" and (network or not _own(workspace.home))):
        try:
            path = _on_node(workspace, environ)
            return Place(path, on_network(path.parent, mountinfo=mountinfo))
        except HpcestError:
            if choice == "node":
                raise
    return Place(workspace.index, network)


def _configured(workspace: WorkspaceFolder) -> str:
    from hpcest.config import config_paths, load_config

    for _, path in config_paths(workspace):
        try:
            if b"index" in path.read_bytes():  # else the default holds, and no YAML needs to be read
                return str(load_config(workspace).history.index)
        except OSError:
            continue  # whoever needs the configuration will be told
    return "auto"


def _on_node(workspace: WorkspaceFolder, environ: Mapping[str, str]) -> Path:
    """The workspace's own path, repeated below the node's directory: no two workspaces can meet."""
    inside = os.path.realpath(workspace.home).lstrip("/")
    path = node_local_dir(environ) / "index" / inside / workspace.index.name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HpcestError(f"{path.parent} can't be made: {error.strerror}", hint="set HPCEST_LOCAL_DIR to another directory") from error
    return path


def _own(folder: Path) -> bool:
    """Whether ``folder`` is this user's. In a shared one, each user's files would be in the others' way."""
    try:
        return os.stat(folder).st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def on_network(path: Path, *, mountinfo: str = MOUNTINFO) -> bool:
    """Whether ``path`` lies on a file system that other hosts write to as well."""
    kind = filesystem(os.path.realpath(path), mountinfo)
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


@cache
def filesystem(path: str, mountinfo: str = MOUNTINFO) -> str:
    """The type of the file system that holds ``path`` (absolute, no links); empty where it can't be known."""
    if not os.path.exists(path):  # asking also makes an automounter mount it
        parent = os.path.dirname(path)
        return filesystem(parent, mountinfo) if parent != path else ""
    best, kind = "", ""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                point = _unescaped(before.split(" ")[4])
                # A later mount hides an earlier one at the same place, as nfs does with autofs.
                if len(point) >= len(best) and (path == point or path.startswith(point.rstrip("/") + "/")):
                    best, kind = point, after.split(" ")[0]
    except (OSError, IndexError):
        return ""
    return kind


def _unescaped(text: str) -> str:
    for code, char in ("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"):
        text = text.replace(code, char)
    return text
