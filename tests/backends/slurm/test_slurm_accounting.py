"""The accounting is asked for what the queue lacks, as rarely as can be, and each job is told from others with its id."""

from __future__ import annotations

import time

import pytest

from hpcest.backends.slurm import polling
from hpcest.backends.slurm.polling import Wanted
from tests.backends.slurm.status_fakes import MINE, Fakes, ask, in_accounts, in_queue, pass_time

# ------------------------------------------------------------------ the accounting


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL"])
def test_the_accounting_is_asked_for_what_the_queue_lacks_and_only_once_for_an_end(fakes: Fakes, state: str) -> None:
    gone = Wanted("5", "mine.gone", time.time() - 10)
    fakes.says("sacct", in_accounts("5", "mine.gone", state))
    for _ in range(5):
        view = ask(fakes, MINE, gone).of("5", "mine.gone")
        assert view is not None
        assert (view.state, view.source) == (state, "sacct")
        pass_time(fakes, 300)
    assert [call.split(" -j ")[1].split()[0] for call in fakes.calls("sacct")] == ["5"]


def test_what_the_accounting_does_not_have_yet_is_asked_for_again(fakes: Fakes) -> None:
    """It lags behind by seconds, and says RUNNING of what has left the queue."""
    gone = Wanted("5", "mine.gone", time.time())
    fakes.says("sacct")
    assert ask(fakes, gone).of("5", "mine.gone") is None
    fakes.says("sacct", in_accounts("5", "mine.gone", "RUNNING"))
    ask(fakes, gone)
    assert len(fakes.calls("sacct")) == 1
    for _ in range(3):
        pass_time(fakes, 60)
        ask(fakes, gone)
    fakes.says("sacct", in_accounts("5", "mine.gone", "COMPLETED"))
    pass_time(fakes, 180)
    view = ask(fakes, gone).of("5", "mine.gone")
    assert view is not None
    assert view.state == "COMPLETED"


def test_what_the_accounting_still_calls_pending_is_not_believed_for_long(fakes: Fakes) -> None:
    """A task that was canceled before it started: for a moment it is there as part of its array, and then nowhere."""
    gone = Wanted("5_3", "mine.array", time.time())
    fakes.says("sacct", in_accounts("5_3", "mine.array", "PENDING"))
    for _ in range(4):
        assert ask(fakes, gone).of("5_3", "mine.array") is not None
        pass_time(fakes, 30)
    fakes.says("sacct")
    ask(fakes, gone)
    pass_time(fakes, 10)
    assert ask(fakes, gone).of("5_3", "mine.array") is None


def test_without_an_accounting_it_is_asked_once_in_two_minutes(fakes: Fakes) -> None:
    gone = Wanted("5", "mine.gone", time.time())
    for _ in range(20):
        assert "disabled" in ask(fakes, gone).unaccounted
        pass_time(fakes, 10)
    assert len(fakes.calls("sacct")) == 2


def test_an_accounting_that_hangs_delays_one_look(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "SACCT_TIMEOUT_S", 0.5)
    fakes.put("sacct", "exec sleep 60")
    gone = Wanted("5", "mine.gone", time.time())
    began = time.monotonic()
    for _ in range(30):
        assert "no answer" in ask(fakes, gone, MINE).unaccounted
    assert time.monotonic() - began < 12


def test_an_end_that_the_queue_has_shown_is_remembered(fakes: Fakes) -> None:
    """Without an accounting nobody else would know after MinJobAge."""
    fakes.says("squeue", in_queue("7", "mine.a", "OUT_OF_MEMORY", exit=125))
    ask(fakes)
    fakes.says("squeue")
    pass_time(fakes, 100)
    view = ask(fakes).of("7", "mine.a")
    assert view is not None
    assert view.state == "OUT_OF_MEMORY"


def test_an_end_that_was_none_is_forgotten(fakes: Fakes) -> None:
    """Preempted, and back in the queue."""
    fakes.says("squeue", in_queue("7", "mine.a", "PREEMPTED"))
    ask(fakes)
    fakes.says("squeue", in_queue("7", "mine.a", "PENDING", restarts=1))
    pass_time(fakes, 100)
    ask(fakes)
    fakes.says("squeue")
    pass_time(fakes, 100)
    assert ask(fakes).of("7", "mine.a") is None


# ------------------------------------------------------------------ whose job it is


def test_another_job_with_the_same_id_is_not_ours(fakes: Fakes) -> None:
    fakes.says("squeue", in_queue("7", "somebody.else", "COMPLETED"))
    fakes.says("sacct", in_accounts("7", "recycled", "COMPLETED"))
    assert ask(fakes).of("7", "mine.a") is None
    fakes.says("sacct", in_accounts("7", "recycled", "COMPLETED"), in_accounts("7", "mine.a", "CANCELLED"))
    pass_time(fakes, 100)
    assert ask(fakes).of("7", "mine.a") is not None, "and does not keep us from asking for ours"


def test_a_job_whose_id_was_never_recorded_is_found_by_its_name(fakes: Fakes) -> None:
    answer = ask(fakes, Wanted("", "mine.a"))
    assert [view.id for view in answer.named("mine.a")] == ["7"]
    assert fakes.calls("sacct") == []


def test_also_in_the_accounting(fakes: Fakes) -> None:
    fakes.says("sacct", in_accounts("3", "mine.lost", "FAILED"))
    answer = ask(fakes, Wanted("", "mine.lost", time.time()))
    assert [(view.id, view.state) for view in answer.named("mine.lost")] == [("3", "FAILED")]
    assert "--name mine.lost" in fakes.calls("sacct")[0]
