"""squeue and sacct: one call for many jobs, explicit separators, times as numbers, and no --json."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hpcest.backends.slurm.states import word
from hpcest.backends.slurm.surroundings import for_asking
from hpcest.errors import BackendError
from hpcest.kit.process import Finished, run

CHUNK = 50
#: Jobs are looked for from a day before: clocks differ, and sacct takes local times.
EARLIER_S = 86400.0
_MOST_TASKS = 100_000

_LONG = [
    "JobArrayID",
    "JobID",
    "State",
    "Reason",
    "StartTime",
    "SubmitTime",
    "EndTime",
    "RestartCnt",
    "exit_code",
    "NodeList",
    "Dependency",
    "Name",
]
_SHORT = "%i|%A|%T|%r|%S|%V|%e|||%N|%E|%j|"
_SACCT = "JobID,State,Reason,Start,Submit,End,ExitCode,NodeList,JobName"
_ID = re.compile(r"[0-9]+(?:[_+][0-9\[][^|]*)?")


class QueryError(BackendError):
    """Slurm could not be asked; the message has the tool's own words."""


class JobView(NamedTuple):
    """What squeue or sacct says of one job, or of one task of an array.

    ``id`` is ``123`` or ``123_4``, ``state`` a whole word. Times are epoch seconds: ``start`` may be an
    estimate while the job waits. ``exit`` is ``code:signal``, or empty; ``restarts`` None where not told.
    """

    id: str
    name: str
    state: str
    reason: str = ""
    start: float | None = None
    submitted: float | None = None
    end: float | None = None
    nodes: str = ""
    exit: str = ""
    restarts: int | None = None
    source: str = "squeue"
    dependency: str = ""


def squeue(environ: Mapping[str, str], *, cluster: str = "", name: str = "", timeout: float = 30.0) -> list[JobView]:
    """All jobs of this user that slurmctld remembers, each task of an array for itself. Raises QueryError.

    ``name`` limits them to one job name, ``cluster`` asks another cluster than the default one.
    """
    narrow = [*_on(cluster), *([f"--name={name}"] if name else [])]
    base = ["squeue", "-h", "-r", "-t", "all", *narrow]
    layout = ",".join(f"{field}:|" for field in _LONG)
    env = for_asking(environ)
    done = run([*base, "--me", "-O", layout], env=env, timeout=timeout)
    if not done.ok and re.search(r"unrecognized option|invalid option|[Ii]nvalid (job )?(format|field)", done.err):
        done = run([*base, "-u", str(os.getuid()), "-o", _SHORT], env=env, timeout=timeout)  # before 20.02
    return list(_read(done, _of_squeue, len(_LONG)))


def sacct(environ: Mapping[str, str], ids: Iterable[str], since: float, *, cluster: str = "", timeout: float = 30.0) -> list[JobView]:
    """What the accounting knows of jobs that were submitted after ``since``, the newest row of each. Raises QueryError.

    An array's id stands for all of its tasks.
    """
    wanted = set(ids)
    whole = sorted(bases(wanted))
    found: list[JobView] = []
    for at in range(0, len(whole), CHUNK):
        found += _sacct(environ, ["-j", ",".join(whole[at : at + CHUNK])], since, cluster=cluster, timeout=timeout)
    return [view for view in found if view.id in wanted or view.id.partition("_")[0] in wanted]


def bases(ids: Iterable[str]) -> set[str]:
    """The ids of the jobs and whole arrays of ``ids``: sacct doesn't find a task of an array before it started."""
    return {one.partition("_")[0] for one in ids}


def sacct_named(
    environ: Mapping[str, str], names: Iterable[str], since: float, *, cluster: str = "", timeout: float = 30.0
) -> list[JobView]:
    """The same by job names, of this user's jobs. Raises QueryError."""
    wanted = list(dict.fromkeys(names))
    found: list[JobView] = []
    for at in range(0, len(wanted), CHUNK):
        chosen = ["-u", str(os.getuid()), "--name", ",".join(wanted[at : at + CHUNK])]
        found += _sacct(environ, chosen, since, cluster=cluster, timeout=timeout)
    return found


def find(environ: Mapping[str, str], name: str, since: float, *, cluster: str = "", timeout: float = 30.0) -> list[JobView]:
    """The jobs named ``name`` that were submitted after ``since``: of the queue, else of the accounting.

    An empty list means that there is none, as far as Slurm remembers. Raises QueryError where the queue can't be asked;
    without an accounting there is nothing more to ask.
    """
    here = [view for view in squeue(environ, cluster=cluster, name=name, timeout=timeout) if view.name == name]
    if here:
        return here
    try:
        return [view for view in sacct_named(environ, [name], since, cluster=cluster, timeout=timeout) if view.name == name]
    except QueryError:
        return []


