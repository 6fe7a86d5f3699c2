"""What another process does in the worst moment of a check or a sweep: nothing good is lost, nothing bad is used."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.entries import PIN, StoredImage
from hpcest.environments.store.store import Store
from hpcest.environments.store.sweeping import collect_garbage
from hpcest.environments.store.verify import verify
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.process import run
from tests.environments.store.helpers import HOUSE, Fill, key, moments
from tests.environments.store.test_sweeping import base_of, idle
from tests.environments.store.test_verify import tamper


def rebuilt(store: Store, fill: Fill, content: bytes = b"again") -> StoredImage:
    return fill(Store(store.layout.root), content=content)


def in_store(store: Store) -> str:
    """Which build is found."""
    image = store.look(key()).image
    return str(image.manifest["build"]) if image else ""


@pytest.fixture
def damaged(store: Store, fill: Fill) -> Path:
    """The folder of an image whose file has gone."""
    image = fill(store)
    image.file("env.sqfs").unlink()
    return image.folder


def test_what_was_built_again_before_it_is_set_aside_is_not_touched(store: Store, fill: Fill, damaged: Path) -> None:
    """Not even for a moment: whoever starts it just then would find nothing."""
    with moments() as during:
        during.before("os.mkdir", store.layout.bad, lambda: rebuilt(store, fill))
        verdict = verify(store, key())
    assert (len(verdict.problems), verdict.aside) == (1, ())
    assert during.steps("os.rename", damaged) == 1  # the builder's, of the damaged one
    assert in_store(store)


def test_what_was_built_again_while_it_is_set_aside_is_put_back(store: Store, fill: Fill, damaged: Path) -> None:
    with moments() as during:
        during.before("os.rename", damaged, lambda: rebuilt(store, fill))
        verdict = verify(store, key())
    assert verdict.aside == ()
    assert in_store(store)
    assert len([*store.layout.bad.iterdir()]) == 1
    assert verify(store, key())


def test_what_cannot_be_put_back_goes_to_the_trash(store: Store, fill: Fill, damaged: Path) -> None:
    """A third process has built it meanwhile: that one stays."""
    built = []
    with moments() as during:

        def second() -> None:
            rebuilt(store, fill)
            during.before("os.rename", damaged, lambda: built.append(rebuilt(store, fill, b"third")), argument=1)

        during.before("os.rename", damaged, second)
        assert verify(store, key()).aside == ()
    assert in_store(store) == built[0].manifest["build"]
    assert [len([*folder.iterdir()]) for folder in (store.layout.bad, store.layout.trash)] == [1, 1]


def test_a_builder_takes_the_image_that_came_before_its_own(store: Store, fill: Fill, damaged: Path) -> None:
    """Both found a damaged one in the way."""
    with moments() as during:
        first: list[StoredImage] = []
        during.before("os.rename", damaged, lambda: first.append(rebuilt(store, fill)))
        image = rebuilt(store, fill, b"mine")
    assert image.manifest["build"] == first[0].manifest["build"] == in_store(store)


def test_a_base_that_was_replaced_while_it_is_set_aside_is_put_back(store: Store, fill: Fill, tmp_path: Path) -> None:
    base = base_of(store, tmp_path, b"base" * 9)
    image = fill(store, base=base.digest)
    tamper(base.path)

    def again() -> None:
        os.replace(base.path, tmp_path / "away")
        base_of(Store(store.layout.root), tmp_path, b"base" * 9)

    with moments() as during:
        during.before("os.rename", base.path, again)
        assert verify(store, key()).aside == ()
    assert store.look(key()).image == image
    assert verify(store, key())


PINS = """
import sys
from pathlib import Path
from hpcest.environments.store.store import Store
store = Store(Path(sys.argv[1]))
store.pin(store.look(sys.argv[2]).image)
"""


def pin_elsewhere(store: Store) -> None:
    """As another process does it."""
    done = run([sys.executable, "-c", PINS, store.layout.root, key()], env={**os.environ, "PYTHONPATH": str(HOUSE)})
    assert done.ok, done.err


@pytest.mark.parametrize("what", ["pinned", "used", "replaced"])
def test_what_is_needed_since_it_was_listed_stays(store: Store, fill: Fill, what: str) -> None:
    image = idle(fill(store), 99)
    if what == "replaced":
        image.file("env.sqfs").unlink()
        idle(image, 99)
    action = {"pinned": lambda: pin_elsewhere(store), "used": lambda: store.note_use(image), "replaced": lambda: rebuilt(store, fill)}[what]
    with moments() as during:
        during.before("os.rename", image.folder, action)
        report = collect_garbage(store, keep=0)
    assert (report.gone, report.kept) == ((), {report_label(image, what): "used, pinned or replaced just now"})
    assert in_store(store)
    assert (image.folder / PIN).exists() == (what == "pinned")
    assert [*store.layout.trash.iterdir()] == []


def report_label(image: StoredImage, what: str) -> str:
    return f"environment {image.key[:12]}" if what == "replaced" else image.label


def test_what_was_built_while_another_was_to_be_put_back_stays(store: Store, fill: Fill) -> None:
    image, built = idle(fill(store), 99), []
    with moments() as during:

        def use() -> None:
            store.note_use(image)
            during.before("os.rename", image.folder, lambda: built.append(rebuilt(store, fill)), argument=1)

        during.before("os.rename", image.folder, use)
        collect_garbage(store, keep=0)
    assert in_store(store) == built[0].manifest["build"]


@pytest.fixture
def base(store: Store, tmp_path: Path) -> StoredBase:
    return base_of(store, tmp_path)


def test_a_base_stays_where_a_build_on_it_begins(store: Store, base: StoredBase) -> None:
    with ExitStack() as builds, moments() as during:
        begun = []
        during.before("os.rename", base.path, lambda: begun.append(builds.enter_context(store.begin(key(), base=base.digest))))
        assert collect_garbage(store, keep=0, older_than=0).gone == ()
        assert store.base(base.digest) == base
        (begun[0].folder / "env.sqfs").write_bytes(b"layer")
        begun[0].publish({"base": base.digest})
    assert in_store(store)


def test_a_build_does_not_begin_on_a_base_that_is_going(store: Store, base: StoredBase) -> None:
    """It comes when the base has been moved away, before the sweeper looks for builds once more."""
    refused: list[str] = []

    def begin() -> None:
        with pytest.raises(EnvironmentBuildError) as error, store.begin(key(), base=base.digest):
            pass
        refused.append(str(error.value))

    with moments() as during:
        during.before("os.rename", base.path, lambda: during.before("os.scandir", store.layout.building, begin))
        collect_garbage(store, keep=0, older_than=0)
    assert refused == [f"the base image {base.digest[:12]} of environment {key()[:12]} is gone"]
    assert store.base(base.digest) is None


def test_a_base_that_an_image_came_to_need_stays(store: Store, fill: Fill, base: StoredBase) -> None:
    """Built from begin to end between the sweeper's list and its move."""
    with moments() as during:
        during.before("os.rename", base.path, lambda: fill(Store(store.layout.root), base=base.digest))
        assert collect_garbage(store, keep=0, older_than=0).gone == ()
    assert in_store(store)
