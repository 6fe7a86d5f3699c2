"""Environments apart from runs: build, lock, list, verify, export, share, sweep. What ``hpcest env`` and the SDK call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.contracts import Environment, Lock, Say
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.kit.files import read_json
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.lockfiles import LockFile, check_fit, lock_file, read_lock_file
from hpcest.lifecycle.prepare import asked_for, choose_environment, prepared
from hpcest.lifecycle.shelves import Row, listed, one_of, place_of, store_of
from hpcest.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from hpcest.environments.store.entries import StoredImage
    from hpcest.environments.store.sweeping import Report

__all__ = ["Row", "build", "built_from", "export", "gc", "listed", "lock", "one_of", "pin", "publish", "verify"]

#: What has packages of its own, which a lock can list.
LOCKABLE = ("apptainer", "venv", "conda")


def chosen(context: Context, spec: EnvironmentSpec, say: Say) -> tuple[Environment, EnvironmentSpec]:
    """The plugin that builds ``spec``, and the spec with what the configuration adds. Raises SpecError, UnknownNameError."""
    settings = context.config.environment
    if spec.kind in ("host", "modules", "existing"):
        raise SpecError(f"environment kind {spec.kind!r} has nothing to build", hint="it is used as it is: submit with --env")
    if not asked_for(spec) and spec.kind == "auto":
        raise SpecError("an environment that asks for nothing has nothing to build", hint="name a file, or give --pip, --conda or --image")
    kind = settings.kind if spec.kind == "auto" else spec.kind
    spec = replace(spec, kind=kind, interpreter=spec.interpreter or settings.interpreter)
    plugin, why = choose_environment(context, spec)
    say(why)
    return plugin, replace(spec, kind=plugin.name)


def build(context: Context, spec: EnvironmentSpec, say: Say, *, on: str = "") -> Lock:
    """Have ``spec`` resolved and built in the workspace, once; says its phases. Raises SpecError, EnvironmentBuildError.

    ``on`` is the compute target that builds, ``here`` this machine; what the configuration says is taken without it.
    """
    plugin, spec = chosen(context, spec, say)
    return prepared(context, plugin, spec, say, on=on)


def lock(context: Context, spec: EnvironmentSpec, say: Say, *, update: bool = False) -> LockFile:
    """What ``spec`` came to, as a lock file has it; resolved now where it never was, or with ``update``. Raises SpecError."""
    asked = spec
    plugin, spec = chosen(context, spec, say)
    if plugin.name not in LOCKABLE:
        raise SpecError(f"an environment of the kind {plugin.name!r} can't be locked", hint=f"kinds with a lock: {', '.join(LOCKABLE)}")
    if update:
        plugin.forget(spec, context.workspace)
    resolve = plugin.resolve if plugin.resolves else plugin.prepare
    return lock_file(resolve(spec, context.workspace, say), asked)


def built_from(context: Context, spec: EnvironmentSpec, path: Path, say: Say) -> EnvironmentSpec:
    """Build exactly what the lock file ``path`` says; returns ``spec`` as it is to be submitted, which resolves to just that.

    Nothing is chosen anew. Raises SpecError where the lock was made of something else than ``spec``, where its text was
    changed, and where this machine's Python or base image is another one.
    """
    file = read_lock_file(path)
    if file.kind not in LOCKABLE:
        raise SpecError(f"{path} is for the kind {file.kind!r}, which has no lock", hint=f"kinds with a lock: {', '.join(LOCKABLE)}")
    check_fit(file, spec, path)
    spec = replace(spec, kind=file.kind)
    if file.kind != "apptainer":
        spec = _pinned(spec, file, path)
    plugin, spec = chosen(context, spec, say)
    if file.base:
        from hpcest.environments.apptainer.lockedbase import on_base

        spec = on_base(spec, file.base, file.origin, store=store_of(context), settings=context.config.environment, say=say)
    workspace = context.workspace
    found = plugin.resolve(spec, workspace, say, locked=file.text) if plugin.resolves else plugin.prepare(spec, workspace, say)
    if found.key != file.key:
        raise SpecError(
            f"the lock file {path} gives another environment here: {found.key[:12]} instead of {file.key[:12]}",
            hint=f"it was changed by hand, or made for another Python{f' than {file.python}' if file.python else ''}: "
            f"write it anew with 'hpcest env lock SPEC -o {path} --update'",
        )
    if plugin.resolves:
        prepared(context, plugin, spec, say, locked=file.text)
        _remember(context, found, file)
    return spec


def _pinned(spec: EnvironmentSpec, file: LockFile, path: Path) -> EnvironmentSpec:
    """``spec`` with the locked packages as its requirements: there is nothing left to choose."""
    from hpcest.environments.conda.specfile import this_platform
    from hpcest.environments.locked import read_text as read_pip
    from hpcest.environments.wish import read_text

    try:
        packages = read_text(file.text, file.python, this_platform()) if file.kind == "conda" else None
        pip = packages.pip if packages else read_pip(file.text)
    except ValueError as error:
        raise SpecError(f"the lock file {path} can't be read: {error}", hint="take it from git again, or write it anew") from None
    conda = [f"{one.name}={one.version}={one.build}" for one in packages.conda] if packages else ()
    options = [line for line in spec.pip if line.startswith("-")]
    return replace(spec, pip=(*options, *map(str, pip)), conda=tuple(conda))


def _remember(context: Context, found: Lock, file: LockFile) -> None:
    """From now on the request has the answer of the lock file, with the date that it has there."""
    from hpcest.environments.conda.specfile import this_platform
    from hpcest.environments.store.specs import Remembered, write_memo

    spec_key = found.facts.get("spec_key")
    if spec_key:
        facts = {"python": found.facts["version"], "platform": this_platform(), "name": file.name}
        write_memo(store_of(context).layout, str(spec_key), Remembered(found.key, file.resolved, found.text, facts))


def verify(context: Context, keys: Sequence[str] = ()) -> list[tuple[Row, tuple[str, ...]]]:
    """The environments ``keys``, by default all in the workspace, compared with what was built: each with what is wrong with it.

    Of images every byte is read; of virtual environments and conda prefixes the files that installers recorded. What is
    damaged is set aside, and built again when it is needed. Raises UnknownNameError, UsageError, EnvironmentBuildError.
    """
    from hpcest.environments.store.installed import verify_place
    from hpcest.environments.store.verify import verify as read_all

    rows = [one_of(context, key) for key in keys] if keys else [row for row in listed(context) if not row.site]
    found = []
    for row in rows:
        place = place_of(row)
        found.append((row, (verify_place(place) if place else read_all(store_of(context), row.key)).problems))
    return found


def export(context: Context, row: Row, target: Path, say: Say) -> Path:
    """Write an environment as one SIF that plain Apptainer runs; returns its path. Raises SpecError, EnvironmentBuildError."""
    from hpcest.environments.apptainer.export import export as write

    return write(_image(context, row, "exported"), target, store_of(context), context.config.environment, say)


def export_spec(context: Context, spec: EnvironmentSpec, target: Path, say: Say) -> Path:
    """Build ``spec`` and write it as one SIF; returns its path. Raises SpecError, EnvironmentBuildError."""
    from hpcest.environments.apptainer.export import export_base

    if spec.kind == "auto":
        spec = replace(spec, kind="apptainer")  # what else could become an image
    found = build(context, spec, say)
    if found.facts.get("layout") == "image":
        base = store_of(context).base(str(found.facts["base"]))
        assert base is not None  # it was just looked up
        return export_base(base, target)
    return export(context, one_of(context, found.key), target, say)


def publish(context: Context, key: str, site_root: Path) -> StoredImage:
    """Copy an environment with its base into a site's store, with the answer to its request. Raises EnvironmentBuildError, SpecError."""
    from hpcest.environments.store.sharing import publish as copy
    from hpcest.environments.store.specs import Specs

    image, store = _image(context, one_of(context, key), "published"), store_of(context)
    spec_key = str(image.manifest.get("spec_key") or "")
    answer = Specs(store).read(spec_key) if spec_key else None
    known = {spec_key: answer} if answer and answer.lock_key == image.key else {}
    return copy(image, site_root, base=store.base_of(image), remembered=known)


