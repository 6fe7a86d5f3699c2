"""Files are copied whole, by whichever way the file system allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.onnode.copying import Refused, clone, copy_whole, share


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_a_clone_has_the_content_and_is_another_file(tmp_path: Path, size: int) -> None:
    """Also in place of a longer one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    target.write_bytes(b"x" * (size + 10))
    clone(source, target)
    assert target.read_bytes() == source.read_bytes()
    source.write_bytes(b"changed")
    assert target.stat().st_size == size


def test_a_file_without_a_size_is_copied_too(tmp_path: Path) -> None:
    """Those of /proc have a content nonetheless, and can't be copied by the kernel."""
    clone(Path("/proc/version"), tmp_path / "version")
    assert (tmp_path / "version").read_text() == Path("/proc/version").read_text() != ""


def test_what_is_shared_can_not_be_written(tmp_path: Path) -> None:
    """By its owner; root, who could, gets a copy."""
    (tmp_path / "a").write_text("weights")
    share(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "weights"
    if os.geteuid():
        assert os.path.samefile(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "a").stat().st_mode & 0o222 == 0
    else:
        assert not os.path.samefile(tmp_path / "a", tmp_path / "b")


def test_what_can_not_be_copied_whole_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "gone").symlink_to("nowhere")
    with pytest.raises(Refused, match=r"is a link that leads nowhere, so the copy would not be complete; replace it") as caught:
        copy_whole(folder, tmp_path / "copy")
    assert caught.value.hint == "replace it by a plain file, or remove it"
    (folder / "gone").unlink()
    (folder / "out").symlink_to("/etc/hostname")
    with pytest.raises(Refused, match="leads out of the run folder"):
        copy_whole(folder, tmp_path / "copy", folder)
