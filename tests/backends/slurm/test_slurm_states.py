"""Slurm's state words: all of them known, abbreviated ones recognised, and none finished that isn't."""

from __future__ import annotations

import pytest

from hpcest.backends.slurm.states import STATES, End, meaning, word
from hpcest.model.status import Reason, Status

ENDED = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"}
PERHAPS = {"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "LAUNCH_FAILED", "RECONFIG_FAIL"}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", "RUNNING"),
        ("CANCELLED by 1000", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("OUT_OF_ME+", "OUT_OF_MEMORY"),
        ("NODE_F+", "NODE_FAIL"),
        ("completed", "COMPLETED"),
        (" PENDING \n", "PENDING"),
        ("RE+", "RE"),  # several begin like that: none is guessed
        ("BROODING", "BROODING"),
        ("", ""),
        ("+", ""),
    ],
)
def test_a_word_is_made_whole(text: str, state: str) -> None:
    assert word(text) == state


def test_only_these_states_end_a_job() -> None:
    """Nothing else may ever be taken for an end."""
    assert {state for state, says in STATES.items() if says.end is End.YES} == ENDED
    assert {state for state, says in STATES.items() if says.end is End.MAYBE} == PERHAPS


def test_what_ends_has_a_finished_status_and_what_goes_on_has_none() -> None:
    for state, says in STATES.items():
        assert (says.end is not End.NO) == (says.status is not None and says.status.finished), state


def test_only_one_state_is_a_success() -> None:
    assert [state for state, says in STATES.items() if says.status is Status.COMPLETED] == ["COMPLETED"]


def test_an_unknown_state_is_never_the_end() -> None:
    assert meaning("BROODING") == (None, Reason.NONE, End.NO)


def test_failures_have_their_reasons() -> None:
    reasons = {state: says.reason for state, says in STATES.items() if says.status is Status.FAILED}
    assert reasons["OUT_OF_MEMORY"] is Reason.OUT_OF_MEMORY
    assert reasons["TIMEOUT"] is reasons["DEADLINE"] is Reason.TIMED_OUT
    assert reasons["PREEMPTED"] is Reason.PREEMPTED
    assert reasons["NODE_FAIL"] is Reason.NODE_FAIL
    assert Reason.NONE not in reasons.values()
