"""From a spec to a submitted run: the steps in their order, and what is recorded when one fails."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcest.contracts import Say
from hpcest.errors import EnvironmentBuildError, HpcestError, PluginError, SpecError, UncertainError
from hpcest.kit.files import write_private
from hpcest.lifecycle import prepare, snapshot
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.data import ofrun
from hpcest.lifecycle.git import with_source
from hpcest.lifecycle.journal import append
from hpcest.lifecycle.passage import Passage, Step, record, settle, source_of
from hpcest.lifecycle.presets import with_preset
from hpcest.lifecycle.runtime import kept_helpers, travelling_runtime
from hpcest.lifecycle.secrets import secrets
from hpcest.lifecycle.upstream import jobs_before
from hpcest.lifecycle.workspace import checked_experiment
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Activation
from hpcest.model.spec import RunSpec
from hpcest.model.status import Status

_INPUT, _PARAMETER = "AZURE_ML_INPUT_", "AZUREML_PARAMETER_"


def check(passage: Passage) -> None:
    """Refuse what can't work before anything is written."""
    spec = passage.spec
    passage.spec = spec = replace(spec, experiment=checked_experiment(spec.experiment))
    passage.framework = passage.context.framework(spec)
    passage.spec = spec = with_preset(passage.context, spec)
    passage.backend = passage.attaching or passage.context.backend(spec.compute)
    passage.framework.check(spec)
    check_variables(spec)
    if spec.resume_from and not passage.context.workspace.run(spec.resume_from).header.is_file():
        raise SpecError(f"there is no run {spec.resume_from!r} to resume from", hint="give its whole id: see 'hpcest runs'")
    jobs_before(passage.context, spec, passage.backend)
    source = source_of(passage)
    script = spec.command.script
    if script and not spec.snapshot and source.is_dir() and not _may_be_there(source / script):
        raise SpecError(f"entry script {script!r} is not in {source}", hint=_nearest_script(passage))


def _may_be_there(script: Path) -> bool:
    """False where there is no such file; where that can't be seen, the snapshot will say why."""
    try:
        return stat.S_ISREG(os.stat(script).st_mode)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def check_variables(spec: RunSpec) -> None:
    """Refuse what no environment can hold, before a rank finds out."""
    inputs = _inputs_as_variables(spec)
    for what, variables in (("environment variable", {**spec.environment.variables, **spec.environment_variables}), ("input", inputs)):
        for name, value in variables.items():
            if not name or "=" in name or "\0" in name + value:
                raise SpecError(
                    f"{what} {name.removeprefix(_INPUT).removeprefix(_PARAMETER)!r} can't be set",
                    hint="a name has no '=' in it, and neither it nor the value a NUL",
                )


def _nearest_script(passage: Passage) -> str:
    from difflib import get_close_matches

    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in os.scandir(source_of(passage)) if entry.is_file())
        near = get_close_matches(passage.spec.command.script, names, n=1)
        if near:
            return f"did you mean {near[0]!r}?"
    return "the entry script is a path relative to the source directory"


def freeze(passage: Passage) -> None:
    """Take the snapshot, unless the spec has one already (a rerun)."""
    if passage.spec.snapshot:
        return
    workspace, config, source = passage.context.workspace, passage.context.config, source_of(passage)
    taken = snapshot.take_snapshot(
        source, workspace, extra_ignore=config.snapshot.ignore, max_files=config.snapshot.max_files, max_bytes=config.snapshot.max_bytes
    )
    script = passage.spec.command.script
    if script and not snapshot.holds(workspace, taken.digest, script):
        raise SpecError(
            f"entry script {script!r} is left out of the snapshot by the ignore files", hint=f"add '!{script}' to .amlignore or .gitignore"
        )
    passage.say(f"snapshot {taken.digest[:12]}: {taken.files} file{'s' * (taken.files != 1)}, {taken.copied} new")
    passage.spec = with_source(passage.spec, source, taken.digest, lambda data: snapshot.store_bytes(workspace, data))


