"""A sweep removes what nobody needs, and nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.builds import scratch
from hpcest.environments.store.entries import StoredImage
from hpcest.environments.store.store import Store
from hpcest.environments.store.sweeping import Report, collect_garbage
from tests.environments.store.helpers import AsNobody, Fill, close, key

DAY = 86400.0


def idle(image: StoredImage, days: float) -> StoredImage:
    """The image as if it had last been used so many days ago."""
    when = time.time() - days * DAY - 10
    os.utime(image.folder, (when, when))
    return image


def base_of(store: Store, tmp_path: Path, content: bytes = b"base") -> StoredBase:
    (tmp_path / "b.sif").write_bytes(content)
    return store.publish_base(tmp_path / "b.sif", {})


def names(report: Report) -> list[str]:
    return [one.path.name for one in report.gone]


def test_a_store_that_is_not_there_is_clean(store: Store) -> None:
    assert collect_garbage(store) == Report()
    assert not store.layout.root.exists()


def test_what_was_not_used_for_long_goes_to_the_trash_and_a_day_later_for_good(store: Store, fill: Fill) -> None:
    old, new = idle(fill(store, "old"), 61), fill(store, "new")
    planned = collect_garbage(store, keep=0, dry_run=True)
    assert names(planned) == [key("old")]
    assert planned.gone[0].reason == "not used for 61 days"
    assert planned.gone[0].label == old.label
    assert planned.freed > 300
    assert planned.size > planned.freed
    assert old.folder.exists()
    done = collect_garbage(store, keep=0)
    assert done.gone == planned.gone
    assert [*done.kept] == [new.label]
    assert done.kept[new.label].startswith("used ")
    assert store.look(key("old")).image is None
    assert [*store.images()] == [new]
    trash = [*store.layout.trash.iterdir()]
    assert len(trash) == 1
    assert collect_garbage(store, keep=0).gone == ()
    dated = trash[0].name.split(".")
    trash[0].rename(trash[0].with_name(".".join([dated[0], str(int(dated[1]) - 86401), dated[2]])))
    assert len(collect_garbage(store, keep=0).gone) == 1
    assert [*store.layout.trash.iterdir()] == []


def test_what_is_in_use_pinned_or_newest_of_its_name_stays(store: Store, fill: Fill) -> None:
    used, pinned = idle(fill(store, "used"), 99), fill(store, "pinned")
    store.pin(pinned)
    idle(pinned, 99)
    older, newer = (idle(fill(store, text, name="torch", created=when), 99) for text, when in (("older", 1000.0), ("newer", 2000.0)))
    for text in ("sk 1", "sk 2"):
        idle(fill(store, text, created=1e12), 99)
    report = collect_garbage(store, keep=1, in_use=[key("used")])
    assert report.kept[used.label] == "in use"
    assert report.kept[pinned.label] == "pinned"
    assert report.kept[newer.label] == "among the newest 1 of its name"
    assert older.label not in report.kept
    assert len(report.kept) == 4
    assert len(report.gone) == 2
    store.pin(pinned, pinned=False)
    idle(pinned, 99)
    assert names(collect_garbage(store, keep=1, in_use=[key("used")])) == [key("pinned")]


def test_what_was_used_lately_stays(store: Store, fill: Fill) -> None:
    image = fill(store)
    store.note_use(image)
    idle(image, 99)
    assert collect_garbage(store, keep=0).gone == ()


def test_a_store_that_is_too_large_loses_the_least_used_but_none_of_these_days(store: Store, fill: Fill) -> None:
    images = [idle(fill(store, str(days), content=b"x" * 10_000), days) for days in (30, 20, 10, 1)]
    report = collect_garbage(store, keep=0, max_size=35_000, dry_run=True)
    assert names(report) == [key("30")]
    assert report.gone[0].reason == "the store is larger than 35000 bytes"
    assert names(collect_garbage(store, keep=0, max_size=0)) == [key("30"), key("20"), key("10")]
    assert [one.key for one in store.images()] == [images[3].key]
    assert names(collect_garbage(store, keep=0, older_than=0)) == [key("1")]  # asked for in so many words


def test_a_base_goes_when_nothing_needs_it(store: Store, fill: Fill, tmp_path: Path) -> None:
    needed, lone = base_of(store, tmp_path), base_of(store, tmp_path, b"lone")
    image = fill(store, base=needed.digest)
    assert collect_garbage(store, keep=0).gone == ()  # new ones stay for two days: somebody may be about to build
    assert names(collect_garbage(store, older_than=0, in_use=[image.key])) == [f"{lone.digest}.sif"]
    assert store.base(lone.digest) is None
    assert store.base(needed.digest)
    planned = collect_garbage(store, older_than=0, keep=0, dry_run=True)
    assert names(planned) == [key(), f"{needed.digest}.sif"]
    assert names(collect_garbage(store, older_than=0, keep=0)) == names(planned)
    assert [*store.layout.bases.iterdir()] == []


def test_a_base_that_somebody_builds_on_stays(store: Store, tmp_path: Path) -> None:
    base = base_of(store, tmp_path)
    with store.begin(key(), base=base.digest):
        assert collect_garbage(store, older_than=0, keep=0).gone == ()
        assert store.base(base.digest) == base


def test_a_damaged_image_does_not_count_as_the_newest(store: Store, fill: Fill) -> None:
    image = fill(store)
    (image.folder / "manifest.json").write_text("{")
    idle(image, 99)
    assert collect_garbage(store).gone[0].reason == "not used for 99 days, and its manifest can't be read"


def test_what_dead_builders_left_goes(store: Store, fill: Fill) -> None:
    fill(store)
    with scratch(store.layout, key("dead")) as (folder, _):
        (folder / "env.sqfs").write_bytes(b"x" * 1000)
        mark = folder.with_name(f"{folder.name}.json")
        assert collect_garbage(store).gone == ()
        facts = json.loads(mark.read_text())
        facts["holder"]["pid"] = 2**22 + 1  # no system gives that number
        mark.write_text(json.dumps(facts))
        planned = collect_garbage(store, dry_run=True)
        assert folder.exists()
        report = collect_garbage(store)
        assert [one.size for one in report.gone] == [one.size for one in planned.gone] == [1000]
        assert report.gone[0].reason == "its builder has gone"
        assert [*store.layout.building.iterdir()] == []


def test_a_site_is_never_touched(tmp_path: Path, fill: Fill) -> None:
    site = tmp_path / "site"
    image = idle(fill(Store(site)), 99)
    close(site)
    idle(image, 99)
    before = sorted(site.rglob("*"))
    store = Store(tmp_path / "here", [site])
    fill(store, "mine")
    report = collect_garbage(store, older_than=0, keep=0, max_size=0)
    assert names(report) == [key("mine")]
    assert sorted(site.rglob("*")) == before
    assert store.look(key()).image


def test_what_cannot_be_moved_stays_with_its_base(tmp_path: Path, fill: Fill, as_nobody: AsNobody) -> None:
    """As where another user built it: seen by a child that may write the store, but not the image's folder."""
    store = Store(tmp_path / "envs")
    base = base_of(store, tmp_path)
    image = idle(fill(store, base=base.digest), 99)
    for path in (store.layout.root, *store.layout.root.rglob("*")):
        path.chmod(0o777)
    image.folder.chmod(0o555)
    code = """
report = sweeping.collect_garbage(Store(Path("envs")), keep=0, older_than=0)
print(report.gone, [*report.kept.values()])
"""
    said = as_nobody(code)
    image.folder.chmod(0o755)
    assert said == '() ["it can\'t be moved (Permission denied)"]\n'
    assert store.base(base.digest)
    assert store.look(key()).image


@pytest.mark.parametrize("folder", ["bad", "logs", "leases"])
def test_new_litter_stays(store: Store, fill: Fill, folder: str) -> None:
    """Damaged things, logs of failed builds and leases are looked at by people, or held."""
    fill(store)
    (getattr(store.layout, folder) / "thing").touch()
    assert collect_garbage(store, older_than=0, in_use=[key()]).gone == ()
