"""The backend ``slurm``: one job, or one task of a job array, for each run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcest.backends.slurm import request, surroundings
from hpcest.backends.slurm.options import SlurmOptions
from hpcest.backends.starting import submitted_environment
from hpcest.contracts import Allocation, Backend, Evidence
from hpcest.errors import BackendError
from hpcest.hookspecs import hookimpl
from hpcest.kit import process
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import RunSpec

#: So long after a cancel an answer is soon out of date: Slurm ends many jobs one after the other.
SETTLING_S = 20.0
Jobs = Mapping[str, tuple[RunFolder, Mapping[str, Any]]]


class Slurm(Backend):
    """Runs as Slurm jobs: a controller in the batch step, and one srun that starts the ranks."""

    name = "slurm"
    Options = SlurmOptions
    orders = True
    gathers = True
    options: SlurmOptions

    # ------------------------------------------------------------------ before the job is there
    def plan(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """Decide on the launcher, the sbatch options and the script. Raises SpecError."""
        from hpcest.backends.slurm.launching import launcher
        from hpcest.backends.slurm.script import controller_command, pattern, script_text

        asked = request.requested(spec, self.options)
        name = job_name(spec, folder.id, str(asked.pop("job-name", "")))
        own: dict[str, Any] = {
            "python": self.options.python or sys.executable,
            "time": None,
            "grace": self.options.grace,
            "queue": None,
            "job_name": name,
            "max_requeues": request.most_requeues(spec, self.options),
            "launcher": launcher(spec, launch, self.options),
        }
        if warning := request.warning(spec, self.options):
            own["signal"], own["warn"] = warning
            own["limit"] = request.time_limit(asked)
        site = self._site()
        own.update(kill_wait=site.kill_wait, binds=list(site.mpi_dirs))
        launch = {**launch, **own}
        if dependency := _dependency(launch.get("after") or (), asked.get("dependency")):
            asked["dependency"] = dependency
            asked.setdefault("kill-on-invalid-dep", "no")  # we say why ourselves, before Slurm forgets the job
        asked |= {"job-name": name, "output": pattern(folder.controller_log), "open-mode": "append"}
        script = script_text(folder.path, asked, self.options.setup, controller_command(launch, folder.launch))
        return Plan(folder.id, spec.compute, self.name, launch, {"sbatch": asked, "setup": list(self.options.setup)}, script=script)

    @classmethod
    def inside(cls, environ: Mapping[str, str]) -> Allocation | None:
        """The job that this process is part of."""
        from hpcest.backends.slurm.allocation import allocation

        return allocation(environ)

    def attach(self, spec: RunSpec, launch: dict[str, Any], folder: RunFolder) -> Plan:
        """The plan of a run that becomes a step of the job that we are in."""
        from hpcest.backends.slurm.allocation import own_launch

        return Plan(folder.id, spec.compute, self.name, {**launch, **own_launch(spec, launch, self.options)})

    def script(self, spec: RunSpec, command: str) -> str:
        """A batch script with what ``spec`` asks for; its output goes where sbatch puts it."""
        from hpcest.backends.slurm.script import script_text

        asked = request.requested(spec, self.options)
        asked["job-name"] = str(asked.get("job-name") or job_name(spec, "").rstrip("."))
        if request.most_requeues(spec, self.options):
            asked["open-mode"] = "append"
        return script_text(Path.cwd(), asked, self.options.setup, command)

    @property
    def _environ(self) -> dict[str, str]:
        return surroundings.scrubbed(submitted_environment(), self.options.keep_env)

    def check(self, plan: Plan, folder: RunFolder) -> str:
        """What ``sbatch --test-only`` says of the script: when the job would start, and where."""
        from hpcest.backends.slurm.refusals import own_words

        done = process.run(["sbatch", "--test-only", "/dev/stdin"], env=self._environ, stdin=plan.script, timeout=60)
        said = own_words(done.err or done.out)
        if not done.ok:
            raise BackendError(f"Slurm would refuse the job: {said}")
        return said

    def submit(self, plan: Plan, folder: RunFolder) -> Mapping[str, Any]:
        """Give the script to sbatch, once."""
        folder.script.write_text(plan.script)
        began = time.time()
        job = self._submission(folder.script, plan.launch["job_name"]).submit()
        return {"id": job.id, "name": plan.launch["job_name"], "submitted": began, **_where(job)}

    def _submission(self, script: Path, name: str) -> Any:
        from hpcest.backends.slurm.submission import Submission

        return Submission(script, name, self._environ, self.options.patience, self.say)

    def submit_all(self, plans: Sequence[tuple[Plan, RunFolder]], *, at_once: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Runs with equal options go into job arrays, as large as the cluster allows."""
        from hpcest.backends.slurm.arrays import chunks, write_array

        for chunk in chunks(plans, self._site().max_array_size):
            array = write_array(chunk, at_once)
            began = time.time()
            job = self._submission(array.script, array.name).submit()
            facts = {"name": array.name, "submitted": began, "array": array.id, **_where(job)}
            yield from ({"id": f"{job.id}_{number}", **facts} for number in range(len(chunk)))

    def _site(self) -> Any:
        from hpcest.backends.slurm.site import site

        return site(surroundings.for_asking())

    # ------------------------------------------------------------------ while it is there
    def look(self, jobs: Jobs) -> Mapping[str, Evidence]:
        """The run folders' own evidence first; for the rest one question to Slurm, or its last answer."""
        return self._look(jobs)

    def _look(self, jobs: Jobs, newest: float = 0.0) -> dict[str, Evidence]:
        from hpcest.backends.slurm import evidence, hastening, polling

        settled = {run_id: proof for run_id, (folder, _) in jobs.items() if (proof := evidence.proof(folder)) is not None}
        rest = {run_id: (folder, _known(folder, facts)) for run_id, (folder, facts) in jobs.items() if run_id not in settled}
        site, now = self._site(), time.time()
        newest = max([newest, *(mark + SETTLING_S for folder, _ in rest.values() if (mark := _canceled(folder)))])
        for cluster, some in _by_cluster(rest).items():
            wanted = [_wanted(folder, facts) for folder, facts in some.values()]
            answer = polling.jobs(
                surroundings.for_asking(), wanted, floor=self.options.poll, newest=newest, cluster=cluster, accounting=site.accounting
            )
            found = {run_id: evidence.evidence(folder, facts, answer, site, now) for run_id, (folder, facts) in some.items()}
            by_job = {str(facts["id"]): found[run_id].facts for run_id, (_, facts) in some.items() if facts.get("id")}
            hastening.hasten(by_job, now, surroundings.for_asking(), cluster=cluster)
            if hopeless := [job for job, facts in by_job.items() if facts.get("hopeless")]:  # an upstream run has failed
                process.run(["scancel", *_on(cluster), *hopeless], env=surroundings.for_asking(), timeout=30)
            settled |= found
        return settled

    def cancel(self, folder: RunFolder, job: Mapping[str, Any]) -> Evidence:
        """End one run; see ``cancel_all``."""
        return self.cancel_all({folder.id: (folder, job)})[folder.id]

    def cancel_all(self, jobs: Jobs) -> Mapping[str, Evidence]:
        """Take what waits out of the queue, and have the controllers of what runs end their programs."""
        from hpcest.backends.slurm import canceling

        canceling.cancel(_by_cluster(self._ours(jobs)), surroundings.for_asking())
        return self._look(jobs, newest=time.time())

    def _ours(self, jobs: Jobs) -> Jobs:
        """``jobs``, without the ids of those whose id another job has by now: that one must not be ended."""
        from hpcest.backends.slurm import polling

        checked = {}
        for cluster, some in _by_cluster(jobs).items():
            wanted = [_wanted(folder, facts) for folder, facts in some.values()]
            answer = polling.jobs(surroundings.for_asking(), wanted, floor=self.options.poll, cluster=cluster, accounting=False)
            for run_id, (folder, facts) in some.items():
                known, name = str(facts.get("id") or ""), str(facts.get("name") or "")
                another = known in answer.views and answer.of(known, name) is None
                checked[run_id] = (folder, {**facts, "id": ""} if another else facts)
        return checked

    def usage(self, jobs: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """What Slurm's accounting says that ended runs have used; nothing where it keeps none."""
        from hpcest.backends.slurm import usage

        if not self._site().accounting:
            return {}
        clusters: dict[str, dict[str, str]] = {}
        for run_id, facts in jobs.items():
            if facts.get("id") and not facts.get("attached"):
                clusters.setdefault(str(facts.get("cluster") or ""), {})[str(facts["id"])] = run_id
        return {
            ids[job]: facts
            for cluster, ids in clusters.items()
            for job, facts in usage.usage(surroundings.for_asking(), [*ids], cluster=cluster, timeout=5.0).items()
        }

    def findings(self, folder: Path) -> Iterable[tuple[str, str, str, str]]:
        """The cluster, its limits, and whether it takes a job with these options."""
        from hpcest.backends.slurm.doctor import findings

        return findings(self.options, folder)


def _canceled(folder: RunFolder) -> float:
    """When the run was told to end; 0 if it was not."""
    try:
        return folder.cancel.stat().st_mtime
    except OSError:
        return 0.0


def _by_cluster(jobs: Jobs) -> dict[str, dict[str, tuple[RunFolder, Mapping[str, Any]]]]:
    found: dict[str, dict[str, tuple[RunFolder, Mapping[str, Any]]]] = {}
    for run_id, (folder, facts) in jobs.items():
        found.setdefault(str(facts.get("cluster") or ""), {})[run_id] = (folder, facts)
    return found


def _on(cluster: str) -> list[str]:
    """What names a cluster to Slurm's commands; nothing for the default one."""
    return [f"--clusters={cluster}"] if cluster else []


def _known(folder: RunFolder, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts of a run's job; where its submitter could not record them, the name that the job must have."""
    if facts.get("id"):
        return facts
    from hpcest.backends.slurm.arrays import task_of
    from hpcest.onnode.record import get_json

    launch = get_json(str(folder.launch))
    return {"name": str(launch.get("job_name") or "")} if launch else task_of(folder)


def _wanted(folder: RunFolder, facts: Mapping[str, Any]) -> Any:
    """How a run's job is asked for."""
    from hpcest.backends.slurm.polling import Wanted

    planned = float(facts.get("submitted") or 0)
    if not planned and folder.launch.exists():
        planned = folder.launch.stat().st_mtime
    return Wanted(str(facts.get("id") or ""), str(facts.get("name") or ""), planned)


def job_name(spec: RunSpec, run_id: str, label: str = "") -> str:
    """A name for people in squeue that no other job has: by it a job is found again."""
    text = label or spec.display_name or Path(spec.command.script).stem or spec.experiment
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)[:40]
    return f"{plain.strip('-.') or 'run'}.{run_id}"


def _where(job: Any) -> dict[str, str]:
    return {"cluster": job.cluster} if job.cluster else {}


def _dependency(after: Sequence[Mapping[str, Any]], asked: Any) -> str:
    words = {"ok": "afterok", "any": "afterany", "failed": "afternotok"}
    parts = [f"{words[one['condition']]}:{one['id']}" for one in after]
    return ",".join(filter(None, [*parts, str(asked or "")]))


@hookimpl
def hpcest_register_backends() -> Sequence[type[Backend]]:
    """Register the backend ``slurm``."""
    return [Slurm]
