"""The owner of a site's store gives an environment to everybody, whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.sharing import publish
from hpcest.environments.store.specs import Specs
from hpcest.environments.store.store import Store
from hpcest.environments.store.verify import verify
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.process import run
from tests.environments.store.helpers import HOUSE, AsNobody, Fill, key


@pytest.fixture
def base(store: Store, tmp_path: Path) -> StoredBase:
    (tmp_path / "b.sif").write_bytes(b"base" * 100)
    return store.publish_base(tmp_path / "b.sif", {"reference": "debian"})


@pytest.fixture
def image(store: Store, fill: Fill, base: StoredBase) -> StoredImage:
    return fill(store, base=base.digest)


def test_others_find_what_was_published(tmp_path: Path, store: Store, image: StoredImage, base: StoredBase) -> None:
    site = tmp_path / "site"
    answer = Specs(store).keep(key("request"), key(), lock="numpy==2.0\n")
    copy = publish(image, site, base=base, remembered={key("request"): answer})
    assert copy.manifest == image.manifest
    other = Store(tmp_path / "other", [site])
    found = other.look(key())
    assert found.wrong == ""
    assert found.image == copy
    assert found.image.log.read_text() == image.log.read_text()
    there = other.base(base.digest)
    assert there is not None
    assert there.facts["reference"] == "debian"
    assert Specs(other).read(key("request")) == answer
    assert verify(other, key())
    assert [*(site / "v1" / ".tmp").iterdir()] == []


def test_it_is_copied_once(tmp_path: Path, image: StoredImage, base: StoredBase) -> None:
    site = tmp_path / "site"
    first = publish(image, site, base=base)
    seen = first.file("env.sqfs").stat()
    assert publish(image, site, base=base) == first
    assert os.path.samestat(first.file("env.sqfs").stat(), seen)


def test_everybody_can_read_it_whatever_the_umask(tmp_path: Path, store: Store, image: StoredImage, as_nobody: AsNobody) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        from hpcest.environments.store.store import Store
        from hpcest.environments.store.specs import Remembered
        from hpcest.environments.store.sharing import publish
        os.umask(int(sys.argv[4], 8))
        store = Store(Path(sys.argv[1]))
        image = store.look(sys.argv[3]).image
        publish(image, Path(sys.argv[2]), base=store.base_of(image), remembered={"c" * 64: Remembered(sys.argv[3], 1.0)})
    """
    for umask in ("077", "000"):
        site = tmp_path / f"site {umask}"
        done = run(
            [sys.executable, "-c", code, store.layout.root, site, key(), umask], env={**os.environ, "PYTHONPATH": str(HOUSE)}, timeout=60
        )
        assert done.err == ""
        for path in (site, *site.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o022 == 0, path
            assert mode & 0o044 == 0o044, path
    told = as_nobody(f'found = Store(Path("here"), [Path("site 077")]).look("{key()}"); print(found.wrong, found.image.label)')
    assert told == f" environment sk {key()[:12]}\n"


@pytest.mark.parametrize("hidden", [True, False])
def test_a_damaged_image_is_refused(tmp_path: Path, image: StoredImage, base: StoredBase, hidden: bool) -> None:
    path = image.file("env.sqfs")
    facts = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"x" * facts.st_size if hidden else b"")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(EnvironmentBuildError, match=r"is damaged: its env\.sqfs") as caught:
        publish(image, tmp_path / "site", base=base)
    assert f"hpcest env verify {key()[:12]}" in caught.value.hint
    assert [*(tmp_path / "site" / "v1" / "images").iterdir()] == []
    assert [*(tmp_path / "site" / "v1" / ".tmp").iterdir()] == []


def test_a_damaged_base_is_refused(tmp_path: Path, image: StoredImage, base: StoredBase) -> None:
    base.path.chmod(0o644)
    base.path.write_bytes(b"other")
    with pytest.raises(EnvironmentBuildError, match="has the sha256 d9298a10d1b0"):
        publish(image, tmp_path / "site", base=base)
    assert [*(tmp_path / "site" / "v1" / "bases").iterdir()] == []


def test_an_image_without_its_base_is_refused(tmp_path: Path, image: StoredImage) -> None:
    with pytest.raises(EnvironmentBuildError, match="needs the base image"):
        publish(image, tmp_path / "site")


@pytest.mark.parametrize("place", ["", "v1/images"])
def test_a_store_that_others_can_write_is_refused(tmp_path: Path, image: StoredImage, base: StoredBase, place: str) -> None:
    loose = tmp_path / "site" / place
    loose.mkdir(parents=True)
    for path in (tmp_path / "site", tmp_path / "site" / "v1"):
        if path.exists():
            path.chmod(0o755)
    loose.chmod(0o777)
    with pytest.raises(EnvironmentBuildError, match="writable by everybody") as caught:
        publish(image, tmp_path / "site", base=base)
    assert "chmod go-w" in caught.value.hint
    assert not [*(tmp_path / "site").rglob("env.sqfs")]
