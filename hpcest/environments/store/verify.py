"""The full check of a built environment: the SHA-256 of every file, against what was published."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from hpcest.environments.store.bases import StoredBase
from hpcest.environments.store.digests import sha256_of
from hpcest.environments.store.entries import UNLISTED, Content, StoredImage, inspect, label, unlike
from hpcest.environments.store.layout import Layout, failure, set_aside
from hpcest.environments.store.store import Store


@dataclass(frozen=True)
class Verdict:
    """What was found: sentences, none where all is well. ``aside`` is where damaged things of the workspace lie now."""

    label: str
    problems: tuple[str, ...] = ()
    aside: tuple[Path, ...] = ()

    def __bool__(self) -> bool:
        """True where all is well."""
        return not self.problems


def verify(store: Store, key: str) -> Verdict:
    """Read every byte of the workspace's image of ``key`` and of its base, else of the site's that would be used.

    What is damaged in the workspace is moved to ``.bad/``, so that the next prepare builds it again. Nothing of a
    site is touched. An image that no store has is a problem too. Raises EnvironmentBuildError, SpecError.
    """
    folder = store.layout.image(key)
    try:
        if os.path.lexists(folder):
            return _verify_ours(store, key, folder)
        found = store.look(key)
        if found.image is None:
            return Verdict(label(key), (f"{label(key)} can't be used: {found.wrong or 'no store has it'}",))
        problems = problems_of(found.image)
        more, aside = _verify_base(store, found.image)
        return Verdict(found.image.label, (*problems, *more), aside)
    except OSError as error:
        raise failure(label(key), store.layout.root, error) from error


def problems_of(image: StoredImage) -> list[str]:
    """What is wrong with an image's files, in sentences. Reads all of them. Raises OSError."""
    found = []
    for name, content in image.files.items():
        problem = differs(image.folder / name, content)
        if problem:
            found.append(f"{image.label}: its {name} {problem}")
    strange = sorted({path.name for path in image.folder.iterdir()} - {*image.files, *UNLISTED})
    return [*found, *(f"{image.label}: it holds {name}, which its manifest does not know" for name in strange)]


def problems_of_base(base: StoredBase) -> list[str]:
    """What is wrong with a base image, in sentences. Reads all of it. Raises OSError."""
    problem = differs(base.path, base.content)
    return [f"{base.label}: its file {problem}"] if problem else []


def differs(path: Path, content: Content) -> str:
    """How a file differs from what was published: the end of a sentence, empty where it does not. Raises OSError."""
    problem = unlike(path, content)
    if not problem and sha256_of(path) != content.sha256:
        problem = f"has another content than was built (sha256 is not {content.sha256[:12]}…)"
    return problem


def _verify_ours(store: Store, key: str, folder: Path) -> Verdict:
    seen = os.lstat(folder)
    image, wrong = inspect(folder, key, store.layout.root)
    if image is None:
        problems = [f"{label(key)}: {wrong}"] if wrong else []
        return Verdict(label(key), tuple(problems), _aside(store.layout, problems, (folder, seen)))
    problems = problems_of(image)
    aside = _aside(store.layout, problems, (folder, seen))
    more, bases = _verify_base(store, image)
    return Verdict(image.label, (*problems, *more), (*aside, *bases))


def _verify_base(store: Store, image: StoredImage) -> tuple[list[str], tuple[Path, ...]]:
    if not image.base:
        return [], ()
    path = store.layout.base(image.base)
    seen = None
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        seen = os.lstat(path)
    base, wrong = store.look_base(image.base)
    if base is None:
        gone = [f"{image.label}: {wrong or f'its base image {image.base[:12]} is gone'}"]
        return gone, _aside(store.layout, gone if seen else [], (path, seen))
    problems = problems_of_base(base)
    return problems, _aside(store.layout, problems if not base.site else [], (path, seen))


def _aside(layout: Layout, problems: list[str], suspect: tuple[Path, os.stat_result | None]) -> tuple[Path, ...]:
    path, seen = suspect
    moved = set_aside(layout, path, seen) if problems and seen else None
    return (moved,) if moved else ()
