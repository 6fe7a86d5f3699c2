"""How an attempt is brought to its end: who asks for it, what the ranks get, and when they are made to."""

import os
import signal

from hpcest.onnode import culprit, signals

#: After a warning signal the ranks have this part of the warning's lead to write their checkpoints.
_CHECKPOINT_PART, _HURRY_S = 0.8, 5.0
_LATE_S = 3.0
#: Exit codes that don't speak against another attempt after a warning: fine, "try again" (sysexits.h).
_GOES_ON = (0, os.EX_TEMPFAIL)
#: The signals by which Slurm ends ranks, and what a shell says of a program that one of them has ended.
_ENDS = (signal.SIGTERM, signal.SIGKILL)
_ENDED = tuple(128 + number for number in _ENDS)


class Ending:
    """The state machine beside a controller's loop: ``hear`` signals, ``ask`` for the end, ``act`` in time."""

    def __init__(self, controller):
        self.controller = controller
        self.launch = controller.launch
        self.deadline = None
        self._stage = 0  # 1: warned, 2: told to end
        self._next = None
        self._told_by_slurm = False
        self._is_warned = False
        self._spent = None  # max_requeues, once there is no further attempt to stop for

    @property
    def why(self):
        return self.controller.outcome["why"]

    def ask(self, why, **facts):
        """Have the attempt end; the first reason stays."""
        if self.why is None:
            self.controller.outcome.update(facts, why=why)

    def hear(self, number):
        """A signal reached the controller."""
        expected = self.launch.get("signal") or self.launch.get("max_requeues")
        if number == signal.SIGUSR2 and self.controller.job and expected:
            self._warned()
        elif number in (signal.SIGUSR1, signal.SIGUSR2) and self.launch.get("attached"):
            self._send(number)  # 'hpcest exec' is to its program what a shell's exec would be
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._terminated()

    def _terminated(self):
        job = self.controller.job
        if job is None or self.why is not None or os.path.exists(os.path.join(self.launch["folder"], "state", "cancel")):
            self.ask("cancel")
            return
        why, state = job.why_ended()
        if why == "":  # the job goes on: somebody signalled this process alone, which means a gentle end
            self.ask("cancel")
            return
        self._told_by_slurm = True
        self._ask_as_slurm_does(why or "outside", state)
        self.controller.note()

    def _ask_as_slurm_does(self, why, state):
        # Slurm may yet requeue what was preempted or lost a node, and what could not be asked is not known.
        self.ask(why, state=state, final=why in ("cancel", "timeout", "memory"))

    def _warned(self):
        """The time limit comes near (or a preemption): the ranks get the signal that the user chose."""
        self._is_warned = True
        most, attempt = self.launch.get("max_requeues"), self.controller.attempt
        if most and attempt < most:
            self.ask("checkpoint")
            return
        if most is not None:
            self._spent = most
        if self.launch.get("signal"):
            self._send(signals.number_of(self.launch["signal"]))

    def _send(self, number):
        self.controller.events.event("signal", a=self.controller.attempt, v=signal.Signals(number).name)
        self.controller.ranks.send(number)

    def act(self, now):
        """Do what is due; returns the moment of the next thing to do, or None."""
        if self.deadline is not None and now >= self.deadline:
            self.ask("timeout", limit=self.launch["time"])
        if self._warning_missed(now):
            self._warned()
        if self._stage == 0 and (self.why is not None or self.controller.outcome["rc"]):
            self._begin(now)
        elif self._stage == 1 and (now >= self._next or self.why != "checkpoint"):
            self._send(signal.SIGTERM)
            self._stage, self._next = 2, now + min(self.launch["grace"], _HURRY_S)
        elif self._stage == 2 and now >= self._next:
            self.controller.ranks.kill()
            self._next = now + 1.0
        return self.deadline if self._stage == 0 else self._next  # a missed warning is noticed at some heartbeat

    def _warning_missed(self, now):
        """Slurm sends its warning once; a slurmctld that is down at that moment never does."""
        limit, lead = self.launch.get("limit"), self.launch.get("warn")
        return bool(limit and lead and not self._is_warned and now >= self.controller.began + limit - lead + _LATE_S)

    def _begin(self, now):
        if self.why == "checkpoint":
            self._send(signals.number_of(self.launch.get("signal") or "USR1"))
            self._stage, self._next = 1, now + _CHECKPOINT_PART * (self.launch.get("warn") or self.launch["grace"])
            return
        grace = self.launch["grace"]
        if self._told_by_slurm:  # and so were the ranks; a second TERM would mean "at once" to some programs
            grace = max(1.0, self.launch.get("kill_wait", 30) - _HURRY_S)
        else:
            self._send(signal.SIGTERM)
        self._stage, self._next = 2, now + grace

    def conclude(self, cause):
        """Settle why the attempt ended, with what the launcher said (see ``step.cause_of``)."""
        outcome = self.controller.outcome
        if self.launch.get("per") == "node":
            outcome["per"] = "node"
        if not cause.get("node_failed"):  # the launcher names the node, which Slurm's state does not
            self._hear_late(outcome)
        self._find_culprit(outcome, cause)
        if self.why is None and cause.get("node_failed"):
            outcome.update(why="node", node=cause["node_failed"], final=False)
        elif self.why is None and cause.get("not_launched"):
            outcome.update(why="launch", message="Slurm could not start the ranks; see system_logs/controller.log")
        elif self.why is None and cause.get("memory") and outcome["rc"]:
            outcome["why"] = "memory"
        elif self.why == "checkpoint":
            if outcome["rc"] in _GOES_ON or outcome.get("signal"):
                outcome.update(requeue=True, most=self.launch["max_requeues"])
            else:  # it did not stop for a checkpoint: it failed
                outcome["why"] = None
        elif self.why is None and self._spent is not None and (outcome["rc"] in _GOES_ON or outcome.get("signal")):
            outcome.update(why="spent", limit=self._spent)  # it stopped for a checkpoint, which is not to be complete
        if cause.get("node"):
            outcome.setdefault("node", cause["node"])

    def _hear_late(self, outcome):
        """Slurm tells the ranks to end too, and may tell them first."""
        if self.why is None and self.controller.job and (outcome.get("signal") in _ENDS or outcome["rc"] in _ENDED):
            why, state = self.controller.job.why_ended()
            if why:
                self._ask_as_slurm_does(why, state)

    def _find_culprit(self, outcome, cause):
        """Have the outcome be that of the rank that failed first; the others follow it."""
        ended = self.controller.ranks.ended
        if self.why is None and outcome.get("rank") in ended:
            named = cause.get("named") or [outcome["rank"]]
            rank, code, number = culprit.first_failed(self.launch, self.controller.attempt, named, ended)
            if rank != outcome["rank"]:
                outcome.update(rank=rank, rc=code, signal=number)
