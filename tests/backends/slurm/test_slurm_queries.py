"""What squeue and sacct print is read as it is meant, from this Slurm and from others, and trouble is told apart from absence."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.backends.slurm import queries
from hpcest.backends.slurm.queries import JobView, QueryError
from hpcest.backends.slurm.surroundings import for_asking
from tests.backends.slurm.status_fakes import Fakes, in_accounts, in_queue
from tests.cluster.fixtures import Slurm


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


def submit(slurm: Slurm, name: str, command: str, *options: str) -> str:
    return slurm.run("sbatch", "--parsable", "-o", "/dev/null", "-J", name, *options, "--wrap", command).strip()


def of(views: list[JobView], job: str) -> JobView:
    return next(view for view in views if view.id == job)


# ------------------------------------------------------------------ on a real Slurm


def test_the_queue_has_jobs_with_reason_dependency_exit_and_times(slurm: Slurm, wait_until: Callable[..., None]) -> None:
    """Variables that change the tools' output change nothing for us."""
    environ = {**os.environ, "SQUEUE_FORMAT": "%i", "SQUEUE_FORMAT2": "jobid", "SLURM_TIME_FORMAT": "relative", "SQUEUE_STATES": "RUNNING"}
    before = time.time()
    name = f"a name | with 'odd' letters.{os.getpid()}.{time.time_ns()}"
    held = submit(slurm, name, "true", "--hold")
    waits = submit(slurm, "waits", "true", "-d", f"afterok:{held}")
    failed = submit(slurm, "failed", "exit 3")
    try:
        wait_until(lambda: of(queries.squeue(environ), failed).state == "FAILED", "the job to fail", 120)
        found = queries.squeue(environ)
    finally:
        slurm.run("scancel", held, waits)
    mine = of(found, held)
    assert (mine.name, mine.state, mine.reason, mine.start, mine.nodes, mine.restarts) == (name, "PENDING", "JobHeldUser", None, "", 0)
    assert mine.submitted is not None
    assert before - 2 <= mine.submitted <= time.time() + 2
    assert of(found, waits).dependency.startswith(f"afterok:{held}")
    assert (of(found, failed).exit, of(found, failed).source) == ("3:0", "squeue")
    assert [view.id for view in queries.find(environ, name, before)] == [held]


def test_each_task_of_an_array_is_a_job(slurm: Slurm) -> None:
    array = submit(slurm, "array", "true", "--hold", "--array=0-6:3,20%2")
    try:
        found = {view.id for view in queries.squeue(os.environ) if view.name == "array"}
    finally:
        slurm.run("scancel", array)
    assert {f"{array}_{task}" for task in (0, 3, 6, 20)} <= found


def test_the_accounting_has_the_last_word_on_each_task(slurm: Slurm, wait_until: Callable[..., None]) -> None:
    """Also for tasks that never started, which it lists as one record."""
    before = time.time()
    array = submit(slurm, "ended", "exit $SLURM_ARRAY_TASK_ID", "--array=0,7")
    scattered = [task for task in range(200) if task % 7 in (0, 1, 4)]  # sacct would cut the list off
    held = submit(slurm, "never", "true", "--hold", f"--array={','.join(map(str, scattered))}%1")
    slurm.run("scancel", held)
    never = [f"{held}_{task}" for task in scattered]

    def ends() -> dict[str, tuple[str, str]]:
        return {view.id: (view.state, view.exit) for view in queries.sacct(os.environ, [array, *never], before)}

    wanted = {f"{array}_0": ("COMPLETED", "0:0"), f"{array}_7": ("FAILED", "7:0"), **dict.fromkeys(never, ("CANCELLED", "0:0"))}
    wait_until(lambda: ends() == wanted, "the accounting to know", 120)
    assert {view.id for view in queries.sacct_named(os.environ, ["ended"], before)} >= {f"{array}_0", f"{array}_7"}


def test_a_requeued_job_is_what_it_is_now(slurm: Slurm, wait_until: Callable[..., None]) -> None:
    """The queue counts its restarts; the accounting has a row for each start, and the last one counts."""
    before = time.time()
    job = submit(slurm, "again", "sleep 60", "--requeue")
    try:
        wait_until(lambda: of(queries.squeue(os.environ), job).state == "RUNNING", "the job to run", 120)
        slurm.run("scontrol", "requeue", job)
        wait_until(lambda: of(queries.squeue(os.environ), job).restarts == 1, "the restart to count", 120)
        wait_until(lambda: [view.restarts for view in queries.sacct(os.environ, [job], before)] == [1], "both rows", 120)
        assert queries.sacct(os.environ, [job], before)[0].state in ("PENDING", "RUNNING")
    finally:
        slurm.run("scancel", job)


