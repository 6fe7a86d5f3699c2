"""The backend for this machine: a queue without a daemon, and evidence only where there is some."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcest.backends import local, starting
from hpcest.backends.local import Local, LocalOptions
from hpcest.errors import BackendError, HpcestError, SpecError
from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.lifecycle.snapshot import take_snapshot
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.folders import RunFolder, WorkspaceFolder
from hpcest.model.plan import Plan
from hpcest.model.spec import Command, Distribution, Resources, RunSpec
from hpcest.model.status import Reason, Status
from hpcest.onnode import allreduce, processes
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import get_json, put_json

Wait = Any


class Bench:
    """Plans for programs, made as the steps before would have made them."""

    def __init__(self, root: Path) -> None:
        self.workspace: WorkspaceFolder = create_workspace(root / "space")
        self.source = root / "source"
        self.source.mkdir()
        self.distribution: Distribution | None = None

    def plan(self, program: str, backend: Local, resources: Resources | None = None, **changes: Any) -> tuple[Plan, RunFolder]:
        """A plan for ``program``, and the folder of its run."""
        (self.source / "train.py").write_text(program)
        snapshot = take_snapshot(self.source, self.workspace).digest
        folder = self.workspace.run(new_run_id())
        for part in (folder.events, folder.state, folder.system_logs):
            part.mkdir(parents=True)
        manifest = {"manifest": str(self.workspace.manifest(snapshot)), "objects": str(self.workspace.objects), "stamp": int(time.time())}
        launch = {
            "run": folder.id, "folder": str(folder.path), "workspace": str(self.workspace.root), "experiment": "bench",
            "runtime": str(travelling_runtime(self.workspace)), "python": sys.executable,
            "snapshot": manifest,
            "nodes": 1, "procs_per_node": 1, "per": "process", "prefix": [], "argv": [sys.executable, "train.py"],
            "variables": {}, "path": [], "unset": [], **changes,
        }  # fmt: skip
        spec = RunSpec("bench", Command("train.py"), resources=resources or Resources(), distribution=self.distribution)
        plan = backend.plan(spec, launch, folder)
        put_json(str(folder.launch), plan.launch)
        return plan, folder


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def look(backend: Local, folder: RunFolder, job: Mapping[str, Any]) -> tuple[Status | None, Reason]:
    evidence = backend.look({folder.id: (folder, job)})[folder.id]
    return evidence.status, evidence.reason


def backend(**options: Any) -> Local:
    return Local(LocalOptions(**{"slots": 1, **options}))


def test_from_the_queue_to_the_end(bench: Bench, wait_until: Wait) -> None:
    """One of two runs waits for the other; both complete, and whoever looks is told."""
    target = backend()
    (first, one), (second, two) = bench.plan("import time; time.sleep(0.3)", target), bench.plan("raise SystemExit(3)", target)
    jobs = {one.id: (one, target.submit(first, one)), two.id: (two, target.submit(second, two))}
    assert target.look(jobs)[two.id].status is Status.QUEUED
    assert "waits for a free slot" in target.look(jobs)[two.id].message
    wait_until(lambda: target.look(jobs)[one.id].status is Status.COMPLETED)
    wait_until(lambda: target.look(jobs)[two.id].status is Status.FAILED)

    evidence = target.look(jobs)[two.id]
    assert (evidence.reason, evidence.exit_code, evidence.message) == (Reason.USER_ERROR, 3, "the program exited with code 3")


def test_submitting_twice_runs_once(bench: Bench, wait_until: Wait) -> None:
    target = backend(slots=3)
    plan, folder = bench.plan("open('outputs/runs', 'a').write('x'); import time; time.sleep(0.2)", target)
    jobs = [target.submit(plan, folder) for _ in range(3)]
    wait_until(lambda: look(target, folder, jobs[0])[0] is Status.COMPLETED)
    target.submit(plan, folder)
    time.sleep(0.3)

    assert (folder.outputs / "runs").read_text() == "x"
    assert jobs[0] == jobs[1] == jobs[2]


def test_a_run_that_it_never_had(bench: Bench) -> None:
    """That it knows for certain; of one that it had, and that is nowhere any more, it says that it is lost."""
    target = backend()
    _, folder = bench.plan("", target)
    known = {
        "id": folder.id,
        "host": os.uname().nodename,
        "queue": str(Path(os.environ["HPCEST_LOCAL_DIR"], f"hpcest-{os.getuid()}", "queue", "default")),
    }

    assert look(target, folder, {}) == (Status.NOT_STARTED, Reason.NONE)
    assert look(target, folder, known) == (Status.FAILED, Reason.LOST)


def test_what_only_another_can_know(bench: Bench, tmp_path: Path) -> None:
    """Another host, another container, another user: no verdict."""
    target = backend()
    _, folder = bench.plan("", target)
    assert look(target, folder, {"id": folder.id, "host": "elsewhere", "queue": str(tmp_path)}) == (None, Reason.NONE)
    for change in ({"host": "elsewhere"}, {"pids": "pid:[1]"}):
        put_json(str(folder.claim(0)), {**processes.identity(), "start": 1, **change})
        assert look(target, folder, {"id": folder.id}) == (None, Reason.NONE)
    put_json(str(folder.claim(0)), {**processes.identity(), "start": 1})
    assert look(target, folder, {"id": folder.id}) == (Status.FAILED, Reason.LOST)


def test_a_queue_that_can_not_be_read(bench: Bench, tmp_path: Path) -> None:
    """As that of another user: whether the run waits there is unknown."""
    target, queue = backend(), tmp_path / "queue"
    _, folder = bench.plan("", target)
    queue.write_text("no directory")
    evidence = target.look({folder.id: (folder, {"id": folder.id, "host": os.uname().nodename, "queue": str(queue)})})[folder.id]

    assert evidence.status is None
    assert "can't be read" in evidence.message


def test_a_verdict_that_was_only_noted_counts(bench: Bench) -> None:
    """All of its processes were killed while they tidied up: how the program ended is known nonetheless."""
    target = backend()
    _, folder = bench.plan("", target)
    put_json(str(folder.claim(0)), {**processes.identity(), "start": 1})
    put_json(f"{folder.sentinel(0)}.tmp", {"status": "Completed", "reason": "", "message": "", "rc": 0, "attempt": 0})

    assert look(target, folder, {"id": folder.id}) == (Status.COMPLETED, Reason.NONE)


@pytest.mark.parametrize("text", [" " * 4096, "", "{", "[]", "{}", '{"attempt": 0}'])
def test_room_for_a_verdict_is_none(bench: Bench, text: str) -> None:
    target = backend()
    _, folder = bench.plan("", target)
    put_json(str(folder.claim(0)), {**processes.identity(), "start": 1})
    Path(f"{folder.sentinel(0)}.tmp").write_text(text)

    assert look(target, folder, {"id": folder.id}) == (Status.FAILED, Reason.LOST)


def test_canceling(bench: Bench, wait_until: Wait) -> None:
    """What waits is taken out, what runs is told to end, what has ended stays as it is."""
    target = backend(grace=0.5)
    (first, one), (second, two) = bench.plan("import time; time.sleep(60)", target), bench.plan("", target)
    running, waiting = target.submit(first, one), target.submit(second, two)

    assert target.cancel(two, waiting).status is Status.CANCELED
    wait_until(lambda: look(target, one, running)[0] is Status.RUNNING)
    assert target.cancel(one, running).status is Status.RUNNING
    wait_until(lambda: look(target, one, running)[0] is Status.CANCELED)
    assert target.cancel(one, running).status is Status.CANCELED
    assert not two.claim(0).exists()


def test_canceling_without_a_disk(bench: Bench, wait_until: Wait) -> None:
    """A running program is told to end although nothing can be written; what has no process yet can't be told."""
    target = backend(grace=0.5)
    (plan, going), (_, other) = bench.plan("import time; time.sleep(60)", target), bench.plan("", target)
    for folder in (going, other):
        folder.cancel.symlink_to("/no/such/directory/file")
    job = target.submit(plan, going)
    wait_until(lambda: look(target, going, job)[0] is Status.RUNNING)
    target.cancel(going, job)
    wait_until(lambda: look(target, going, job)[0] is Status.CANCELED)

    with pytest.raises(BackendError, match=f"run {other.id} can't be told to end"):
        target.cancel(other, {"id": other.id})


