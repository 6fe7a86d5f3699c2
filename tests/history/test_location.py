"""Where the index lies: beside the runs on a local disk, on the node's own disk otherwise."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcest.errors import ConfigError, HpcestError, UsageError
from hpcest.history import ingest, query
from hpcest.history.location import filesystem, index_location, locate, on_network
from hpcest.model.folders import WorkspaceFolder

if TYPE_CHECKING:
    from tests.history.conftest import Records


def mounts(tmp_path: Path, *pairs: tuple[object, str]) -> str:
    """A mountinfo file with these mount points and file system types."""
    path = tmp_path / f"mountinfo-{len(list(tmp_path.iterdir()))}"
    escaped = [(str(point).replace("\\", "\\134").replace(" ", "\\040"), kind) for point, kind in pairs]
    path.write_text("".join(f"36 35 98:0 / {point} rw,noatime shared:1 master:2 - {kind} server:/x rw\n" for point, kind in escaped))
    return str(path)


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "lustre", "gpfs", "ceph", "beegfs", "glusterfs", "panfs", "cifs", "smb3", "wekafs", "fuse.sshfs", "fuse.x"]
)
def test_network_file_systems_are_known(tmp_path: Path, kind: str) -> None:
    """What other hosts write to is no place for a write-ahead log."""
    assert on_network(tmp_path, mountinfo=mounts(tmp_path, ("/", "ext4"), (tmp_path, kind)))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "btrfs", "zfs", "fuseblk", "fuse.fuse-overlayfs", "never-heard-of"])
def test_everything_else_is_local(tmp_path: Path, kind: str) -> None:
    """An unknown type is taken as local: most are."""
    assert not on_network(tmp_path, mountinfo=mounts(tmp_path, ("/", "nfs"), (tmp_path, kind)))


def test_the_longest_mount_point_counts_and_the_last_of_equal_ones(tmp_path: Path) -> None:
    """An automounter's own mount is hidden by what it mounts; a name that only starts alike is another place."""
    home = tmp_path / "ho me\\x"
    (home / "deep").mkdir(parents=True)
    (tmp_path / "ho me\\xy").mkdir()
    table = mounts(tmp_path, ("/", "ext4"), (home, "autofs"), (home, "nfs4"), (home / "deep", "tmpfs"))
    assert filesystem(str(home), table) == "nfs4"
    assert filesystem(str(home / "deep"), table) == "tmpfs"
    assert filesystem(str(tmp_path / "ho me\\xy"), table) == "ext4"
    assert filesystem(str(home / "not" / "there"), table) == "nfs4"


def test_a_host_without_the_table_has_local_file_systems(tmp_path: Path) -> None:
    """Not every system tells."""
    assert not on_network(tmp_path, mountinfo=str(tmp_path / "missing"))
    (tmp_path / "odd").write_text("nonsense\n\n")
    assert not on_network(tmp_path, mountinfo=str(tmp_path / "odd"))


def test_a_link_is_followed_to_where_the_workspace_is(tmp_path: Path) -> None:
    """A home that is a link into a network file system is on the network."""
    (tmp_path / "server").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "server")
    assert on_network(tmp_path / "home", mountinfo=mounts(tmp_path, ("/", "ext4"), (tmp_path / "server", "nfs")))


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """An environment with a place on the node's own disk."""
    (tmp_path / "node").mkdir()
    return {"HPCEST_LOCAL_DIR": str(tmp_path / "node")}


@pytest.fixture
def workspace(tmp_path: Path) -> WorkspaceFolder:
    """A workspace at a path with a space."""
    made = WorkspaceFolder(tmp_path / "my work")
    made.runs.mkdir(parents=True)
    return made


def test_auto_takes_the_workspace_where_it_is_local(workspace: WorkspaceFolder, tmp_path: Path, node: dict[str, str]) -> None:
    """The index is beside the runs, and nothing is made on the node."""
    table = mounts(tmp_path, ("/", "ext4"))
    assert locate(workspace, "auto", environ=node, mountinfo=table) == (workspace.index, False)
    assert not list((tmp_path / "node").iterdir())


def test_auto_takes_the_node_where_the_workspace_is_on_a_network(workspace: WorkspaceFolder, tmp_path: Path, node: dict[str, str]) -> None:
    """In a private folder that repeats the workspace's path, so that no two workspaces meet."""
    table = mounts(tmp_path, ("/", "ext4"), (workspace.root, "nfs4"))
    place = locate(workspace, "auto", environ=node, mountinfo=table)
    private = tmp_path / "node" / f"hpcest-{os.getuid()}"
    assert place == (private / "index" / str(workspace.home.resolve()).lstrip("/") / "history.db", False)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert place.path.parent.is_dir()
    other = WorkspaceFolder(tmp_path / "my work2")
    assert locate(other, "node", environ=node, mountinfo=table).path != place.path


