"""The backend ``ssh``: starts controllers on one machine, and asks it with one call for all of its runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcest.contracts import Backend, Evidence
from hpcest.errors import BackendError, SpecError, UncertainError
from hpcest.kit.units import parse_time
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import RunSpec
from hpcest.model.status import Status

from hpcest_ssh import doctor, evidence, fetching, sending
from hpcest_ssh.connection import Connection, Pack
from hpcest_ssh.options import SshOptions
from hpcest_ssh.troubles import BrokenError

Jobs = Mapping[str, tuple[RunFolder, Mapping[str, Any]]]


class Ssh(Backend):
    """Runs on one machine that OpenSSH reaches."""

    name = "ssh"
    Options = SshOptions
    options: SshOptions

    def plan(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """Add the time limit, the grace period and the machine's Python. Raises SpecError."""
        options = self.options
        if not options.host:
            raise SpecError(f"compute target {spec.compute!r} has no host", hint=f"write compute: {{{spec.compute}: {{host: user@host}}}}")
        if spec.resources.nodes > 1:
            raise SpecError(f"compute target {spec.compute!r} is one machine, not {spec.resources.nodes}", hint="leave --nodes out")
        limit = spec.resources.time or (parse_time(options.time) if options.time else None)
        own = {"queue": None, "time": limit, "grace": options.grace, "umask": _umask(), "python": options.python}
        launch = {**launch, **own}
        if not options.shared:
            sending.refuse_built(launch, spec.environment.kind, options.host)
            if spec.environment.kind == "host" and not spec.environment.interpreter:
                launch = sending.with_own_python(launch, options.python)
        shown = {"host": options.host, "shared": options.shared, "slots": options.slots}
        return Plan(folder.id, spec.compute, self.name, launch, shown)

    # ------------------------------------------------------------------ the start
    def submit(self, plan: Plan, folder: RunFolder) -> Mapping[str, Any]:
        """Have the machine start the run, or put it into its queue. Raises BackendError."""
        return next(iter(self.submit_all([(plan, folder)])))

    def submit_all(self, plans: Sequence[tuple[Plan, RunFolder]], *, at_once: int | None = None) -> Iterator[Mapping[str, Any]]:
        """The same of many, with one call. How many run at once is the target's ``slots``."""
        connection = Connection(self.options)
        if self.options.shared:
            self._start(connection, plans, "")
            yield from ({"id": folder.id, "host": self.options.host, "folder": str(folder.path)} for _, folder in plans)
            return
        parcel = sending.Parcel(plans)
        known = connection.ask({"do": "lacks", "root": self._root(parcel.workspace), "names": parcel.names()})
        if known["lacks"]:
            self.say(f"{self.options.host}: {len(known['lacks'])} files are sent")
        self._start(connection, plans, known["root"], lambda out: parcel.pack(known["root"], known["lacks"], out))
        for _, folder in plans:
            there = os.path.join(known["root"], folder.path.relative_to(parcel.root))
            yield {"id": folder.id, "host": self.options.host, "folder": there}

    def _start(self, connection: Connection, plans: Sequence[tuple[Plan, RunFolder]], root: str, pack: Pack | None = None) -> None:
        """Raises UncertainError where the machine may have started them: nothing is started twice, so that can be found out."""
        request = {"do": "start", "root": root, "umask": _umask(), "runs": [self._run(plan, folder, root) for plan, folder in plans]}
        try:
            connection.ask(request, pack)
        except BrokenError as error:
            hint = "whether it was started will be known when the machine can be asked again: hpcest runs"
            raise UncertainError(error.message, hint=hint) from error

    def _run(self, plan: Plan, folder: RunFolder, root: str) -> dict[str, Any]:
        boot = os.path.join(plan.launch["runtime"], "hpcest", "onnode", "boot.py")
        old = str(plan.launch["workspace"])
        there = [root + path[len(old) :] if root else path for path in (boot, str(folder.path))]
        return {"id": folder.id, "boot": there[0], "folder": there[1], "slots": self.options.slots}

    def _root(self, workspace: WorkspaceFolder) -> str:
        """Where a workspace is there: in a folder of its own, by its name and path."""
        import hashlib

        key = hashlib.sha256(f"{os.uname().nodename}:{os.getuid()}:{workspace.root}".encode()).hexdigest()[:8]
        return os.path.join(self.options.workspace, f"{workspace.root.name}-{key}")

    # ------------------------------------------------------------------ what becomes of it
    def look(self, jobs: Jobs) -> Mapping[str, Evidence]:
        """Ask the machine once for all runs. One that can't be asked says nothing about any of them."""
        try:
            return self._look(jobs, told=True)
        except BackendError as error:
            return dict.fromkeys(jobs, Evidence(message=f"{error.message}; this is what was known last"))

    def _look(self, jobs: Jobs, *, told: bool) -> dict[str, Evidence]:
        shared = self.options.shared
        runs = []
        for run_id, (folder, job) in jobs.items():
            cancel = folder.cancel.exists() and not (told and shared)
            facts = {"id": run_id, "folder": self._there(folder, job), "cancel": cancel, "told": told}
            runs.append({**facts, "have": None if shared else fetching.have(folder)})
        with Connection(self.options).call({"do": "look", "umask": _umask(), "runs": runs}) as answer:
            whole: Mapping[str, bool] = {}
            if not shared:
                whole = fetching.receive(answer, {run_id: folder for run_id, (folder, _) in jobs.items()})
            return {run_id: self._evidence(run_id, jobs[run_id], found, whole) for run_id, found in answer.head["runs"].items()}

    def _evidence(self, run_id: str, job: tuple[RunFolder, Mapping[str, Any]], found: Any, whole: Mapping[str, bool]) -> Evidence:
        said = evidence.of(self.options.host, found, submitted=bool(job[1]), shared=self.options.shared)
        if said.status not in (None, Status.NOT_STARTED) and not job[1]:  # who submitted it never learnt that it was taken
            said.facts["job"] = {"id": run_id, "host": self.options.host, "folder": self._there(*job)}
        if said.status and said.status.finished and not whole.get(run_id, True):
            return Evidence(Status.RUNNING, message="has ended; its files are still coming", facts=said.facts)
        return said

    def _there(self, folder: RunFolder, job: Mapping[str, Any]) -> str:
        if job.get("folder") or self.options.shared:
            return str(job.get("folder") or folder.path)
        workspace = WorkspaceFolder(folder.path.parents[2])
        return os.path.join(self._root(workspace), folder.path.relative_to(workspace.root))

    # ------------------------------------------------------------------ its end
    def cancel(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        """Tell the run's controller to end it. Raises BackendError."""
        return self.cancel_all({folder.id: (folder, job)})[folder.id]

    def cancel_all(self, jobs: Jobs) -> Mapping[str, Evidence]:
        """The same of many, with one call. A machine that can't be told now is told with the next look that reaches it."""
        for folder, _ in jobs.values():
            with contextlib.suppress(OSError):
                folder.cancel.touch()
        try:
            return self._look(jobs, told=False)
        except BackendError as error:
            raise BackendError(
                f"{', '.join(jobs)} can't be told to end now: {error.message}", hint="the request is kept: ask again when it can be reached"
            ) from error

    def findings(self, folder: Path) -> Iterable[tuple[str, str, str, str]]:
        """What ``hpcest doctor`` says of the machine."""
        root = str(folder) if self.options.shared else self._root(WorkspaceFolder(folder))
        return doctor.findings(Connection(self.options), folder, root)


def _umask() -> int:
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status", encoding="utf-8") as lines:
        return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)
    return 0o077
