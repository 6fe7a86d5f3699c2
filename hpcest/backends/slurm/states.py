"""Every state word of Slurm and what it means to us. An unknown word is never the end of a run."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from hpcest.model.status import Reason, Status


class End(Enum):
    """Whether a job in a state has ended: ``MAYBE`` where Slurm may yet put it back into the queue."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class Meaning(NamedTuple):
    """What a state says of the run. ``status`` None: nothing."""

    status: Status | None
    reason: Reason
    end: End


def _goes_on(status: Status) -> Meaning:
    return Meaning(status, Reason.NONE, End.NO)


def _failed(reason: Reason, end: End = End.YES) -> Meaning:
    return Meaning(Status.FAILED, reason, end)


_WAITS, _RUNS = _goes_on(Status.QUEUED), _goes_on(Status.RUNNING)
UNKNOWN = Meaning(None, Reason.NONE, End.NO)

#: All job states and state flags of Slurm 17 to 25, as squeue and sacct print them.
STATES = MappingProxyType(
    {
        "PENDING": _WAITS,
        "CONFIGURING": _WAITS,  # its nodes are being booted, or the prolog runs
        "POWER_UP_NODE": _WAITS,
        "EXPEDITING": _WAITS,
        "REQUEUED": _WAITS,
        "REQUEUE_FED": _WAITS,
        "REQUEUE_HOLD": _WAITS,
        "RESV_DEL_HOLD": _WAITS,
        "SPECIAL_EXIT": _WAITS,  # requeued and held, for its exit code
        "RUNNING": _RUNS,
        "RESIZING": _RUNS,
        "SIGNALING": _RUNS,
        "STOPPED": _RUNS,
        "SUSPENDED": _RUNS,
        "UPDATE_DB": UNKNOWN,  # a note of slurmctld to itself
        "COMPLETING": _goes_on(Status.FINALIZING),
        "STAGE_OUT": _goes_on(Status.FINALIZING),
        "COMPLETED": Meaning(Status.COMPLETED, Reason.NONE, End.YES),
        "CANCELLED": Meaning(Status.CANCELED, Reason.NONE, End.YES),
        "FAILED": _failed(Reason.USER_ERROR),
        "TIMEOUT": _failed(Reason.TIMED_OUT),
        "DEADLINE": _failed(Reason.TIMED_OUT),
        "OUT_OF_MEMORY": _failed(Reason.OUT_OF_MEMORY),
        "BOOT_FAIL": _failed(Reason.NODE_FAIL, End.MAYBE),
        "NODE_FAIL": _failed(Reason.NODE_FAIL, End.MAYBE),
        "LAUNCH_FAILED": _failed(Reason.LAUNCH_FAILED, End.MAYBE),
        "RECONFIG_FAIL": _failed(Reason.NODE_FAIL, End.MAYBE),
        "PREEMPTED": _failed(Reason.PREEMPTED, End.MAYBE),
        "REVOKED": UNKNOWN,  # a sibling in a federation runs instead: ask that cluster
    }
)


def word(text: str) -> str:
    """The state in what a tool printed: ``CANCELLED by 1000``, ``CANCELLED+`` and ``OUT_OF_ME+`` are whole words again.

    What is no state that we know comes back as it is, in capitals.
    """
    first = (text.split() or [""])[0].upper()
    bare = first.rstrip("+")
    if bare in STATES or bare == first:
        return bare
    whole = [state for state in STATES if state.startswith(bare)]
    return whole[0] if bare and len(whole) == 1 else bare


def meaning(state: str) -> Meaning:
    """What a state word (see ``word``) means; ``UNKNOWN`` for one that isn't in the table."""
    return STATES.get(state, UNKNOWN)