def moment(text: str) -> float | None:
    """A time that a tool printed, in epoch seconds; None for ``N/A``, ``Unknown``, ``None`` and the like."""
    text = text.strip()
    if text.isdigit():
        return float(text) or None
    try:  # a version, or a wrapper, that ignores SLURM_TIME_FORMAT
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def tasks(text: str) -> list[str]:
    """The ids in the id of a job record: ``7``, ``7_3``, ``7_[1,4-8:2%3]``; none for steps and parts of heterogeneous jobs.

    Of a list that a tool has cut off (``7_[1,3,...]``) those that can be read.
    """
    if re.fullmatch(r"[0-9]+(?:_[0-9]+)?", text):
        return [text]
    array = re.fullmatch(r"([0-9]+)_\[([^%\]]*)(?:%[0-9]*)?\]?", text)
    if not array:
        return []
    found: list[str] = []
    for first, last, step in re.findall(r"(?<![0-9.])([0-9]+)(?:-([0-9]+)(?::([0-9]+))?)?(?=,|$)", array[2]):
        numbers = range(int(first), int(last or first) + 1, int(step or 1) or 1)
        found += [f"{array[1]}_{number}" for number in numbers[: _MOST_TASKS - len(found)]]
    return found


def exit_of(text: str) -> str:
    """An exit as ``code:signal``, from that or from the status of wait() that squeue prints."""
    text = text.strip()
    if not text.isdigit():
        return text if re.fullmatch(r"[0-9]+:[0-9]+", text) else ""
    status = int(text)
    return f"0:{status & 127}" if status & 127 else f"{status >> 8 & 255}:0"


def _on(cluster: str) -> list[str]:
    return ["-M", cluster] if cluster else []


def _sacct(environ: Mapping[str, str], chosen: Sequence[str], since: float, *, cluster: str, timeout: float) -> list[JobView]:
    from_day = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(max(0.0, since - EARLIER_S)))
    argv = ["sacct", "-X", "-n", "-P", "-D", "-S", from_day, *_on(cluster), *chosen, "-o", _SACCT]
    done = run(argv, env=for_asking(environ), timeout=timeout)
    rows: dict[tuple[str, str], list[JobView]] = {}
    for view in _read(done, _of_sacct, _SACCT.count(",") + 1):
        rows.setdefault((view.id, view.name), []).append(view)
    return [_last(same) for same in rows.values()]


def _last(rows: list[JobView]) -> JobView:
    """Of a job that was requeued, which has a row for each start, the last one; it isn't always printed last.

    A task that was ever started by itself has rows of its own beside the one of its whole array.
    """
    own = [view for view in rows if view.restarts is not None] or rows
    return max(own, key=lambda view: view.submitted or 0.0)._replace(restarts=len(own) - 1)


def _read(done: Finished, convert: Callable[[list[str]], Iterator[JobView]], width: int) -> Iterator[JobView]:
    """The records in what a tool printed. Lines that are none (banners, clusters) are passed over."""
    if not done.ok:
        raise QueryError(_words(done))
    lines = [line for line in done.out.splitlines() if line.strip()]
    parts = [line.split("|", width - 1) for line in lines]
    rows = [row for row in parts if len(row) == width and _ID.fullmatch(row[0].strip())]
    if lines and not rows and not all(line.startswith("CLUSTER:") for line in lines):
        raise QueryError(f"{done.argv[0]} printed what can't be read: {lines[0][:200]!r}", hint="is it a wrapper? see 'hpcest doctor'")
    for row in rows:
        yield from convert(row)


def _words(done: Finished) -> str:
    """What the tool said, or how it ended."""
    said = [line.strip() for line in (done.err or done.out).splitlines() if line.strip()]
    return "; ".join(said[-3:])[:500] or f"{done.argv[0]} ended with code {done.code}"


def _of_squeue(row: list[str]) -> Iterator[JobView]:
    task, _, state, reason, start, submit, end, restarts, code, nodes, needs, name = row
    count = int(restarts) if restarts.strip().isdigit() else None
    rest = (_given(reason), moment(start), moment(submit), moment(end), _given(nodes), exit_of(code), count, "squeue", _given(needs))
    for one in tasks(task.strip()):
        yield JobView(one, name.rstrip().removesuffix("|"), word(state), *rest)


def _of_sacct(row: list[str]) -> Iterator[JobView]:
    task, state, reason, start, submit, end, code, nodes, name = row
    count = None if "[" in task else 0
    rest = (_given(reason), moment(start), moment(submit), moment(end), _given(nodes), exit_of(code), count, "sacct")
    for one in tasks(task.strip()):
        yield JobView(one, name, word(state), *rest)


def _given(text: str) -> str:
    text = text.strip()
    return "" if text in ("(null)", "None", "N/A", "n/a", "None assigned", "NULL") else text
