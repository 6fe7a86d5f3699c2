"""The image that an environment is built on: fetched, converted or built once, and kept in the store by its content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcest.environments.apptainer.probe import contents, memory_of
from hpcest.environments.apptainer.references import PULLED, Reference
from hpcest.environments.apptainer.registry import Name, UnreachableError, look_up, name_of
from hpcest.environments.apptainer.works import Works
from hpcest.environments.contents import digest_of
from hpcest.environments.keys import key_of
from hpcest.environments.store.bases import StoredBase, digests_of
from hpcest.environments.store.digests import Digests
from hpcest.errors import EnvironmentBuildError
from hpcest.kit.files import read_json, write_json
from hpcest.kit.lease import lease, wait_notice

#: Packs four times as fast as Apptainer's default, and hardly larger.
_FAST = ("--mksquashfs-args", "-comp zstd -Xcompression-level 3")


@dataclass(frozen=True)
class Base:
    """One base image: its file, the SHA-256 of it, what was asked for, and when that was looked up (epoch seconds).

    ``identity`` tells it on every machine: the digest in its registry, or of the archive that it was converted from, while two
    conversions differ; of others it is ``digest``. ``origin`` is the reference that gives the same one again, empty where none does.
    ``made`` says that steps have made it, which may give something else another day.
    """

    path: str
    digest: str
    reference: str
    resolved: float = 0.0
    identity: str = ""
    origin: str = ""
    made: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What a lock and a store keep of it."""
        known = {"base": self.digest, "reference": self.reference, "identity": self.identity, "origin": self.origin}
        return {**known, **({"made": True} if self.made else {})}


