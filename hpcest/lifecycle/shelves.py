"""The environments that were built: virtual environments of the workspace, images of its store and of the site's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import UnknownNameError, UsageError
from hpcest.lifecycle.context import Context

if TYPE_CHECKING:
    from hpcest.environments.images import Place
    from hpcest.environments.store.entries import StoredImage
    from hpcest.environments.store.layout import Layout
    from hpcest.environments.store.store import Store


@dataclass(frozen=True)
class Row:
    """One environment. ``state`` is ``ready`` or ``damaged``, ``wrong`` why; ``site`` is the site's store that it lies in, or empty.

    ``created``, ``resolved`` and ``used`` are in seconds since the epoch, ``seconds`` is how long the build took, ``size`` is
    in bytes, None where that would have to be counted (``counted`` does). ``base`` is the Python, or the image, that it was made of.
    """

    kind: str
    key: str
    name: str = ""
    python: str | None = None
    packages: tuple[str, ...] = ()
    created: float | None = None
    by: str | None = None
    state: str = "ready"
    folder: str = ""
    size: int | None = None
    resolved: float | None = None
    site: str = ""
    pinned: bool = False
    used: float | None = None
    layout: str | None = None
    base: str | None = None
    tool: str | None = None
    seconds: float | None = None
    log: str | None = None
    wrong: str = ""


def store_of(context: Context) -> Store:
    """The workspace's store of images, with the site's behind it. Raises ConfigError."""
    from hpcest.environments.apptainer.kind import store_of as made

    return made(context.workspace, context.config.environment)


def listed(context: Context) -> list[Row]:
    """Every environment that was built, the newest first."""
    rows = [*_venvs(context.workspace.environments), *_images(store_of(context))]
    return sorted(rows, key=lambda row: (-(row.created or 0.0), row.folder))


def one_of(context: Context, key: str) -> Row:
    """The environment ``key``: a whole key, or its folder's name; a name, of which the newest is meant; the beginning of a key.

    Raises UnknownNameError, and UsageError where several keys begin so.
    """
    rows = listed(context)
    called = [row for row in rows if key and row.name == key]
    found = [row for row in rows if key and key in (row.key, _place(row))] or called[:1]
    found = found or [row for row in rows if key and row.key.startswith(key)]
    if not found:
        known = [*dict.fromkeys(row.name for row in rows if row.name), *(row.key[:12] for row in rows)]
        raise UnknownNameError("environment", key, known, hint="" if rows else "none was built yet")
    if len(found) > 1:
        places = "\n  ".join(f"{_place(row)}  {row.name}" for row in found)
        raise UsageError(f"environment {key!r} is ambiguous: {len(found)} keys start with it", hint=f"name one of\n  {places}")
    return found[0]


def _place(row: Row) -> str:
    place = place_of(row)
    return place.folder.name if place else Path(row.folder).name


def place_of(row: Row) -> Place | None:
    """Where the virtual environment or conda prefix lies with its pointer; None for an image."""
    from hpcest.environments.images import Place

    folder = Path(row.folder)
    return None if row.kind == "apptainer" else Place(folder if (folder / "image.json").exists() else folder.parent)


def counted(row: Row) -> int:
    """The bytes of an environment, counted where nobody wrote them down."""
    if row.size is not None:
        return row.size
    sizes = 0
    for parent, _, names in os.walk(row.folder):
        for name in names:
            with contextlib.suppress(OSError):
                sizes += os.lstat(os.path.join(parent, name)).st_size
    return sizes


def _venvs(environments: Path) -> Iterator[Row]:
    from hpcest.environments.images import places

    yield from (_venv(place) for place in places(environments) if place.seen())


def _venv(place: Place) -> Row:
    """What its manifest says; one that can't be read is damaged."""
    from hpcest.environments.store.entries import marks

    image, (_, wrong), (pinned, used) = place.manifest(), place.inspect(), marks(place.folder)
    log = image.get("log")
    return Row(
        kind=str(image.get("kind") or place.folder.parent.name),
        key=str(image.get("key") or place.folder.name.partition("-")[0]),
        name=str(image.get("name") or ""),
        packages=tuple(str(line) for line in image.get("packages") or ()),
        state="damaged" if wrong else "ready",
        folder=str(place.named(image) or place.folder),
        pinned=pinned,
        used=used / 1e9 or None,
        log=str(place.folder / log) if isinstance(log, str) and "/" not in log else None,
        wrong=wrong,
        **_known(image),
        base=_text(image.get("base")),
    )


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    """What both kinds of manifest have, where it is what it should be."""
    numbers = {name: facts.get(name) for name in ("created", "resolved", "seconds")}
    known: dict[str, Any] = {name: float(value) if isinstance(value, (int, float)) else None for name, value in numbers.items()}
    return {**known, **{name: _text(facts.get(name)) for name in ("python", "by", "tool")}}


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _images(store: Store) -> Iterator[Row]:
    from hpcest.environments.store.entries import inspect
    from hpcest.environments.store.store import keys_in

    seen = set()
    for key in keys_in(store.layout):
        seen.add(key)
        with contextlib.suppress(OSError):
            image, wrong = inspect(store.layout.image(key), key, store.layout.root)
            if image and image.base:
                wrong = "" if store.base(image.base) else f"its base image {image.base[:12]} is gone"
            yield _image(image, wrong) if image else _damaged(store.layout, key, wrong)
    yield from (_image(image, "") for image in store.images() if image.key not in seen)


def _damaged(layout: Layout, key: str, wrong: str) -> Row:
    return Row("apptainer", key, state="damaged", folder=str(layout.image(key)), wrong=wrong)


def _image(image: StoredImage, wrong: str) -> Row:
    from hpcest.environments.store.entries import LAST_USED, PIN

    facts = image.manifest
    used = None
    with contextlib.suppress(OSError):
        used = os.stat(image.folder / LAST_USED).st_mtime
    return Row(
        kind="apptainer",
        key=image.key,
        name=image.name,
        packages=tuple(str(line) for line in facts.get("packages") or ()),
        state="damaged" if wrong else "ready",
        folder=str(image.folder),
        size=image.size,
        site=str(image.root) if image.site else "",
        pinned=(image.folder / PIN).exists(),
        used=used,
        layout=_text(facts.get("layout")),
        base=_text(facts.get("base_reference")),
        log=str(image.log) if image.log.is_file() else None,
        wrong=wrong,
        **_known(facts),
    )
