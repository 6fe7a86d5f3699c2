"""Signals for programs that have only just begun, or not even that: each gets its signal once, and none gets lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcest.onnode import signals
from hpcest.onnode.ids import new_run_id

if TYPE_CHECKING:
    from tests.cluster.fixtures import Apptainer

#: Some time after its start it begins to count signals; its exit code is 40 and how many there were, so 40 if none came.
COUNTING = """\
import signal, sys, time
time.sleep({before})
got = []
signal.signal(signal.SIG{name}, lambda *_: got.append(1))
end = time.monotonic() + 6
while not got and time.monotonic() < end: time.sleep(0.02)
time.sleep(0.3)
sys.exit(40 + len(got))
"""
ONCE = 41


def counting(before: float = 0.0, name: str = "USR1", python: str = sys.executable) -> list[str]:
    """The command line of a program that begins to count so many seconds after its start."""
    return [python, "-c", COUNTING.format(before=before, name=name)]


class Ranks:
    """Processes as the rank launcher leaves them, of a run of their own."""

    def __init__(self, started: ExitStack) -> None:
        self.run = new_run_id()
        self._started = started

    def begin(self, *argv: str | Path, rank: int = 0, ranks: int = 1, after: float = 0.0) -> subprocess.Popen[bytes]:
        """Start a rank; it becomes its program, and is known as a rank, after so many seconds."""
        marks = {"HPCEST_RUN_ID": self.run, "HPCEST_ATTEMPT": "0", "LOCAL_WORLD_SIZE": str(ranks)}
        words = ["sh", "-c", f'sleep {after:g}; export HPCEST_EVENTS=/nowhere/{rank}; exec "$0" "$@"', *map(str, argv)]
        child = subprocess.Popen(words, env={**os.environ, **marks}, start_new_session=True)
        self._started.callback(_end, child)
        return child

    def deliver(self, name: str = "USR1") -> tuple[int, float]:
        """How many were sent a signal, and how long that took in seconds."""
        began = time.monotonic()
        return signals.deliver(self.run, 0, signals.number_of(name)), time.monotonic() - began

    def until_known(self) -> None:
        """Return when a rank has become its program."""
        end = time.monotonic() + 10
        while not signals._ranks(self.run, 0, None):
            assert time.monotonic() < end
            time.sleep(0.01)


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    """Ranks of a run; what is left of them is ended after the test."""
    with ExitStack() as started:
        yield Ranks(started)


def test_a_program_that_still_imports(ranks: Ranks) -> None:
    """It gets the signal, once, when it has come as far as to catch it."""
    program = ranks.begin(*counting(before=0.7))
    ranks.until_known()
    assert ranks.deliver()[0] == 1
    assert program.wait(10) == ONCE


def test_a_program_that_has_only_just_begun_to_catch_it(ranks: Ranks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a moment more: a signal between a program's last look for signals and its next long call would be lost."""
    said, told = tmp_path / "said", tmp_path / "told"
    code = """\
import pathlib, signal, sys, time
said, told = map(pathlib.Path, sys.argv[1:])
def until(text):
    while told.read_text() != text: time.sleep(0.02)
until('catch')
signal.signal(signal.SIGUSR1, lambda *_: None)
said.write_text('catches')
until('heed')
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(41))
said.write_text('heeds')
while True: time.sleep(0.02)
"""
    told.write_text("")
    program = ranks.begin(sys.executable, "-c", code, said, told)
    ranks.until_known()
    steps = iter([("catch", "catches"), ("heed", "heeds")])
    pause = time.sleep

    def between_looks(seconds: float) -> None:
        word, answer = next(steps, ("heed", "heeds"))
        told.write_text(word)
        while not said.exists() or said.read_text() != answer:
            pause(0.01)

    monkeypatch.setattr(time, "sleep", between_looks)
    monkeypatch.setattr(signals, "_PATIENCE_S", 60.0)
    assert ranks.deliver()[0] == 1
    monkeypatch.undo()
    assert program.wait(10) == ONCE


def test_a_program_behind_a_shell(ranks: Ranks) -> None:
    """The shell that waits for a program which still imports does not die of what is meant for the program."""
    shell = ranks.begin("sh", "-c", '"$0" "$@"; exit $?', *counting(before=0.7))
    ranks.until_known()
    assert ranks.deliver()[0] == 1
    assert shell.wait(10) == ONCE


def test_a_rank_that_is_still_to_come(ranks: Ranks) -> None:
    """Between the start of the launcher and that of the ranks there is nobody to signal."""
    program = ranks.begin(*counting(), after=0.7)
    assert ranks.deliver()[0] == 1
    assert program.wait(10) == ONCE


def test_one_of_two_ranks_is_still_to_come(ranks: Ranks) -> None:
    """The first is not kept waiting for the second, and neither gets it twice."""
    here = ranks.begin(*counting(), ranks=2)
    ranks.until_known()
    there = ranks.begin(*counting(), rank=1, ranks=2, after=1.0)
    count, seconds = ranks.deliver()
    assert (count, here.poll()) == (2, ONCE)
    assert there.wait(10) == ONCE
    assert seconds < 1.9


def test_a_program_that_never_catches_it(ranks: Ranks) -> None:
    """It gets what any process would, after two seconds; the signals that are only to end it at once."""
    patient = ranks.begin("sleep", "60")
    ranks.until_known()
    count, seconds = ranks.deliver()
    assert (count, patient.wait(10)) == (1, -signal.SIGUSR1)
    assert 1.9 < seconds < 4

    ended = ranks.begin("sleep", "60", rank=1)
    ranks.until_known()
    count, seconds = ranks.deliver("TERM")
    assert (count, ended.wait(10)) == (1, -signal.SIGTERM)
    assert seconds < 1


def test_a_program_that_has_run_for_long(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not caught the signal until now won't: no delay, neither for it nor for ranks that have ended before."""
    monkeypatch.setattr(signals, "_YOUNG_S", 0.3)
    program = ranks.begin("sleep", "60", ranks=2)
    ranks.until_known()
    time.sleep(0.5)
    count, seconds = ranks.deliver()
    assert (count, program.wait(10)) == (1, -signal.SIGUSR1)
    assert seconds < 1


def test_by_force_there_is_no_waiting(ranks: Ranks) -> None:
    """KILL can't be caught, so nothing is to be waited for; also where there is nobody."""
    assert ranks.deliver("KILL")[1] < 1
    program = ranks.begin("sleep", "60", ranks=2)
    ranks.until_known()
    assert ranks.deliver("KILL")[1] < 1
    assert program.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("options", [(), ("--pid",)])
@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_container_that_still_starts(ranks: Ranks, apptainer: Apptainer, name: str, options: tuple[str, ...]) -> None:
    """At whatever moment it comes, a checkpoint's signal reaches the program once; one that is to end it is not lost either."""
    for delay in (0.0, 0.03, 0.06, 0.09, 0.12, 0.16, 0.2, 0.3):
        program = ranks.begin(apptainer.program, "-q", "exec", *options, apptainer.debian, *counting(name=name, python="python3"))
        ranks.until_known()
        time.sleep(delay)
        assert ranks.deliver(name)[0] == 1, delay
        ends = (ONCE,) if name == "USR1" else (ONCE, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert program.wait(20) in ends, delay
