"""The kind ``apptainer``: packages in a layer over a base image, or an image as it is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpcest.contracts import Environment, Lock, Say, silent
from hpcest.environments.apptainer.commands import PREFIX, Mount, run_variables, same, to_run
from hpcest.environments.apptainer.program import Program, find, missing
from hpcest.errors import ConfigError, EnvironmentBuildError
from hpcest.hookspecs import hookimpl
from hpcest.kit.lease import span
from hpcest.model.datapaths import folders_of
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.plan import Activation
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec, RunSpec

if TYPE_CHECKING:
    from hpcest.environments.apptainer.preparation import Preparation
    from hpcest.environments.store.store import Store

#: What of the submitter's would be found first in a container.
_UNSET = (
    "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONUSERBASE", "__PYVENV_LAUNCHER__", "VIRTUAL_ENV", "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV", "LD_LIBRARY_PATH",
)  # fmt: skip
#: What Apptainer takes from the image, unless it is named in another way.
_FROM_IMAGE = ("PATH", "LD_LIBRARY_PATH")


class Apptainer(Environment):
    """Runs use an image that is built once: found in the workspace, then in the site's stores, by what is in it.

    Needs no root and, for packages alone, no range in /etc/subuid.
    """

    name = "apptainer"
    resolves = True
    takes = frozenset({"interpreter", "pip", "conda", "channels", "image", "system", "steps", "layout", "variables", "name"})

    def missing(self) -> str:
        """Why it can't be used on this machine, in a sentence; empty where it can."""
        return missing()

    def prepare(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say) -> Lock:
        """Resolve ``spec`` and have its image in the store, building it once. Says its progress.

        Safe when several processes prepare the same spec at once. Raises SpecError, EnvironmentBuildError.
        """
        return self.rebuild(spec, workspace, say, "")

    def rebuild(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, locked: str) -> Lock:
        """``prepare``, from the text of a lock where there is one: nothing is chosen then."""
        with self._preparation(spec, workspace, say) as preparation:
            return self._bare(preparation) if preparation.is_bare else self._built(preparation, locked)

    def resolve(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, *, locked: str = "") -> Lock:
        """What ``prepare`` would build, without building it; of the base image alone is made what is needed to know that."""
        with self._preparation(spec, workspace, say) as preparation:
            if preparation.is_bare:
                return self._bare(preparation)
            resolved = preparation.resolve(locked)
            facts = {**preparation.base.facts, "layout": preparation.layout}
            more = {"version": resolved.packages.python, "resolved": resolved.when, "spec_key": preparation.spec_key}
            return Lock(self.name, resolved.key, resolved.packages.text, {**facts, **more})

    def fetch(self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, *, locked: str, folder: Path) -> Mapping[str, str]:
        """Archives and wheels: into the user's caches where other machines see these, else into ``folder``."""
        from hpcest.environments.apptainer.fetching import caches
        from hpcest.environments.installers import OFFLINE

        variables = caches(os.environ, folder)
        with self._preparation(spec, workspace, say, variables) as preparation:
            preparation.fetch(locked)
        return {**variables, OFFLINE: "1"}

    def is_ready(self, lock: Lock, workspace: WorkspaceFolder) -> bool:
        """Whether what ``resolve`` returned can be activated now."""
        store = store_of(workspace, self.settings)
        return lock.facts["layout"] == "image" or store.look(lock.key).image is not None

    @contextlib.contextmanager
    def _preparation(
        self, spec: EnvironmentSpec, workspace: WorkspaceFolder, say: Say, variables: Mapping[str, str] | None = None
    ) -> Iterator[Preparation]:
        from hpcest.environments.apptainer.preparation import Preparation
        from hpcest.environments.apptainer.works import Works

        program = find()
        if program is None:
            raise EnvironmentBuildError(f"environment kind 'apptainer' can't be used here: {missing()}")
        with Works(program, store_of(workspace, self.settings), self.settings, say) as works:
            works.variables.update(variables or {})
            try:
                yield Preparation(spec, works)
            except EnvironmentBuildError as error:
                works.note_failure(error)
                raise
            except OSError as error:
                where, hint = error.filename or workspace.environments, "the workspace must be writable to build in it"
                raise EnvironmentBuildError(f"{where}: {error.strerror or error}", hint=hint) from error
            if works.has_log and works.log.path.name.startswith("prepare-"):
                works.log.path.unlink(missing_ok=True)  # nothing was built: how it was resolved interests nobody

    def _bare(self, preparation: Preparation) -> Lock:
        from hpcest.environments.keys import key_of

        base, inside = preparation.base, preparation.inside
        python = inside.python(preparation.spec.interpreter)
        key = key_of({"kind": self.name, "base": base.identity})
        preparation.say(f"environment {key[:12]}: image {base.reference}, as it is (looked up {_ago(base.resolved)})")
        facts = {**base.facts, "python": python[0] if python else "python3", "layout": "image"}
        return Lock(self.name, key, f"# image {base.origin or base.reference}\n# sha256 {base.identity}\n", facts)

    def _built(self, preparation: Preparation, locked: str) -> Lock:
        resolved = preparation.resolve(locked)
        image = preparation.image(resolved)
        facts = {
            **preparation.base.facts,
            "base": image.manifest["base"],  # of a site's image it may be another conversion of the same
            "layout": image.manifest["layout"],
            "file": image.manifest["file"],
            "sha256": image.files[image.manifest["file"]].sha256,
            "python": f"{PREFIX}/bin/python",
            "version": image.manifest["python"],
            "resolved": resolved.when,
            "spec_key": preparation.spec_key,
            "variables": image.manifest["variables"],
        }
        return Lock(self.name, resolved.key, resolved.packages.text, facts)

    def activate(self, lock: Lock, workspace: WorkspaceFolder, spec: RunSpec) -> Activation:
        """``apptainer exec`` with the layer at its place, and nothing of the submitter's packages."""
        program = find()
        if program is None:
            raise EnvironmentBuildError(f"environment {lock.key[:12]} can't be used here: {missing()}")
        image, layer = self._files(lock, workspace)
        mounts = [*layer, *_of_run(workspace, spec, self.settings)]
        bare = lock.facts["layout"] == "image"
        asked = {**spec.environment.variables, **spec.environment_variables}
        if "PATH" in asked and not bare:  # nothing is put before a PATH that is named so
            asked["PATH"] = f"{PREFIX}/bin{os.pathsep}{asked['PATH']}"
        own = {} if bare else {"CONDA_PREFIX": PREFIX} if lock.text.startswith("# conda") else {"VIRTUAL_ENV": PREFIX}
        return Activation(
            python=lock.facts["python"],
            prefix=to_run(program.path, image, mounts, sharens=self.settings.sharens),
            variables={
                **run_variables(() if bare else (f"{PREFIX}/bin",), {**own, **lock.facts.get("variables", {})}),
                **{f"APPTAINERENV_{name}": asked[name] for name in _FROM_IMAGE if name in asked},
            },
            unset=tuple(name for name in _UNSET if name not in own),
        )

    def _files(self, lock: Lock, workspace: WorkspaceFolder) -> tuple[str, list[Mount]]:
        """The image to start, and the layer over it. Raises EnvironmentBuildError."""
        store = store_of(workspace, self.settings)
        wrong = "it was not built here"
        if lock.facts["layout"] == "image":
            base = store.base(lock.facts["base"])
            if base:
                return str(base.path), []
        else:
            found = store.look(lock.key)
            wrong = found.wrong or wrong
            if found.image and lock.facts["layout"] != "split":
                return str(found.image.file(lock.facts["file"])), []
            base = store.base_of(found.image) if found.image else None
            if found.image and base:
                return str(base.path), [Mount(str(found.image.file(lock.facts["file"])), PREFIX, image=True)]
        raise EnvironmentBuildError(f"environment {lock.key[:12]} can't be used: {wrong}", hint="submit again to have it built")

    def forget(self, spec: EnvironmentSpec, workspace: WorkspaceFolder) -> bool:
        """Have ``spec`` resolved anew the next time, its base too; False where it was not resolved before."""
        from hpcest.environments.apptainer.preparation import Preparation
        from hpcest.environments.apptainer.works import Works
        from hpcest.environments.store.specs import Specs

        program = find() or Program("", "")
        with Works(program, store_of(workspace, self.settings), self.settings, silent) as works:
            preparation = Preparation(spec, works)
            known = Specs(works.store).forget(preparation.spec_key)
            preparation.forget_base()
        return known


