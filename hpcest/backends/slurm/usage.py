"""What jobs have used, by the accounting: time, cores, memory, GPUs, and whether most of it lay idle."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from hpcest.backends.slurm.queries import CHUNK, EARLIER_S, bases, tasks
from hpcest.backends.slurm.surroundings import for_asking
from hpcest.kit.process import run

_FIELDS = "JobID,ElapsedRaw,TotalCPU,MaxRSS,TRESUsageInTot,AllocTRES"
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
#: Below these parts most of what was asked for lay idle; shorter runs say nothing.
IDLE_PART, LEAST_S = 0.25, 60.0
#: Nobody asks for less memory than that, and what a job needs should have some room.
LEAST_MB, SPARE = 256.0, 1.5
YEAR_S = 366 * 86400.0


def usage(
    environ: Mapping[str, str], ids: Iterable[str], *, since: float = 0.0, cluster: str = "", timeout: float = 20.0
) -> dict[str, dict[str, Any]]:
    """Job id → what it used, by sacct. Empty where there is no accounting, or it doesn't answer; never raises.

    ``elapsed_s``, ``cpu_s`` (all cores together), ``peak_memory_mb`` (the largest process or task), ``used_memory_mb``
    (the largest step, all its tasks together), and what it had: ``cores``, ``memory_mb``, ``gpus``, ``nodes``. What isn't
    known is left out. Of a job that was requeued: its last attempt. ``since`` bounds the search, in epoch seconds.
    """
    wanted = set(ids)
    whole = sorted(bases(wanted))
    found: dict[str, dict[str, Any]] = {}
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - EARLIER_S if since else time.time() - YEAR_S))
    where = ["-M", cluster] if cluster else []
    for at in range(0, len(whole), CHUNK):
        argv = ["sacct", "-n", "-P", "-S", start, *where, "-j", ",".join(whole[at : at + CHUNK]), "-o", _FIELDS]
        done = run(argv, env=for_asking(environ), timeout=timeout)
        if not done.ok:
            break
        for line in done.out.splitlines():
            _add(found, line.split("|"))
    return {job: facts for job, facts in found.items() if job in wanted}


def idle_hint(usage: Mapping[str, Any]) -> str:
    """A sentence with a better request, where most of what a job asked for lay idle; empty where it did not."""
    elapsed, cores = _number(usage, "elapsed_s"), _number(usage, "cores")
    if elapsed <= LEAST_S:
        return ""
    idle, better = [], []
    if cores > 1 and "cpu_s" in usage:
        busy = _number(usage, "cpu_s") / elapsed
        if busy / cores < IDLE_PART:
            idle.append(f"{busy / cores:.0%} of its {cores:g} cores")
            better.append(f"{max(1, ceil(busy))} of them")
    used, had = _number(usage, "used_memory_mb") or _number(usage, "peak_memory_mb"), _number(usage, "memory_mb")
    if used and had >= LEAST_MB and used / had < IDLE_PART:
        idle.append(f"{used / had:.0%} of its {_memory(had)} of memory")
        better.append(_memory(max(used * SPARE, LEAST_MB)))
    if not idle:
        return ""
    return f"it used {' and '.join(idle)}; asking for {' and '.join(better)} lets it start sooner"


def _add(found: dict[str, dict[str, Any]], row: list[str]) -> None:
    """Add a line of sacct: the job's own, or one of its steps, which know the memory."""
    if len(row) != _FIELDS.count(",") + 1:
        return  # a banner
    task, elapsed, cpu, largest, in_all, had = row
    job, _, step = task.partition(".")
    if tasks(job) != [job]:
        return
    facts = found.setdefault(job, {})
    if step:
        _raise(facts, "peak_memory_mb", _megabytes(largest))
        _raise(facts, "used_memory_mb", _megabytes(_tres(in_all).get("mem", "")))
        return
    given = _tres(had)
    gpus = given.get("gres/gpu") or given.get("gpu") or ""
    known = {
        "elapsed_s": float(elapsed) if elapsed.isdigit() else None,
        "cpu_s": seconds(cpu),
        "cores": _whole(given.get("cpu", "")),
        "nodes": _whole(given.get("node", "")),
        "gpus": _whole(gpus),
        "memory_mb": _megabytes(given.get("mem", "")),
    }
    facts.update({name: value for name, value in known.items() if value is not None})


def seconds(text: str) -> float | None:
    """A time as sacct prints it, ``1-02:03:04`` or ``03:04.567``, in seconds; None for anything else."""
    clock = _CLOCK.fullmatch(text.strip())
    if not clock:
        return None
    days, hours, minutes, rest = (float(part or 0) for part in clock.groups())
    return round(days * 86400 + hours * 3600 + minutes * 60 + rest, 3)


def _tres(text: str) -> dict[str, str]:
    """``cpu=8,mem=4G,gres/gpu=2`` as a mapping. A GPU may stand there a second time with its type."""
    return {name: value for name, _, value in (part.partition("=") for part in text.split(",")) if value}


def _megabytes(text: str) -> float | None:
    """An amount such as ``123456K`` or ``4G`` in megabytes; a number without a unit is bytes. None where there is none."""
    amount = re.fullmatch(r"([0-9.]+)([KMGTP]?)[nc]?", text.strip())
    if not amount or not amount[1].strip("."):
        return None
    scale = {"": 1 / 1048576, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
    try:
        return round(float(amount[1]) * scale[amount[2]], 1)
    except ValueError:
        return None


def _raise(facts: dict[str, Any], name: str, value: float | None) -> None:
    if value:
        facts[name] = max(value, facts.get(name, 0.0))


def _whole(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _number(usage: Mapping[str, Any], name: str) -> float:
    value = usage.get(name)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _memory(megabytes: float) -> str:
    """For people: ``4G``, ``1.5G``, ``300M``."""
    return f"{megabytes / 1024:.3g}G" if megabytes >= 1024 else f"{ceil(megabytes)}M"