def test_a_job_that_nobody_has_is_not_found(slurm: Slurm) -> None:
    assert queries.find(os.environ, f"nobody.{time.time_ns()}", time.time()) == []


def test_without_accounting_the_queue_is_enough_to_find_a_job(bare_slurm: Slurm) -> None:
    with pytest.raises(QueryError, match="accounting"):
        queries.sacct(os.environ, ["1"], time.time())
    assert queries.find(os.environ, f"nobody.{time.time_ns()}", time.time()) == []


def test_times_are_right_whatever_the_time_zone(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    job = submit(slurm, "zone", "true", "--hold")
    try:
        for zone in ("UTC", "Asia/Kolkata", "America/St_Johns"):
            submitted = of(queries.squeue({**os.environ, "TZ": zone}), job).submitted
            assert submitted is not None
            assert abs(submitted - before) < 5
    finally:
        slurm.run("scancel", job)


# ------------------------------------------------------------------ other versions, wrappers and faults


def test_an_older_squeue_is_asked_in_an_older_way(fakes: Fakes) -> None:
    """Before 20.02 there was no --me; times may come as dates."""
    fakes.put(
        "squeue",
        """case "$*" in *--me*) echo "squeue: unrecognized option '--me'" >&2; exit 1;; esac
echo '12_3|15|PENDING|Priority|2026-03-01T10:00:00|2026-03-01T09:00:00|N/A||||(null)|old.run|'""",
    )
    (view,) = queries.squeue(fakes.environ)
    assert view[:4] == ("12_3", "old.run", "PENDING", "Priority")
    assert view.start == time.mktime((2026, 3, 1, 10, 0, 0, 0, 0, -1))
    assert (view.restarts, view.exit) == (None, "")
    assert f"-u {os.getuid()}" in fakes.calls("squeue")[1]


def test_banners_and_cluster_lines_are_passed_over(fakes: Fakes) -> None:
    fakes.says("squeue", "*** Maintenance | on | Monday ***", "CLUSTER: far", in_queue("7", "mine", "RUNNING"), "", "7.batch|7|x")
    assert [view.id for view in queries.squeue(fakes.environ, cluster="far")] == ["7"]
    assert "-M far" in fakes.calls("squeue")[0]


def test_output_without_any_job_in_it_is_no_empty_queue(fakes: Fakes) -> None:
    """A wrapper that prints only its banner knows nothing of our jobs."""
    fakes.says("squeue", "squeue is being upgraded, please try later")
    with pytest.raises(QueryError, match="upgraded"):
        queries.squeue(fakes.environ)


def test_an_empty_answer_is_an_empty_queue(fakes: Fakes) -> None:
    fakes.says("squeue")
    assert queries.squeue(fakes.environ) == []


def test_a_failure_is_told_in_the_tools_own_words(fakes: Fakes) -> None:
    fakes.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    with pytest.raises(QueryError, match="Unable to contact slurm controller"):
        queries.squeue(fakes.environ)


def test_a_command_that_hangs_is_given_up(fakes: Fakes) -> None:
    fakes.put("squeue", "exec sleep 30")
    began = time.monotonic()
    with pytest.raises(QueryError, match=r"no answer in 0\.3 s"):
        queries.squeue(fakes.environ, timeout=0.3)
    assert time.monotonic() - began < 5


def test_without_the_commands_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="squeue"):
        queries.squeue({"PATH": str(tmp_path)})


def test_sacct_is_asked_for_fifty_jobs_at_a_time_and_since_a_day_before(fakes: Fakes) -> None:
    fakes.says("sacct")
    queries.sacct(fakes.environ, [str(number) for number in range(120)], 1_700_000_000.0)
    calls = fakes.calls("sacct")
    assert [call.split(" -j ")[1].split()[0].count(",") + 1 for call in calls] == [50, 50, 20]
    bound = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1_700_000_000 - 86400))
    assert all(f"-S {bound}" in call and "-X" in call and "-D" in call for call in calls)


