"""Giving a built environment to everybody: an image and its base, copied into a site's store by its owner."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from hpcest.environments.store.bases import StoredBase, inspect_base, publish_base
from hpcest.environments.store.builds import have_on_disk, scratch, settle, sweep_abandoned
from hpcest.environments.store.digests import chunks_of
from hpcest.environments.store.entries import LOG, MANIFEST, Content, StoredImage, inspect
from hpcest.environments.store.layout import Layout, failure, sync_folder
from hpcest.environments.store.specs import Remembered, write_memo
from hpcest.environments.store.trust import distrust
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import write_json


def publish(
    image: StoredImage, site_root: Path, *, base: StoredBase | None = None, remembered: Mapping[str, Remembered] | None = None
) -> StoredImage:
    """Copy an image, the ``base`` that it needs, and answers by spec_key into the store at ``site_root``; returns the copy.

    All can be read by everybody and written by the owner alone, whatever the umask. Every byte is checked on the way.
    Where the site has the image already nothing is copied. Raises EnvironmentBuildError for a damaged image, and for a
    store that others can write, as nobody would use it.
    """
    site = Layout(site_root)
    try:
        _open(site)
        sweep_abandoned(site)
        if image.base:
            _give_base(site, image, base)
        there = inspect(site.image(image.key), image.key, site.root, site=True)[0]
        if there is None:
            with scratch(site, image.key, base=image.base) as (folder, _):
                _copy(image, folder)
                settle(site, image.key, folder, image.name)
        for spec_key, answer in (remembered or {}).items():
            write_memo(site, spec_key, answer)
            os.chmod(site.spec(spec_key), 0o644)
        done, wrong = inspect(site.image(image.key), image.key, site.root, site=True)
    except OSError as error:
        raise failure(image.label, site.root, error) from error
    if done is None:
        raise EnvironmentBuildError(f"{image.label} is gone again from {site.root}: {wrong or 'someone removed it'}", hint="try again")
    return done


def _open(site: Layout) -> None:
    """Make the store's folders, for everybody to read. Raises EnvironmentBuildError where others can write it."""
    wanted = (*reversed(site.images.parents), *site.folders)
    made = [path for path in wanted if not path.exists()]
    site.make()
    for path in made:
        os.chmod(path, 0o755)  # noqa: S103  what it is for
    problem = distrust(site.root, [site.home, site.images, site.bases, site.specs], {os.geteuid()})
    if problem:
        hint = "take that right away (chmod go-w), or nobody will use what lies there"
        raise EnvironmentBuildError(f"the site store {site.root} can't be relied on: {problem}", hint=hint)


def _give_base(site: Layout, image: StoredImage, base: StoredBase | None) -> None:
    digest = image.base
    if inspect_base(site, digest, site=True)[0]:
        return
    if base is None or base.digest != digest:
        raise EnvironmentBuildError(f"{image.label} needs the base image {digest[:12]}, which no store has", hint="build it again")
    facts = {key: value for key, value in base.facts.items() if key not in ("sha256", "size", "mtime_ns")}
    publish_base(site, base.path, facts, digest=digest, mode=0o644)


def _copy(image: StoredImage, folder: Path) -> None:
    """Copy the listed files, the manifest and the log, checking every byte against the manifest."""
    folder.chmod(0o755)
    for name, content in image.files.items():
        digest = hashlib.sha256()
        with open(image.folder / name, "rb", buffering=0) as source, open(folder / name, "wb") as sink:
            for chunk in chunks_of(source.fileno()):
                digest.update(chunk)
                sink.write(chunk)
        _check(image, name, content, digest.hexdigest())
        os.chmod(folder / name, 0o444)
        have_on_disk(folder / name, content.mtime_ns)
    if image.log.is_file():
        (folder / LOG).write_bytes(image.log.read_bytes())
        os.chmod(folder / LOG, 0o644)
    write_json(folder / MANIFEST, image.manifest, sync=True)
    os.chmod(folder / MANIFEST, 0o644)
    sync_folder(folder)


def _check(image: StoredImage, name: str, content: Content, found: str) -> None:
    if found != content.sha256:
        hint = f"run 'hpcest env verify {image.key[:12]}', then build it again"
        raise EnvironmentBuildError(f"{image.label} is damaged: its {name} has another content than was built", hint=hint)
