"""From an environment spec to a program that can be started: choose the kind, resolve it, build it once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

from hpcest.contracts import Environment, Lock, Say
from hpcest.errors import EnvironmentBuildError, SpecError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.passage import Passage
from hpcest.model.spec import EnvironmentSpec
from hpcest.onnode.record import put_json

#: What ``auto`` tries, in this order: the first that takes what was asked for and works here.
PREFERRED = ("host", "existing", "modules", "apptainer", "venv", "conda")
_FIELDS = {
    "pip": "pip packages",
    "conda": "conda packages",
    "image": "an image",
    "system": "system packages",
    "steps": "steps",
    "prefix": "an existing environment",
    "modules": "modules",
    "interpreter": "an interpreter",
}


def asked_for(spec: EnvironmentSpec) -> set[str]:
    """The fields of ``spec`` that ask an environment for something."""
    return {name for name in _FIELDS if getattr(spec, name)}


def choose_environment(context: Context, spec: EnvironmentSpec) -> tuple[Environment, str]:
    """The environment plugin for ``spec``, and why it was chosen. Raises SpecError, UnknownNameError."""
    if spec.kind != "auto":
        chosen = context.plugins.environment(spec.kind)(context.config.environment)
        _refuse(chosen, spec)
        return chosen, f"environment {spec.kind}: asked for"
    names = context.plugins.names("environment")
    passed, unusable = list[str](), list[str]()
    for name in [*(name for name in PREFERRED if name in names), *(name for name in names if name not in PREFERRED)]:
        candidate = context.plugins.environment(name)(context.config.environment)
        lacking = asked_for(spec) - candidate.takes
        why_not = candidate.missing() if not lacking else "does not take " + _words(lacking)
        if not why_not:
            why = f"environment {name}: the first that takes " + (_words(asked_for(spec)) or "the program as it is")
            return candidate, "; ".join([why, *unusable])
        passed.append(f"{name} {why_not}")
        if not lacking:
            unusable.append(f"{name} can't be used: {why_not}")
    raise SpecError(
        f"no environment here can give {_words(asked_for(spec))}: {'; '.join(passed)}",
        hint="see 'hpcest plugins' for the kinds of environment that are installed",
    )


def _refuse(chosen: Environment, spec: EnvironmentSpec) -> None:
    lacking = asked_for(spec) - chosen.takes
    if lacking:
        raise SpecError(
            f"environment kind {chosen.name!r} can't give {_words(lacking)}",
            hint="leave 'kind' out, or choose one that can: see 'hpcest plugins'",
        )
    if why := chosen.missing():
        raise SpecError(f"environment kind {chosen.name!r} can't be used here: {why}")


def _words(fields: set[str]) -> str:
    return ", ".join(_FIELDS[name] for name in sorted(fields))


def choose(passage: Passage) -> None:
    """The step before the run is recorded: which kind, or a clear refusal. What the spec leaves open, the configuration says."""
    config, asked = passage.context.config, passage.spec.environment
    kind = asked.kind if asked.kind != "auto" else config.target(passage.spec.compute).environment or config.environment.kind
    asked = replace(asked, kind=kind, interpreter=asked.interpreter or config.environment.interpreter)
    passage.environment, why = choose_environment(passage.context, asked)
    passage.spec = replace(passage.spec, environment=replace(asked, kind=passage.environment.name))  # a rerun gets the same kind
    passage.say(why)


def prepare(passage: Passage) -> None:
    """The step that resolves and builds; its lock and its log are kept with the run."""
    assert passage.environment is not None
    try:
        lock = prepared(passage.context, passage.environment, passage.spec.environment, passage.say)
    except EnvironmentBuildError as error:
        if passage.recorded and error.log:
            shutil.copyfile(error.log, passage.folder.build_log)
        raise
    passage.lock = lock
    keep_lock(passage)


def prepared(context: Context, environment: Environment, spec: EnvironmentSpec, say: Say, *, on: str = "", locked: str = "") -> Lock:
    """The lock of ``spec``, its image being there: built on the compute target ``on``, or where the configuration says.

    ``here`` is this machine. Only a kind that can ``resolve`` without building is built elsewhere. With ``locked``, the text of
    a lock, nothing is chosen. Raises SpecError, EnvironmentBuildError.
    """
    target = on or context.config.environment.build_on
    if target and target != "here" and environment.resolves:
        from hpcest.lifecycle import elsewhere

        lock = environment.resolve(spec, context.workspace, say, locked=locked)
        if not environment.is_ready(lock, context.workspace):
            elsewhere.build_on(context, environment, spec, lock, target, say)
    if locked:
        return environment.rebuild(spec, context.workspace, say, locked)
    return environment.prepare(spec, context.workspace, say)


def keep_lock(passage: Passage) -> None:
    """Write the lock into the run folder."""
    if passage.recorded:
        put_json(str(passage.folder.lock), _lock_facts(passage), sync=False)


def lock_text(passage: Passage) -> str:
    """The content of the lock's file."""
    return json.dumps(_lock_facts(passage))


def _lock_facts(passage: Passage) -> dict[str, Any]:
    lock = passage.lock
    assert lock is not None
    return {"kind": lock.kind, "key": lock.key, "facts": lock.facts, "lock": lock.text}
