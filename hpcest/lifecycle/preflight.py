"""Whether MPI works on a compute target: a run of two ranks that add up numbers, as any other run is submitted.

Where the first choice of a launcher fails, the others are tried, and the answer says what to configure.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcest.contracts import Backend, Say, silent
from hpcest.errors import BackendError, HpcestError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.explain import explain
from hpcest.lifecycle.follow import log_paths, wait
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.watch import Seen, cancel
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.model.status import Status
from hpcest.onnode import allreduce

EXPERIMENT = "preflight"
RANKS = 2
_LIMIT_S = 60  # what every partition allows, and a gap in the queue has room for
_SCRIPT = "allreduce.py"

#: What MPIs and srun print when they don't meet → what it means.
_KNOWN = (
    ("OMPI was not built with SLURM's PMI", "Open MPI found no PMIx: it speaks nothing else"),
    ("unsupported PMI version PMIx", "MPICH was met with PMIx: this build speaks PMI-2"),
    ("find the specified plugin name for mpi/", "Slurm has not got that MPI type"),
    ("Invalid MPI type", "Slurm has not got that MPI type"),
    ("not enough slots available", "mpirun found fewer cores than ranks"),
)


@dataclass(frozen=True)
class Trial:
    """One launcher that was tried: ``found`` is what rank 0 measured, ``problem`` a sentence where it failed."""

    launcher: str
    run: str
    found: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether both ranks met and added up right."""
        return not self.problem


