"""A workspace whose runs go to the real test cluster, seen through the real command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import RunFolder
from tests.cluster.fixtures import Slurm
from tests.lifecycle.conftest import Answer, Site

#: How long a test waits for what has to come: the machine may be busy, and jobs of other tests first in the queue.
PATIENCE_S = 200.0

#: Every program begins with it: it leaves a line, outside of the run, for each rank of each attempt that starts.
START = """\
import os, signal, sys, time
rank, attempt = int(os.environ.get('RANK', 0)), int(os.environ['HPCEST_ATTEMPT'])
with open(os.path.join(os.environ['STARTS'], os.environ['HPCEST_RUN_ID']), 'a') as starts:
    starts.write(f'{attempt}.{rank}\\n')
"""
CONFIGURATION = """\
default_compute: cpu
compute:
  cpu:
    backend: slurm
    cpus: 1
    memory: 200M
    time: 5
    grace: 3
    poll: 0.2
    patience: 100
"""


class ClusterSite(Site):
    """A workspace with the compute target ``cpu``, and what Slurm itself says of its runs."""

    def __init__(self, root: Path, slurm: Slurm) -> None:
        super().__init__(root)
        self.slurm = slurm
        self.started = root.parent / "starts"
        self.started.mkdir()
        self.cli("init", root).ok()
        self.configure(CONFIGURATION)

    def settings(self, **settings: object) -> None:
        """Further settings of the compute target."""
        self.configure(CONFIGURATION + "".join(f"    {name}: {json.dumps(value)}\n" for name, value in settings.items()))

    def send(self, program: str, *options: str | Path, name: str = "train.py") -> RunFolder:
        """Submit a program, detached; its run."""
        return self.run(self.send_at_once(program, *options, name=name).ok().out.strip())

    def send_at_once(self, program: str, *options: str | Path, name: str = "train.py", **more: Any) -> Answer:
        """Submit a program; what the command said."""
        script = self.write(START + program, name)
        return self.cli("submit", script, "--env-var", f"STARTS={self.started}", *options, **more)

    def starts(self, run: RunFolder) -> list[str]:
        """``attempt.rank`` of each program that was started for the run, sorted."""
        path = self.started / run.id
        return sorted(path.read_text().split()) if path.exists() else []

    def job(self, run: RunFolder) -> str:
        """The id of the run's Slurm job."""
        return str(self.show(run)["job"]["id"])

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
        """Return when it holds; fail the test when it doesn't within ``seconds``."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s in vain: {[self.show_all(), self.logs()]}"
            time.sleep(0.1)

    def until_started(self, run: RunFolder, *starts: str) -> None:
        """Return when these have begun; by default rank 0 of the first attempt."""
        self.until(lambda: set(starts or ["0.0"]) <= set(self.starts(run)))

    def ended(self, run: RunFolder, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """What is shown of a run when it has ended."""
        end = time.monotonic() + seconds
        while True:
            answer = self.cli("wait", "--timeout", "20", run.id)
            known = self.show(run)
            if known["ended"]:
                return known
            if time.monotonic() > end:  # whole, where an assertion would shorten it
                pytest.fail(f"{answer}\n{known}\n{self.told_of(run)}\n{self.logs()}")

    def told_of(self, run: RunFolder) -> str:
        """The last events of each writer, and the last lines of each rank."""
        paths = sorted([*run.events.glob("*.jsonl"), *run.path.glob("user_logs/*")])
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-1500:]}" for path in paths)

    def show_all(self) -> list[Any]:
        """Status, reason and message of every run."""
        return [(row["id"], row["status"], row.get("reason"), row.get("message")) for row in self.runs()]

    def logs(self) -> list[str]:
        """What controllers have said."""
        return [path.read_text()[-2000:] for path in self.workspace.runs.glob("*/system_logs/controller.log")]

    def log(self, run: RunFolder, rank: int = 0, attempt: int = 0, *, ranks: int = 1) -> str:
        """What a rank printed in an attempt."""
        return run.rank_log(rank, attempt, ranks=ranks).read_text()


def verdict(known: dict[str, Any]) -> tuple[str, str, int]:
    """Status, reason and the number of the last attempt."""
    return known["status"], known["reason"], known["attempt"]


@pytest.fixture
def cluster(slurm: Slurm, tmp_path: Path) -> ClusterSite:
    """A workspace for the cluster with accounting, on a path with spaces and signs that sbatch would replace."""
    return _made(tmp_path, slurm)


@pytest.fixture
def bare_cluster(bare_slurm: Slurm, tmp_path: Path) -> ClusterSite:
    """A workspace for the cluster without accounting."""
    return _made(tmp_path, bare_slurm)


def _made(tmp_path: Path, slurm: Slurm) -> ClusterSite:
    return ClusterSite(tmp_path / "work space 100%j", slurm)