def test_sacct_is_asked_for_an_array_once(fakes: Fakes) -> None:
    """It finds no task of an array that never started by the task's own id; of the others nothing comes back."""
    fakes.says("sacct", in_accounts("9_[1-300]", "array", "CANCELLED"))
    found = queries.sacct(fakes.environ, [f"9_{task}" for task in range(1, 201)], 0)
    assert [view.id for view in found] == [f"9_{task}" for task in range(1, 201)]
    assert [call.split(" -j ")[1].split()[0] for call in fakes.calls("sacct")] == ["9"]


def test_of_several_jobs_with_one_id_each_name_keeps_its_own(fakes: Fakes) -> None:
    """Job ids come again after some years, or when slurmctld loses its state."""
    fakes.says(
        "sacct",
        in_accounts("5", "mine.a", "COMPLETED", submitted=1000),
        in_accounts("5", "theirs", "FAILED", submitted=2000),
        in_accounts("6", "twice", "RUNNING", submitted=3000),
        in_accounts("6", "twice", "NODE_FAIL", submitted=1000),
    )
    found = {(view.id, view.name): (view.state, view.restarts) for view in queries.sacct(fakes.environ, ["5", "6"], 0)}
    assert found == {("5", "mine.a"): ("COMPLETED", 0), ("5", "theirs"): ("FAILED", 0), ("6", "twice"): ("RUNNING", 1)}


def test_a_task_with_a_row_of_its_own_is_not_what_its_array_is(fakes: Fakes) -> None:
    fakes.says(
        "sacct",
        in_accounts("9_[1-3%2]", "array", "PENDING", submitted=1000),
        in_accounts("9_2", "array", "COMPLETED", submitted=1000),
    )
    found = {view.id: (view.state, view.restarts) for view in queries.sacct(fakes.environ, ["9"], 0)}
    assert found == {"9_1": ("PENDING", 0), "9_2": ("COMPLETED", 0), "9_3": ("PENDING", 0)}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("7", ["7"]),
        ("7_3", ["7_3"]),
        ("7_[4-6%2]", ["7_4", "7_5", "7_6"]),
        ("7_[0-6:3]", ["7_0", "7_3", "7_6"]),
        ("7_[1,4-5,9]", ["7_1", "7_4", "7_5", "7_9"]),
        ("7_[1,3,...]", ["7_1", "7_3"]),
        ("7_[1,3-...", ["7_1"]),
        ("7+0", []),
        ("7.batch", []),
        ("7_3.0", []),
        ("", []),
        ("7_[9-4]", []),
        ("7_[1-3:0]", ["7_1", "7_2", "7_3"]),
    ],
)
def test_ids_of_records_are_the_ids_of_their_tasks(text: str, ids: list[str]) -> None:
    assert queries.tasks(text) == ids


def test_a_record_of_very_many_tasks_is_no_burden() -> None:
    assert len(queries.tasks("7_[0-4000000]")) == 100_000


@pytest.mark.parametrize(("text", "exit_"), [("0", "0:0"), ("768", "3:0"), ("4021", "0:53"), ("9", "0:9"), ("0:125", "0:125"), ("", "")])
def test_an_exit_is_code_and_signal(text: str, exit_: str) -> None:
    assert queries.exit_of(text) == exit_


@pytest.mark.parametrize("text", ["N/A", "Unknown", "None", "", "0", "2026-13-45T00:00:00", "garbage"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert queries.moment(text) is None


def test_the_environment_keeps_the_cluster_and_nothing_that_changes_output() -> None:
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "token", "PATH": "/bin", "TZ": "UTC"}
    dropped = {
        "SQUEUE_SORT": "i",
        "SACCT_FORMAT": "x",
        "SLURM_CLUSTERS": "all",
        "SCONTROL_ALL": "1",
        "SLURM_BITSTR_LEN": "4",
        "SLURM_JOB_ID": "1",
    }
    assert for_asking({**kept, **dropped, "LC_ALL": "de_DE.UTF-8", "SLURM_TIME_FORMAT": "relative"}) == {
        **kept,
        "LC_ALL": "C",
        "SLURM_TIME_FORMAT": "%s",
        "SLURM_BITSTR_LEN": "0",
    }
