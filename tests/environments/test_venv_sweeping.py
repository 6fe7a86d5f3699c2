"""Virtual environments and conda prefixes are swept and checked: the pointer goes first, and what is needed stays."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.environments.images import Shelf
from hpcest.environments.store.entries import LAST_USED
from hpcest.environments.store.installed import verify_place
from hpcest.environments.store.store import Store
from hpcest.environments.store.sweeping import Report, collect_garbage
from hpcest.environments.venv import Venv
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from tests.environments.conftest import RUN
from tests.environments.store.conftest import fill, store  # noqa: F401  fixtures
from tests.environments.store.helpers import Fill, key, moments

DAY = 86400.0
Build = Callable[..., Shelf]


@pytest.fixture
def build(store: Store) -> Build:  # noqa: F811
    """``build(text, name=…, days=…)`` publishes an environment that was last used so many days ago."""

    def made(text: str = "one", *, name: str = "lab", days: float = 0, size: int = 1000, created: float = 0.0) -> Shelf:
        shelf = Shelf(store.layout.root, key(text), sys.executable)
        folder = shelf.begin()
        (folder / "bin").mkdir()
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "data").write_bytes(b"x" * size)
        shelf.log_of(folder).write_text("built")
        shelf.publish(folder, {"key": key(text), "name": name, "kind": "venv"})
        if created:
            shelf.pointer.write_text(json.dumps({**shelf.manifest(), "created": created}))
        idle(shelf, days)
        return shelf

    return made


def idle(shelf: Shelf, days: float) -> None:
    when = time.time() - days * DAY - 10
    os.utime(shelf.pointer, (when, when))


def folder_of(shelf: Shelf) -> Path:
    (folder,) = (path for path in shelf.folder.iterdir() if path.is_dir())
    return folder


def reasons(report: Report) -> dict[str, str]:
    return {one.label: one.reason for one in report.gone}


def a_day_later(shelf: Shelf, days: float = 1.1) -> None:
    """As if what was taken away had gone so long ago."""
    for left in shelf.left():
        stem = left.pointer.name.split(".")
        left.pointer.rename(left.pointer.with_name(".".join([stem[0], f"{left.when - days * DAY:.0f}", *stem[2:]])))


def test_what_was_not_used_for_long_is_not_found_any_more_and_goes_a_day_later(store: Store, build: Build) -> None:  # noqa: F811
    """Whoever has looked before can use its folder until then."""
    old, new = build("old", days=61), build("new")
    label = f"environment lab {key('old')[:12]} (venv)"
    folder = folder_of(old)
    planned = collect_garbage(store, keep=0, dry_run=True)
    assert reasons(planned) == {label: "not used for 61 days"}
    assert planned.gone[0].path == folder
    assert planned.freed > 1000
    assert old.ready()
    done = collect_garbage(store, keep=0)
    assert done.gone == planned.gone
    assert (old.look(), folder.is_dir()) == ((None, ""), True)
    assert collect_garbage(store, keep=0).gone == ()
    a_day_later(old)
    assert len(collect_garbage(store, keep=0, dry_run=True).gone) == 1
    assert folder.exists()
    assert [one.path for one in collect_garbage(store, keep=0).gone] == [folder]
    assert [*old.folder.iterdir()] == []
    assert new.ready()


def test_pinned_ones_those_in_use_and_the_newest_of_each_name_stay(store: Store, build: Build) -> None:  # noqa: F811
    for text, when in (("a", 1000.0), ("b", 2000.0), ("used", 3000.0)):
        build(text, days=99, created=when)
    pinned = build("pinned", name="other", days=99)
    assert pinned.pin()
    report = collect_garbage(store, keep=1, in_use=[key("b")])
    assert {label.split()[2]: why for label, why in report.kept.items()} == {
        key("b")[:12]: "in use",
        key("used")[:12]: "among the newest 1 of its name",
        key("pinned")[:12]: "pinned",
    }
    assert [one.label.split()[2] for one in report.gone] == [key("a")[:12]]


def test_looking_for_an_environment_to_use_it_keeps_it(store: Store, build: Build) -> None:  # noqa: F811
    shelf = build(days=99)
    assert shelf.inspect()[0]
    assert not (shelf.folder / LAST_USED).exists()  # who only lists does not use
    assert shelf.look()[0]
    assert collect_garbage(store, keep=0).gone == ()
    (shelf.folder / LAST_USED).touch()
    os.utime(shelf.folder / LAST_USED, (1, 1))
    shelf.look()
    assert time.time() - (shelf.folder / LAST_USED).stat().st_mtime < 3600


def test_images_and_others_share_one_bound(store: Store, build: Build, fill: Fill) -> None:  # noqa: F811
    """The least used goes first, whatever it is."""
    build("old", days=30, size=5000)
    image = fill(store, content=b"x" * 5000)
    os.utime(image.folder, (time.time() - 20 * DAY,) * 2)
    build("new", days=10, size=5000)
    report = collect_garbage(store, keep=0, max_size=13_000, dry_run=True)
    assert [one.label for one in report.gone] == [f"environment lab {key('old')[:12]} (venv)"]
    assert len(collect_garbage(store, keep=0, max_size=0).gone) == 3


@pytest.mark.parametrize("what", ["used", "pinned"])
def test_what_is_needed_since_it_was_listed_stays(store: Store, build: Build, what: str) -> None:  # noqa: F811
    shelf = build(days=99)
    with moments() as during:
        during.before("os.rename", shelf.pointer, lambda: shelf.look() if what == "used" else shelf.pin())
        report = collect_garbage(store, keep=0)
    assert (report.gone, [*report.kept.values()]) == ((), ["used or pinned just now"])
    assert shelf.ready()
    assert [*shelf.left()] == []


def test_what_was_built_again_since_it_was_listed_stays(store: Store, build: Build) -> None:  # noqa: F811
    shelf = build(days=99)
    (folder_of(shelf) / "bin" / "python").unlink()
    with moments() as during:
        during.before("os.rename", shelf.pointer, build)
        report = collect_garbage(store, keep=0)
    assert (report.gone, [*report.kept.values()]) == ((), ["it was replaced or removed just now"])
    assert shelf.ready()


def test_two_who_build_a_damaged_one_again_agree(build: Build) -> None:
    """The second does not take the first one's pointer away."""
    shelf = build()
    (folder_of(shelf) / "bin" / "python").unlink()
    with moments() as during:
        during.before("os.rename", shelf.pointer, build)
        build()
    image = shelf.ready()
    assert image
    assert len([*shelf.left()]) == 1  # the damaged one
    assert [left.why for left in shelf.left()] == ["bad"]