def plan(passage: Passage) -> None:
    """Put framework, environment and backend together into what will be submitted."""
    assert passage.environment is not None
    assert passage.lock is not None
    assert passage.backend is not None
    spec, folder, workspace = passage.spec, passage.folder, passage.context.workspace
    passage.activation = activation = passage.environment.activate(passage.lock, workspace, spec)
    launch: dict[str, Any] = {
        "schema": 1,
        "workspace": str(workspace.root),
        "experiment": spec.experiment,
        "runtime": str(travelling_runtime(workspace, passage.context.plugins.modules())),
        "python": sys.executable,
        "snapshot": _layout(passage),
        "place": passage.place,
        "nodes": spec.resources.nodes,
        "procs_per_node": spec.resources.procs_per_node,
        "cpus": spec.resources.cpus,
        "interpreter": activation.python,
        "prefix": list(activation.prefix),
        "path": list(activation.path),
        "unset": list(activation.unset),
        "after": jobs_before(passage.context, spec, passage.backend),
    }
    own, hidden = own_launch(passage, activation)
    passage.plan = replace(
        passage.backend.plan(spec, {**launch, **own}, folder), environment=f"{passage.lock.kind} {passage.lock.key[:12]}"
    )
    if passage.recorded:
        write_launch(folder, passage.plan.launch)
        write_secrets(folder, hidden)


def _layout(passage: Passage) -> dict[str, Any] | None:
    """What the controller makes the working directory from; None for a run that has a place already."""
    workspace = passage.context.workspace
    if passage.place:
        return None
    manifest = str(workspace.manifest(passage.spec.snapshot))
    return {"manifest": manifest, "objects": str(workspace.objects), "stamp": int(passage.created)}


def own_launch(passage: Passage, activation: Activation) -> tuple[dict[str, Any], dict[str, str]]:
    """The part of the launch manifest that differs between runs of one shape, and the secrets that are kept apart."""
    assert passage.framework is not None
    spec, folder = passage.spec, passage.folder
    program = passage.framework.program(spec, activation)
    asked = {**spec.environment.variables, **spec.environment_variables}
    files, places = ofrun.launch_of(spec, folder, passage.context.workspace)
    variables = {
        **activation.variables,
        **program.variables,
        **spec.environment.variables,
        **_inputs_as_variables(spec),
        **places,
        **_resumed(passage),
        **spec.environment_variables,
    }
    hidden = secrets(variables)
    return {
        "run": folder.id,
        "folder": str(folder.path),
        "per": program.per,
        "argv": list(program.argv),
        "expand": program.expand,
        "rank_variables": {name: text for name, text in program.rank_variables.items() if name not in asked},
        "meets": program.meets,
        "roles": dict(program.roles),
        "servers": list(program.servers),
        "helpers": kept_helpers(passage.context.workspace, program.helpers),
        "variables": {name: value for name, value in variables.items() if name not in hidden},
        "secrets": sorted(hidden),
        **({"data": files} if files else {}),
    }, hidden


def _inputs_as_variables(spec: RunSpec) -> dict[str, str]:
    """The variables that tell a program where its inputs are, in Azure ML's spelling."""
    return {prefix + name: value for prefix in (_INPUT, _PARAMETER) for name, value in spec.inputs.items()}


def _resumed(passage: Passage) -> dict[str, str]:
    """Where the outputs of the run are that this one resumes from, and its newest checkpoint, if the framework knows one."""
    assert passage.framework is not None
    if not passage.spec.resume_from:
        return {}
    outputs = passage.context.workspace.run(passage.spec.resume_from).outputs
    checkpoint = passage.framework.checkpoint(outputs)
    return {"HPCEST_RESUME_FROM": str(outputs), **({"HPCEST_CHECKPOINT": str(checkpoint)} if checkpoint else {})}


def write_launch(folder: RunFolder, launch: Mapping[str, Any]) -> None:
    """Write the manifest that the controller reads."""
    write_private(folder.launch, launch, indent=1, sync=False)


def write_secrets(folder: RunFolder, hidden: Mapping[str, str]) -> None:
    """Write the values that no manifest holds; nothing where there are none."""
    if hidden:
        write_private(folder.secrets, hidden, indent=1, sync=False)


class CanceledBeforeSubmitError(HpcestError):
    """Someone canceled the run before its backend had it."""


def hand_over(passage: Passage) -> None:
    """Give the plan to the backend. From here on the backend answers for the run."""
    assert passage.backend is not None
    assert passage.plan is not None
    if passage.dry:
        return
    before_offer(passage)
    settle(passage.folder)
    passage.offered, began = True, time.time()
    passage.job = passage.backend.submit(passage.plan, passage.folder)
    after_offer(passage, began)