class Bases:
    """Finds base images for one preparation."""

    def __init__(self, works: Works) -> None:
        self._works, self._store = works, works.store

    def get(self, reference: Reference) -> Base:
        """The base image that is named; the same one as the last time, until ``forget``. Raises EnvironmentBuildError."""
        if reference.kind == "file":
            return self._of_file(reference)
        if reference.kind == "stored":
            return self._stored(reference.uri.partition(":")[2])
        name = name_of(reference.uri) if reference.kind == "remote" else None
        if name:
            return self._once(_key(reference), reference.shown, lambda: self._of_registry(name, reference))
        return self._once(_key(reference), reference.shown, lambda: self._converted(reference))

    def derive(self, base: Base, steps: Sequence[str]) -> Base:
        """The image that ``steps``, shell lines run by root, make of ``base``. Raises EnvironmentBuildError."""
        lines = "\n".join(f"    {line}" for line in steps)
        recipe = f"Bootstrap: localimage\nFrom: {base.path}\n\n%post\n    set -ex\n{lines}\n"
        facts = {"reference": f"{base.reference} with {len(steps)} system step{'' if len(steps) == 1 else 's'}", "origin": base.origin}

        def find() -> Base:
            return self._build(facts["reference"], {**facts, "made": True}, lambda target: self._from_recipe(recipe, target))

        return self._once(_derived_key(base, steps), facts["reference"], find)

    def forget(self, reference: Reference, steps: Sequence[str] = ()) -> None:
        """Have a reference looked up anew the next time, and what ``steps`` make of it."""
        known = self._of_file(reference) if reference.kind == "file" else self._remembered(_key(reference))
        if known and steps:
            self._memo(_derived_key(known, steps)).unlink(missing_ok=True)
        self._memo(_key(reference)).unlink(missing_ok=True)

    def known(self, identity: str) -> bool:
        """Whether a store has the base image that ``identity`` tells."""
        return self._with_identity(identity) is not None

    def adopt(self, base_digest: str, identity: str) -> None:
        """Have a base image of this workspace stand for one of another, that the same steps have made."""
        stored = self._store.base(base_digest)
        if stored:
            self._remember(_alias_key(identity), replace(_base(stored), identity=identity))

    # ------------------------------------------------------------------ where they come from
    def _of_file(self, reference: Reference) -> Base:
        assert reference.path is not None
        digest = Digests().of(reference.path)
        if self._store.base(digest) is None:  # what is damaged has no place in the store: it is started before it is copied
            contents(self._works.program.path, reference.uri, memory_of(digest, self._works.variables), reference.shown)
        kept = self._store.publish_base(reference.path, {"reference": reference.shown}, digest=digest)
        return Base(str(kept.path), digest, reference.shown, kept.facts["created"], digest)

    def _stored(self, identity: str) -> Base:
        base = self._with_identity(identity)
        if base is None:
            hint = "submit with its lock file again, or name an image"
            raise EnvironmentBuildError(f"the base image {identity[:12]} is in no store any more", hint=hint)
        return base

    def _of_registry(self, name: Name, reference: Reference) -> Base:
        """What the name means now. Where the registry can't be asked, Apptainer is: the image is told by its file then."""
        shown = reference.shown
        known = self._with_identity(name.digest) if name.digest else None
        if known:
            return replace(known, reference=shown)
        try:
            exact = replace(name, digest=look_up(name, self._works.variables))
        except UnreachableError as error:
            self._works.say(f"{shown} has no digest here ({error}): a lock on it will fit this workspace alone")
            return self._converted(reference)
        known = self._with_identity(exact.digest)
        if known:
            return replace(known, reference=shown, origin=exact.pinned)
        facts = {"reference": shown, "identity": exact.digest, "origin": exact.pinned}
        return self._build(shown, facts, lambda target: self._fetch(target, exact.uri, exact.variables()))

    def _converted(self, reference: Reference) -> Base:
        """An archive, a recipe, or what Apptainer alone knows how to fetch."""
        shown, facts = reference.shown, {"reference": reference.shown}
        if reference.kind == "archive":
            facts["identity"] = key_of({"archive": _content(_path(reference)), "uri": reference.uri.replace(str(reference.path), "")})
        elif reference.kind == "remote":
            facts["origin"] = shown
        made = reference.kind in ("definition", "dockerfile")
        return self._build(shown, {**facts, "made": made}, lambda target: self._make(reference, target))

    def _with_identity(self, identity: str) -> Base | None:
        """The base image of a store that is this one, whatever it was converted from."""
        known = self._remembered(_alias_key(identity))
        if known:
            return known
        for layout in (self._store.layout, *self._store.sites):
            for digest in digests_of(layout, identity):
                stored = self._store.base(digest)
                if stored:
                    return _base(stored)
        return None

    # ------------------------------------------------------------------ what was found before
    def _memo(self, key: str) -> Path:
        return self._store.layout.spec(key)

    def _remember(self, key: str, base: Base) -> None:
        write_json(self._memo(key), {**base.facts, "resolved": time.time()})

    def _remembered(self, key: str) -> Base | None:
        try:
            memo = read_json(self._memo(key))
            stored = self._store.base(str(memo["base"])) if memo else None
            return _base(stored, memo) if stored else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _once(self, key: str, shown: str, find: Callable[[], Base]) -> Base:
        """What ``find`` returns, called by one process at a time, and once for as long as its answer is remembered."""
        known = self._remembered(key)
        if known:
            return known
        self._store.layout.make()
        with lease(
            self._store.layout.lease(key), done=lambda: self._remembered(key) is not None, waiting=wait_notice(self._works.say)
        ) as mine:
            if mine:
                self._remember(key, find())
        return self._remembered(key) or self._once(key, shown, find)  # None where it was swept away in this very moment

    def _build(self, shown: str, facts: Mapping[str, Any], make: Callable[[Path], None]) -> Base:
        with self._works.log.phase(f"base {shown}") as done:
            target = self._works.scratch / "base.sif"
            make(target)
            done.append(f"{target.stat().st_size / 1e6:.0f} MB")
            return _base(self._store.publish_base(target, facts, move=True))

    def _make(self, reference: Reference, target: Path) -> None:
        if reference.kind in ("definition", "dockerfile"):
            from hpcest.environments.apptainer.recipes import definition_of

            self._from_recipe(definition_of(reference, self._works.log), target, cwd=reference.path.parent if reference.path else None)
            return
        from hpcest.environments.room import check_room

        size = reference.path.stat().st_size if reference.path and reference.path.is_file() else 0
        check_room(self._works.scratch, 3 * size, f"converting {reference.shown}")
        self._fetch(target, reference.uri)

    def _from_recipe(self, text: str, target: Path, cwd: Path | None = None) -> None:
        recipe = self._works.scratch / "base.def"
        recipe.write_text(text, encoding="utf-8")
        self._works.log.note(text)
        self._fetch(target, str(recipe), cwd=cwd)

    def _fetch(self, target: Path, source: str, login: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        from hpcest.environments.apptainer.room import tool_variables
        from hpcest.environments.apptainer.troubles import explained

        fast = _FAST if self._works.program.version.startswith("apptainer") else ()
        # What lies in a registry as a SIF is taken as it is: made anew it would be another file, with the same content.
        verb = ("pull",) if source.partition(":")[0] in PULLED else ("build", *fast)
        argv = [self._works.program.path, verb[0], "--force", "--disable-cache", *verb[1:], target, source]
        env = {**tool_variables(self._works.scratch, self._works.variables), **(login or {})}
        with explained():
            self._works.log.run("base", argv, cwd=cwd or self._works.scratch, env=env)


def _base(stored: StoredBase, memo: Mapping[str, Any] | None = None) -> Base:
    """A base image as its store, or what was remembered of a request, has it."""
    facts = {**stored.facts, **(memo or {})}
    return Base(
        str(stored.path),
        stored.digest,
        str(facts["reference"]),
        float(facts.get("resolved") or facts["created"]),
        str(facts.get("identity") or stored.digest),
        str(facts.get("origin") or ""),
        bool(facts.get("made")),
    )


def _key(reference: Reference) -> str:
    """The same for the same request; a local file is its content."""
    content = _content(reference.path) if reference.path else ""
    more: list[list[str]] = []
    if reference.path and reference.kind in ("definition", "dockerfile"):
        from hpcest.environments.apptainer.recipes import files_of

        more = [[os.path.relpath(path, reference.path.parent), _content(path)] for path in files_of(reference.path)]
    return key_of({"base": reference.shown, "content": content, "files": more})


def _derived_key(base: Base, steps: Sequence[str]) -> str:
    return key_of({"base": base.identity, "system": list(steps)})


def _alias_key(identity: str) -> str:
    return key_of({"base identity": identity})


def _path(reference: Reference) -> Path:
    assert reference.path is not None
    return reference.path


def _content(path: Path) -> str:
    """Remembered for a file, which may be large."""
    return Digests().of(path) if path.is_file() else digest_of(path)
