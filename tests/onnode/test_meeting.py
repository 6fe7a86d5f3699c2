"""Ranks that meet: all learn who the others are, or who is missing; strangers change nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcest.onnode import meeting, ports

#: Opens a meeting beside itself and ends, as a rank 0 does that becomes its program.
HOST = """\
import json, os, sys
from hpcest.onnode import meeting
count, servants, seconds = json.loads(sys.argv[1])
meeting.open_beside(os.environ, count, set(servants), seconds)
"""


class Room:
    """A meeting point, and what happens there."""

    def __init__(self) -> None:
        self.port, self._held = ports.hold("meeting", os.getpid(), time.monotonic())
        self.env = {"MASTER_ADDR": "127.0.0.1", "HPCEST_MEETING_PORT": str(self.port), "HPCEST_MEETING_WORD": "word"}

    def open(self, count: int, servants: tuple[int, ...] = (), seconds: float = 20.0) -> None:
        """Open it for so many ranks; returns when it is open."""
        words = json.dumps([count, servants, seconds])
        subprocess.run([sys.executable, "-c", HOST, words], env={**os.environ, **self.env}, check=True, timeout=30)

    def come(self, rank: int, seconds: float = 20.0, **changes: str) -> Any:
        """What rank ``rank`` is told: who all are, or the MissingError."""
        try:
            everyone, connection = meeting.come({**self.env, **changes}, rank, {"host": "here", "port": rank}, seconds)
        except meeting.MissingError as error:
            return error
        connection.close()
        return [one["port"] for one in everyone]

    def come_together(self, *ranks: int, seconds: float = 20.0) -> list[Any]:
        """What each is told, all at once."""
        told: dict[int, Any] = {}
        threads = [threading.Thread(target=lambda rank=rank: told.update({rank: self.come(rank, seconds)})) for rank in ranks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return [told[rank] for rank in ranks]

    def connected(self, said: bytes = b"") -> socket.socket:
        """Somebody who connects and says that."""
        stranger = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        stranger.sendall(said)
        return stranger

    def close(self) -> None:
        """Give the port back."""
        self._held.close()


@pytest.fixture
def room() -> Iterator[Room]:
    """A meeting point on this machine."""
    made = Room()
    yield made
    made.close()


def test_all_learn_who_all_are(room: Room) -> None:
    room.open(5)

    assert room.come_together(4, 2, 0, 1, 3) == [[0, 1, 2, 3, 4]] * 5


def test_more_ranks_than_select_can_take(room: Room) -> None:
    """Two thousand, each with a connection of its own, though this user may only have half as many files open by default."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, hard - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        room.open(count)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        said = {rank: json.dumps({"word": "word", "rank": rank, "me": {"port": rank}}).encode() + b"\n" for rank in range(count)}
        ranks = [room.connected(said[rank]) for rank in range(count)]
        told = json.loads(ranks[0].makefile("rb").readline())
        for one in ranks:
            one.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert [one["port"] for one in told["all"]] == list(range(count))


def test_rank_0_may_be_late(room: Room) -> None:
    """The others try until its server is there."""
    told: list[Any] = []
    early = threading.Thread(target=lambda: told.append(room.come(1)))
    early.start()
    time.sleep(0.5)
    room.open(2)

    assert room.come(0) == [0, 1]
    early.join(20)
    assert told == [[0, 1]]


def test_who_has_not_come_is_named(room: Room) -> None:
    """To all who have, when the time is up, and not long after."""
    began = time.monotonic()
    room.open(5, seconds=1.0)
    told = room.come_together(0, 2, 3, seconds=1.0)

    assert [error.ranks for error in told] == [[1, 4]] * 3
    assert str(told[0]) == "no word within 1 s from ranks 1, 4"
    assert 1.0 <= time.monotonic() - began < 8.0


