"""One query serves all processes of a user, comes no more often than it should, and survives whatever Slurm does."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.backends.slurm import polling
from hpcest.backends.slurm.polling import Wanted, jobs
from tests.backends.slurm.status_fakes import MINE, Fakes, ask, in_accounts, in_queue, kept, pass_time
from tests.cluster.fixtures import Slurm

ASK = """
import json, os, sys, time
from hpcest.backends.slurm.polling import Wanted, jobs
time.sleep(max(0.0, float(sys.argv[1]) - time.time()))
answer = jobs(os.environ, [Wanted("7", "mine.a", 1000.0)])
print(json.dumps([sorted(answer.views), answer.problem]))
"""


def queries_of(fakes: Fakes, seconds: float, step: float = 5.0) -> int:
    """How many queries a loop causes that asks every ``step`` seconds for so long."""
    before = len(fakes.calls("squeue"))
    for _ in range(int(seconds / step)):
        pass_time(fakes, step)
        ask(fakes)
    return len(fakes.calls("squeue")) - before


# ------------------------------------------------------------------ one for all


def test_ten_processes_at_once_ask_once(slurm: Slurm, tmp_path: Path) -> None:
    """Of the real squeue; all of them get its answer."""
    fakes = Fakes(tmp_path)
    fakes.put("squeue", 'sleep 0.3; PATH="${PATH#*:}" exec squeue "$@"')
    job = slurm.run("sbatch", "--parsable", "--hold", "-o", "/dev/null", "-J", "mine.a", "--wrap", "true").strip()
    try:
        start = str(time.time() + 1.0)
        command = [sys.executable, "-c", ASK, start]
        several = [subprocess.Popen(command, env=fakes.environ, stdout=subprocess.PIPE) for _ in range(10)]
        answers = [json.loads(one.communicate(timeout=60)[0]) for one in several]
    finally:
        slurm.run("scancel", job)
    assert len(fakes.calls("squeue")) == 1
    assert all(job in ids and problem == "" for ids, problem in answers)


def test_the_answer_is_for_its_owner_alone(fakes: Fakes) -> None:
    before = os.umask(0)
    try:
        ask(fakes)
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept(fakes).stat().st_mode) == 0o600
    assert stat.S_IMODE(kept(fakes).parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"format": 1}', '{"format": 1, "queue": [[1]], "known": {}}', '{"format": 99}'])
def test_a_damaged_answer_is_asked_for_again(fakes: Fakes, damage: str) -> None:
    ask(fakes)
    kept(fakes).write_text(damage)
    assert ask(fakes).of("7", "mine.a") is not None
    assert len(fakes.calls("squeue")) == 2


def test_without_a_place_on_this_host_each_process_asks_for_itself(fakes: Fakes) -> None:
    """And keeps to the limits by itself."""
    environ = {**fakes.environ, "HPCEST_LOCAL_DIR": "/proc/nowhere", "SLURM_CONF": str(fakes.home)}
    for _ in range(3):
        assert jobs(environ, [MINE]).of("7", "mine.a") is not None
    assert len(fakes.calls("squeue")) == 1


def test_a_disk_that_refuses_costs_each_process_one_query(fakes: Fakes) -> None:
    """As root too: where the answer should be written there is a directory."""
    ask(fakes)
    path = kept(fakes)
    path.unlink()
    path.with_suffix(".tmp").mkdir()
    for _ in range(3):
        assert ask(fakes).of("7", "mine.a") is not None
    assert len(fakes.calls("squeue")) == 2


def test_nobody_asks_about_nothing(fakes: Fakes) -> None:
    assert jobs(fakes.environ, []).asked == 0
    assert fakes.calls("squeue") == []


def test_another_cluster_is_another_question(fakes: Fakes) -> None:
    ask(fakes)
    jobs(fakes.environ, [MINE], cluster="far")
    assert "-M far" in fakes.calls("squeue")[1]


def test_a_stopped_process_that_is_asking_does_not_stop_the_others(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the last answer, and say so; when it goes on they ask as before."""
    monkeypatch.setattr(polling, "WAIT_S", 0.3)
    ask(fakes)
    pass_time(fakes, 100)
    with open(kept(fakes).with_suffix(".lock"), "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        began = time.monotonic()
        answer = ask(fakes)
        assert time.monotonic() - began < 20
    assert answer.of("7", "mine.a") is not None
    assert "another process" in answer.problem
    assert ask(fakes).problem == ""
    assert len(fakes.calls("squeue")) == 2


def test_a_process_that_dies_while_it_asks_leaves_no_lock(fakes: Fakes, wait_until: Callable[..., None]) -> None:
    fakes.put("squeue", f"echo $$ > {fakes.home}/pid; exec sleep 60")
    process = subprocess.Popen([sys.executable, "-c", ASK, "0"], env=fakes.environ, stdout=subprocess.DEVNULL)
    wait_until((fakes.home / "pid").exists, "squeue to be called")
    process.kill()
    process.wait()
    fakes.says("squeue", in_queue("7", "mine.a", "RUNNING"))
    began = time.monotonic()
    assert ask(fakes).of("7", "mine.a") is not None
    assert time.monotonic() - began < 20
    wait_until(lambda: (fakes.home / "pid").read_text().strip(), "its pid")
    os.kill(int((fakes.home / "pid").read_text()), signal.SIGKILL)


# ------------------------------------------------------------------ how often


def test_asked_again_at_once_it_has_the_same_answer(fakes: Fakes) -> None:
    assert [ask(fakes).asked for _ in range(5)].count(ask(fakes).asked) == 5
    assert len(fakes.calls("squeue")) == 1


def test_while_nothing_changes_it_is_asked_more_and_more_rarely(fakes: Fakes) -> None:
    """5, 10, 20 … 180 s apart: in the first 10 minutes 8 queries, and then 20 an hour."""
    ask(fakes)
    assert queries_of(fakes, 600) == 7
    assert queries_of(fakes, 3600) == 20


def test_a_change_makes_it_ask_often_again(fakes: Fakes) -> None:
    ask(fakes)
    queries_of(fakes, 600)
    fakes.says("squeue", in_queue("7", "mine.a", "COMPLETING"))
    while queries_of(fakes, 5) == 0:
        pass  # the next query comes in three minutes at the latest
    assert queries_of(fakes, 40) == 3  # after 5, 10 and 20 s


def test_other_jobs_of_the_user_may_change_as_they_like(fakes: Fakes) -> None:
    ask(fakes)
    for number in range(7):
        fakes.says("squeue", in_queue("7", "mine.a", "RUNNING"), in_queue(str(100 + number), "other", "RUNNING"))
        queries_of(fakes, 100)
    assert queries_of(fakes, 3600) == 20


def test_a_new_submission_is_asked_about_as_soon_as_the_floor_allows(fakes: Fakes) -> None:
    ask(fakes)
    queries_of(fakes, 600)
    while queries_of(fakes, 5) == 0:
        pass
    before = len(fakes.calls("squeue"))
    new = Wanted("8", "mine.b", time.time())
    pass_time(fakes, 3)
    ask(fakes, MINE, new)
    assert len(fakes.calls("squeue")) == before
    pass_time(fakes, 3)
    ask(fakes, MINE, new)
    assert len(fakes.calls("squeue")) == before + 1


def test_the_floor_holds_for_everybody(fakes: Fakes) -> None:
    """Some sites want a minute between two queries: also for a person, and after a submission."""
    ask(fakes, floor=60.0)
    pass_time(fakes, 55)
    polling.Poll._looked.clear()
    ask(fakes, floor=60.0, newest=time.time())
    assert len(fakes.calls("squeue")) == 1
    pass_time(fakes, 6)
    ask(fakes, floor=60.0, newest=time.time())
    assert len(fakes.calls("squeue")) == 2


def test_a_person_who_comes_by_gets_an_answer_of_seconds(fakes: Fakes) -> None:
    """However rarely a loop of another process asks by now."""
    ask(fakes)
    queries_of(fakes, 1000)
    before = len(fakes.calls("squeue"))
    pass_time(fakes, 20)
    ask(fakes)
    assert len(fakes.calls("squeue")) == before, "the loop is not a person"
    subprocess.run([sys.executable, "-c", ASK, "0"], env=fakes.environ, stdout=subprocess.DEVNULL, check=True)
    assert len(fakes.calls("squeue")) == before + 1


def test_a_clock_that_was_set_back_stops_nothing(fakes: Fakes) -> None:
    ask(fakes)
    pass_time(fakes, -5000)
    ask(fakes)
    assert len(fakes.calls("squeue")) == 2


# ------------------------------------------------------------------ outages


def test_an_outage_is_told_with_the_last_good_answer(fakes: Fakes) -> None:
    good = ask(fakes)
    fakes.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    pass_time(fakes, 100)
    answer = ask(fakes)
    assert "Unable to contact" in answer.problem
    assert answer.views == good.views
    assert answer.asked == pytest.approx(good.asked - 100)


def test_an_outage_is_not_hammered(fakes: Fakes) -> None:
    """Nor waited for by each of ten shells."""
    fakes.fails("squeue", "down")
    assert ask(fakes).problem == "down"
    assert queries_of(fakes, 600) <= 12
    began = time.monotonic()
    assert all(ask(fakes).problem == "down" for _ in range(20))
    assert time.monotonic() - began < 5


def test_after_an_outage_all_is_as_before(fakes: Fakes) -> None:
    fakes.fails("squeue", "down")
    ask(fakes)
    fakes.says("squeue", in_queue("7", "mine.a", "RUNNING"))
    pass_time(fakes, 61)
    answer = ask(fakes)
    assert answer.problem == ""
    assert answer.of("7", "mine.a") is not None
    assert queries_of(fakes, 15) == 2


def test_during_an_outage_of_the_queue_the_accounting_is_left_alone(fakes: Fakes) -> None:
    """What isn't in an answer that there is not can't be missing."""
    fakes.says("sacct", in_accounts("5", "mine.gone", "COMPLETED"))
    ask(fakes)
    fakes.fails("squeue", "down")
    pass_time(fakes, 100)
    ask(fakes, Wanted("5", "mine.gone", time.time()))
    assert fakes.calls("sacct") == []


def test_a_real_outage_is_told_soon_and_ends_by_itself(slurm: Slurm, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of slurmctld first, then of slurmdbd: neither hangs nor fails anything."""
    monkeypatch.setattr(polling, "RETRY_S", 0.0)
    job = slurm.run("sbatch", "--parsable", "--hold", "-o", "/dev/null", "-J", "mine.a", "--wrap", "true").strip()
    mine, gone = Wanted(job, "mine.a", time.time() - 5), Wanted("1", "mine.gone", time.time() - 5)
    assert jobs(os.environ, [mine], floor=0.0).of(job, "mine.a") is not None
    slurm.operator.stop_ctld()
    slurm.operator.stop_dbd()
    began = time.monotonic()
    answer = jobs(os.environ, [mine], floor=0.0, newest=time.time())
    assert time.monotonic() - began < 30
    assert answer.problem
    assert answer.of(job, "mine.a") is not None
    slurm.operator.start_ctld()
    began = time.monotonic()
    answer = jobs(os.environ, [mine, gone], floor=0.0, newest=time.time())
    assert time.monotonic() - began < 20
    assert answer.problem == ""
    assert answer.unaccounted
    slurm.operator.start_dbd()
    slurm.run("scancel", job)


def test_a_thousand_runs_cost_one_query(fakes: Fakes) -> None:
    """Beside four thousand other jobs of the user."""
    many = [Wanted(f"9_{task}", "array.x", time.time() - 60) for task in range(1000)]
    lines = [in_queue(one.id, one.name, "PENDING", reason="Priority", start=2_000_000_000) for one in many]
    fakes.says("squeue", *lines, *(in_queue(f"5_{task}", "other", "PENDING") for task in range(4000)))
    answer = ask(fakes, *many)
    ask(fakes, *many)
    assert all(answer.of(one.id, one.name) for one in many)
    assert (len(fakes.calls("squeue")), len(fakes.calls("sacct"))) == (1, 0)
