"""The image that an environment is built on: fetched, converted or built once, and kept in the store by its content."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcest.environments.apptainer.probe import contents, memory_of
from hpcest.environments.apptainer.references import Reference
from hpcest.environments.apptainer.works import Works
from hpcest.environments.contents import digest_of
from hpcest.environments.keys import key_of
from hpcest.environments.store.digests import Digests
from hpcest.kit.files import read_json, write_json
from hpcest.kit.lease import lease, wait_notice

#: Packs four times as fast as Apptainer's default, and hardly larger.
_FAST = ("--mksquashfs-args", "-comp zstd -Xcompression-level 3")


@dataclass(frozen=True)
class Base:
    """One base image: its file, the SHA-256 of it, what was asked for, and when that was looked up (epoch seconds)."""

    path: str
    digest: str
    reference: str
    resolved: float = 0.0


class Bases:
    """Finds base images for one preparation."""

    def __init__(self, works: Works) -> None:
        self._works, self._store = works, works.store

    def get(self, reference: Reference) -> Base:
        """The base image that is named; the same one as the last time, until ``forget``. Raises EnvironmentBuildError."""
        if reference.kind == "file":
            assert reference.path is not None
            digest = Digests().of(reference.path)
            self._try_out(reference, digest)
            kept = self._store.publish_base(reference.path, {"reference": reference.shown}, digest=digest)
            return Base(str(kept.path), digest, reference.shown, kept.facts["created"])
        return self._once(_key(reference), reference.shown, lambda target: self._make(reference, target))

    def _try_out(self, reference: Reference, digest: str) -> None:
        """Start a file before it is copied: what is damaged has no place in the store."""
        if self._store.base(digest) is None:
            contents(self._works.program.path, reference.uri, memory_of(digest, self._works.variables), reference.shown)

    def derive(self, base: Base, steps: Sequence[str]) -> Base:
        """The image that ``steps``, shell lines run by root, make of ``base``. Raises EnvironmentBuildError."""
        lines = "\n".join(f"    {line}" for line in steps)
        recipe = f"Bootstrap: localimage\nFrom: {base.path}\n\n%post\n    set -ex\n{lines}\n"
        shown = f"{base.reference} with {len(steps)} system step{'' if len(steps) == 1 else 's'}"
        key = key_of({"base": base.digest, "system": list(steps)})
        return self._once(key, shown, lambda target: self._from_recipe(recipe, target))

    def forget(self, reference: Reference) -> None:
        """Have a reference looked up anew the next time."""
        self._memo(_key(reference)).unlink(missing_ok=True)

    def _memo(self, key: str) -> Path:
        return self._store.layout.spec(key)

    def _remembered(self, key: str) -> Base | None:
        try:
            memo = read_json(self._memo(key))
            stored = self._store.base(str(memo["base"])) if memo else None
            return Base(str(stored.path), stored.digest, str(memo["reference"]), float(memo["resolved"])) if stored else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _once(self, key: str, shown: str, make: Callable[[Path], None]) -> Base:
        known = self._remembered(key)
        if known:
            return known
        self._store.layout.make()
        with lease(
            self._store.layout.lease(key), done=lambda: self._remembered(key) is not None, waiting=wait_notice(self._works.say)
        ) as mine:
            if mine:
                with self._works.log.phase(f"base {shown}") as done:
                    target = self._works.scratch / "base.sif"
                    make(target)
                    done.append(f"{target.stat().st_size / 1e6:.0f} MB")
                    stored = self._store.publish_base(target, {"reference": shown}, move=True)
                write_json(self._memo(key), {"base": stored.digest, "reference": shown, "resolved": time.time()})
        return self._remembered(key) or self._once(key, shown, make)  # None where it was swept away in this very moment

    def _make(self, reference: Reference, target: Path) -> None:
        if reference.kind in ("definition", "dockerfile"):
            from hpcest.environments.apptainer.recipes import definition_of

            self._from_recipe(definition_of(reference, self._works.log), target, cwd=reference.path.parent if reference.path else None)
            return
        from hpcest.environments.apptainer.room import check_room

        size = reference.path.stat().st_size if reference.path and reference.path.is_file() else 0
        check_room(self._works.scratch, 3 * size, f"converting {reference.shown}")
        self._build(target, reference.uri)

    def _from_recipe(self, text: str, target: Path, cwd: Path | None = None) -> None:
        recipe = self._works.scratch / "base.def"
        recipe.write_text(text, encoding="utf-8")
        self._works.log.note(text)
        self._build(target, str(recipe), cwd)

    def _build(self, target: Path, source: str, cwd: Path | None = None) -> None:
        from hpcest.environments.apptainer.room import tool_variables
        from hpcest.environments.apptainer.troubles import explained

        fast = _FAST if self._works.program.version.startswith("apptainer") else ()
        argv = [self._works.program.path, "build", "--force", "--disable-cache", *fast, target, source]
        env = tool_variables(self._works.scratch, self._works.variables)
        with explained():
            self._works.log.run("base", argv, cwd=cwd or self._works.scratch, env=env)


def _key(reference: Reference) -> str:
    """The same for the same request; a local file is its content."""
    content = _content(reference.path) if reference.path else ""
    more: list[list[str]] = []
    if reference.path and reference.kind in ("definition", "dockerfile"):
        from hpcest.environments.apptainer.recipes import files_of

        more = [[os.path.relpath(path, reference.path.parent), _content(path)] for path in files_of(reference.path)]
    return key_of({"base": reference.shown, "content": content, "files": more})


def _content(path: Path) -> str:
    """Remembered for a file, which may be large."""
    return Digests().of(path) if path.is_file() else digest_of(path)
