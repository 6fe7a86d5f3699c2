"""From packages to an image: link, install, run the steps, compile, check, pack, publish."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hpcest.environments.apptainer.bases import Base
from hpcest.environments.apptainer.commands import PREFIX, Mount, to_build
from hpcest.environments.apptainer.compiling import compile_prefix
from hpcest.environments.apptainer.containeruv import Container, ContainerUv, places_of
from hpcest.environments.apptainer.packing import LAYER, SINGLE, flatten, join, squash
from hpcest.environments.apptainer.probe import Home
from hpcest.environments.apptainer.room import tool_variables
from hpcest.environments.apptainer.works import Works
from hpcest.environments.choosing import conda_cache
from hpcest.environments.conda.activation import variables_of
from hpcest.environments.conda.linking import link
from hpcest.environments.installers import Bench
from hpcest.environments.interpreter import Interpreter
from hpcest.environments.store.builds import Build
from hpcest.environments.wish import Packages, Wish
from hpcest.errors import EnvironmentBuildError

LOCK = "packages.lock"


def container_uv(works: Works, wish: Wish, base: Base, home: Home) -> ContainerUv:
    """uv for the prefix in the scratch folder. Raises EnvironmentBuildError."""
    prefix = works.scratch / "env"
    prefix.mkdir(exist_ok=True)
    machine = os.uname().machine
    inside = Interpreter(home.python, home.python, PREFIX, home.version, "cpython", f"linux-{machine}")
    bench = Bench(inside, wish.sources, wish.veil, works.scratch, works.variables)
    uv = ContainerUv(bench, Container(works.program.path, base.path, home.glibc, prefix))
    uv.folders = tuple(places_of(one.url for one in wish.pip.wanted if one.url))
    return uv


def link_conda(works: Works, wish: Wish, packages: Packages) -> None:
    """Have the conda packages in the prefix in the scratch folder, unless they are there already. Raises EnvironmentBuildError."""
    prefix, cache = works.scratch / "env", conda_cache(works.variables)
    if not (prefix / "conda-meta").is_dir():
        link(packages.conda, prefix, target_prefix=PREFIX, cache=cache, say=works.log.say, channels=wish.channels)


class Construction:
    """The prefix of one image, step by step; everything happens in the scratch folder. ``compiler`` says whether the base has one."""

    def __init__(self, works: Works, wish: Wish, base: Base, uv: ContainerUv, *, compiler: bool = True) -> None:
        self._works, self._wish, self._base, self._uv, self._compiler = works, wish, base, uv, compiler
        self.prefix = works.scratch / "env"

    def make(self, packages: Packages, steps: Sequence[str]) -> dict[str, str]:
        """Fill the prefix; returns the variables that activating it sets. Raises EnvironmentBuildError."""
        log = self._works.log
        if packages.conda:
            link_conda(self._works, self._wish, packages)
        else:
            with log.phase("create"):
                self._uv.create(Path(PREFIX), log)
        if packages.pip:
            with log.phase("install") as done, compiler_missed(self._compiler):
                self._uv.install(Path(PREFIX), packages.pip, log)
                done.append(f"{len(packages.pip)} package{'' if len(packages.pip) == 1 else 's'}")
        for number, step in enumerate(steps, 1):
            with log.phase(f"step {number} of {len(steps)}: {step[:60]}"):
                self._uv.inside(f"step {step!r}", ["/bin/sh", "-ec", f'export HOME=/tmp PATH="{PREFIX}/bin:$PATH"\n{step}'], log)
        if (self.prefix / "bin" / "python").is_symlink() or (self.prefix / "bin" / "python").exists():
            self._compile_and_check(packages)
        return variables_of(self.prefix, PREFIX, self._start()) if packages.conda else {}

    def _start(self) -> list[str]:
        return to_build(self._works.program.path, self._base.path, [Mount(str(self.prefix), PREFIX, writable=True)])

    def _compile_and_check(self, packages: Packages) -> None:
        log, python = self._works.log, f"{PREFIX}/bin/python"
        compile_prefix(self._uv, packages, self._works.store, log)
        with log.phase("check"):
            self._uv.inside("check", [python, "-c", "import ssl, zlib, sys"], log)
            if packages.pip:
                self._uv.check(Path(PREFIX), log)

    def pack(self, build: Build, layout: str) -> str:
        """Make the file of the image in the build's folder; returns its name."""
        works, folder = self._works, build.folder
        if layout == "split":
            squash(self.prefix, folder / LAYER, works.program, works.log)
            return LAYER
        if layout == "single":
            join(self._base.path, self.prefix, folder / SINGLE, works.program, works.log)
        else:
            variables = tool_variables(works.scratch, works.variables)
            flatten(self._base.path, self.prefix, folder / SINGLE, works.program, works.log, variables)
        return SINGLE


@contextlib.contextmanager
def compiler_missed(there: bool) -> Iterator[None]:
    """Where a package can't be built, say what a base without a compiler lacks: one of the host is of no use in it."""
    try:
        yield
    except EnvironmentBuildError as error:
        if not there and "uild" in error.message:
            error.hint = (
                "the package has no wheel for this Python, and the base image has no compiler: take one from conda (the package "
                "'compilers'), install it with a system step, name another image, or ask for a version with a wheel"
            )
        raise


def facts_of(packages: Packages, base: Base, began: float) -> dict[str, Any]:
    """The part of an image's manifest that says what it was made of."""
    return {
        "python": packages.python,
        "packages": packages.names,
        "base": base.digest,
        "base_reference": base.reference,
        "base_identity": base.identity,
        "prefix": PREFIX,
        "platform": packages.platform,
        "seconds": round(time.monotonic() - began, 2),
    }