def store_of(workspace: WorkspaceFolder, settings: EnvironmentSettings) -> Store:
    """The store of images of a workspace, with the site's behind it. Raises ConfigError."""
    from hpcest.environments.store.store import Store

    sites = [Path(os.path.expanduser(site)) for site in settings.stores]
    return Store(workspace.environments, sites, {_uid(name) for name in settings.trusted})


def _uid(name: str) -> int:
    import pwd

    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"environment.trusted: there is no user {name!r}", hint="name users of this system, or their numbers") from None


def _of_run(workspace: WorkspaceFolder, spec: RunSpec, settings: EnvironmentSettings) -> Iterator[Mount]:
    """What a run must see of the host beside the home and /tmp: the workspace, its inputs, what the site says."""
    yield same(workspace.root)
    if spec.resume_from:  # over the workspace: what an earlier run has written stays as it was
        yield same(workspace.run(spec.resume_from).outputs, writable=False)
    inputs = [value for value in spec.inputs.values() if os.path.isabs(value) and os.path.exists(value)]
    for path in dict.fromkeys([*settings.binds, *inputs]):
        if not _is_below(path, str(workspace.root)):
            yield same(path)
    for path, writable in sorted(folders_of(spec), key=lambda found: found[0].count(os.sep)):  # what lies in another comes after it
        if os.path.exists(path) and (writable or not _is_below(str(workspace.home), path)):  # the run itself lies in there
            yield same(path, writable=writable)


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(folder)]) == os.path.realpath(folder)


def _ago(moment: float) -> str:
    import time

    return f"{span(max(0.0, time.time() - moment))} ago"


@hookimpl
def hpcest_register_environments() -> list[type[Environment]]:
    """Called once, when environments are first needed."""
    return [Apptainer]