def pin(context: Context, key: str, *, pinned: bool = True) -> Row:
    """Keep an environment from every sweep, or allow that again. Raises HpcestError, for a site's too."""
    from hpcest.environments.store.layout import failure

    row = one_of(context, key)
    place = place_of(row)
    try:
        if place is None:
            store_of(context).pin(_image(context, row, "pinned"), pinned=pinned)
        elif not place.pin(pinned=pinned):
            raise EnvironmentBuildError(f"environment {row.key[:12]} was removed just now", hint="build it again: hpcest env build SPEC")
    except OSError as error:
        raise failure(f"the pin of environment {row.key[:12]}", context.workspace.environments, error) from error
    return row


def _image(context: Context, row: Row, what: str) -> StoredImage:
    if row.kind != "apptainer":
        raise SpecError(
            f"environment {row.key[:12]} is of the kind {row.kind!r}, and can't be {what}",
            hint="only images can: build it with --env apptainer",
        )
    found = store_of(context).look(row.key)
    if found.image is None:
        raise EnvironmentBuildError(
            f"environment {row.key[:12]} can't be {what}: {found.wrong}", hint="build it again: hpcest env build SPEC"
        )
    image: StoredImage = found.image
    return image


def labels(context: Context, row: Row) -> dict[str, str]:
    """The labels of the image that an environment is built on; none for a kind without images."""
    from hpcest.environments.apptainer.program import find
    from hpcest.environments.apptainer.recipes import labels as read

    program = find() if row.kind == "apptainer" else None
    image = store_of(context).look(row.key).image if program else None
    base = store_of(context).base_of(image) if image else None
    return read(base.path, program.path) if program and base else {}


def gc(context: Context, *, older_than: float = 60 * 86400.0, keep: int = 3, max_size: int | None = None, dry_run: bool = False) -> Report:
    """Sweep the workspace's environments: see ``collect_garbage``. Those of runs that have not ended stay. Raises EnvironmentBuildError."""
    from hpcest.environments.store.sweeping import collect_garbage

    in_use = set(keys_in_use(context))
    return collect_garbage(store_of(context), older_than=older_than, keep=keep, max_size=max_size, in_use=in_use, dry_run=dry_run)


def keys_in_use(context: Context) -> Iterable[str]:
    """The keys of the environments of runs that have not ended, and the digests of images that they use as they are."""
    from hpcest.history import query
    from hpcest.lifecycle.collect import refresh

    refresh(context)
    for row in query.unfinished(context.workspace):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            lock = read_json(context.workspace.run(row.id).lock)
            yield str(lock["key"])
            yield str(lock["facts"]["base"])
