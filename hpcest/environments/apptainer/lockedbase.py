"""The base image of a lock: fetched by its digest, found in a store, or made anew by the steps that made it."""

from __future__ import annotations

from dataclasses import replace

from hpcest.contracts import Say
from hpcest.environments.apptainer.bases import Bases
from hpcest.environments.apptainer.preparation import Preparation
from hpcest.environments.apptainer.program import Program, find
from hpcest.environments.apptainer.works import Works
from hpcest.environments.store.store import Store
from hpcest.errors import EnvironmentBuildError
from hpcest.model.settings import EnvironmentSettings
from hpcest.model.spec import EnvironmentSpec


def on_base(spec: EnvironmentSpec, identity: str, origin: str, *, store: Store, settings: EnvironmentSettings, say: Say) -> EnvironmentSpec:
    """``spec`` as it is to be resolved, so that it is built on the base image that ``identity`` tells.

    ``origin`` is the reference that gives the image which system steps begin with, or which is used as it is; empty for a file
    or a recipe, which the spec names itself. Raises EnvironmentBuildError where there is no way to that image.
    """
    with Works(find() or Program("", ""), store, settings, say) as works:
        bases = Bases(works)
        spec = replace(spec, image=origin) if origin else spec
        exact = replace(spec, image=f"base:{identity}", system=())
        if spec.system and bases.known(identity):
            return exact
        here = Preparation(spec, works).base
        if here.identity == identity:
            return spec
        if bases.known(identity):
            return exact
        if here.made:
            say(f"the base image is made here by the same steps as in the lock: what they install may be newer than {identity[:12]} has it")
            bases.adopt(here.digest, identity)
            return exact
        raise EnvironmentBuildError(
            f"the lock is for the base image {identity[:12]}, and {here.reference} is {here.identity[:12]} here",
            hint="use the same image file on both sides (image: FILE.sif), publish the environment to a site store, or lock it anew",
        )
