"""The node's own directory is this user's alone, or it is not used."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcest.errors import HpcestError
from hpcest.kit import localdir
from hpcest.kit.localdir import node_local_dir

NOBODY = 65534


@contextlib.contextmanager
def without_root() -> Iterator[None]:
    """As an unprivileged user, also where the tests run as root."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_it_is_made_for_this_user_alone(tmp_path: Path) -> None:
    """Whatever the umask is, the mode is 0700; the second call finds the same."""
    before = os.umask(0o777)
    try:
        made = node_local_dir({"HPCEST_LOCAL_DIR": str(tmp_path)})
    finally:
        os.umask(before)
    assert made == tmp_path / f"hpcest-{os.getuid()}"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert node_local_dir({"HPCEST_LOCAL_DIR": str(tmp_path)}) == made


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o500])
def test_a_directory_that_others_can_enter_is_refused(tmp_path: Path, mode: int) -> None:
    """It may have been prepared by someone else; the message names the mode."""
    (tmp_path / f"hpcest-{os.getuid()}").mkdir()
    (tmp_path / f"hpcest-{os.getuid()}").chmod(mode)
    with pytest.raises(HpcestError, match=f"has the mode 0{mode:o}"):
        node_local_dir({"HPCEST_LOCAL_DIR": str(tmp_path)})


def test_a_link_or_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    """Also a link to a directory that would do."""
    place = tmp_path / f"hpcest-{os.getuid()}"
    (tmp_path / "real").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "real")
    with pytest.raises(HpcestError, match="only a link"):
        node_local_dir({"HPCEST_LOCAL_DIR": str(tmp_path)})
    place.unlink()
    place.write_text("")
    with pytest.raises(HpcestError, match="is not a directory"):
        node_local_dir({"HPCEST_LOCAL_DIR": str(tmp_path)})


def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Ownership is checked, not only the mode."""
    with without_root():
        assert "belongs to another user" in localdir._private(Path("/usr"))


@pytest.mark.parametrize("base", ["/proc/nowhere", "relative"])
def test_a_base_that_cannot_be_used_is_an_error_with_the_next_step(base: str) -> None:
    """A directory that was named is never replaced by another one."""
    with pytest.raises(HpcestError, match=base) as caught:
        node_local_dir({"HPCEST_LOCAL_DIR": base})
    assert "HPCEST_LOCAL_DIR" in caught.value.hint


def test_without_the_variable_the_first_usable_place_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that someone has taken is passed over."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / f"hpcest-{os.getuid()}").write_text("taken")
    (tmp_path / "two").mkdir()
    monkeypatch.setattr(localdir, "_USUAL", (str(tmp_path / "one"), str(tmp_path / "two")))
    assert node_local_dir({}) == tmp_path / "two" / f"hpcest-{os.getuid()}"