def test_queues_by_name(bench: Bench, wait_until: Wait) -> None:
    """Targets with different queues don't wait for each other."""
    slow, quick = backend(queue="slow"), backend(queue="quick")
    (first, one), (second, two) = bench.plan("import time; time.sleep(1)", slow), bench.plan("", quick)
    jobs = slow.submit(first, one), quick.submit(second, two)
    wait_until(lambda: look(quick, two, jobs[1])[0] is Status.COMPLETED)

    assert look(slow, one, jobs[0])[0] in (Status.QUEUED, Status.RUNNING)
    wait_until(lambda: look(slow, one, jobs[0])[0] is Status.COMPLETED)


@pytest.mark.parametrize(
    ("option", "asked", "limit"), [("", None, None), ("2:00:00", None, 7200), ("", 60, 60), ("2:00:00", 60, 60), ("90", None, 90)]
)
def test_time_limits(bench: Bench, option: str, asked: int | None, limit: int | None) -> None:
    """The run's own comes before the target's."""
    plan, _ = bench.plan("", backend(time=option), Resources(time=asked))

    assert plan.launch["time"] == limit


def test_a_time_limit_that_can_not_be(bench: Bench) -> None:
    with pytest.raises(SpecError, match="'soon'"):
        bench.plan("", backend(time="soon"))


