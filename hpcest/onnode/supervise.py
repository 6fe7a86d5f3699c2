"""A rank whose program is not the last thing that it does: it stays beside it, and ends it when nobody needs it any more."""

import os
import select
import signal
import sys
import time

from hpcest.onnode import processes

_LOOK_S, _GRACE_S = 0.2, 10.0
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def outlive(become, connection, *, serves, forwards):
    """Run the program that ``become()`` becomes in a child, and exit as it does.

    ``connection`` leads to the meeting. Of a rank that ``serves``, its end means that all others have ended: the program is
    ended then, and that is fine. Of any other rank it is closed when the program has ended. Signals are passed on where
    ``forwards``; on a cluster they reach the program by themselves.
    """
    me = os.getpid()
    child = os.fork()
    if child == 0:
        connection.close()
        processes.die_with_parent(me)
        become()  # never returns
    for number in _FORWARDED:
        signal.signal(number, (lambda got, _: processes.send([child], got)) if forwards else signal.SIG_IGN)
    dismissed = None
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        now = time.monotonic()
        if dismissed is None and serves and _closed(connection):
            dismissed = now
            processes.send([child], signal.SIGTERM)
        elif dismissed is None and not serves:
            time.sleep(_LOOK_S / 4)
        elif dismissed is not None:
            if now - dismissed > _GRACE_S:
                processes.send([child], signal.SIGKILL)
            time.sleep(_LOOK_S / 4)
    code, number = processes.exit_code(status)
    sys.stdout.flush()
    os._exit(0 if dismissed is not None else code if not number else 128 + number)


def _closed(connection):
    if not select.select([connection], [], [], _LOOK_S)[0]:
        return False
    try:
        return not connection.recv(4096)
    except OSError:
        return True
