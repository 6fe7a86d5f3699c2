"""Many runs submitted together: what they share is done once, and the backend gets them in one piece."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hpcest.contracts import Say
from hpcest.errors import HpcestError, SpecError, UncertainError
from hpcest.kit.codec import encode
from hpcest.lifecycle import prepare
from hpcest.lifecycle import submit as one
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.data import ofrun
from hpcest.lifecycle.passage import Passage, Step, header, record, settle
from hpcest.lifecycle.secrets import without_secrets
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.model.status import Status

#: What differs between the specs of one shape.
_OWN = ("command", "environment_variables", "tags", "properties", "display_name", "description")
#: The variable that tells a run of an array which one it is.
INDEX = "HPCEST_ARRAY_INDEX"
_PART = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


def indexed(spec: RunSpec, text: str) -> tuple[list[RunSpec], int | None]:
    """One spec for each index of ``0-9``, ``1,3,5-20:5`` or ``0-99%10``, and how many may run at once. Raises SpecError."""
    ranges, percent, limit = text.partition("%")
    parts = [_PART.fullmatch(part.strip()) for part in ranges.split(",")]
    if not all(parts) or (percent and not (limit.isdigit() and int(limit))):
        raise SpecError(f"array {text!r} can't be read", hint="write it as sbatch does: 0-9, 1,3,5-20:5 or 0-99%10")
    found: list[int] = []
    for part in filter(None, parts):
        first, last, step = (int(number) if number else None for number in part.groups())
        assert first is not None
        if step == 0 or (last is not None and last < first):
            raise SpecError(f"array {text!r} has an empty range", hint="write it as sbatch does: 0-9, 1,3,5-20:5 or 0-99%10")
        found += range(first, (first if last is None else last) + 1, step or 1)
    variables = [{**spec.environment_variables, INDEX: str(number)} for number in dict.fromkeys(found)]
    return [replace(spec, environment_variables=own) for own in variables], int(limit) if limit else None


def submit_together(context: Context, specs: Sequence[RunSpec], say: Say, *, at_once: int | None = None) -> list[Passage]:
    """Submit all specs; each becomes an ordinary run. At most ``at_once`` run at a time, where the backend can see to that.

    Nothing is recorded if one of them is refused before. Raises HpcestError; what was recorded by then says
    that it failed, or runs if its backend has it.
    """
    if not specs:
        raise SpecError("there is nothing to submit")
    passages = [Passage.of(context, spec, say) for spec in specs]
    told: set[str] = set()  # of whose failure the record says already
    try:
        models = _models(passages)
        for step in one.STEPS[:-1]:
            for passage, model in zip(passages, models, strict=True):
                with _recorded_in(told, passage):
                    step(passage) if passage is model else _follow(step, passage, model)
        _hand_over(passages, at_once, told)
    except BaseException as error:
        _end_the_rest([passage for passage in passages if passage.folder.id not in told], error)
        raise
    return passages


@contextmanager
def _recorded_in(told: set[str], passage: Passage) -> Iterator[None]:
    """Have the record say so if the run fails in here, and ``told`` that it does."""
    try:
        with one.recording_failure(passage):
            yield
    except BaseException:
        told.add(passage.folder.id)
        raise


def _models(passages: Sequence[Passage]) -> list[Passage]:
    """For each passage the first one of the same shape: alike in all that steps take time for."""
    models: list[Passage] = []
    model, shape = passages[0], _shape(passages[0].spec)
    for passage in passages:
        own = _shape(passage.spec)
        if own != shape:
            model, shape = passage, own
        models.append(model)
    return models


def _shape(spec: RunSpec) -> RunSpec:
    plain = Command(spec.command.script, (), "line" if spec.command.line else "")
    return replace(spec, command=plain, environment_variables={}, tags={}, properties={}, display_name="", description="")


def _follow(step: Step, passage: Passage, model: Passage) -> None:
    """Take a step that ``model``, of the same shape, has taken: only what is the run's own is done."""
    spec = passage.spec
    if step is one.check:
        assert model.framework is not None
        passage.framework, passage.backend = model.framework, model.backend
        passage.spec = replace(spec, experiment=model.spec.experiment)
        model.framework.check(passage.spec)
        one.check_variables(passage.spec)
    elif step is ofrun.resolve:
        passage.spec = replace(spec, data=model.spec.data, outputs=model.spec.outputs)
    elif step is prepare.choose:
        passage.environment = model.environment
        passage.spec = replace(spec, environment=model.spec.environment)
    elif step is record and passage.backend is not None and passage.backend.gathers:
        _record_like(passage, model)
    elif step is one.freeze:
        passage.spec = replace(spec, source=model.spec.source, snapshot=model.spec.snapshot, git=model.spec.git)
    elif step is prepare.prepare:
        passage.lock = model.lock
        _write(passage.folder.lock, prepare.lock_text(passage))
    elif step is one.plan:
        _plan_like(passage, model)
    else:
        step(passage)


