"""A rank that stays beside its program: it ends as that does, passes signals on, and ends it when nobody needs it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

#: Stays beside a Python program; the connection is the descriptor FD.
RANK = """\
import os, socket, sys
from hpcest.onnode import supervise
supervise._GRACE_S = 6.0
connection = socket.socket(fileno=int(sys.argv[1]))
become = lambda: os.execv(sys.executable, [sys.executable, "-c", sys.argv[4]])
supervise.outlive(become, connection, serves=sys.argv[2] == "serves", forwards=sys.argv[3] == "forwards")
"""
#: Programs ``say``: a handler of signals may not print while the program does.
READY = "import os, signal, sys, time\nsay = lambda text: os.write(1, f'{text}\\n'.encode())\nsay('ready')\n"


class Rank:
    """A rank with its program, and this end of its connection."""

    def __init__(self, program: str, *, serves: bool = False, forwards: bool = True) -> None:
        self.meeting, theirs = socket.socketpair()
        words = [str(theirs.fileno()), "serves" if serves else "works", "forwards" if forwards else "ignores", READY + program]
        self.process = subprocess.Popen([sys.executable, "-c", RANK, *words], pass_fds=[theirs.fileno()], stdout=-1, text=True)
        theirs.close()
        assert self.process.stdout
        self.out = self.process.stdout
        assert self.out.readline() == "ready\n"

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(30)

    def close(self) -> None:
        """Nothing of it is left."""
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.meeting.close()


@pytest.fixture
def begin() -> Iterator[Callable[..., Rank]]:
    """``begin(program, serves=False, forwards=True)`` starts a rank, of which nothing is left after the test."""
    with ExitStack() as begun:
        yield lambda *words, **how: begun.enter_context(closing(Rank(*words, **how)))


@pytest.mark.parametrize(
    ("program", "code"), [("", 0), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("os.abort()", 134)]
)
def test_it_ends_as_its_program_does(begin: Callable[..., Rank], program: str, code: int) -> None:
    for serves in (True, False):
        assert begin(program, serves=serves).ended() == code


def test_its_connection_ends_with_its_program_and_not_before(begin: Callable[..., Rank]) -> None:
    """Whoever serves the others learns by it that they may end."""
    rank = begin("time.sleep(1)")
    rank.meeting.settimeout(0.3)
    with pytest.raises(TimeoutError):
        rank.meeting.recv(1)
    rank.meeting.settimeout(20)

    assert rank.meeting.recv(1) == b""
    assert rank.ended() == 0


def test_a_servant_is_ended_when_all_others_have(begin: Callable[..., Rank]) -> None:
    """And that is a good end."""
    rank = begin("time.sleep(60)", serves=True)
    rank.meeting.close()

    assert rank.ended() == 0


def test_a_servant_may_tidy_up(begin: Callable[..., Rank]) -> None:
    rank = begin("signal.signal(15, lambda *_: (say('tidy'), sys.exit(1)))\nsay('set')\ntime.sleep(60)", serves=True)
    assert rank.out.readline() == "set\n"
    rank.meeting.close()

    assert rank.out.readline() == "tidy\n"
    assert rank.ended() == 0


def test_a_servant_that_ignores_its_end(begin: Callable[..., Rank]) -> None:
    """It is killed when its grace is over."""
    rank = begin("signal.signal(15, signal.SIG_IGN)\nsay('set')\ntime.sleep(60)", serves=True)
    assert rank.out.readline() == "set\n"
    began = time.monotonic()
    rank.meeting.close()

    assert rank.ended() == 0
    assert 5.9 < time.monotonic() - began < 25


def test_a_servant_that_fails_before_has_failed(begin: Callable[..., Rank]) -> None:
    assert begin("sys.exit(4)", serves=True).ended() == 4


def test_the_end_of_the_meeting_is_nothing_to_whoever_works(begin: Callable[..., Rank]) -> None:
    rank = begin("time.sleep(0.5); sys.exit(5)")
    rank.meeting.close()

    assert rank.ended() == 5


CATCHER = "signal.signal(10, lambda *_: say('got'))\nsay('set')\ntime.sleep(1.5)\ntime.sleep(0.5)\n"


@pytest.mark.parametrize("forwards", [True, False])
def test_signals(begin: Callable[..., Rank], forwards: bool) -> None:
    """They are passed on where nobody else brings them to the program, and never end the rank before its program."""
    rank = begin(CATCHER, forwards=forwards)
    assert rank.out.readline() == "set\n"
    _until(lambda: _is_prepared(rank.process.pid))  # the rank sets its own handlers after it has forked
    rank.process.send_signal(signal.SIGUSR1)

    assert rank.out.read() == ("got\n" if forwards else "")
    assert rank.ended() == 0


def test_the_program_does_not_outlive_its_rank(begin: Callable[..., Rank]) -> None:
    """Not even one that was killed."""
    rank = begin("say(os.getpid())\ntime.sleep(60)")
    program = int(rank.out.readline())
    rank.process.kill()
    rank.process.wait(10)

    _until(lambda: _ended(program))


def _ended(pid: int) -> bool:
    """Gone, or waiting for whoever is its parent now to look."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def _is_prepared(pid: int) -> bool:
    """Whether it catches or ignores USR1."""
    with open(f"/proc/{pid}/status") as stream:
        masks = dict(line.split(":") for line in stream if line.startswith(("SigCgt", "SigIgn")))
    return any(int(mask, 16) >> (signal.SIGUSR1 - 1) & 1 for mask in masks.values())


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