def test_a_run_that_began_just_before_the_sweep_has_its_environment_back(store: Store, build: Build) -> None:  # noqa: F811
    """Its lock was written when the sweep had looked for runs."""
    shelf = build(days=99)
    collect_garbage(store, keep=0)
    a_day_later(shelf)
    assert collect_garbage(store, keep=0, in_use=[key()]).gone == ()
    assert shelf.ready()


def test_one_that_was_named_again_by_a_sweep_that_was_killed_stays(store: Store, build: Build) -> None:  # noqa: F811
    """Between the two steps of putting a pointer back; the next sweep ends that."""
    shelf = build(days=99)
    collect_garbage(store, keep=0)
    a_day_later(shelf)
    (left,) = shelf.left()
    os.link(left.pointer, shelf.pointer)
    assert collect_garbage(store).gone == ()
    assert shelf.ready()
    assert [*shelf.left()] == []


def test_a_builder_leaves_the_folder_of_one_that_was_just_swept(store: Store, build: Build) -> None:  # noqa: F811
    """It is no half-built one, though its log is old and nothing names it any more."""
    shelf = build(days=99)
    folder = folder_of(shelf)
    os.utime(shelf.log_of(folder), (1, 1))
    collect_garbage(store, keep=0)
    shelf.begin()
    assert folder.is_dir()


def test_one_that_is_built_meanwhile_is_left_alone(store: Store, build: Build) -> None:  # noqa: F811
    """A builder's folder stays, and so does what it builds after the old one has gone."""
    shelf = build(days=99)
    collect_garbage(store, keep=0)
    a_day_later(shelf)
    (old,) = (left.folder for left in shelf.left())
    assert old
    folder = shelf.begin()
    assert [one.path for one in collect_garbage(store, keep=0, older_than=0).gone] == [old]
    assert folder.is_dir()
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    assert shelf.publish(folder, {"key": key()})
    assert shelf.ready()


def test_what_dead_builders_left_goes(store: Store, build: Build) -> None:  # noqa: F811
    shelf = build()
    folder = shelf.begin()
    mark = folder / "hpcest-build.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "pid": 2**22 + 1}))  # no system gives that number
    assert reasons(collect_garbage(store)) == {f"half-built venv {key()[:12]}": "its builder has gone"}
    assert not folder.exists()
    assert shelf.ready()


