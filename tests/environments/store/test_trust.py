"""A site's store that somebody else can write is passed over, with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.environments.store.entries import MANIFEST
from hpcest.environments.store.specs import Specs
from hpcest.environments.store.store import Store
from hpcest.environments.store.trust import distrust, group_name
from tests.environments.store.helpers import AsNobody, Fill, close, key


@pytest.fixture
def site(tmp_path: Path, fill: Fill) -> Path:
    root = tmp_path / "site"
    store = Store(root)
    (tmp_path / "b.sif").write_bytes(b"base")
    base = store.publish_base(tmp_path / "b.sif", {})
    fill(store, base=base.digest)
    Specs(store).keep(key("request"), key())
    close(root)
    return root


def asked(tmp_path: Path, site: Path) -> Store:
    return Store(tmp_path / "here", [site])


def test_a_closed_store_is_used(tmp_path: Path, site: Path) -> None:
    found = asked(tmp_path, site).look(key())
    assert found.wrong == ""
    assert found.image
    assert found.image.site
    remembered = Specs(asked(tmp_path, site)).read(key("request"))
    assert remembered is not None
    assert remembered.lock_key == key()


@pytest.mark.parametrize(("right", "who"), [(0o002, "everybody"), (0o020, "its group {}")])
@pytest.mark.parametrize(
    "what", ["", "v1", "v1/images", f"v1/images/{key()}", f"v1/images/{key()}/env.sqfs", f"v1/images/{key()}/{MANIFEST}"]
)
def test_what_others_may_write_is_named(tmp_path: Path, site: Path, what: str, right: int, who: str) -> None:
    path = site / what
    path.chmod(path.stat().st_mode | right)
    found = asked(tmp_path, site).look(key())
    assert found.image is None
    whom = who.format(group_name(path.stat().st_gid))
    assert found.wrong == f"site store {site}: {path} is writable by {whom} (mode {path.stat().st_mode & 0o7777:04o})"


def test_a_base_that_others_may_write_makes_its_images_useless(tmp_path: Path, site: Path) -> None:
    (site / "v1" / "bases").chmod(0o777)
    found = asked(tmp_path, site).look(key())
    assert found.image is None
    assert found.wrong.startswith(f"site store {site}: its base image")


def test_a_memo_that_others_may_write_is_not_believed(tmp_path: Path, site: Path) -> None:
    (site / "v1" / "specs").chmod(0o777)
    assert Specs(asked(tmp_path, site)).read(key("request")) is None


def test_a_link_is_not_followed(tmp_path: Path, site: Path) -> None:
    images = site / "v1" / "images"
    images.rename(tmp_path / "elsewhere")
    images.symlink_to(tmp_path / "elsewhere")
    assert asked(tmp_path, site).look(key()).wrong == f"site store {site}: {images} is a link"


def test_another_owner_is_named_unless_trusted(tmp_path: Path) -> None:
    """Seen from a store that belongs to somebody else than its files: root's own files are always fine."""
    (tmp_path / "file").touch(mode=0o644)
    mine = os.stat(tmp_path / "file").st_uid
    other = Path("/proc/1")  # a directory of root's, as the root of a store
    close(tmp_path)
    if mine == 0:
        os.chown(tmp_path / "file", 65533, 65533)
    uid = os.stat(tmp_path / "file").st_uid
    reason = distrust(other, [tmp_path / "file"], ())
    assert reason.startswith(f"{tmp_path / 'file'} belongs to ")
    assert f"uid {uid}" in reason
    assert distrust(other, [tmp_path / "file"], {uid}) == ""


def test_a_site_that_cannot_be_read_is_said_and_costs_nothing_else(tmp_path: Path, site: Path, as_nobody: AsNobody) -> None:
    site.chmod(0)
    said = as_nobody('print(Store(Path("here"), [Path("site"), Path("nowhere")]).look("a" * 64).wrong)')
    site.chmod(0o755)
    assert said == f"site store site: site/v1/images/{'a' * 64} can't be read (Permission denied)\n"


