"""The kind ``conda``: a conda prefix in the workspace, without a container. For machines that have no Apptainer."""

from __future__ import annotations

import os
import platform
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.contracts import Environment, Lock, Say, silent
from hpcest.environments.buildlog import BuildLog
from hpcest.environments.conda import extra
from hpcest.environments.images import Image, Shelf
from hpcest.environments.keys import key_of
from hpcest.environments.room import scratch
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.hookspecs import hookimpl
from hpcest.kit.lease import lease, span, wait_notice
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec, RunSpec

if TYPE_CHECKING:
    from hpcest.environments.choosing import VersionedUv
    from hpcest.environments.store.specs import Remembered, Specs
    from hpcest.environments.wish import Packages

#: Raised when the way of building changes what comes out.
RECIPE = 1


class CondaPrefix(Environment):
    """Runs use a conda environment of their own, with pip packages on top; thousands of small files, on the shared file system."""

    name = "conda"
    takes = frozenset({"conda", "channels", "pip", "interpreter", "variables", "name"})

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        return extra.missing()

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Resolve ``spec`` and have its prefix in the workspace, building it once. Raises SpecError, EnvironmentBuildError."""
        if not spec.conda:
            raise SpecError("environment kind 'conda' names no conda packages", hint="write conda: [python=3.12, …], or use kind: venv")
        try:
            return _Prefix(spec, self.settings, workspace, say).lock()
        except OSError as error:
            where, hint = error.filename or workspace.environments, "the workspace must be writable to build in it"
            raise EnvironmentBuildError(f"{where}: {error.strerror or error}", hint=hint) from error

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """Its Python, its programs first on PATH, and the variables that its packages set."""
        image, wrong = _shelf(workspace, lock.key).look()
        if image is None:
            why = wrong or "it was not built here"
            raise EnvironmentBuildError(f"environment {lock.key[:12]} can't be used: {why}", hint="submit again to have it built")
        return Activation(
            python=str(image.python),
            path=(str(image.folder / "bin"),),
            variables={"CONDA_PREFIX": str(image.folder), **image.manifest.get("variables", {})},
            unset=("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"),
        )

    def forget(self, spec: EnvironmentSpec, workspace: WorkspaceFolder) -> bool:
        """Have ``spec`` resolved anew the next time; False where it was not resolved before."""
        return _Prefix(spec, self.settings, workspace, silent).forget()


def _shelf(workspace: WorkspaceFolder, key: str) -> Shelf:
    return Shelf(workspace.environments, key, "/", "conda")


class _Prefix:
    """One preparation."""

    def __init__(self, spec: EnvironmentSpec, settings: EnvironmentSettings, workspace: WorkspaceFolder, say: Say) -> None:
        from hpcest.environments.conda.solving import virtual_packages
        from hpcest.environments.conda.specfile import this_platform
        from hpcest.environments.store.store import Store
        from hpcest.environments.wish import wish_of

        self._spec, self._workspace, self._say = spec, workspace, say
        self._began, self._variables = time.monotonic(), dict(os.environ)
        self._wish = wish_of(spec, settings, self._variables)
        self._place = settings.scratch
        self._glibc = platform.libc_ver()[1] or "2.17"
        self._platform = this_platform()
        self._virtual = virtual_packages(self._platform, glibc=self._glibc, cuda=settings.cuda)
        self._store = Store(workspace.environments)

    @property
    def _key(self) -> str:
        return key_of({"recipe": RECIPE, "kind": "conda", "virtual": list(self._virtual), **self._wish.key()})

    def forget(self) -> bool:
        """Forget what was chosen; False where nothing was."""
        from hpcest.environments.store.specs import Specs

        return Specs(self._store).forget(self._key)

    def lock(self) -> Lock:
        """Its lock, the prefix being there. Raises SpecError, EnvironmentBuildError."""
        from hpcest.environments.store.specs import Specs
        from hpcest.environments.wish import read_text

        specs, spec_key = Specs(self._store), self._key
        known = specs.read(spec_key)
        if known is None:
            with self._store.turn(spec_key, self._say):
                known = specs.read(spec_key) or self._chosen(specs, spec_key)
        packages = read_text(known.lock, str(known.facts["python"]), self._platform)
        image = self._image(known.lock_key, packages, known.resolved)
        facts = {"resolved": known.resolved, "version": packages.python, "packages": image.manifest["packages"]}
        return Lock("conda", known.lock_key, packages.text, facts)

    def _chosen(self, specs: Specs, spec_key: str) -> Remembered:
        path = self._store.layout.logs / f"prepare-{uuid.uuid4().hex[:8]}.log"
        with scratch(self._place, self._variables) as folder, BuildLog(path, self._say, self._wish.hide) as log:
            packages = self._choose(folder, log)
        path.unlink(missing_ok=True)
        key = key_of({"recipe": RECIPE, "kind": "conda", **packages.key()})
        return specs.keep(spec_key, key, lock=packages.text, facts={"python": packages.python})

    def _choose(self, room: Path, log: BuildLog) -> Packages:
        from hpcest.environments.brought import brought_by
        from hpcest.environments.choosing import choose_conda, choose_pip
        from hpcest.environments.wish import Packages

        conda = choose_conda(self._wish, self._platform, self._virtual, log)
        python = next((one.version for one in conda if one.name == "python"), "")
        packages = Packages(conda, (), python, self._platform)
        if not self._wish.pip.wanted:
            return packages
        if not python:
            raise SpecError("pip packages need a Python, and the conda packages bring none", hint="add python to the conda packages")
        self._link(packages, room / "env", log)  # only when it is there is it known what conda brings
        uv = self._uv(python, room, "python3")
        return replace(packages, pip=choose_pip(self._wish, uv, brought_by(room / "env"), log))

    def _link(self, packages: Packages, folder: Path, log: BuildLog) -> None:
        from hpcest.environments.choosing import conda_cache
        from hpcest.environments.conda.linking import link

        cache = conda_cache(self._variables)
        link(packages.conda, folder, target_prefix=str(folder), cache=cache, say=log.say, channels=self._wish.channels)

    def _image(self, key: str, packages: Packages, resolved: float) -> Image:
        from hpcest.environments.store.entries import label as label_of

        shelf = _shelf(self._workspace, key)
        label = label_of(key, self._spec.name)
        image, wrong = shelf.look()
        if image is not None:
            self._say(f"{label} cached, resolved {span(time.time() - resolved)} ago")
            return image
        if wrong:
            self._say(f"{label} is built again: {wrong}")
        shelf.folder.mkdir(parents=True, exist_ok=True)
        with lease(shelf.lease, done=lambda: shelf.ready() is not None, waiting=wait_notice(self._say)) as mine:
            if mine:
                self._build(shelf, key, packages, resolved)
        image, wrong = shelf.look()
        if image is None:
            raise EnvironmentBuildError(f"{label} is gone again: {wrong or 'someone removed it'}", hint="try again")
        return image

    def _build(self, shelf: Shelf, key: str, packages: Packages, resolved: float) -> None:
        folder = shelf.begin()
        try:
            with BuildLog(shelf.log_of(folder), self._say, self._wish.hide) as log:
                variables = self._fill(folder, packages, log)
                manifest = {
                    "kind": "conda",
                    "key": key,
                    "name": self._spec.name,
                    "python": packages.python,
                    "base": "",
                    "packages": packages.names,
                    "variables": variables,
                    "resolved": resolved,
                    "tool": "py-rattler",
                    "seconds": round(time.monotonic() - self._began, 2),
                    "log": shelf.log_of(folder).name,
                }
                if shelf.publish(folder, manifest):
                    log.say(f"environment {key[:12]} ready in {manifest['seconds']:.1f} s")
                else:
                    shelf.discard(folder)
        except BaseException:
            shelf.discard(folder)
            raise

    def _fill(self, folder: Path, packages: Packages, log: BuildLog) -> dict[str, str]:
        """Link, install and check; returns the variables that activating it sets."""
        from hpcest.environments.conda.activation import variables_of

        self._link(packages, folder, log)
        python = folder / "bin" / "python"
        if packages.pip:
            with scratch(self._place, self._variables) as room, log.phase("install") as done:
                uv = self._uv(packages.python, room, str(python))
                uv.install(folder, packages.pip, log)
                uv.check(folder, log)
                done.append(f"{len(packages.pip)} packages")
        if packages.python:
            with log.phase("check"):
                log.run("check", [python, "-c", ""], cwd=folder, env=self._variables)
        (folder / "packages.lock").write_text(packages.text, encoding="utf-8")
        return variables_of(folder, str(folder))

    def _uv(self, version: str, room: Path, path: str) -> VersionedUv:
        from hpcest.environments.choosing import VersionedUv
        from hpcest.environments.installers import Bench
        from hpcest.environments.interpreter import Interpreter

        python = Interpreter(path, path, "", version, "cpython", f"linux-{platform.machine()}")
        uv = VersionedUv(Bench(python, self._wish.sources, self._wish.veil, room, self._variables))
        uv.glibc = self._glibc
        return uv


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [CondaPrefix]
