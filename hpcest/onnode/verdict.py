"""How an attempt ended: the exit sentinel, and the sentence that goes with it."""

import json
import os
import signal
import time

from hpcest.onnode.record import get_json, put_json

_ROOM = 4096


def signal_name(number):
    """``SIGTERM`` for 15, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def judge(outcome):
    """(status, reason, message) of an outcome: ``why`` it was ended, the first rank's code and signal."""
    why = outcome.get("why")
    if outcome.get("requeue"):
        return "Queued", "", "stopped for a checkpoint before its time limit, and starts again"
    if why in _ENDED:
        status, reason, message = _ENDED[why]
        return status, reason, message % _Words(outcome)
    if why == "launch":
        return "Failed", "LaunchFailed", outcome.get("message") or "the program could not be started"
    return _judge_program(outcome)


#: Why it was ended → status, reason and sentence, filled in from the outcome.
_ENDED = {
    "cancel": ("Canceled", "", "canceled on request"),
    "timeout": ("Failed", "TimedOut", "ended after its time limit%(limit_s)s; ask for more time"),
    "checkpoint": ("Failed", "TimedOut", "its time was up, and Slurm refused to start it again: %(refused)s"),
    "spent": ("Failed", "TimedOut", "stopped for a checkpoint before its time limit, and max_requeues=%(limit)s lets it start no more"),
    "memory": ("Failed", "OutOfMemory", "%(who)sneeded more memory than the job has%(on_node)s; ask for more: --mem"),
    "preempted": ("Failed", "Preempted", "preempted by a job of higher priority; with --max-requeues it starts again"),
    "node": ("Failed", "NodeFail", "a node failed under it%(on_node)s; with --max-requeues it starts again"),
    "requeued": ("Failed", "Preempted", "Slurm ended it to start it again, which did not happen"),
    "requeues": ("Failed", "Preempted", "Slurm started it again more often than max_requeues=%(limit)s allows"),
    "outside": ("Failed", "Lost", "Slurm ended it and could not be asked why; 'hpcest rerun' starts it again"),
    "lost": ("Failed", "Lost", "the controller was killed, and the program ended with it; 'hpcest rerun' starts it again"),
}


class _Words(dict):
    """What the sentences need of an outcome."""

    def __missing__(self, name):
        if name == "limit_s":
            return " of %s s" % self["limit"] if self.get("limit") else ""
        if name == "on_node":
            return " (%s)" % self["node"] if self.get("node") else ""
        if name == "who":
            return who(self)
        return ""


def who(outcome):
    """The beginning of a sentence about the rank that failed first."""
    many = outcome.get("ranks", 1) > 1 and outcome.get("rank") is not None
    if many and outcome.get("per") == "node":  # its ranks are another launcher's
        return "the program on node %d " % outcome["rank"]
    return "rank %d " % outcome["rank"] if many else "the program "


def _judge_program(outcome):
    """Of a program that ended by itself."""
    code, number = outcome.get("rc"), outcome.get("signal")
    rank = who(outcome)
    if code == 0:
        return "Completed", "", ""
    if number == signal.SIGKILL:
        return "Failed", "Signaled", rank + "was killed (SIGKILL); on a busy machine the kernel does that when memory runs out"
    if number:
        return "Failed", "Signaled", rank + "was ended by %s" % signal_name(number)
    if code in (126, 127):
        return "Failed", "UserError", rank + "exited with code %d: a command was not found or may not be executed" % code
    return "Failed", "UserError", rank + "exited with code %d" % code


class Sentinel:
    """The file that says how an attempt ended, whole or absent.

    Its room on the disk is taken when the attempt starts, so that a full disk can't hide the end. The
    verdict is noted there as soon as the ranks have ended, and published when all is tidied up.
    """

    def __init__(self, path):
        self.path = path
        self._beside = path + ".tmp"

    def reserve(self):
        """Take the room."""
        try:
            with open(self._beside, "wb") as stream:
                stream.write(b" " * _ROOM)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            pass  # then the plain way is tried at the end

    def note(self, outcome):
        """Keep ``outcome`` for whoever publishes it if this process is killed. Raises OSError."""
        with open(self._beside, "r+b") as stream:
            stream.write(json.dumps(outcome).encode())
            stream.truncate()
            stream.flush()
            os.fsync(stream.fileno())

    def noted(self):
        """The outcome that was noted but not published, or None."""
        outcome = get_json(self._beside)
        return outcome if isinstance(outcome, dict) and "status" in outcome else None

    def write(self, outcome):
        """Publish ``outcome``. Raises OSError only if the disk refuses in every way."""
        outcome = dict(outcome, t=time.time())
        try:
            self.note(outcome)
            os.replace(self._beside, self.path)
        except OSError:
            put_json(self.path, outcome)
