"""The workspace's store of built environments, and the site's stores behind it, which are only read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hpcest.contracts import Say
from hpcest.environments.store.bases import StoredBase, inspect_base, publish_base
from hpcest.environments.store.builds import Build, scratch, sweep_abandoned
from hpcest.environments.store.entries import LAST_USED, MANIFEST, PIN, USE_NOTED_EVERY_S, StoredImage, inspect, label
from hpcest.environments.store.layout import Layout, checked, failure, is_key
from hpcest.environments.store.trust import distrust
from hpcest.errors import EnvironmentBuildError, HpcestError
from hpcest.kit.lease import lease, server_now, wait_notice


@dataclass(frozen=True)
class Found:
    """What a look gives: the image to use, or None. ``wrong`` says why others, or one of no use, were passed over."""

    image: StoredImage | None = None
    wrong: str = ""


class Store:
    """Images by key and base images by digest: those in ``root``, else those in the ``sites``, in their order.

    A site's entry counts only where nobody but root, the site's owner and the uids in ``trusted`` can write it.
    Nothing is ever written to a site, and nothing has to exist: the first build makes the folders.
    """

    def __init__(self, root: Path, sites: Sequence[Path] = (), trusted: Collection[int] = ()) -> None:
        self.layout = Layout(root)
        self.sites = tuple(Layout(site) for site in sites)
        self.trusted = frozenset(trusted)

    def look(self, key: str) -> Found:
        """The first image of ``key`` that can be used, by a cheap check: sizes and times, not contents. Raises SpecError."""
        checked(key)
        reasons: list[str] = []
        for layout in (self.layout, *self.sites):
            image, wrong = self._read(layout, partial(self._inspect, layout, key))
            if image:
                return Found(image, "; ".join(reasons))
            if wrong:
                reasons.append(wrong)
        return Found(None, "; ".join(reasons))

    def base(self, digest: str) -> StoredBase | None:
        """The base image with this SHA-256; None where no store has one that can be used. Raises SpecError."""
        return self.look_base(digest)[0]

    def look_base(self, digest: str) -> tuple[StoredBase | None, str]:
        """Like ``base``, with what is wrong with those of no use."""
        checked(digest)
        reasons: list[str] = []
        for layout in (self.layout, *self.sites):
            base, wrong = self._read(layout, partial(self._inspect_base, layout, digest))
            if base:
                return base, "; ".join(reasons)
            if wrong:
                reasons.append(wrong)
        return None, "; ".join(reasons)

    def base_of(self, image: StoredImage) -> StoredBase | None:
        """The base image that an image needs; None where it needs none, or where that one is gone."""
        return self.base(image.base) if image.base else None

    def images(self) -> Iterator[StoredImage]:
        """Every image that can be used, the workspace's first; one that several stores have comes once."""
        seen = set()
        for layout in (self.layout, *self.sites):
            for key in keys_in(layout):
                image = None if key in seen else self.look(key).image
                if image:
                    seen.add(key)
                    yield image

    def turn(self, key: str, say: Say) -> AbstractContextManager[bool]:
        """The lease on a key: True in the block for who is to build it, False where another has built it meanwhile.

        It only saves work, a store is right without. Raises OSError where the store can't be written.
        """
        self.layout.leases.mkdir(parents=True, exist_ok=True)
        return lease(self.layout.lease(key), done=lambda: self.look(key).image is not None, waiting=wait_notice(say))

    @contextlib.contextmanager
    def begin(self, key: str, *, name: str = "", base: str = "") -> Iterator[Build]:
        """A build of ``key``, on the base image with the digest ``base``, that nobody sees until it is published.

        What is left when the block ends is removed. Raises EnvironmentBuildError, also for the block's own OSError.
        """
        checked(key)
        try:
            sweep_abandoned(self.layout)
            with scratch(self.layout, key, base=base) as (folder, mode):
                if base and self.base(base) is None:  # asked once the mark is written, which keeps it from the sweeper
                    raise EnvironmentBuildError(f"the base image {base[:12]} of {label(key, name)} is gone", hint="try again")
                yield Build(self.layout, key, folder, mode)
        except OSError as error:
            raise failure(label(key, name), self.layout.root, error) from error

    def publish_base(self, file: Path, facts: Mapping[str, Any], *, digest: str = "", move: bool = False) -> StoredBase:
        """Have a base image in the store, copied or, where ``move``, taken away from where it is; ``facts`` are kept with it.

        Where ``digest`` is known and a store has it, nothing is copied. Raises EnvironmentBuildError, also for
        another content than ``digest`` says.
        """
        known = self.base(digest) if digest else None
        if known:
            return known
        try:
            return publish_base(self.layout, file, facts, move=move, digest=digest)
        except OSError as error:
            raise failure(f"the base image {file}", self.layout.root, error) from error

    def note_use(self, image: StoredImage) -> None:
        """Write down, at most once a day, that an image is used. Whoever can't write there goes without."""
        path = image.folder / LAST_USED
        if image.site:
            return
        with contextlib.suppress(OSError):
            if path.exists() and server_now(self.layout.building) - path.stat().st_mtime < USE_NOTED_EVERY_S:
                return
            with open(path, "ab"):
                os.utime(path)

    def pin(self, image: StoredImage, *, pinned: bool = True) -> None:
        """Keep an image from every sweep, or allow that again. Raises HpcestError for a site's, EnvironmentBuildError."""
        if image.site:
            raise HpcestError(f"{image.label} lies in the site's store {image.root}", hint="its owner decides what stays there")
        try:
            if pinned:
                (image.folder / PIN).touch()
            else:
                (image.folder / PIN).unlink(missing_ok=True)
        except OSError as error:
            raise failure(f"the pin of {image.label}", image.root, error) from error

    def _read(self, layout: Layout, inspect: Callable[[], tuple[Any, str]]) -> tuple[Any, str]:
        """What ``inspect`` finds; for a site's store the reason says which one it is about."""
        try:
            found, wrong = inspect()
        except OSError as error:
            found, wrong = None, f"{error.filename or layout.root} can't be read ({error.strerror})"
        return found, f"site store {layout.root}: {wrong}" if wrong and layout is not self.layout else wrong

    def _inspect(self, layout: Layout, key: str) -> tuple[StoredImage | None, str]:
        site = layout is not self.layout
        folder = layout.image(key)
        image, wrong = inspect(folder, key, layout.root, site=site)
        if image and site:
            wrong = distrust(
                layout.root,
                [layout.home, layout.images, folder, folder / MANIFEST, *(folder / name for name in image.files)],
                self.trusted,
            )
        if image and not wrong and image.base and self.base(image.base) is None:
            wrong = f"its base image {image.base[:12]} is gone"
        return (None, wrong) if wrong else (image, "")

    def _inspect_base(self, layout: Layout, digest: str) -> tuple[StoredBase | None, str]:
        site = layout is not self.layout
        base, wrong = inspect_base(layout, digest, site=site)
        if base and site:
            paths = [layout.home, layout.bases, base.path, layout.base_facts(digest)]
            wrong = distrust(layout.root, paths, self.trusted)
        return (None, f"base image {digest[:12]}: {wrong}") if wrong else (base, "")


def keys_in(layout: Layout) -> list[str]:
    """The keys of the images in one store, usable or not; none where it can't be read."""
    try:
        return sorted(name for name in os.listdir(layout.images) if is_key(name))
    except OSError:
        return []
