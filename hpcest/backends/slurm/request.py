"""What sbatch is asked for: the compute target's settings, the run's resources, and any option given by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcest.backends.slurm.options import SlurmOptions
from hpcest.errors import SpecError
from hpcest.kit.units import format_memory, format_time, parse_memory, parse_signal, parse_time
from hpcest.model.spec import Resources, RunSpec

Options = dict[str, Any]

#: sbatch's single letters.
SHORT = {
    "A": "account", "b": "begin", "C": "constraint", "c": "cpus-per-task", "D": "chdir", "d": "dependency", "e": "error",
    "F": "nodefile", "G": "gpus", "H": "hold", "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M": "clusters",
    "m": "distribution", "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p": "partition", "q": "qos", "s": "oversubscribe",
    "S": "core-spec", "t": "time", "w": "nodelist", "W": "wait", "x": "exclude", "a": "array",
}  # fmt: skip

#: Options that would break what hpcest relies on → what to use instead.
TAKEN = {
    "output": "logs lie in the run folder: hpcest logs RUN",
    "error": "logs lie in the run folder: hpcest logs RUN",
    "input": "give the program its input by a file: --input NAME=DATA",
    "open-mode": "each attempt has logs of its own",
    "chdir": "a program starts in a copy of its source directory",
    "wrap": "use a command line: command: in a job file",
    "array": "use --array",
    "parsable": "hpcest submit prints the run's id",
    "test-only": "use --check",
    "wait": "use --follow, or hpcest wait RUN",
    "nodes": "use --nodes",
    "ntasks": "use --nodes and --procs-per-node",
    "ntasks-per-node": "use --procs-per-node",
    "cpus-per-task": "use --cpus",
}
_OWN_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_OWN_GPUS = ("gpus-per-node", "gpus", "gpus-per-task", "gres")


def requested(spec: RunSpec, target: SlurmOptions) -> Options:
    """The sbatch options of a run, by their long names. True is an option without a value. Raises SpecError."""
    given = _given(spec, target)
    given.pop("signal", None)  # see warning()
    asked = {**_of_target(target), **_of_resources(spec.resources, target, given)}
    for name, value in given.items():
        asked.pop(name, None)
        if value is not None and value is not False:
            asked[name] = value
    asked.update(_of_requeue(spec, target))
    return asked


def _given(spec: RunSpec, target: SlurmOptions) -> Options:
    return {**_named(target.sbatch), **_named(spec.options)}


def _named(options: Mapping[str, Any]) -> Options:
    """``options`` by their long names. Raises SpecError for those that hpcest sets itself."""
    named = {}
    for name, value in options.items():
        plain = name.lstrip("-").replace("_", "-")
        long = SHORT.get(plain, plain)
        if long in TAKEN:
            raise SpecError(f"sbatch option {name!r} is set by hpcest", hint=TAKEN[long])
        if not long.replace("-", "").isalnum() or any(symbol in str(value) for symbol in "\n\0"):
            raise SpecError(f"{name!r}: {value!r} is no sbatch option", hint="write it as sbatch does, without the dashes: mail-type=END")
        named[long] = value
    return named


def _of_target(target: SlurmOptions) -> Options:
    names = ("partition", "account", "qos", "constraint", "reservation", "gres")
    return {name: getattr(target, name) for name in names if getattr(target, name)}


def _of_resources(resources: Resources, target: SlurmOptions, given: Options) -> Options:
    alone = resources.nodes == resources.procs_per_node == 1  # which is what Slurm gives to who asks for nothing
    asked: Options = {} if alone else {"nodes": resources.nodes, "ntasks-per-node": resources.procs_per_node}
    if cpus := resources.cpus or target.cpus:
        asked["cpus-per-task"] = cpus
    memory = resources.memory or (parse_memory(target.memory) if target.memory else None)
    if memory and not any(name in given for name in _OWN_MEMORY):
        asked["mem"] = format_memory(memory)
    seconds = resources.time or (parse_time(target.time, bare="min") if target.time else None)
    if seconds:
        asked["time"] = format_time(max(60, seconds))  # Slurm counts minutes
    if resources.gpus and not any(name in given for name in _OWN_GPUS):
        asked.update(_gpus(resources.gpus, target.gpu_option))
    return asked


def _gpus(count: int, how: str) -> Options:
    option, _, value = how.partition("=")
    if option == "gres":
        return {"gres": f"{value or 'gpu'}:{count}"}
    return {option: f"{value}:{count}" if value else count}


#: What the batch script gets from Slurm ahead of the end; the ranks get the signal that the user chose.
WARNING = "USR2"
WARN_S = 120


def warning(spec: RunSpec, target: SlurmOptions) -> tuple[str, int] | None:
    """The signal for the ranks and how many seconds before the time limit; None where nobody asked. Raises SpecError."""
    written = str(_given(spec, target).get("signal") or "")
    name, lead = parse_signal(spec.requeue.signal or written or target.signal)
    if not name and not most_requeues(spec, target):
        return None
    times = (spec.requeue.warn, lead, target.warn, WARN_S)
    return name or "USR1", next(seconds for seconds in times if seconds is not None)


def time_limit(asked: Mapping[str, Any]) -> int | None:
    """The time limit in seconds that sbatch is asked for; None where the partition's counts."""
    try:
        return parse_time(str(asked["time"]), bare="min") or None
    except (KeyError, SpecError):
        return None


def most_requeues(spec: RunSpec, target: SlurmOptions) -> int | None:
    """How often the run may start again; None leaves that to Slurm."""
    return spec.requeue.max_requeues if spec.requeue.max_requeues is not None else target.max_requeues


def _of_requeue(spec: RunSpec, target: SlurmOptions) -> Options:
    asked: Options = {}
    most = most_requeues(spec, target)
    if most is not None:
        asked["requeue" if most else "no-requeue"] = True
    if warn := warning(spec, target):
        asked["signal"] = f"B:{WARNING}@{warn[1]}"
    return asked
