"""A full check finds what a cheap look can't, and moves it out of the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.store import Store
from hpcest.environments.store.verify import Verdict, verify
from tests.environments.store.helpers import Fill, close, key


@pytest.fixture
def base(store: Store, tmp_path: Path) -> StoredBase:
    (tmp_path / "b.sif").write_bytes(b"base" * 100)
    return store.publish_base(tmp_path / "b.sif", {})


@pytest.fixture
def image(store: Store, fill: Fill, base: StoredBase) -> StoredImage:
    return fill(store, base=base.digest)


def tamper(path: Path) -> None:
    """Change one byte and hide it: the size and the time are as before."""
    facts, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    with open(path, "r+b") as stream:
        stream.seek(7)
        stream.write(b"!")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    path.chmod(mode)


def test_what_is_as_it_was_built_stays(store: Store, image: StoredImage) -> None:
    image.log.write_text("more was said\n")
    store.pin(image)
    assert verify(store, key()) == Verdict(image.label)
    assert bool(verify(store, key()))
    assert store.look(key()).image == image


def test_a_tampered_file_is_found_and_the_image_built_again(store: Store, image: StoredImage, fill: Fill, base: StoredBase) -> None:
    tamper(image.file("env.sqfs"))
    assert store.look(key()).image == image  # a look can't see it
    verdict = verify(store, key())
    assert not verdict
    digest = image.files["env.sqfs"].sha256[:12]
    assert verdict.problems == (f"environment sk {key()[:12]}: its env.sqfs has another content than was built (sha256 is not {digest}…)",)
    assert [path.parent for path in verdict.aside] == [store.layout.bad]
    assert (verdict.aside[0] / "env.sqfs").exists()  # nothing is lost
    assert store.look(key()).image is None
    assert store.look(key()).wrong == ""
    fill(store, base=base.digest)
    assert verify(store, key())


def test_a_tampered_base_is_found(store: Store, image: StoredImage, base: StoredBase) -> None:
    tamper(base.path)
    verdict = verify(store, key())
    content = f"has another content than was built (sha256 is not {base.digest[:12]}…)"
    assert verdict.problems == (f"base image {base.digest[:12]}: its file {content}",)
    assert [path.parent for path in verdict.aside] == [store.layout.bad]
    assert store.look(key()).wrong == f"its base image {base.digest[:12]} is gone"


def test_every_problem_is_said(store: Store, image: StoredImage) -> None:
    tamper(image.file("env.sqfs"))
    tamper(image.file("requirements.lock"))
    (image.folder / "strange").touch()
    assert [one.partition(": its ")[2].partition(" ")[0] for one in verify(store, key()).problems] == ["env.sqfs", "requirements.lock", ""]


def test_what_a_look_refuses_is_moved_away_too(store: Store, image: StoredImage) -> None:
    image.file("env.sqfs").unlink()
    verdict = verify(store, key())
    assert verdict.problems == (f"environment {key()[:12]}: its env.sqfs is gone",)
    assert not image.folder.exists()


def test_what_no_store_has_is_a_problem(store: Store) -> None:
    assert verify(store, key()).problems == (f"environment {key()[:12]} can't be used: no store has it",)


def test_a_site_is_checked_and_left_alone(tmp_path: Path, store: Store, image: StoredImage) -> None:
    close(store.layout.root)
    here = Store(tmp_path / "here", [store.layout.root])
    assert verify(here, key()) == Verdict(image.label)
    tamper(image.file("env.sqfs"))
    verdict = verify(here, key())
    assert len(verdict.problems) == 1
    assert verdict.aside == ()
    assert image.folder.exists()
    assert not (tmp_path / "here").exists()
