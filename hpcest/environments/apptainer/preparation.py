"""One preparation: the base, the packages, the image, each found where it was made before, else made once."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hpcest.environments.apptainer.bases import Base, Bases
from hpcest.environments.apptainer.commands import LAYOUTS, PREFIX
from hpcest.environments.apptainer.probe import Contents, Home, contents, memory_of
from hpcest.environments.apptainer.references import Reference, parse
from hpcest.environments.apptainer.works import Works
from hpcest.environments.keys import key_of
from hpcest.environments.secrets import Veil
from hpcest.environments.store.entries import StoredImage, label
from hpcest.environments.store.specs import Specs
from hpcest.environments.wish import Packages, read_text, wish_of
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.kit.lease import span
from hpcest.model.spec import EnvironmentSpec

#: Raised when the way of building changes what comes out: nothing built before is used again then.
RECIPE = 1
#: The base of an environment that names none, where nothing is configured: it has the Python that pip packages need.
DEFAULT_IMAGE = "docker://python:{version}-slim"
DEFAULT_PYTHON = "3.12"


@dataclass(frozen=True)
class Resolved:
    """The answer to a spec: what to install, when that was chosen (epoch seconds), and the key of the image."""

    packages: Packages
    when: float
    key: str


class Preparation:
    """Prepares one spec with ``works``."""

    def __init__(self, spec: EnvironmentSpec, works: Works) -> None:
        self.spec, self._works = spec, works
        self._wish = wish_of(spec, works.settings, works.variables)
        secrets = Veil([image] if "@" in (image := spec.image.partition("@sha256:")[0]) and "://" in image else [])
        works.hide = lambda text: secrets(self._wish.hide(text))
        self.layout = spec.layout or works.settings.layout
        if self.layout not in LAYOUTS:
            raise SpecError(f"environment layout {self.layout!r} is not known", hint=f"it can be {', '.join(LAYOUTS)}")
        self._began = time.monotonic()
        self._fresh = False

    def say(self, line: str) -> None:
        """Tell the user."""
        self._works.say(line)

    @property
    def is_bare(self) -> bool:
        """Whether the base is used as it is."""
        return not (self._wish.conda or self._wish.pip.wanted or self.spec.steps)

    @cached_property
    def base(self) -> Base:
        """The image that is built on."""
        bases = Bases(self._works)
        base = bases.get(self._reference)
        return bases.derive(base, self.spec.system) if self.spec.system else base

    @property
    def _reference(self) -> Reference:
        default = DEFAULT_IMAGE.format(version=self.spec.interpreter or DEFAULT_PYTHON)
        return parse(self.spec.image or self._works.settings.image or default)

    def forget_base(self) -> None:
        """Have the image that is built on looked up, or made, anew the next time."""
        Bases(self._works).forget(self._reference, self.spec.system)

    @cached_property
    def inside(self) -> Contents:
        """What is in the base."""
        base = self.base
        return contents(self._works.program.path, base.path, memory_of(base.digest, self._works.variables), base.reference)

    @cached_property
    def python(self) -> tuple[str, str]:
        """The base's Python as (path, version); where conda brings one, that is not asked for. Raises SpecError."""
        wanted = self.spec.interpreter
        found = self.inside.python(wanted)
        if found is None:
            have = ", ".join(dict.fromkeys(version for _, version in self.inside.pythons)) or "none"
            raise SpecError(
                f"the base image {self.base.reference} has no Python{f' {wanted}' if wanted else ''} (it has {have})",
                hint=f"name another image, or have conda bring it: add 'python={wanted or DEFAULT_PYTHON}' to the conda packages",
            )
        return found

    @cached_property
    def spec_key(self) -> str:
        """The same for the same request, however it is spelt."""
        request = {**self._wish.key(), "steps": list(self.spec.steps), "virtual": self._virtual if self._wish.conda else []}
        python = "" if self._wish.conda or self.is_bare else self.python[1]
        return key_of({"recipe": RECIPE, "base": self.base.identity, "python": python, "layout": self.layout, "prefix": PREFIX, **request})

    @property
    def _virtual(self) -> list[str]:
        from hpcest.environments.conda.solving import virtual_packages
        from hpcest.environments.conda.specfile import this_platform

        return list(virtual_packages(this_platform(), glibc=self.inside.glibc or "2.17", cuda=self._works.settings.cuda))

    def lock_key(self, packages: Packages) -> str:
        """The same for the same bits."""
        steps = list(self.spec.steps)
        of = {"recipe": RECIPE, "base": self.base.identity, "steps": steps, "layout": self.layout, "prefix": PREFIX, **packages.key()}
        return key_of(of)

    # ------------------------------------------------------------------ which packages
    def resolve(self, locked: str = "") -> Resolved:
        """What was chosen before, else what is chosen now; with the text of a lock, what that says. Raises EnvironmentBuildError."""
        if locked:
            packages = self._read(locked)
            return Resolved(packages, time.time(), self.lock_key(packages))
        specs = Specs(self._works.store)
        known = self._remembered(specs)
        if known:
            return known
        with self._works.store.turn(self.spec_key, self._works.say) as _:
            known = self._remembered(specs)
            if known:
                return known
            packages = self._choose()
            self._fresh = True
            facts = {"python": packages.python, "platform": packages.platform, "name": self.spec.name}
            kept = specs.keep(self.spec_key, self.lock_key(packages), lock=packages.text, facts=facts)
        return Resolved(packages, kept.resolved, kept.lock_key)

    def _remembered(self, specs: Specs) -> Resolved | None:
        known = specs.read(self.spec_key)
        if known is None:
            return None
        try:
            packages = read_text(known.lock, str(known.facts["python"]), str(known.facts["platform"]))
        except (ValueError, KeyError):
            return None
        return Resolved(packages, known.resolved, known.lock_key) if self.lock_key(packages) == known.lock_key else None

    def _read(self, text: str) -> Packages:
        from hpcest.environments.conda.specfile import this_platform

        try:
            packages = read_text(text, "", this_platform())
        except ValueError as error:
            raise SpecError(f"the lock can't be read: {error}", hint="write it anew with 'hpcest env lock --update'") from None
        return Packages(packages.conda, packages.pip, self._python_of(packages), packages.platform)

    def _python_of(self, packages: Packages) -> str:
        brought = next((one.version for one in packages.conda if one.name == "python"), "")
        return brought or ("" if packages.conda else self.python[1])

    def _choose(self) -> Packages:
        from hpcest.environments.apptainer.building import container_uv, link_conda
        from hpcest.environments.brought import brought_by
        from hpcest.environments.choosing import choose_conda, choose_pip
        from hpcest.environments.conda.specfile import this_platform

        works, wish = self._works, self._wish
        packages = Packages(choose_conda(wish, this_platform(), self._virtual, works.log), (), "", this_platform())
        packages = replace(packages, python=self._python_of(packages))
        if not wish.pip.wanted:
            return packages
        if packages.conda:  # only when it is there is it known what conda brings
            link_conda(works, wish, packages)
        uv = container_uv(works, wish, self.base, self._home_of(packages))
        return replace(packages, pip=choose_pip(wish, uv, brought_by(works.scratch / "env"), works.log))

    def _home_of(self, packages: Packages) -> Home:
        """Where the packages will be used."""
        python = (f"{PREFIX}/bin/python", packages.python) if packages.conda else self.python
        return Home(self.inside.glibc, *python)

    def fetch(self, locked: str) -> None:
        """Have in the caches what building takes from a network. Raises EnvironmentBuildError."""
        from hpcest.environments.apptainer.building import container_uv
        from hpcest.environments.apptainer.fetching import fetch

        packages = self.resolve(locked).packages
        uv = container_uv(self._works, self._wish, self.base, self._home_of(packages)) if packages.pip else None
        fetch(self._works, self._wish, packages, uv, compiler=bool(self.inside.compiler))

    # ------------------------------------------------------------------ the image
    def image(self, resolved: Resolved) -> StoredImage:
        """The image that holds the packages, built if need be. Raises EnvironmentBuildError."""
        store, name = self._works.store, self.spec.name
        found = store.look(resolved.key)
        if found.image is None:
            if found.wrong:
                self._works.say(f"{label(resolved.key, name)} is built again: {found.wrong}")
            with store.turn(resolved.key, self._works.say) as mine:
                if mine:
                    self._build(resolved)
            found = store.look(resolved.key)
        else:
            where = f"in the site's store {found.image.root}" if found.image.site else "cached"
            age = "resolved just now" if self._fresh else f"resolved {span(time.time() - resolved.when)} ago"
            self._works.say(f"{label(resolved.key, name)} {where}, {age}")
            store.note_use(found.image)
        if found.image is None:
            raise EnvironmentBuildError(
                f"{label(resolved.key, name)} is gone again: {found.wrong or 'someone removed it'}", hint="try again"
            )
        return found.image

    def _build(self, resolved: Resolved) -> None:
        from hpcest.environments.apptainer.building import LOCK, Construction, container_uv, facts_of
        from hpcest.environments.room import check_room

        works, packages = self._works, resolved.packages
        check_room(works.scratch, 256 << 20, f"building {label(resolved.key, self.spec.name)}")
        with works.store.begin(resolved.key, name=self.spec.name, base=self.base.digest) as build:
            works.log.move(build.log)
            uv = container_uv(works, self._wish, self.base, self._home_of(packages))
            construction = Construction(works, self._wish, self.base, uv, compiler=bool(self.inside.compiler))
            variables = construction.make(packages, self.spec.steps)
            file = construction.pack(build, self.layout)
            (build.folder / LOCK).write_text(packages.text, encoding="utf-8")
            with works.log.phase("publish"):
                build.publish({**facts_of(packages, self.base, self._began), **self._more(resolved, file, variables)})
        works.log.say(f"{label(resolved.key, self.spec.name)} ready in {time.monotonic() - self._began:.1f} s")

    def _more(self, resolved: Resolved, file: str, variables: dict[str, str]) -> dict[str, Any]:
        return {
            "kind": "apptainer",
            "name": self.spec.name,
            "layout": self.layout,
            "file": file,
            "spec_key": self.spec_key,
            "resolved": resolved.when,
            "tool": self._works.program.version,
            "variables": variables,
        }
