"""Removing the built environments of a workspace that nobody needs any more: first out of sight, for good a day later."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpcest.environments.store.builds import bases_in_work, sweep_abandoned
from hpcest.environments.store.entries import inspect, marks
from hpcest.environments.store.layout import Layout, discard, failure, is_key, remove, same, size_of
from hpcest.environments.store.shelved import Entry, Swept, entries, sweep_left, take_away
from hpcest.environments.store.store import Store, keys_in
from hpcest.kit.lease import server_now, span

#: Seconds that things lie in ``.trash/`` before they are removed for good.
TRASH_KEPT_S = 86400.0
#: A use is written down once a day at most, so what was used in the last two days may be in use now.
GRACE_S = 2 * 86400.0
_DATED = re.compile(r".+\.(\d+)\.[0-9a-f]{12}")


@dataclass(frozen=True)
class Report:
    """What went, or would go where ``dry_run``. ``kept`` is the environments that stay as label → why.

    What went to the trash gives its room back a day later, with the first sweep after that.
    """

    gone: tuple[Swept, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    size: int = 0
    dry_run: bool = False

    @property
    def freed(self) -> int:
        """The bytes of what goes."""
        return sum(one.size for one in self.gone)


@dataclass
class _Rules:
    """What a sweep was asked for, and the time by the file server's clock. A ``max_size`` of None is no bound."""

    older_than: float
    keep: int
    max_size: int | None
    in_use: Collection[str]
    now: float


def collect_garbage(
    store: Store,
    *,
    older_than: float = 60 * 86400.0,
    keep: int = 3,
    max_size: int | None = None,
    in_use: Collection[str] = (),
    dry_run: bool = False,
) -> Report:
    """Move to the trash the environments of the workspace that were not used for ``older_than`` seconds, least used first.

    Those whose keys are ``in_use``, pinned ones, and the newest ``keep`` of each kind and name stay. Where all together are
    larger than ``max_size`` bytes still, more go, but none used within two days (or ``older_than``, if that is less).
    What dead builders left goes, and base images that nothing refers to. Site stores are never touched.
    Raises EnvironmentBuildError where the workspace can't be written.
    """
    layout = store.layout
    if not layout.root.is_dir():
        return Report(dry_run=dry_run)
    try:
        now = server_now(layout.home if layout.home.is_dir() else layout.root)
        rules = _Rules(older_than, keep, max_size, frozenset(in_use), now)
        found = sorted([*_images(layout), *entries(layout.root)], key=lambda one: one.used)
        kept, gone = _judge(found, rules)
        swept = [*gone, *_litter(layout, rules)]
        if not dry_run:
            by_path = {one.path: one for one in found}
            swept = [one for one in swept if _discarded(layout, one, by_path.get(one.path), kept)]
        abandoned = [
            Swept(f"half-built {path.name}", path, size, "its builder has gone") for path, size in sweep_abandoned(layout, dry_run=dry_run)
        ]
        bases = _sweep_bases(layout, {one.path for one in swept}, rules, dry_run=dry_run)
        emptied = _empty_trash(layout, now, dry_run=dry_run)
        ages = (TRASH_KEPT_S, max(older_than, GRACE_S))
        left = sweep_left(layout.root, rules.in_use, now, ages, dry_run=dry_run)
    except OSError as error:
        raise failure("what a sweep changes", layout.root, error) from error
    return Report((*swept, *abandoned, *bases, *emptied, *left), kept, sum(one.size for one in found), dry_run)


def _images(layout: Layout) -> Iterable[Entry]:
    for key in keys_in(layout):
        folder = layout.image(key)
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            seen, noted = os.lstat(folder), marks(folder)
            image, wrong = inspect(folder, key, layout.root)
            name, created = (image.name, image.created) if image else ("", 0.0)
            yield Entry(key, name, folder, size_of(folder), created, max(seen.st_mtime, noted[1] / 1e9), wrong, noted, seen)


def _judge(entries: list[Entry], rules: _Rules) -> tuple[dict[str, str], list[Swept]]:
    """Which environments stay, and which go. ``entries`` come least used first."""
    newest = _newest(entries, rules.keep)
    kept, gone, candidates = {}, [], []
    for one in entries:
        idle = rules.now - one.used
        if one.key in rules.in_use:
            kept[one.label] = "in use"
        elif one.marks[0]:
            kept[one.label] = "pinned"
        elif one.path in newest:
            kept[one.label] = f"among the newest {rules.keep} of its name"
        elif idle >= rules.older_than:
            damaged = f", and {one.wrong}" if one.wrong else ""
            gone.append(Swept(one.label, one.path, one.size, f"not used for {span(idle)}{damaged}"))
        elif idle >= GRACE_S:
            candidates.append(one)
        else:
            kept[one.label] = f"used {span(idle)} ago"
    rest = sum(one.size for one in entries) - sum(one.size for one in gone)
    for one in candidates:
        if rules.max_size is not None and rest > rules.max_size:
            gone.append(Swept(one.label, one.path, one.size, f"the store is larger than {rules.max_size} bytes"))
            rest -= one.size
        else:
            kept[one.label] = f"used {span(rules.now - one.used)} ago"
    return kept, gone