def test_rank_0_that_never_comes(room: Room) -> None:
    """Nobody can say more than that it can't be reached, and where."""
    error = room.come(1, seconds=0.5)

    assert (error.ranks, str(error)) == ([], f"rank 0 can't be reached at 127.0.0.1:{room.port} (Connection refused)")


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\xff\xfe\n",
        b"\n",
        b"[]\n",
        b"{}\n",
        b'{"word": "word"}\n',
        b'{"word": "word", "rank": 1}\n',
        b'{"word": "word", "rank": "one", "me": {}}\n',
        b'{"word": "word", "rank": Infinity, "me": {}}\n',
        b'{"word": "word", "rank": [1], "me": {}}\n',
        b'{"word": "word", "rank": -1, "me": {}}\n',
        b'{"word": "word", "rank": 2, "me": {}}\n',
        b'{"word": "another", "rank": 1, "me": {"port": 666}}\n',
        b"[" * 100_000 + b"\n",
        b"x" * (1 << 20),
    ],
    ids=lambda said: said[:24].decode("latin-1"),
)
def test_strangers_are_shown_the_door(room: Room, said: bytes) -> None:
    """Whatever they say, and those who say nothing are ignored; the meeting goes on."""
    room.open(2)
    silent, gone, stranger = room.connected(), room.connected(b"half a line"), room.connected()
    gone.close()
    try:
        stranger.sendall(said)
        answer = stranger.recv(1000)
    except ConnectionError:  # what it said was left unread
        answer = b""

    assert answer == b""
    assert room.come_together(0, 1) == [[0, 1], [0, 1]]
    stranger.close()
    silent.close()


def test_a_wrong_word(room: Room) -> None:
    """Such as that of an earlier attempt: it is sent away at once, and takes nobody's place."""
    room.open(2)
    error = room.come(1, HPCEST_MEETING_WORD="of yesterday")

    assert str(error) == f"no answer from rank 0 at 127.0.0.1:{room.port} within 20 s"
    assert room.come_together(0, 1) == [[0, 1], [0, 1]]


def test_a_rank_that_is_there_already(room: Room) -> None:
    """The first stays."""
    room.open(2)
    first = room.connected(b'{"word": "word", "rank": 1, "me": {"port": 1}}\n')
    second = room.connected(b'{"word": "word", "rank": 1, "me": {"port": 2}}\n')

    assert second.recv(100) == b""
    assert room.come(0) == [0, 1]
    first.close()
    second.close()


def test_a_port_that_is_taken(room: Room) -> None:
    room.open(2)

    with pytest.raises(OSError, match="Address already in use"):
        meeting.open_beside(room.env, 2, set(), 1.0)


def test_rank_0_is_answered_last(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm ends the meeting's server with the program of rank 0, which may take no time at all."""
    answered: list[int] = []
    send = meeting._send

    def noted(one: socket.socket, text: bytes) -> None:
        answered.append(ends[one.getpeername()[1]])
        send(one, text)

    monkeypatch.setattr(meeting, "_send", noted)
    server = socket.create_server(("127.0.0.1", room.port), reuse_port=True)
    ends: dict[int, int] = {}
    ranks = []
    for rank in range(4):
        ranks.append(room.connected(json.dumps({"word": "word", "rank": rank, "me": {}}).encode() + b"\n"))
        ends[ranks[-1].getsockname()[1]] = rank
    host = meeting._Meeting(server, "word", 4, set())
    host.hold(20.0)
    assert answered == [3, 2, 1, 0]
    for one in ranks:
        with one, one.makefile("rb") as stream:
            assert "all" in json.loads(stream.readline())
    for end, _ in host._here.values():  # in earnest they go with the process
        end.close()


def test_servants_outlast_the_others(room: Room) -> None:
    """Their connections end with the last of the others', and not before; what is said meanwhile doesn't matter."""
    room.open(4, servants=(1, 3))
    connections: dict[int, socket.socket] = {}
    threads = [
        threading.Thread(target=lambda rank=rank: connections.update({rank: meeting.come(room.env, rank, {}, 20.0)[1]}))
        for rank in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    connections[0].sendall(b"anything")
    connections[2].close()
    connections[1].settimeout(0.5)
    with pytest.raises(TimeoutError):
        connections[1].recv(1)
    connections[0].close()
    for servant in (connections[1], connections[3]):
        servant.settimeout(20)
        assert servant.recv(1) == b""
        servant.close()


def test_nobody_waits_for_the_meeting_to_end(room: Room, tmp_path: Path) -> None:
    """Rank 0 becomes its program at once: the server is not its child, and holds nothing of its output."""
    program = f"{HOST}try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print('no child')\n"
    argv = [sys.executable, "-c", program, json.dumps([2, [], 30.0])]
    done = subprocess.run(argv, env={**os.environ, **room.env}, capture_output=True, timeout=15, check=False)

    assert done.stdout == b"no child\n", done
    assert room.come_together(0, 1) == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("word", "seconds"), [("5", 5.0), ("0.5", 0.5), ("soon", meeting.TIMEOUT_S), (None, meeting.TIMEOUT_S)])
def test_the_time_that_ranks_have(word: str | None, seconds: float) -> None:
    assert meeting.timeout({} if word is None else {"HPCEST_MEETING_TIMEOUT": word}) == seconds