def _record_like(passage: Passage, model: Passage) -> None:
    """Make the run folder with what tells this run from ``model``, and no more: the controller makes the rest.

    Nothing is forced to the disk here: the array's own manifest is, before Slurm gets it.
    """
    model.header = model.header or header(model)
    spec = replace(passage.spec, inputs={}, environment=EnvironmentSpec())  # what is costly to encode is the model's
    own = encode(without_secrets(spec))
    changed = {name: own[name] for name in _OWN if name in own}
    kept = {name: value for name, value in model.header["spec"].items() if name not in _OWN}
    facts = {**model.header, "id": passage.folder.id, "created": passage.created, "spec": {**kept, **changed}}
    beside = f"{passage.folder.path.parent}/.new-{passage.folder.id}"
    for part in ("", "/events", "/state"):
        os.mkdir(beside + part)
    _write(Path(beside + "/run.json"), json.dumps(facts))
    os.rename(beside, passage.folder.path)
    passage.recorded = True


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


def _plan_like(passage: Passage, model: Passage) -> None:
    assert passage.environment is not None
    assert passage.lock is not None
    assert passage.backend is not None
    assert model.plan is not None
    assert model.activation is not None
    own, hidden = one.own_launch(passage, model.activation)
    passage.plan = replace(model.plan, run_id=passage.folder.id, launch={**model.plan.launch, **own})
    if not passage.backend.gathers:  # its plan may have the run's own place in it
        plan = passage.backend.plan(passage.spec, passage.plan.launch, passage.folder)
        passage.plan = replace(plan, environment=model.plan.environment)
        one.write_launch(passage.folder, passage.plan.launch)
    one.write_secrets(passage.folder, hidden)


def _hand_over(passages: Sequence[Passage], at_once: int | None, told: set[str]) -> None:
    """Give runs that lie together and have one backend to it in one piece."""
    start = 0
    while start < len(passages):
        backend = passages[start].backend
        assert backend is not None
        end = next((number for number in range(start, len(passages)) if passages[number].backend is not backend), len(passages))
        for passage in passages[start:end]:
            with _recorded_in(told, passage):
                one.before_offer(passage)
                if not backend.gathers:
                    settle(passage.folder)
            passage.offered = True
        began = time.time()
        plans = [(passage.plan, passage.folder) for passage in passages[start:end] if passage.plan]
        for passage, job in zip(passages[start:end], backend.submit_all(plans, at_once=at_once), strict=True):
            passage.job = job
            one.after_offer(passage, began)
        start = end


def _end_the_rest(passages: Sequence[Passage], error: BaseException) -> None:
    """The record of runs that never got to their backend because another one failed, or somebody had enough.

    A backend that refuses says so, and has none of those that it did not return a job for. Where it was interrupted it may have
    some: these are taken back, and what is not recorded as ended here is found out by whoever looks at it.
    """
    rest = [passage for passage in passages if passage.recorded and not passage.job]
    if isinstance(error, UncertainError):
        return
    offered = [] if isinstance(error, HpcestError) else [passage for passage in rest if passage.offered]
    kept = {passage.folder.id for passage in offered} - _taken_back(offered)
    why = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    for passage in rest:
        if passage.folder.id in kept:
            continue
        if isinstance(error, KeyboardInterrupt):
            passage.status("Canceled", message="interrupted while it was prepared")
        else:
            passage.status("Failed", reason="LaunchFailed", message=f"not submitted: {why}")


def _taken_back(passages: Sequence[Passage]) -> set[str]:
    """Which of these runs, that their backend may have, can't start any more; all are told to end."""
    found: set[str] = set()
    for backend in {id(passage.backend): passage.backend for passage in passages}.values():
        assert backend is not None
        jobs = {passage.folder.id: (passage.folder, passage.job) for passage in passages if passage.backend is backend}
        for folder, _ in jobs.values():
            folder.cancel.touch()
        evidences = backend.cancel_all(jobs)
        found |= {run_id for run_id, evidence in evidences.items() if evidence.status in (Status.NOT_STARTED, Status.CANCELED)}
    return found
