"""What is published is found, what was damaged is not, and the workspace comes before the site."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from hpcest.environments.store.builds import ABANDONED_AFTER_S, sweep_abandoned
from hpcest.environments.store.entries import MANIFEST
from hpcest.environments.store.layout import Layout
from hpcest.environments.store.store import Found, Store
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.kit.process import run
from tests.environments.store.helpers import HOUSE, Fill, close, key

MADE = '{"key": "KEY", "files": {}}'.replace("KEY", key())


def left(layout: Layout) -> list[str]:
    """What lies in the store beside published images, by folder."""
    return sorted(str(path.relative_to(layout.home)) for folder in (layout.building, layout.images) for path in folder.iterdir())


def test_what_was_published_is_found(store: Store, fill: Fill) -> None:
    assert store.look(key()) == Found()
    image = fill(store)
    found = store.look(key())
    assert found.image == image
    assert found.wrong == ""
    assert image.label == f"environment sk {key()[:12]}"
    assert image.file("env.sqfs").read_bytes() == b"one" * 100
    assert image.log.read_text() == "[    0.00] built\n"
    assert image.files["env.sqfs"].sha256 == hashlib.sha256(b"one" * 100).hexdigest()
    assert image.size == 300 + 11
    assert abs(image.created - time.time()) < 60
    assert stat.S_IMODE(image.file("env.sqfs").stat().st_mode) & 0o222 == 0
    assert left(store.layout) == [f"images/{key()}"]
    assert [*store.layout.logs.iterdir()] == []
    assert [one.key for one in store.images()] == [key()]


def test_a_look_makes_nothing(store: Store) -> None:
    assert store.look(key()).image is None
    assert store.base(key()) is None
    assert not store.layout.root.exists()


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "abc", "A" * 64, key() + "\n", "/" + key()])
def test_what_is_no_key_is_refused(store: Store, wrong: str) -> None:
    with pytest.raises(SpecError, match="is no key"):
        store.look(wrong)
    with pytest.raises(SpecError, match="is no key"), store.begin(wrong):
        pytest.fail("begun")
    with pytest.raises(SpecError, match="is no key"):
        store.base(wrong)


def test_nothing_is_seen_of_a_build_that_fails_but_its_log(store: Store) -> None:
    def interrupted() -> None:
        with store.begin(key()) as build:
            (build.folder / "env.sqfs").write_bytes(b"half")
            build.log.write_text("why")
            assert store.look(key()) == Found()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left(store.layout) == []
    assert [path.read_text() for path in store.layout.logs.iterdir()] == ["why"]


def test_a_truncated_file_is_found_by_a_look_and_built_again(store: Store, fill: Fill) -> None:
    image = fill(store)
    os.chmod(image.file("env.sqfs"), 0o644)
    os.truncate(image.file("env.sqfs"), 10)
    assert store.look(key()) == Found(None, "its env.sqfs has 10 bytes instead of 300")
    again = fill(store)
    assert store.look(key()).image == again
    assert [path.name.partition(".")[0] for path in store.layout.bad.iterdir()] == [key()]


def test_a_file_that_was_written_to_is_found_by_a_look(store: Store, fill: Fill) -> None:
    image = fill(store)
    os.chmod(image.file("env.sqfs"), 0o644)
    image.file("env.sqfs").write_bytes(b"two" * 100)
    assert store.look(key()).wrong == "its env.sqfs was changed after it was built"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "its manifest can't be read"),
        ("[1]", "its manifest can't be read"),
        ("null", "its manifest can't be read"),
        ('{"key": "x"}', "its manifest can't be read"),
        ('{"key": "x", "files": {}}', "its manifest is not of this environment"),
        (MADE.replace("{}", '{}, "created": "soon"'), "its manifest can't be read"),
        (MADE.replace("{}", '{"../x": {"sha256": "", "size": 1, "mtime_ns": 1}}'), "its manifest can't be read"),
        (MADE.replace("{}", '{"x": {"sha256": "", "size": 1, "mtime_ns": 1}}'), "its x is gone"),
        (MADE.replace("{}", '{}, "base": "../../x"'), "its manifest is not of this environment"),
        (None, "it has no manifest"),
    ],
)
def test_a_damaged_manifest_is_said_and_replaced(store: Store, fill: Fill, text: str | None, wrong: str) -> None:
    manifest = fill(store).folder / MANIFEST
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    assert store.look(key()) == Found(None, wrong)
    assert fill(store) == store.look(key()).image


@pytest.mark.parametrize("kind", ["file", "link", "empty folder"])
def test_something_else_in_the_place_is_moved_away(store: Store, fill: Fill, kind: str, tmp_path: Path) -> None:
    fill(store, "other")
    place = store.layout.image(key())
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to(tmp_path)
    else:
        place.mkdir()
    assert store.look(key()).wrong
    assert fill(store) == store.look(key()).image
    assert tmp_path.is_dir()


def test_who_comes_second_gets_the_image_of_the_first(store: Store, fill: Fill) -> None:
    with store.begin(key()) as slow:
        (slow.folder / "env.sqfs").write_bytes(b"slow")
        first = fill(store)
        assert slow.publish({"name": "sk"}) == first
    assert left(store.layout) == [f"images/{key()}"]


def test_the_workspace_comes_first_then_the_sites_in_their_order(tmp_path: Path, fill: Fill) -> None:
    here, near, far = (tmp_path / name for name in ("here", "near", "far"))
    for root in (far, near, here):
        fill(Store(root))
        if root != here:
            close(root)
    store = Store(here, (near, far))
    for root in (here, near, far):
        image = store.look(key()).image
        assert image is not None
        assert image.root == root
        assert image.site == (root != here)
        assert len([*store.images()]) == 1
        image.file("env.sqfs").unlink()
    assert store.look(key()) == Found(
        None, f"its env.sqfs is gone; site store {near}: its env.sqfs is gone; site store {far}: its env.sqfs is gone"
    )


def test_a_base_is_kept_once_by_content(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "debian.sif"
    file.write_bytes(b"base" * 1000)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    base = store.publish_base(file, {"reference": "docker://debian:12"})
    assert base.digest == digest
    assert base.path.read_bytes() == file.read_bytes()
    assert base.facts["reference"] == "docker://debian:12"
    assert stat.S_IMODE(base.path.stat().st_mode) & 0o222 == 0
    assert store.base(digest) == base
    again = store.publish_base(file, {"reference": "debian.sif"})
    assert again == base
    file.unlink()
    assert store.publish_base(file, {}, digest=digest) == base  # known: not even looked at
    assert left(store.layout) == []
    assert len([*store.layout.bases.iterdir()]) == 2


def test_a_base_can_be_moved_in(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "built.sif"
    file.write_bytes(b"x")
    base = store.publish_base(file, {}, move=True)
    assert base.path.read_bytes() == b"x"
    assert not file.exists()


def test_a_base_of_another_content_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "b.sif"
    file.write_bytes(b"x")
    with pytest.raises(EnvironmentBuildError, match=r"has the sha256 2d711642b726…, not "):
        store.publish_base(file, {}, digest=key())
    assert store.base(key()) is None
    assert [*store.layout.bases.iterdir()] == []


@pytest.mark.parametrize("damage", ["truncated", "no facts", "torn facts", "other facts", "touched", "gone"])
def test_a_damaged_base_is_not_used_and_replaced(store: Store, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "b.sif"
    file.write_bytes(b"x" * 100)
    base = store.publish_base(file, {})
    facts = store.layout.base_facts(base.digest)
    base.path.chmod(0o644)
    if damage == "truncated":
        os.truncate(base.path, 5)
    elif damage == "touched":
        os.utime(base.path)
    elif damage == "gone":
        base.path.unlink()
    elif damage == "no facts":
        facts.unlink()
    else:
        facts.write_text('{"sha256":' if damage == "torn facts" else json.dumps({**base.facts, "sha256": key()}))
    assert store.base(base.digest) is None
    again = store.publish_base(file, {})
    assert store.base(base.digest) == again
    assert again.path.read_bytes() == b"x" * 100


def test_an_image_without_its_base_is_not_used(store: Store, fill: Fill, tmp_path: Path) -> None:
    (tmp_path / "b.sif").write_bytes(b"x")
    base = store.publish_base(tmp_path / "b.sif", {})
    image = fill(store, base=base.digest)
    assert store.look(key()).image == image
    assert store.base_of(image) == base
    base.path.unlink()
    assert store.look(key()) == Found(None, f"its base image {base.digest[:12]} is gone")
    with pytest.raises(EnvironmentBuildError, match="is gone"), store.begin(key("two"), base=base.digest):
        pytest.fail("begun")
    store.publish_base(tmp_path / "b.sif", {})
    assert store.look(key()).image == image


def test_only_files_are_published(store: Store) -> None:
    with store.begin(key()) as build:
        (build.folder / "bin").mkdir()
        with pytest.raises(EnvironmentBuildError, match="holds bin, which is no file"):
            build.publish({})
    assert left(store.layout) == []


def test_a_build_of_this_host_whose_process_lives_is_not_swept(store: Store, fill: Fill) -> None:
    with store.begin(key()) as build:
        (build.folder / "env.sqfs").write_bytes(b"x")
        fill(store, "other")
        assert sweep_abandoned(store.layout) == []
        build.publish({})
    assert store.look(key()).image


def test_a_builder_elsewhere_that_was_silent_for_long_is_swept(store: Store) -> None:
    """Where it goes on after all it is told; nothing is published of what was swept."""
    with store.begin(key()) as build:
        (build.folder / "env.sqfs").write_bytes(b"x")
        mark = build.folder.with_name(f"{build.folder.name}.json")
        facts = json.loads(mark.read_text())
        facts["holder"]["host"] = "elsewhere"
        mark.write_text(json.dumps(facts))
        assert sweep_abandoned(store.layout) == []
        old = time.time() - ABANDONED_AFTER_S - 5
        os.utime(mark, (old, old))
        assert [path.name for path, _ in sweep_abandoned(store.layout)] == [build.folder.name]
        with pytest.raises(FileNotFoundError):
            build.publish({})
    assert left(store.layout) == []
    assert [*store.layout.trash.iterdir()] == []


def test_a_full_disk_is_said_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """By a child that may write no file larger than 64 KiB."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        from hpcest.environments.store.store import Store
        from hpcest.errors import EnvironmentBuildError
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        store = Store(Path(sys.argv[1]))
        try:
            with store.begin("a" * 64, name="sk") as build:
                (build.folder / "env.sqfs").write_bytes(bytes(100_000))
        except EnvironmentBuildError as error:
            print(error, "|", error.hint)
        try:
            store.publish_base(Path(sys.argv[2]), {})
        except EnvironmentBuildError as error:
            print(error, "|", error.hint)
    """
    big = tmp_path / "big.sif"
    big.write_bytes(bytes(100_000))
    done = run([sys.executable, "-c", code, store.layout.root, big], env={**os.environ, "PYTHONPATH": str(HOUSE)}, timeout=60)
    assert done.err == ""
    lines = done.out.splitlines()
    hint = "raise the limit for the size of files (ulimit -f)"
    assert lines == [
        f"environment sk {'a' * 12} can't be kept in {store.layout.root}: File too large | {hint}",
        f"the base image {big} can't be kept in {store.layout.root}: File too large | {hint}",
    ]
    assert left(store.layout) == []
    assert [*store.layout.bases.iterdir()] == []


def test_a_store_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentBuildError, match=r"can't be kept in .*Not a directory"), Store(tmp_path / "file" / "envs").begin(key()):
        pytest.fail("begun")


def test_the_turn_to_build_is_given_once(store: Store, fill: Fill) -> None:
    with store.turn(key(), print) as mine:
        assert mine
        fill(store)
    with store.turn(key(), print) as mine:
        assert not mine


def test_uses_are_noted_once_a_day(store: Store, fill: Fill) -> None:
    image = fill(store)
    path = image.folder / "last_used"
    store.note_use(image)
    assert path.exists()
    for age, noted in ((3600.0, False), (90000.0, True)):
        then = time.time() - age
        os.utime(path, (then, then))
        store.note_use(image)
        assert (path.stat().st_mtime > then + 60) == noted
    assert store.look(key()).image == image
