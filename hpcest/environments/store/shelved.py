"""Virtual environments and conda prefixes as a sweep sees them: the pointer is taken away first, the folder a day later."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcest.environments.images import BAD, Left, Place, places
from hpcest.environments.store.entries import label, marks
from hpcest.environments.store.layout import remove, size_of
from hpcest.kit.lease import span


@dataclass(frozen=True)
class Swept:
    """One thing that goes: what sentences call it, where it lies, its bytes, and why it goes."""

    label: str
    path: Path
    size: int
    reason: str


@dataclass(frozen=True)
class Entry:
    """One built environment as a sweep sees it; ``used`` is when it was last used, or built.

    ``seen`` is what its folder, or its pointer, looked like, and ``marks`` what was written down then of its use.
    """

    key: str
    name: str
    path: Path
    size: int
    created: float
    used: float
    wrong: str
    marks: tuple[bool, int]
    seen: os.stat_result
    kind: str = "apptainer"
    place: Place | None = None

    @property
    def label(self) -> str:
        """What sentences call it."""
        called = label(self.key, self.name)
        return called if self.kind == "apptainer" else f"{called} ({self.kind})"


def entries(environments: Path) -> Iterator[Entry]:
    """Those of a workspace that are named, usable or not."""
    for place in places(environments):
        seen, noted = place.seen(), marks(place.folder)
        if seen is None:
            continue
        manifest, (_, wrong) = place.manifest(), place.inspect()
        key, created = str(manifest.get("key") or place.folder.name.partition("-")[0]), manifest.get("created")
        yield Entry(
            key=key,
            name=str(manifest.get("name") or ""),
            path=place.named(manifest) or place.folder,
            size=size_of(place.named(manifest) or place.folder),
            created=float(created) if isinstance(created, (int, float)) else 0.0,
            used=max(seen.st_mtime, noted[1] / 1e9),
            wrong=wrong,
            marks=noted,
            seen=seen,
            kind=place.folder.parent.name,
            place=place,
        )


def take_away(one: Entry, place: Place) -> str:
    """Take its pointer away; returns why it stays, empty where it goes. Raises OSError.

    Who wants to use it writes that down when it has read the pointer; we take the pointer, then look what was written down.
    Whoever comes between finds its folder for a day.
    """
    aside = place.take_away(one.seen)
    if aside is None:
        return "it was replaced or removed just now"
    if marks(place.folder) == one.marks:
        return ""
    place.put_back(aside)
    return "used or pinned just now"


def sweep_left(environments: Path, in_use: Collection[str], now: float, ages: tuple[float, float], *, dry_run: bool) -> list[Swept]:
    """Remove for good what was taken away, and half-built folders whose builder has gone; returns that.

    ``ages`` are the seconds for which what nobody needs, and what is damaged, stays there. What a run that began meanwhile
    uses stays too, and is named again.
    """
    gone = []
    for place in places(environments):
        needed = any(key.startswith(place.folder.name.partition("-")[0]) for key in in_use)
        what = f"{place.folder.parent.name} {place.folder.name[:12]}"
        for folder in place.abandoned() if not needed else ():
            gone += _removed(Swept(f"half-built {what}", folder, size_of(folder), "its builder has gone"), dry_run=dry_run)
        for left in place.left():
            age = now - left.when
            if age < ages[left.why == BAD]:
                continue
            if left.key in in_use:
                _name_again(place, left, dry_run=dry_run)
                continue
            gone += _emptied(place, left, f"{'damaged' if left.why == BAD else 'in the trash'}: {what}", age, dry_run=dry_run)
        for log in () if needed else _old_logs(place, now - ages[1]):
            gone += _removed(Swept(f"the log of a failed build: {log.name}", log, size_of(log), "it is old"), dry_run=dry_run)
    return gone


def _name_again(place: Place, left: Left, *, dry_run: bool) -> None:
    if not dry_run and left.why != BAD:
        with contextlib.suppress(OSError):  # another user's
            place.put_back(left.pointer)


def _emptied(place: Place, left: Left, called: str, age: float, *, dry_run: bool) -> list[Swept]:
    folder = left.folder if left.folder != place.named(place.manifest()) else None  # named again: only the old pointer goes
    gone = [Swept(called, folder, size_of(folder), f"there for {span(age)}")] if folder else []
    if dry_run:
        return gone
    if folder and not _removed(gone[0], dry_run=False):
        return []
    if folder:
        remove(place.log_of(folder))
    remove(left.pointer)  # last: whoever is killed before that leaves a pointer for the next sweep
    return gone


def _removed(one: Swept, *, dry_run: bool) -> list[Swept]:
    """It alone in a list; nothing where it can't be removed, being another user's."""
    if not dry_run:
        remove(one.path)
    return [one] if dry_run or not os.path.lexists(one.path) else []


def _old_logs(place: Place, before: float) -> Iterator[Path]:
    """Logs of builds of which nothing is there any more."""
    for log in sorted(place.folder.glob("build-*.log")):
        with contextlib.suppress(OSError):
            if not place.folder.joinpath(log.stem.removeprefix("build-")).exists() and os.lstat(log).st_mtime < before:
                yield log
