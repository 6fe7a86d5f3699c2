"""Which rank failed first, where several have: by what srun says of its tasks, and by when each rank printed last."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from hpcest.onnode.culprit import first_failed
from hpcest.onnode.step import cause_of

BATCH = """\
srun: error: n2: task 2: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=477.0
slurmstepd-n1: error: *** STEP 477.0 ON n1 CANCELLED AT 1795261600 ***
srun: error: n2: task 3: Terminated
srun: error: n1: tasks 0,4-5: Terminated
srun: error: n1: task 1: Exited with exit code 7
srun: Force Terminated StepId=477.0
"""
TRACEBACK = "Traceback (most recent call last):\n  File ...\nValueError: it began here\n"


def test_what_srun_says_of_its_tasks() -> None:
    """The first that ended, those that did before the others were made to, and how each ended."""
    cause = cause_of(BATCH)

    assert (cause["rank"], cause["node"], cause["code"], cause["named"]) == (2, "n2", 1, [2])
    assert cause["ended"] == {2: (1, 0), 3: (143, 15), 0: (143, 15), 4: (143, 15), 5: (143, 15), 1: (7, 0)}


def test_tasks_that_ended_together() -> None:
    cause = cause_of("srun: error: n1: tasks 1-2: Exited with exit code 3\nsrun: error: n2: task 3: Killed\n")

    assert (cause["rank"], cause["code"], cause["named"]) == (1, 3, [1, 2, 3])
    assert cause["ended"][3] == (137, 9)


def test_messages_that_come_when_all_is_over() -> None:
    """The first still counts."""
    cause = cause_of("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 1 ***\nsrun: error: n1: tasks 0-1: Killed\n")

    assert (cause["rank"], cause["signal"], cause["named"]) == (0, 9, [0])


def launch(folder: Path, *logs: tuple[float, str]) -> dict[str, Any]:
    """A run whose ranks have printed so much, and last at that moment."""
    (folder / "user_logs").mkdir()
    for rank, (moment, text) in enumerate(logs):
        path = folder / "user_logs" / f"std_log_{rank}.txt"
        path.write_text(text)
        os.utime(path, (moment, moment))
    return {"folder": str(folder), "ranks": len(logs)}


@pytest.mark.parametrize(
    ("logs", "named", "ended", "first"),
    [
        # The one that raised took its time to end, and was named last or ended by force.
        ([(20, TRACEBACK), (10, TRACEBACK)], [0], {0: (1, 0), 1: (7, 0)}, (1, 7, 0)),
        ([(20, TRACEBACK), (10, TRACEBACK)], [0], {0: (1, 0), 1: (143, 15)}, (1, 1, 0)),
        # Those without a traceback were ended because of it, though they printed last before it.
        ([(5, "up\n"), (10, TRACEBACK)], [1], {0: (143, 15), 1: (1, 0)}, (1, 1, 0)),
        ([(5, "up\n"), (10, TRACEBACK)], [1], {0: (1, 0), 1: (1, 0)}, (1, 1, 0)),
        # Killed, or gone without a word.
        ([(20, TRACEBACK), (10, "up\n")], [1], {0: (1, 0), 1: (137, 9)}, (1, 137, 9)),
        ([(20, TRACEBACK), (10, "up\n")], [0, 1], {0: (1, 0), 1: (3, 0)}, (1, 3, 0)),
        # Nothing to choose by: the order of the launcher.
        ([(10, TRACEBACK), (10, TRACEBACK)], [1], {0: (1, 0), 1: (1, 0)}, (1, 1, 0)),
        # A traceback that was no end.
        ([(5, TRACEBACK), (10, TRACEBACK)], [1], {0: (0, 0), 1: (1, 0)}, (1, 1, 0)),
    ],
)
def test_who_failed_first(
    tmp_path: Path,
    logs: list[tuple[float, str]],
    named: list[int],
    ended: dict[int, tuple[int, int]],
    first: tuple[int, int, int],
) -> None:
    assert first_failed(launch(tmp_path, *logs), 0, named, ended) == first


@pytest.mark.parametrize(("ago", "first"), [(1, (1, 137, 9)), (60, (0, 1, 0))])
def test_a_rank_that_was_killed_and_named_late(tmp_path: Path, ago: float, first: tuple[int, int, int]) -> None:
    """It began it; unless there was time for Slurm to kill what did not end by itself."""
    now = time.time()
    logs = [(now - ago, TRACEBACK), (now - ago - 0.5, "up\n")]

    assert first_failed(launch(tmp_path, *logs), 0, [0], {0: (1, 0), 1: (137, 9)}) == first


def test_logs_that_can_not_be_read(tmp_path: Path) -> None:
    """The launcher's word counts."""
    assert first_failed({"folder": str(tmp_path), "ranks": 2}, 0, [1], {0: (1, 0), 1: (3, 0)}) == (1, 3, 0)