class TestVerify:
    """What the installers recorded is compared, and the Python started."""

    @pytest.fixture
    def image(self, workspace: WorkspaceFolder, offline: tuple[str, ...]) -> Shelf:
        lock = Venv().prepare(EnvironmentSpec(kind="venv", name="lab", pip=(*offline, "alpha")), workspace, lambda line: None)
        return Shelf(workspace.environments, lock.key, lock.facts["base"])

    @pytest.mark.usefixtures("installer")
    def test_what_was_just_built_is_fine_and_stays_as_it_is(self, image: Shelf) -> None:
        def state() -> list[tuple[str, int, int]]:
            return sorted((str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in image.folder.rglob("*"))

        before = state()
        verdict = verify_place(image)
        assert verdict.problems == ()
        assert verdict.label.startswith("environment lab ")
        assert state() == before

    @pytest.mark.usefixtures("installer")
    @pytest.mark.parametrize(
        ("path", "text", "said"),
        [
            ("beta/__init__.py", "X = 2\n", "its {} has another content than was installed"),
            ("beta/__init__.py", None, "its {} is gone"),
            ("../../../bin/say-alpha", "#!/bin/sh\n", "its bin/say-alpha has another content than was installed"),
            ("beta-2.0.dist-info/RECORD", None, "its {} is gone"),
            ("beta-2.0.dist-info/RECORD", "beta/__init__.py\n", "its {} can't be read"),
            ("beta-2.0.dist-info", None, "its package beta==2.0 is gone"),
        ],
    )
    def test_what_is_not_as_it_was_is_said_and_built_again(self, image: Shelf, path: str, text: str | None, said: str) -> None:
        folder = folder_of(image)
        (site,) = folder.glob("lib/python3*/site-packages")
        if text is None:
            (site / path).rename(folder / "elsewhere")
        else:
            (site / path).write_text(text)
        verdict = verify_place(image)
        assert verdict.problems == (f"{verdict.label}: {said.format((site / path).relative_to(folder))}",)
        assert [one.name.startswith("bad.") for one in verdict.aside] == [True]
        assert image.look() == (None, "")
        assert folder.is_dir()

    def test_a_python_that_does_not_start_is_said(self, image: Shelf) -> None:
        python = folder_of(image) / "bin" / "python"
        python.unlink()
        python.write_text("#!/bin/sh\necho broken here >&2\nexit 3\n")
        python.chmod(0o755)
        assert verify_place(image).problems[0].endswith(": its Python does not start: broken here")

    def test_one_of_another_machine_is_left_as_it_is(self, image: Shelf) -> None:
        """Hosts that share a workspace may have their Pythons in different places."""
        python = folder_of(image) / "bin" / "python"
        python.unlink()
        python.symlink_to("/nowhere/python")
        image.pointer.write_text(json.dumps({**image.manifest(), "base": "/nowhere/python"}))
        verdict = verify_place(image)
        assert verdict.problems[0].endswith(": its Python /nowhere/python is not on this machine; it is left as it is")
        assert verdict.aside == ()
        assert image.seen()

    def test_thousands_of_files_are_not_told_one_by_one(self, image: Shelf) -> None:
        (site,) = folder_of(image).glob("lib/python3*/site-packages")
        rows = "".join(f"f{number},sha256=abc,1\n" for number in range(3000))
        (site / "beta-2.0.dist-info" / "RECORD").write_text(rows)
        problems = verify_place(image).problems
        assert len(problems) == 21
        assert problems[-1].endswith(": 2980 more of its files are gone or changed")

    def test_one_that_was_built_again_meanwhile_is_not_set_aside(self, image: Shelf, workspace: WorkspaceFolder, build: Build) -> None:
        (folder_of(image) / "bin" / "python").unlink()
        lock = image.manifest()

        def again() -> None:
            folder = image.begin()
            (folder / "bin").mkdir()
            (folder / "bin" / "python").symlink_to(sys.executable)
            image.publish(folder, {name: lock[name] for name in ("key", "name", "base")})

        with moments() as during:
            during.before("os.rename", image.pointer, again)
            verdict = verify_place(image)
        assert (len(verdict.problems), verdict.aside) == (1, ())
        assert image.ready()


@pytest.mark.usefixtures("installer")
def test_a_damaged_one_is_built_again_and_used(workspace: WorkspaceFolder, offline: tuple[str, ...]) -> None:
    spec = EnvironmentSpec(kind="venv", pip=(*offline, "beta"))
    lock = Venv().prepare(spec, workspace, lambda line: None)
    shelf = Shelf(workspace.environments, lock.key, lock.facts["base"])
    (code,) = folder_of(shelf).glob("lib/python3*/site-packages/beta/__init__.py")
    assert code.stat().st_nlink == 1  # else the cache of downloads would be damaged too
    code.write_text("X = 3\n")
    assert verify_place(shelf).problems
    assert Venv().prepare(spec, workspace, lambda line: None) == lock
    assert verify_place(shelf).problems == ()
    assert Path(Venv().activate(lock, workspace, RUN).python).exists()
    assert [left.folder.is_dir() for left in shelf.left() if left.folder] == [True]
    store = Store(workspace.environments)  # noqa: F811
    assert collect_garbage(store).gone == ()
    a_day_later(shelf, 61.1)
    assert reasons(collect_garbage(store)) == {f"damaged: venv {shelf.folder.name[:12]}": "there for 61 days"}
    assert verify_place(shelf).problems == ()


def test_what_is_damaged_in_the_cache_of_uv_is_not_built_in_again(
    workspace: WorkspaceFolder, offline: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an environment was once linked into it, and edited."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    spec = EnvironmentSpec(kind="venv", pip=(*offline, "beta"))
    lock = Venv().prepare(spec, workspace, lambda line: None)
    shelf = Shelf(workspace.environments, lock.key, lock.facts["base"])
    copies = [*(tmp_path / "cache").rglob("beta/__init__.py")]
    assert copies
    for path in (*folder_of(shelf).glob("lib/python3*/site-packages/beta/__init__.py"), *copies):
        path.write_text("X = 3\n")
    assert verify_place(shelf).problems
    Venv().prepare(spec, workspace, lambda line: None)
    assert verify_place(shelf).problems == ()