@dataclass(frozen=True)
class Preflight:
    """What was tried on a target, in order; ``scheduler`` is its own forecast, ``advice`` what to do next."""

    compute: str
    backend: str
    scheduler: str
    trials: tuple[Trial, ...]
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether the target works as it is configured: only the first trial was its own choice."""
        return self.trials[0].ok


def preflight(context: Context, spec: RunSpec, say: Say) -> Preflight:
    """Prove MPI on ``spec.compute``, in the environment and with the launcher of ``spec``.

    Each trial is a recorded run; an interrupted one is canceled. Raises HpcestError where nothing can be submitted.
    """
    with tempfile.TemporaryDirectory(prefix="hpcest-preflight-") as source:
        shutil.copyfile(allreduce.__file__, os.path.join(source, _SCRIPT))
        spec = replace(spec, source=source)
        if context.backend(spec.compute).name == "local":
            return _here(context, spec, say)
        spec, plan, forecast = _judged(context, spec, say)
        first = _name(plan)
        trials = [_try(context, spec, first, say)]
        if not trials[0].ok and not spec.launcher and plan.backend == "slurm":
            for other in _others(plan, first):
                trials.append(_try(context, replace(spec, launcher=other), other, say))
                if trials[-1].ok:
                    break
    return Preflight(spec.compute, plan.backend, forecast, tuple(trials), _advice(trials, spec))


def described(compute: str, *, environment: EnvironmentSpec | None = None, launcher: str = "", nodes: int | None = None) -> RunSpec:
    """The run of a preflight. ``nodes`` None: two where the target has them, else one."""
    return RunSpec(
        EXPERIMENT,
        Command(script=_SCRIPT),
        compute,
        display_name="mpi check",
        environment=environment or EnvironmentSpec(),
        resources=Resources(nodes or 0, RANKS // nodes if nodes else 0, cpus=1, time=_LIMIT_S),
        distribution=Distribution("mpi"),
        launcher=launcher,
    )


def _judged(context: Context, spec: RunSpec, say: Say) -> tuple[RunSpec, Plan, str]:
    """The spec with a number of nodes that the scheduler would take, its plan, and the scheduler's words."""
    shapes = [spec.resources.nodes] if spec.resources.nodes else [RANKS, 1]
    while True:
        nodes = shapes.pop(0)
        shaped = replace(spec, resources=replace(spec.resources, nodes=nodes, procs_per_node=RANKS // nodes))
        passage = submit(context, shaped, say, dry=True)
        assert passage.plan is not None
        assert passage.backend is not None
        if type(passage.backend).check is Backend.check:
            return shaped, passage.plan, ""
        try:
            return shaped, passage.plan, passage.backend.check(passage.plan, passage.folder)
        except BackendError as error:
            if not shapes:
                raise
            say(f"two nodes can't be had ({error.message}); trying one")


def _name(plan: Plan) -> str:
    """The launcher of a plan as the configuration names it: ``srun:pmix``."""
    launcher: Mapping[str, Any] = plan.launch.get("launcher") or {}
    types = [word.partition("=")[2] for word in launcher.get("argv", ()) if word.startswith("--mpi=")]
    return ":".join([str(launcher.get("kind", "")), *types])


def _others(plan: Plan, first: str) -> Iterator[str]:
    """Launchers that may do where ``first`` does not, likeliest first."""
    from hpcest.backends.slurm import mpi, surroundings
    from hpcest.backends.slurm.site import site

    kind, _, used = first.partition(":")
    offered = site(surroundings.for_asking()).mpi_types
    others = [f"srun:{one}" for one in mpi.alternatives(offered, used if kind == "srun" else "")]
    yield from (one for one in others if "pmi" in one)
    if kind != "mpirun" and _mpirun(plan):
        yield "mpirun"
    yield from (one for one in others if "pmi" not in one)


def _mpirun(plan: Plan) -> str:
    """The mpirun that the environment or this host has; empty if neither does."""
    path = [*(plan.launch.get("path") or ()), os.environ.get("PATH") or os.defpath]
    return shutil.which("mpirun", path=os.pathsep.join(path)) or ""


def _here(context: Context, spec: RunSpec, say: Say) -> Preflight:
    """On this machine mpirun starts the ranks, inside a run of one process."""
    spec = replace(spec, resources=replace(spec.resources, nodes=1, procs_per_node=1), launcher="")
    plan = submit(context, spec, say, dry=True).plan
    assert plan is not None
    if not _mpirun(plan):
        hint = "install an MPI that has one, activate its module, or check a compute target of a cluster: hpcest compute list"
        raise HpcestError("there is no MPI launcher here: mpirun is neither in the environment nor on PATH", hint=hint)
    from hpcest.backends.slurm import launchers

    chosen = launchers.mpirun(Resources(1, RANKS), "process", path=plan.launch.get("path") or ())
    argv = [*chosen.argv, *(["--oversubscribe"] if chosen.ranks == "ompi" else [])]  # a laptop may have one core
    # That hpcest started one process says nothing of how many mpirun starts.
    line = shlex.join(["env", "-u", "RANK", "-u", "WORLD_SIZE", *argv, "python3", _SCRIPT])
    trial = _try(context, replace(spec, command=Command(line=line)), "mpirun", say)
    return Preflight(spec.compute, plan.backend, "", (trial,), _advice([trial], spec))


def _try(context: Context, spec: RunSpec, launcher: str, say: Say) -> Trial:
    """Run it once and read what came of it."""
    passage = submit(context, replace(spec, display_name=f"mpi check {launcher}"), silent)
    folder, shown = passage.folder, [""]
    say(f"{launcher}: run {folder.id}")

    def show(seen: Seen) -> None:
        line = f"{launcher}: {seen.status}" + (f"; {seen.message}" if seen.message else "")
        if line != shown[0] and not seen.finished:
            shown[0] = line
            say(line)

    try:
        seen = wait(context, folder, show=show)
    except KeyboardInterrupt:
        cancel(context, folder)
        say(f"run {folder.id} was told to end")
        raise
    text = _logs(folder)
    found = _measured(text)
    problem = _problem(seen, spec, found, text)
    return Trial(launcher, folder.id, found, problem)


def _logs(folder: RunFolder) -> str:
    paths: list[Path] = [path for paths in log_paths(folder).values() for path in paths]
    return "\n".join(_read(path) for path in [*paths, folder.controller_log])


def _read(path: Path) -> str:
    try:
        return path.read_bytes()[-100_000:].decode("utf-8", "replace")
    except OSError:
        return ""


def _measured(text: str) -> dict[str, Any]:
    """The line of JSON that rank 0 printed; empty without one."""
    for line in text.splitlines():
        if line.startswith("{") and '"seconds"' in line:
            try:
                found: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return found
    return {}


def _problem(seen: Seen, spec: RunSpec, found: Mapping[str, Any], text: str) -> str:
    """What is wrong, in a sentence; empty where nothing is."""
    hosts = found.get("hosts") or ()
    if seen.status is Status.COMPLETED and found.get("ranks") == RANKS and len(hosts) >= spec.resources.nodes:
        return ""
    said = [line.partition("allreduce: ")[2] for line in text.splitlines() if line.startswith("allreduce: ")]
    meaning = next((meaning for words, meaning in _KNOWN if words in text), "")
    if seen.status is not Status.COMPLETED:
        return (said or [meaning])[0] or explain(seen)["why"] or f"the run ended as {seen.status}"
    if found.get("ranks") == RANKS:
        return f"both ranks ran on {', '.join(hosts)}, although {spec.resources.nodes} nodes were asked for"
    return f"MPI saw {found.get('ranks', 'no')} ranks, not {RANKS}"


def _advice(trials: Sequence[Trial], spec: RunSpec) -> str:
    first, last = trials[0], trials[-1]
    if first.ok:
        return ""
    if last.ok:
        return f"set in the configuration, below compute: {spec.compute}:  launcher: {last.launcher}"
    if any("no MPI was found" in one.problem for one in trials):
        return "give the environment an MPI: --env with a file that names mpi4py and an MPI, or a set-up line such as 'module load openmpi'"
    if spec.launcher:
        return f"leave out --launcher and others are tried; the log: hpcest logs {first.run}"
    tried = ", ".join(one.launcher for one in trials)
    return f"nothing that was tried ({tried}) works with the MPI of this environment; the log: hpcest logs {first.run}"
