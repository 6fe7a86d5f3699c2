"""Giving a script to sbatch exactly once: settled by the job's name whenever sbatch's answer is not clear."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcest.backends.slurm import queries
from hpcest.backends.slurm.refusals import Kind, kind_of, own_words
from hpcest.backends.slurm.script import executor, executor_class
from hpcest.contracts import Say
from hpcest.errors import BackendError, UncertainError
from hpcest.kit import process

#: sbatch itself tries for a while to reach a busy slurmctld.
SBATCH_S = 60.0
#: Pauses between looks for a job that may have been accepted; an answer may be late, not lost.
_LOOKS = (0.2, 0.5, 1.0, 2.0, 4.0)
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)


@dataclass(frozen=True)
class Accepted:
    """A job that Slurm has: its id, and the cluster where that isn't the usual one."""

    id: str
    cluster: str = ""
    adopted: bool = False


@dataclass(frozen=True)
class Submission:
    """One script under a name that no other job has; ``patience`` is how many seconds to go on trying."""

    script: Path
    name: str
    environ: Mapping[str, str]
    patience: float
    say: Say

    def submit(self) -> Accepted:
        """Have Slurm accept the script once. Raises BackendError with sbatch's own words."""
        began, since, shown = time.monotonic(), time.time(), ""
        for number in range(1_000_000):
            done = self._sbatch()
            if done.ok:
                accepted = self._read(done.out) or self._found(since)
                if accepted:
                    return accepted
                raise BackendError(
                    f"sbatch's answer can't be read, and Slurm has no job of the name {self.name}: {done.out!r}",
                    hint="see 'squeue --me'; the run can be submitted again with 'hpcest rerun'",
                )
            kind, words = kind_of(done.err), own_words(done.err or done.out)
            if kind is Kind.REFUSED:
                raise BackendError(f"Slurm refused the job: {words}", hint=_hint(words))
            if kind is Kind.UNCERTAIN and (accepted := self._found(since)):
                return accepted
            pause = _PAUSES[min(number, len(_PAUSES) - 1)]
            if time.monotonic() - began + pause > self.patience:
                raise BackendError(
                    f"Slurm did not take the job in {self.patience:.0f} s: {words}", hint="submit it again later: hpcest rerun"
                )
            if words != shown:
                self.say(f"Slurm does not take the job now ({words}); trying again until it does; Ctrl-C gives up")
                shown = words
            time.sleep(pause)
        raise AssertionError("not reached")

    def _sbatch(self) -> process.Finished:
        argv = executor(self.script.parent, {}, ())._make_submission_command(self.script)
        return process.run(argv, cwd=self.script.parent, env=self.environ, timeout=SBATCH_S)

    @staticmethod
    def _read(answer: str) -> Accepted | None:
        try:
            job, _, cluster = executor_class()._get_job_id_from_submission_command(answer).partition(";")
        except ValueError:
            return None
        return Accepted(job, cluster)

    def _found(self, since: float) -> Accepted | None:
        """The job of our name, if Slurm has one. While it can't be asked that isn't known, and waiting goes on."""
        end = time.monotonic() + self.patience
        looks, problem = 0, ""
        while looks < len(_LOOKS) and time.monotonic() < end:
            time.sleep(_LOOKS[looks])
            try:
                views = queries.find(self.environ, self.name, since)
            except BackendError as error:
                if error.message != problem:
                    problem = error.message
                    self.say(f"Slurm can't be asked whether it has the job ({problem}); asking again")
                time.sleep(_LOOKS[-1])
                continue
            if views:
                job = min(views, key=lambda view: int(view.id.partition("_")[0])).id.partition("_")[0]
                self.say(f"Slurm has the job after all: {job}")
                return Accepted(job, adopted=True)
            looks += 1
        if problem and not looks:
            raise UncertainError(f"it is not known whether Slurm has the job {self.name}: {problem}", hint="look later: hpcest show RUN")
        return None


def _hint(words: str) -> str:
    """The next step for what Slurm says most."""
    hints = {
        "partition": "set 'partition' in the compute target, or -S partition=NAME; sinfo lists them",
        "account": "set 'account' in the compute target, or -S account=NAME; 'sacctmgr show assoc user=$USER' lists yours",
        "qos": "set 'qos' in the compute target, or -S qos=NAME",
        "node configuration": "ask for less: --nodes, --cpus, --mem, --gpus; 'sinfo -Nel' shows what nodes have",
        "time limit": "ask for less time: --time",
    }
    return next((hint for word, hint in hints.items() if word in words.lower()), "change what sbatch names, then: hpcest rerun RUN")