def _discarded(layout: Layout, one: Swept, entry: Entry | None, kept: dict[str, str]) -> bool:
    """Move a thing out of sight; False where it stays, which is noted for an environment."""
    try:
        if entry is None:
            return discard(layout, one.path) is not None
        stays = take_away(entry, entry.place) if entry.place else _discard_image(layout, entry)
    except OSError as error:  # another user's
        stays = f"it can't be moved ({error.strerror})"
        if entry is None:
            return False
    if stays:
        kept[one.label] = stays
    return not stays


def _discard_image(layout: Layout, one: Entry) -> str:
    """Move an image to the trash; returns why it stays, empty where it goes. Raises OSError."""
    moved = discard(layout, one.path)
    if moved is None:
        return "it was removed just now"
    # Who uses or pins it writes into its folder; we move the folder, then look what was written. Whichever is later sees the other.
    if same(os.lstat(moved), one.seen) and marks(moved) == one.marks:
        return ""
    with contextlib.suppress(OSError):  # it was built again meanwhile
        os.rename(moved, one.path)
    return "used, pinned or replaced just now"


def _newest(entries: list[Entry], keep: int) -> set[Path]:
    """The paths of the newest usable environments of each kind and name."""
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for one in entries:
        if not one.wrong:
            by_name.setdefault((one.kind, one.name), []).append(one)
    return {one.path for named in by_name.values() for one in sorted(named, key=lambda one: -one.created)[: max(keep, 0)]}


def _litter(layout: Layout, rules: _Rules) -> Iterable[Swept]:
    """Damaged things, logs and leases that nobody has looked after for long."""
    for folder, age, what in (
        (layout.bad, max(rules.older_than, GRACE_S), "damaged"),
        (layout.logs, max(rules.older_than, GRACE_S), "the log of a failed build"),
        (layout.leases, GRACE_S, "a lease"),
        (layout.specs, GRACE_S, "a torn file"),
    ):
        for path in _list(folder):
            if folder == layout.specs and path.suffix != ".tmp":
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = os.lstat(path)
                idle = rules.now - max(facts.st_mtime, facts.st_ctime)  # ctime: when it was moved there
                if idle >= age:
                    yield Swept(f"{what}: {path.name}", path, size_of(path), f"{span(idle)} old")


def _sweep_bases(layout: Layout, images_gone: Collection[Path], rules: _Rules, *, dry_run: bool) -> list[Swept]:
    """Base images that no image needs, that nobody builds on, and that are not new."""
    grace = min(rules.older_than, GRACE_S)
    gone = []
    needed = _bases_needed(layout, images_gone) | set(rules.in_use)  # a run may use one as it is
    for path in _list(layout.bases):
        digest = path.name.partition(".")[0]
        if path.suffix != ".sif" or not is_key(digest) or digest in needed:
            continue
        with contextlib.suppress(FileNotFoundError):
            facts = os.lstat(path)
            new = rules.now - max(facts.st_mtime, facts.st_ctime) < grace
            if not new and (dry_run or _discard_base(layout, path, digest)):
                gone.append(Swept(f"base image {digest[:12]}", path, facts.st_size, "no environment needs it"))
    return gone


def _discard_base(layout: Layout, path: Path, digest: str) -> bool:
    """Move a base image to the trash; False where it stays."""
    with contextlib.suppress(OSError):  # another user's
        moved = discard(layout, path)
        # A builder writes its mark, then looks whether the base is there; we move it, then look for marks.
        # Whichever is later sees the other.
        if moved and digest in _bases_needed(layout, ()):
            os.link(moved, path)
            moved.unlink()
        elif moved:
            remove(layout.base_facts(digest))
            return True
    return False


def _bases_needed(layout: Layout, images_gone: Collection[Path]) -> set[str]:
    needed = bases_in_work(layout)
    for key in keys_in(layout):
        folder = layout.image(key)
        if folder not in images_gone:
            with contextlib.suppress(OSError):
                image, _ = inspect(folder, key, layout.root)
                needed.add(image.base if image else "")
    return needed


def _empty_trash(layout: Layout, now: float, *, dry_run: bool) -> list[Swept]:
    gone = []
    for path in _list(layout.trash):
        dated = _DATED.fullmatch(path.name)
        age = now - float(dated[1]) if dated else TRASH_KEPT_S
        if age >= TRASH_KEPT_S:
            gone.append(Swept(f"in the trash: {path.name.partition('.')[0][:12]}", path, size_of(path), f"there for {span(age)}"))
            if not dry_run:
                remove(path)
    return gone


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