def test_auto_without_a_place_on_the_node_stays_in_the_workspace(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Then with the journal for network file systems; asked for explicitly it is an error."""
    table, nowhere = mounts(tmp_path, ("/", "ext4"), (workspace.root, "lustre")), {"HPCEST_LOCAL_DIR": "/proc/nowhere"}
    assert locate(workspace, "auto", environ=nowhere, mountinfo=table) == (workspace.index, True)
    with pytest.raises(HpcestError, match="can't be made"):
        locate(workspace, "node", environ=nowhere, mountinfo=table)


def test_a_node_directory_on_a_network_is_known_to_be_one(workspace: WorkspaceFolder, tmp_path: Path, node: dict[str, str]) -> None:
    """HPCEST_LOCAL_DIR may be wrong; the journal is right all the same."""
    table = mounts(tmp_path, ("/", "nfs"))
    assert locate(workspace, "node", environ=node, mountinfo=table).network


def test_a_choice_is_followed(workspace: WorkspaceFolder, tmp_path: Path, node: dict[str, str]) -> None:
    """By argument, by variable, by configuration, in this order; other words are refused."""
    network = mounts(tmp_path, ("/", "ext4"), (workspace.root, "nfs4"))
    assert locate(workspace, "workspace", environ=node, mountinfo=network) == (workspace.index, True)
    assert locate(workspace, environ={**node, "HPCEST_HISTORY_INDEX": "workspace"}, mountinfo=network) == (workspace.index, True)
    workspace.config.write_text("history:\n  index: workspace\n")
    assert locate(workspace, environ=node, mountinfo=network) == (workspace.index, True)
    assert locate(workspace, "node", environ=node, mountinfo=network).path.is_relative_to(tmp_path / "node")
    with pytest.raises(UsageError, match="'here' is no place") as caught:
        locate(workspace, "here")
    assert "auto, workspace, node" in caught.value.hint
    workspace.config.write_text("history:\n  index: nowhere\n")
    with pytest.raises(ConfigError):
        index_location(workspace)


def test_everything_works_with_the_index_on_the_node(records: Records) -> None:
    """The workspace keeps no trace of it; runs are found, listed and resolved."""
    records.run("abc", events=[records.status("Running")])
    assert ingest.refresh(records.workspace, index="node") == 1
    assert [row.id for row in query.list_runs(records.workspace, index="node")] == ["abc"]
    assert query.resolve(records.workspace, "@latest", index="node") == "abc"
    assert ingest.reindex(records.workspace, index="node") == 1
    assert [path.name for path in records.workspace.home.iterdir()] == ["runs"]


def test_everything_works_on_a_network_file_system_if_the_user_insists(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a write-ahead log, with POSIX locks: the same rows, and changes arrive."""
    from hpcest.history import location

    monkeypatch.setattr(location, "on_network", lambda path, *, mountinfo="": True)
    records.run("abc", events=[records.status("Running")])
    assert ingest.refresh(records.workspace, index="workspace") == 1
    records.append("abc", {"t": 1, "e": "metric", "k": "loss", "v": 1})
    assert ingest.refresh(records.workspace, index="workspace") == 1
    assert query.list_runs(records.workspace, index="workspace")[0].metrics == {"loss": 1}
    assert not records.workspace.index.with_name("history.db-wal").exists()


@pytest.mark.parametrize("theirs", [True, False], ids=["of another user", "not writable"])
def test_a_workspace_that_is_not_ours_has_its_index_on_the_node(theirs: bool) -> None:
    """A colleague's or a team's workspace can be listed. (Outside tmp_path, which only its owner may enter.)"""
    with tempfile.TemporaryDirectory() as folder:
        base, root = Path(folder), os.getuid() == 0  # root may write everything: it becomes another user
        base.chmod(0o755)
        (base / "node").mkdir()
        (base / "node").chmod(0o777)
        workspace = WorkspaceFolder("/" if theirs else base / "work")
        if theirs:
            workspace.home = Path("/usr")
        else:
            workspace.home.mkdir(parents=True)
            workspace.home.chmod(0o555)
            if root:
                os.chown(workspace.home, 65534, 65534)
        if root:
            os.setresuid(65534, 65534, 0)
        try:
            place = locate(workspace, "auto", environ={"HPCEST_LOCAL_DIR": str(base / "node")})
        finally:
            if root:
                os.setresuid(0, 0, 0)
        assert place.path.is_relative_to(base / "node")