def test_the_plan_changes_nothing(bench: Bench) -> None:
    """And names the umask, which whoever starts the controller may not share."""
    before = os.umask(0o027)
    try:
        plan, _ = bench.plan("", backend())
    finally:
        os.umask(before)

    assert plan.launch["umask"] == 0o027
    assert plan.options["slots"] == 1
    assert not Path(plan.launch["queue"]).exists()


def test_slots_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the cores that may be used, from 1 to 4."""
    for cores, slots in ((1, 1), (2, 1), (4, 2), (64, 4)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(range(cores)))
        assert local.default_slots() == slots


def test_what_a_run_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitter's environment, less what belongs to a run that it is in."""
    monkeypatch.setenv("MINE", "kept")
    monkeypatch.setenv("RANK", "3")
    assert starting.submitted_environment()["RANK"] == "3"
    monkeypatch.setenv("HPCEST_RUN_ID", "abcdefgh")
    inherited = starting.submitted_environment()

    assert inherited["MINE"] == "kept"
    assert not {"RANK", "HPCEST_RUN_ID"} & set(inherited)


def test_no_place_for_the_queue(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HPCEST_LOCAL_DIR", str(tmp_path / "file"))

    with pytest.raises(HpcestError, match="no directory on a disk of this node can be used"):
        bench.plan("", backend())


def test_a_queue_that_can_not_be_written(bench: Bench) -> None:
    """The message has the folder and the way out; nothing is left in the queue."""
    target = backend()
    plan, folder = bench.plan("", target)
    queue = Path(plan.launch["queue"])
    queue.parent.mkdir(parents=True)
    queue.write_text("no directory")

    with pytest.raises(BackendError) as caught:
        target.submit(plan, folder)
    assert str(queue) in caught.value.message
    assert "HPCEST_LOCAL_DIR" in caught.value.hint


def test_the_ticket_is_for_its_owner_alone_and_short_lived(bench: Bench, wait_until: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the submitter's environment."""
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t-v4lue")
    target = backend()
    plan, folder = bench.plan("", target)
    job = target.submit(plan, folder)
    wait_until(lambda: look(target, folder, job)[0] is Status.COMPLETED)
    queue = Path(plan.launch["queue"])

    assert queue.stat().st_mode & 0o077 == 0
    assert [path.name for path in queue.iterdir() if b"s3cr3t" in path.read_bytes()] == []
    assert get_json(str(queue / "slots.json")) == {"slots": 1}


def test_mpi_needs_its_launcher(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without one each process would believe that it is alone; a single one, and one that starts its own, need none."""
    bench.distribution = Distribution("mpi")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SpecError, match="4 processes find each other by MPI, and there is no mpirun"):
        bench.plan("", backend(), Resources(2, 2), nodes=2, procs_per_node=2)
    assert "launcher" not in bench.plan("", backend(), Resources())[0].launch
    assert "launcher" not in bench.plan("", backend(), Resources(2, 2), per="node")[0].launch


def test_mpi_ranks_meet(bench: Bench, wait_until: Wait) -> None:
    """Started by mpirun, numbered as on the nodes that they stand for."""
    if not shutil.which("mpirun"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no mpirun: apt-get install openmpi-bin")
    bench.distribution = Distribution("mpi")
    where = "import os\nprint('node', os.environ['NODE_RANK'], os.environ['LOCAL_RANK'], flush=True)\n"
    mine = backend()
    plan, folder = bench.plan(where + Path(allreduce.__file__).read_text(), mine, Resources(2, 2), nodes=2, procs_per_node=2)
    job = mine.submit(plan, folder)
    wait_until(lambda: look(mine, folder, job)[0] in (Status.COMPLETED, Status.FAILED), seconds=60)

    logs = [folder.rank_log(rank, ranks=4).read_text() for rank in range(4)]
    assert look(mine, folder, job) == (Status.COMPLETED, Reason.NONE), [*logs, folder.controller_log.read_text()]
    assert '"ranks": 4' in logs[0]
    assert [log.splitlines()[0] for log in logs] == ["node 0 0", "node 0 1", "node 1 0", "node 1 1"]