def before_offer(passage: Passage) -> None:
    """The last moment at which a plugin, or whoever cancels the run, can keep it from its backend."""
    assert passage.backend is not None
    _ask_listeners(passage)
    if passage.folder.cancel.exists():
        raise CanceledBeforeSubmitError(f"run {passage.folder.id} was canceled while it was prepared")
    passage.backend.say = passage.say


def after_offer(passage: Passage, began: float) -> None:
    """Record the job that the backend has made; it was asked at the time ``began``.

    That is not forced to the disk: whoever doesn't find it finds the job by its name.
    """
    assert passage.backend is not None
    queued = {"e": "status", "v": "Queued", "by": "submit", "a": 0, "t": began}  # only now is it true, but it may run already
    job = {**passage.job, "e": "job", "backend": passage.backend.name, "compute": passage.spec.compute}
    try:
        append(passage.folder, "submit", queued, job, sync=False)
    except OSError as error:
        passage.say(f"warning: run {passage.folder.id} was submitted, but {passage.folder.events} can't be written: {error.strerror}")
    if passage.folder.cancel.exists() and _taken_back(passage):  # whoever canceled came too early for the backend
        raise CanceledBeforeSubmitError(f"run {passage.folder.id} was canceled while it was submitted")
    for problem in passage.context.plugins.notify("hpcest_after_submit", run=passage.folder):
        passage.say(f"warning: {problem}")


def _ask_listeners(passage: Passage) -> None:
    """Let plugins refuse the run."""
    try:
        passage.context.plugins.notify("hpcest_before_submit", run=passage.folder, plan=passage.plan)
    except HpcestError:
        raise
    except Exception as error:  # a stranger's code may raise anything
        raise PluginError(f"a plugin refused the run: {error or type(error).__name__}") from error


#: The life of a run on the login side, up to the moment when the backend has it; watch and collect follow.
STEPS: Sequence[Step] = (check, ofrun.resolve, prepare.choose, freeze, record, prepare.prepare, plan, hand_over)


def submit(context: Context, spec: RunSpec, say: Say, *, dry: bool = False) -> Passage:
    """Take a spec through all steps and return where it arrived: ``folder`` is the run, ``plan`` what was submitted.

    A dry run prepares the environment and makes the plan, records nothing and submits nothing. Raises
    HpcestError; if the run was recorded by then, its record says that it failed, and why.
    """
    passage = Passage.of(context, spec, say, dry=dry)
    with recording_failure(passage):
        for step in STEPS:
            step(passage)
    return passage


@contextlib.contextmanager
def recording_failure(passage: Passage) -> Iterator[None]:
    """Have the record say what became of the run if a step fails in here. Errors of the disk become an HpcestError."""
    try:
        yield
    except EnvironmentBuildError as error:
        passage.status("Failed", reason="BuildFailed", message=error.message)
        if passage.recorded:
            passage.say(f"run {passage.folder.id} is recorded as failed")
        raise
    except CanceledBeforeSubmitError:
        passage.status("Canceled", message="canceled while it was prepared")
        raise
    except UncertainError:
        raise  # whoever looks at the run later finds out
    except HpcestError as error:
        passage.status("Failed", reason="LaunchFailed", message=error.message)
        raise
    except OSError as error:
        wrong = _of_the_disk(passage, error)
        if _taken_back(passage):
            passage.status("Failed", reason="LaunchFailed", message=wrong.message)
        raise wrong from error
    except KeyboardInterrupt:
        if _taken_back(passage):
            passage.status("Canceled", message="interrupted while it was prepared")
        raise
    except Exception as error:
        if _taken_back(passage):
            passage.status("Failed", reason="LaunchFailed", message=f"{type(error).__name__}: {error}")
        raise


def _of_the_disk(passage: Passage, error: OSError) -> HpcestError:
    place = os.fspath(error.filename or passage.folder.path) if not isinstance(error.filename, int) else passage.folder.path
    return HpcestError(
        f"run {passage.folder.id} can't be submitted: {place}: {error.strerror or error}", hint="check its space and permissions"
    )


def _taken_back(passage: Passage) -> bool:
    """Whether the run can't start any more. One that the backend has already is told to end, and its end recorded by the backend."""
    if not passage.offered:
        return True
    assert passage.backend is not None
    passage.folder.cancel.touch()
    evidence = passage.backend.cancel(passage.folder, passage.job)
    return evidence.status in (Status.NOT_STARTED, Status.CANCELED)
