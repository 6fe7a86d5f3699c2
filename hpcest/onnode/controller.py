"""The controller: one process for each attempt, on the node, that starts the ranks and records the end.

It reads a launch manifest (``launch.json`` in the run folder), a JSON object:

    run, folder, workspace, experiment    which run this is
    runtime                               the directory that holds this copy of the package
    python                                the interpreter for boot.py on the node's host
    snapshot {manifest, objects, stamp}   what to lay out as the working directory
    nodes, procs_per_node, per            how many ranks ("per": "process" or "node")
    prefix, argv, variables, path, unset  what each rank becomes, and its environment
    expand                                whether $NAME in argv is replaced for each rank
    secrets                               names of variables whose values are in state/secrets.json
    time, grace                           seconds: the limit (or null), and between TERM and KILL
    queue                                 the folder of the local queue, or null
    umask                                 of whoever submitted, where it may not be inherited
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time

from hpcest.onnode import processes, workdir
from hpcest.onnode.guardian import Guardian
from hpcest.onnode.rank import rank_variables, run_variables
from hpcest.onnode.record import EventWriter, get_json, put_json, warn
from hpcest.onnode.slots import Queue
from hpcest.onnode.verdict import Sentinel, judge

BEAT_S = 5.0
_WAKE = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Controller:
    """One attempt of one run."""

    def __init__(self, manifest, attempt):
        self.launch = get_json(manifest)
        self.manifest, self.attempt = manifest, attempt
        self.folder = self.launch["folder"]
        self.queue = Queue(self.launch["queue"]) if self.launch.get("queue") else None
        self.events = EventWriter(self.folder, "controller.a%d" % attempt)
        self.running = {}  # pid -> rank
        self.outcome = {"attempt": attempt, "rc": 0, "why": None, "ranks": self._ranks()}
        self.began = time.monotonic()

    def _ranks(self):
        return self.launch["nodes"] * (1 if self.launch.get("per") == "node" else self.launch["procs_per_node"])

    def _state(self, name):
        return os.path.join(self.folder, "state", name)

    # ------------------------------------------------------------------ the order of things
    def main(self):
        """The whole attempt. Returns the exit code for whoever waits for this process."""
        if self.launch.get("umask") is not None:
            os.umask(self.launch["umask"])
        os.makedirs(self._state(""), exist_ok=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAKE)
        processes.adopt_orphans()
        guardian = Guardian(self._bereaved)
        if not self._claim(guardian):
            guardian.dismiss()
            return 0
        if self.queue:
            self.queue.done(self.launch["run"])
        sentinel = Sentinel(self._state("exit.%d.json" % self.attempt))
        sentinel.reserve()
        try:
            self._prepare()
            self._start()
            self._watch()
        except Exception as error:  # the verdict must exist even if nothing could be started
            self.outcome.update(rc=None, why="launch", message="%s: %s" % (type(error).__name__, error))
        self._finish(sentinel, guardian)
        return self.outcome["rc"] if self.outcome["rc"] is not None else 70

    def _claim(self, guardian):
        """Win the attempt, or learn that another controller has it."""
        me = dict(processes.identity(), guardian=guardian.identity, t=time.time())
        beside = self._state("claim.%d.%d.tmp" % (self.attempt, os.getpid()))
        put_json(beside, me)
        try:
            os.link(beside, self._state("claim.%d.json" % self.attempt))
            return True
        except FileExistsError:
            return False
        finally:
            os.unlink(beside)

    def _prepare(self):
        snapshot = self.launch.get("snapshot")
        work = os.path.join(self.folder, "work")
        outputs, logs = os.path.join(self.folder, "outputs"), os.path.join(self.folder, "logs")
        for part in (outputs, logs, os.path.join(self.folder, "user_logs")):
            os.makedirs(part, exist_ok=True)
        workdir.lay_out(snapshot["manifest"], snapshot["objects"], work, outputs, logs, snapshot["stamp"])

    def _start(self):
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        base = {key: value for key, value in os.environ.items() if key != "HPCEST_SLOT_FD"}
        base.update(shared)
        for rank in range(self._ranks()):
            argv = [self.launch["python"], "-I", "-S", "-X", "utf8", os.path.join(os.path.dirname(__file__), "boot.py")]
            argv += ["rank", self.manifest, str(rank), str(self.attempt), str(os.getpid())]
            with open(self._log(rank), "ab") as log:
                env = dict(base, **run_variables(self.launch, self.attempt))
                env.update(rank_variables(self.launch, rank))
                child = subprocess.Popen(
                    argv, env=env, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            child.returncode = 0  # we wait for all our children ourselves
            self.running[child.pid] = rank
        self.events.event("attempt", a=self.attempt, host=socket.gethostname(), pid=os.getpid())
        self._say("Running")

    def _log(self, rank):
        name = "std_log" if self._ranks() == 1 else "std_log_%d" % rank
        if self.attempt:
            name += ".attempt%d" % self.attempt
        return os.path.join(self.folder, "user_logs", name + ".txt")

    def _watch(self):
        """Until all ranks have ended: reap them, beat, and end them when asked or when time is up."""
        limit = self.launch.get("time")
        deadline = self.began + limit if limit else None
        kill_at, beat = None, 0.0
        while self.running:
            now = time.monotonic()
            if now - beat >= BEAT_S:
                beat = now
                self._beat()
            if kill_at is None and self._should_end(deadline):
                kill_at = now + self.launch["grace"]
                processes.send(self.running, signal.SIGTERM)
            if kill_at is not None and now >= kill_at:
                processes.send(self.running, signal.SIGKILL)
                kill_at = now + 1.0
            moments = [beat + BEAT_S, deadline if kill_at is None else None, kill_at]
            pause = min(moment for moment in moments if moment is not None) - now
            got = signal.sigtimedwait(_WAKE, max(0.0, min(pause, BEAT_S)))
            if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                self.outcome["why"] = self.outcome["why"] or "cancel"
            self._reap()

    def _should_end(self, deadline):
        if deadline is not None and time.monotonic() >= deadline and not self.outcome["why"]:
            self.outcome.update(why="timeout", limit=self.launch["time"])
        return self.outcome["why"] is not None or self.outcome["rc"] != 0

    def _beat(self):
        try:
            os.utime(self._state("claim.%d.json" % self.attempt))
        except OSError:
            pass
        if os.path.exists(self._state("cancel")):
            self.outcome["why"] = self.outcome["why"] or "cancel"

    def _reap(self):
        for pid, status in processes.reap():
            rank = self.running.pop(pid, None)
            if rank is not None:
                code, number = processes.exit_code(status)
                self.events.event("exit", a=self.attempt, rank=rank, rc=code, signal=number or None)
                # The first rank that fails is the cause; what happens to the others follows from it.
                if code and not self.outcome["rc"] and self.outcome["why"] is None:
                    self.outcome.update(rc=code, signal=number, rank=rank)
                elif code and self.outcome["why"] and not self.outcome["rc"]:
                    self.outcome["rc"] = code

    # ------------------------------------------------------------------ the end
    def _finish(self, sentinel, guardian):
        self._say("Finalizing")
        self._judge()
        try:
            sentinel.note(self.outcome)
        except OSError:
            pass  # no room could be reserved; if all goes well the verdict is still to come
        spare = (guardian.pid,)
        left = processes.end_all(lambda: processes.members(self.launch["run"], [os.getpid()], spare), 2.0)
        if left:
            self.events.event("leftover", a=self.attempt, n=left)
        self._reap()
        try:
            snapshot = self.launch["snapshot"]
            workdir.tidy(snapshot["manifest"], os.path.join(self.folder, "work"), snapshot["stamp"])
        except Exception as error:  # a working directory that stays is no reason to lose the verdict
            warn("the working directory was left as it is: %s" % error)
        self._usage()
        if self.launch.get("secrets"):
            _remove(self._state("secrets.json"))
        self._conclude(sentinel)
        guardian.dismiss()
        self._hand_on()

    def _usage(self):
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.events.event(
            "usage",
            a=self.attempt,
            elapsed_s=round(time.monotonic() - self.began, 3),
            cpu_s=round(children.ru_utime + children.ru_stime, 3),
            peak_memory_mb=round(children.ru_maxrss / 1024.0, 1),
        )

    def _judge(self):
        status, reason, message = judge(self.outcome)
        self.outcome.update(status=status, reason=reason, message=message)

    def _conclude(self, sentinel):
        outcome = self.outcome
        try:
            sentinel.write(outcome)
        except OSError as error:
            warn("the verdict %s could not be written: %s" % (outcome, error))
        self._say(outcome["status"], r=outcome["reason"] or None, m=outcome["message"] or None, rc=outcome["rc"])
        self.events.close()

    def _say(self, status, **fields):
        self.events.event("status", v=status, by="controller", a=self.attempt, **fields)

    def _hand_on(self):
        """Give the slot back and let the next run start."""
        slot = os.environ.pop("HPCEST_SLOT_FD", None)
        if slot is not None:
            os.close(int(slot))
        if self.queue:
            self.queue.dispatch()

    def _bereaved(self):
        """In the guardian, when the controller is gone: end the run and say what is true."""
        run = self.launch["run"]
        claim = get_json(self._state("claim.%d.json" % self.attempt)) or {}
        sentinel = Sentinel(self._state("exit.%d.json" % self.attempt))
        # Without the claim another controller runs the attempt, or nobody does yet.
        if (claim.get("guardian") or {}).get("pid") == os.getpid() and not os.path.exists(sentinel.path):
            self.events = EventWriter(self.folder, "guardian.a%d" % self.attempt)
            processes.end_all(lambda: processes.members(run), 1.0)
            self.outcome.update(rc=None, why="lost")
            self._judge()
            self.outcome = sentinel.noted() or self.outcome
            self._conclude(sentinel)
        self._hand_on()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def main(manifest, attempt="0"):
    """Run the attempt that ``manifest`` describes, and exit with its code."""
    sys.exit(Controller(manifest, int(attempt)).main())