def test_a_file_that_only_its_owner_may_read_is_said(tmp_path: Path, site: Path, as_nobody: AsNobody) -> None:
    file = site / "v1" / "images" / key() / "env.sqfs"
    file.chmod(0)
    for path in (site, *site.rglob("*")):
        if path != file:
            path.chmod(0o755)
    said = as_nobody(f'print(Store(Path("here"), [Path("site")]).look("{key()}").wrong)')
    assert said == "site store site: its env.sqfs may not be read by this user\n"


def test_a_store_of_ours_that_is_closed_to_us_is_said(tmp_path: Path, site: Path, as_nobody: AsNobody) -> None:
    for path in (site, *site.rglob("*")):
        path.chmod(0o555)
    code = """
try:
    with Store(Path("site")).begin("b" * 64, name="sk") as build:
        print("begun")
except HpcestError as error:
    print(error, "|", error.hint)
"""
    said = as_nobody(code)
    for path in (site, *site.rglob("*")):
        path.chmod(0o755)
    assert said.startswith(f"environment sk {'b' * 12} can't be kept in site: Permission denied (site/v1/.tmp/")
    assert said.endswith("| it must be writable to build in it\n")


@pytest.fixture
def deep(tmp_path: Path, fill: Fill) -> Path:
    """A closed store in ``tmp_path/open/inner/site``."""
    root = tmp_path / "open" / "inner" / "site"
    fill(Store(root))
    close(tmp_path / "open")
    return root


@pytest.mark.parametrize(("mode", "who"), [(0o757, "everybody"), (0o775, "its group {}")])
@pytest.mark.parametrize("level", [1, 2])
def test_a_directory_above_the_store_that_others_may_write_is_named(tmp_path: Path, deep: Path, level: int, mode: int, who: str) -> None:
    """Who can write it can put another store in the place of this one."""
    above = deep.parents[level - 1]
    above.chmod(mode)
    found = asked(tmp_path, deep).look(key())
    assert found.image is None
    whom = who.format(group_name(above.stat().st_gid))
    assert found.wrong == f"site store {deep}: {above} is writable by {whom} (mode {mode:04o}), and the store lies below it"


def test_a_sticky_directory_above_the_store_is_fine(tmp_path: Path, deep: Path) -> None:
    """As /tmp: others can write it, but not rename what is ours there."""
    deep.parent.chmod(0o1777)
    assert asked(tmp_path, deep).look(key()).image


def test_the_way_is_looked_at_behind_links_too(tmp_path: Path, deep: Path) -> None:
    links = tmp_path / "links"
    links.mkdir(mode=0o755)
    (links / "way").symlink_to("../open/inner/../inner")
    assert asked(tmp_path, links / "way" / "site").look(key()).image
    (links / "other").symlink_to(tmp_path / "open")
    (tmp_path / "open").chmod(0o777)
    assert f"{tmp_path / 'open'} is writable by everybody" in asked(tmp_path, links / "other" / "inner" / "site").look(key()).wrong


def test_a_link_in_a_directory_of_others_is_named(tmp_path: Path, deep: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "site").symlink_to(deep)
    links.chmod(0o777)
    assert f"{links} is writable by everybody" in asked(tmp_path, links / "site").look(key()).wrong


def test_a_directory_of_a_stranger_above_the_store_is_named(tmp_path: Path) -> None:
    """Seen from a store that belongs to root: the tests' own directory is a stranger's, or is given to one."""
    way = tmp_path / "way"
    way.mkdir(mode=0o755)
    (way / "site").symlink_to("/proc/1")
    if way.stat().st_uid == 0:
        os.chown(way, 65533, 65533)
    uid = way.stat().st_uid
    assert f"uid {uid}" in distrust(way / "site", [], ())
    assert distrust(way / "site", [], {uid, *(one.stat().st_uid for one in way.parents)}) == ""


def test_the_directories_above_are_looked_at_once(tmp_path: Path, deep: Path) -> None:
    assert asked(tmp_path, deep).look(key()).image
    deep.parent.chmod(0o777)
    assert asked(tmp_path, deep).look(key()).image
