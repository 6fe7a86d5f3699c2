"""Where the ranks of an attempt learn who the others are, before any of them becomes the user's program.

Rank 0 has a server beside it. Every rank tells it its rank, host and port and gets those of all; who has not come in time is
named to all others. Where some ranks only serve the others (parameter servers, the workers of a Ray cluster), the connections
stay: the server closes those of the servants when all others are closed, which says that they may end.
"""

import json
import os
import resource
import selectors
import socket
import time

from hpcest.onnode import processes

#: Seconds in which all ranks have to come. A step starts within seconds; a node that has to be woken up takes minutes.
TIMEOUT_S = 300.0
_LINE = 1 << 20


class MissingError(Exception):
    """Ranks that did not come: ``ranks`` are their numbers, none where rank 0 itself can't be reached."""

    def __init__(self, ranks, message):
        super().__init__(message)
        self.ranks = ranks


def timeout(env):
    """The seconds that ``HPCEST_MEETING_TIMEOUT`` says, else the default."""
    try:
        return float(env["HPCEST_MEETING_TIMEOUT"])
    except (KeyError, ValueError):
        return TIMEOUT_S


def come(env, rank, me, seconds):
    """Meet the others; returns (what all said, in the order of ranks; the connection). Raises MissingError.

    ``me`` is what this rank has to say, a dict; ``env`` has MASTER_ADDR, HPCEST_MEETING_PORT and HPCEST_MEETING_WORD.
    """
    end = time.monotonic() + seconds
    place = (env["MASTER_ADDR"], int(env["HPCEST_MEETING_PORT"]))
    connection = _connected(place, end)
    try:
        connection.sendall(json.dumps({"word": env["HPCEST_MEETING_WORD"], "rank": rank, "me": me}).encode() + b"\n")
        connection.settimeout(seconds + 10.0)  # the server, which may have started later, is the first to lose its patience
        with connection.makefile("rb") as stream:
            answer = json.loads(stream.readline(_LINE) or b"{}")
    except (OSError, ValueError):
        answer = {}
    if "all" not in answer:
        connection.close()
        missing = answer.get("missing") or []
        raise MissingError(missing, _sentence(missing, seconds, place))
    connection.settimeout(None)
    return answer["all"], connection


def _sentence(missing, seconds, place):
    if missing:
        return "no word within %d s from rank%s %s" % (seconds, "s" if len(missing) > 1 else "", ", ".join(map(str, missing)))
    return "no answer from rank 0 at %s:%d within %d s" % (place + (seconds,))


def _connected(place, end):
    problem = "it was not tried"
    while time.monotonic() < end:
        try:
            return socket.create_connection(place, timeout=min(10.0, max(1.0, end - time.monotonic())))
        except OSError as error:
            problem = error.strerror or str(error)
            time.sleep(0.05)
    raise MissingError([], "rank 0 can't be reached at %s:%d (%s)" % (place + (problem,)))


def open_beside(env, count, servants, seconds):
    """Have a process beside this one serve the meeting of ``count`` ranks, of which the set ``servants`` only serve.

    It is nobody's child, so that no program of the user's ever waits for it. Raises OSError where the port is taken.
    """
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", int(env["HPCEST_MEETING_PORT"])))
        server.listen(min(count + 16, 4096))
    except OSError:
        server.close()
        raise
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        server.close()
        return
    try:
        if os.fork() == 0:
            processes.detach((server.fileno(),))
            _Meeting(server, env["HPCEST_MEETING_WORD"], count, servants).hold(seconds)
    finally:
        os._exit(0)


class _Meeting:
    """The server's side."""

    def __init__(self, server, word, count, servants):
        self._server, self._word, self._count, self._servants = server, word, count, servants
        self._heard = {}  # socket -> bytes of a line that is not whole yet
        self._here = {}  # rank -> (socket, what it said)

    def hold(self, seconds):
        """Until all have been answered, and where there are servants until the others are gone."""
        end = time.monotonic() + seconds
        _raise_limit()
        with selectors.DefaultSelector() as ready:  # select() itself ends at 1024 connections
            ready.register(self._server, selectors.EVENT_READ)
            while len(self._here) < self._count and time.monotonic() < end:
                for key, _ in ready.select(max(0.0, end - time.monotonic())):
                    if key.fileobj is self._server:
                        self._accept(ready)
                    else:
                        self._hear(key.fileobj, ready)
        self._server.close()
        missing = [rank for rank in range(self._count) if rank not in self._here]
        answer = {"missing": missing} if missing else {"all": [self._here[rank][1] for rank in range(self._count)]}
        text = json.dumps(answer).encode() + b"\n"
        for rank in sorted(self._here, reverse=True):  # rank 0 the last: where its program ends at once, Slurm ends this process
            _send(self._here[rank][0], text)
        if self._servants and not missing:
            self._outlast([one for rank, (one, _) in self._here.items() if rank not in self._servants])

    def _accept(self, ready):
        try:
            one = self._server.accept()[0]
        except OSError:  # gone again, or there are no descriptors left for now
            time.sleep(0.01)
            return
        self._heard[one] = b""
        ready.register(one, selectors.EVENT_READ)

    def _hear(self, one, ready):
        try:
            part = one.recv(65536)
        except OSError:
            part = b""
        text = self._heard.pop(one) + part
        if part and b"\n" not in text and len(text) < _LINE:
            self._heard[one] = text
            return
        ready.unregister(one)
        try:
            said = json.loads(text.partition(b"\n")[0])
            rank = said["rank"]
            if said["word"] != self._word or rank not in range(self._count) or rank in self._here:
                raise ValueError
            self._here[rank] = (one, said["me"])
        except (ValueError, KeyError, TypeError, RecursionError):  # somebody else's program, that looks what is there
            one.close()

    @staticmethod
    def _outlast(connections):
        """Until the other end of each is closed. What is said there doesn't matter."""
        with selectors.DefaultSelector() as ready:
            for one in connections:
                ready.register(one, selectors.EVENT_READ, one)
            while ready.get_map():
                for key, _ in ready.select():
                    try:
                        gone = not key.data.recv(4096)
                    except OSError:
                        gone = True
                    if gone:
                        ready.unregister(key.data)


def _raise_limit():
    """Allow this process a descriptor for every rank of a large run, where that is up to it."""
    try:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        pass


def _send(one, text):
    try:
        one.settimeout(10.0)
        one.sendall(text)
    except OSError:
        pass  # it has ended meanwhile, which is noticed elsewhere
