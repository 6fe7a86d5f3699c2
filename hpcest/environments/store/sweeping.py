"""Removing what nobody needs any more from a workspace's store: first out of sight, for good a day later."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpcest.environments.store.builds import bases_in_work, sweep_abandoned
from hpcest.environments.store.entries import LAST_USED, PIN, StoredImage, inspect, label
from hpcest.environments.store.layout import Layout, discard, failure, is_key, remove, size_of
from hpcest.environments.store.store import Store, keys_in
from hpcest.kit.lease import server_now, span

#: Seconds that things lie in ``.trash/`` before they are removed for good.
TRASH_KEPT_S = 86400.0
#: A use is written down once a day at most, so what was used in the last two days may be in use now.
GRACE_S = 2 * 86400.0
_DATED = re.compile(r".+\.(\d+)\.[0-9a-f]{12}")


@dataclass(frozen=True)
class Swept:
    """One thing that goes: what sentences call it, where it lies, its bytes, and why it goes."""

    label: str
    path: Path
    size: int
    reason: str


@dataclass(frozen=True)
class Report:
    """What went, or would go where ``dry_run``. ``kept`` is the images that stay as label → why.

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


@dataclass(frozen=True)
class _Entry:
    """One image's folder as a sweep sees it; ``used`` is when it was last used, or built."""

    key: str
    folder: Path
    image: StoredImage | None
    wrong: str
    size: int
    used: float

    @property
    def label(self) -> str:
        return self.image.label if self.image else label(self.key)


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
    """Move to the trash the images of the workspace that were not used for ``older_than`` seconds, least used first.

    Those whose keys are ``in_use``, pinned ones, and the newest ``keep`` of each environment name stay. Where the store
    is larger than ``max_size`` bytes still, more go, but none used within two days (or ``older_than``, if that is less).
    What dead builders left goes, and base images that nothing refers to. Site stores are never touched.
    Raises EnvironmentBuildError where the store can't be written.
    """
    layout = store.layout
    if not layout.home.is_dir():
        return Report(dry_run=dry_run)
    try:
        now = server_now(layout.home)
        rules = _Rules(older_than, keep, max_size, frozenset(in_use), now)
        entries = sorted(_entries(layout), key=lambda one: one.used)
        kept, gone = _judge(entries, rules)
        swept = [*gone, *_litter(layout, rules)]
        if not dry_run:
            swept = [one for one in swept if _discarded(layout, one, kept)]
        abandoned = [
            Swept(f"half-built {path.name}", path, size, "its builder has gone") for path, size in sweep_abandoned(layout, dry_run=dry_run)
        ]
        bases = _sweep_bases(layout, {one.path for one in swept}, rules, dry_run=dry_run)
        emptied = _empty_trash(layout, now, dry_run=dry_run)
    except OSError as error:
        raise failure("what a sweep changes", layout.root, error) from error
    return Report((*swept, *abandoned, *bases, *emptied), kept, sum(one.size for one in entries), dry_run)


def _entries(layout: Layout) -> Iterable[_Entry]:
    for key in keys_in(layout):
        folder = layout.image(key)
        with contextlib.suppress(FileNotFoundError):  # it has just gone
            image, wrong = inspect(folder, key, layout.root)
            yield _Entry(key, folder, image, wrong, size_of(folder), max(_dates(folder)))


def _dates(folder: Path) -> Iterable[float]:
    yield os.lstat(folder).st_mtime
    with contextlib.suppress(OSError):
        yield os.stat(folder / LAST_USED).st_mtime


def _judge(entries: list[_Entry], rules: _Rules) -> tuple[dict[str, str], list[Swept]]:
    """Which images stay, and which go. ``entries`` come least used first."""
    newest = _newest(entries, rules.keep)
    kept, gone, candidates = {}, [], []
    for one in entries:
        idle = rules.now - one.used
        if one.key in rules.in_use:
            kept[one.label] = "in use"
        elif os.path.lexists(one.folder / PIN):
            kept[one.label] = "pinned"
        elif one.key in newest:
            kept[one.label] = f"among the newest {rules.keep} of its name"
        elif idle >= rules.older_than:
            damaged = f", and {one.wrong}" if one.wrong else ""
            gone.append(Swept(one.label, one.folder, one.size, f"not used for {span(idle)}{damaged}"))
        elif idle >= GRACE_S:
            candidates.append(one)
        else:
            kept[one.label] = f"used {span(idle)} ago"
    rest = sum(one.size for one in entries) - sum(one.size for one in gone)
    for one in candidates:
        if rules.max_size is not None and rest > rules.max_size:
            gone.append(Swept(one.label, one.folder, one.size, f"the store is larger than {rules.max_size} bytes"))
            rest -= one.size
        else:
            kept[one.label] = f"used {span(rules.now - one.used)} ago"
    return kept, gone


def _discarded(layout: Layout, one: Swept, kept: dict[str, str]) -> bool:
    """Move a thing to the trash; False where it is another user's and stays, which is noted for an image."""
    try:
        return discard(layout, one.path) is not None
    except OSError as error:
        if one.path.parent == layout.images:
            kept[one.label] = f"it can't be moved ({error.strerror})"
        return False


def _newest(entries: list[_Entry], keep: int) -> set[str]:
    """The keys of the newest usable images of each name."""
    by_name: dict[str, list[StoredImage]] = {}
    for one in entries:
        if one.image:
            by_name.setdefault(one.image.name, []).append(one.image)
    return {image.key for same in by_name.values() for image in sorted(same, key=lambda one: -one.created)[: max(keep, 0)]}


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
