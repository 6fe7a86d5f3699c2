"""The controller: one process for each attempt, on the node, that starts the ranks and records the end.

It reads a launch manifest (``launch.json`` in the run folder), a JSON object:

    run, folder, workspace, experiment    which run this is
    runtime                               the directory that holds this copy of the package
    python                                the interpreter for boot.py on the node's host
    snapshot {manifest, objects, stamp}   what to lay out as the working directory; or null, and
    place                                 the directory that the ranks run in as it is
    nodes, procs_per_node, per            how many ranks ("per": "process" or "node")
    prefix, argv, variables, path, unset  what each rank becomes, and its environment
    expand                                whether $NAME in argv is replaced for each rank
    rank_variables                        what each rank makes of its own variables: NAME -> text with $NAME
    roles, servers                        role -> number of ranks, in their order; the roles that only serve
    meets                                 whether the ranks are to know of each other before they start
    cpus                                  cores for each process, or null
    secrets                               names of variables whose values are in state/secrets.json
    time, grace                           seconds: the limit (or null), and between TERM and KILL
    queue                                 the folder of the local queue, or null
    umask                                 of whoever submitted, where it may not be inherited
    data {inputs, outputs}                files that the program reads and writes, see staging.py

and in a Slurm job also

    job_name                              unique: by it the job is found again
    launcher {kind, argv, ranks, here}    what starts the ranks, how they learn their numbers, and whether no job is meant
    signal, warn, limit                   what the ranks get so many seconds before the time limit, and the limit
    kill_wait                             seconds between Slurm's TERM and KILL
    max_requeues                          how often the run may start again; null leaves that to Slurm
    binds                                 directories that a container needs to see for MPI
    attached                              whether the job is the user's own, and may have other things to do
    ranks                                 how many there are, where they are not the same on all nodes
"""

import os
import resource
import signal
import socket
import sys
import time

from hpcest.onnode import arrays, ports, processes, roles, workdir
from hpcest.onnode.children import Children
from hpcest.onnode.data.files import DataError
from hpcest.onnode.data.staging import Staging
from hpcest.onnode.ending import Ending
from hpcest.onnode.guardian import Guardian
from hpcest.onnode.rank import number_of_ranks, read_launch, run_variables
from hpcest.onnode.record import EventWriter, announce, get_json, put_json, warn
from hpcest.onnode.slots import Queue
from hpcest.onnode.slurmjob import SlurmJob, attempt_of
from hpcest.onnode.step import Step
from hpcest.onnode.verdict import Sentinel, judge

BEAT_S, SLURM_BEAT_S = 5.0, 15.0
_LOOK_S, _REMOVAL_S, _HURRY_S = 0.05, 120.0, 15.0
_WAKE = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Controller:
    """One attempt of one run."""

    def __init__(self, manifest, attempt):
        self.launch = read_launch(manifest)
        self.manifest, self.attempt = manifest, attempt
        self.folder = self.launch["folder"]
        self.queue = Queue(self.launch["queue"]) if self.launch.get("queue") else None
        self.events = EventWriter(self.folder, "controller.a%d" % attempt)
        launcher = self.launch.get("launcher") or {}
        self.job = SlurmJob(os.environ) if launcher and not launcher.get("here") and "SLURM_JOB_ID" in os.environ else None
        stepwise = launcher.get("argv")
        self.ranks = Step(self.launch, manifest, attempt, self.job) if stepwise else Children(self.launch, manifest, attempt)
        self.outcome = {"attempt": attempt, "rc": 0, "why": None, "ranks": number_of_ranks(self.launch)}
        self.ending = Ending(self)
        self.staging = Staging(self.launch, attempt, self.job)
        self.began = time.monotonic()

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
        guardian = None if self.job else Guardian(self._bereaved)  # whatever happens to a job, Slurm knows of it
        if not self._claim(guardian):
            if guardian:
                guardian.dismiss()
            return os.EX_TEMPFAIL if self.job else 0
        if self.queue:
            self.queue.done(self.launch["run"])
        self.sentinel = sentinel = Sentinel(self._state("exit.%d.json" % self.attempt))
        sentinel.reserve()
        try:
            if self._wanted():
                self._prepare()
                if self._staged():
                    self._start()
                    self._watch()
        except Exception as error:  # the verdict must exist even if nothing could be started
            self.outcome.update(rc=None, why="launch", message="%s: %s" % (type(error).__name__, error))
        self._finish(sentinel, guardian)
        code = self.outcome["rc"]
        if self.outcome["status"] == "Completed":
            return code
        return code or (143 if self.outcome["status"] == "Canceled" else 70)  # whatever waits for us to succeed must not start

    def _claim(self, guardian):
        """Win the attempt, or learn that another controller has it."""
        me = dict(processes.identity(), t=time.time())
        if guardian:
            me["guardian"] = guardian.identity
        if self.job:
            me["job"] = self.job.id
        beside = self._state("claim.%d.%s.%d.tmp" % (self.attempt, socket.gethostname(), os.getpid()))
        put_json(beside, me)
        try:
            os.link(beside, self._state("claim.%d.json" % self.attempt))
            return True
        except FileExistsError:
            return False
        finally:
            os.unlink(beside)

    def _wanted(self):
        """False for a run that must not start (again); the outcome says why."""
        most = self.launch.get("max_requeues")
        if os.path.exists(self._state("cancel")):
            self.outcome["why"] = "cancel"
        elif self.job and not self.attempt and os.path.exists(self._state("collected")):
            self.outcome.update(rc=None, why="launch", message="the run was given up before this job started")
        elif self.job and most is not None and self.attempt > most:
            before = get_json(self._state("exit.%d.json" % (self.attempt - 1))) or {}
            self.outcome.update(rc=None, why="requeues", limit=most, before=before.get("why"))
        return self.outcome["why"] is None

    def _prepare(self):
        snapshot, work = self.launch.get("snapshot"), os.path.join(self.folder, "work")
        outputs, logs = os.path.join(self.folder, "outputs"), os.path.join(self.folder, "logs")
        for part in (outputs, logs, os.path.join(self.folder, "user_logs"), os.path.join(self.folder, "system_logs")):
            os.makedirs(part, exist_ok=True)
        if snapshot:
            workdir.lay_out(snapshot["manifest"], snapshot["objects"], work, outputs, logs, snapshot["stamp"])

    def _staged(self):
        """Have the data where the program looks for it; False where the attempt is over before it has begun."""
        try:
            self.staging.begin()
            self._attend(self.staging.is_ready)
            problem = self.staging.problem
        except (DataError, OSError) as error:
            problem = str(error)
        for note in self.staging.notes:
            warn(note)
            self.events.event("trouble", a=self.attempt, m=note)
        if problem and self.outcome["why"] is None:
            self.outcome.update(rc=None, why="launch", message=problem)
        return self.outcome["why"] is None

    def _attend(self, done):
        """Beat and listen until ``done()``, or until the attempt is to end."""
        beat = 0.0
        while not done() and self.outcome["why"] is None:
            if time.monotonic() - beat >= BEAT_S:
                beat = time.monotonic()
                self._beat()
            got = signal.sigtimedwait(_WAKE, _LOOK_S)
            if got is not None:
                self.ending.hear(got.si_signo)
            self._reap()

    def _start(self):
        dropped = ("HPCEST_SLOT_FD", "SLURM_EXPORT_ENV")
        env = {key: value for key, value in os.environ.items() if key not in dropped}
        env.update(self._meeting_point())
        env.update(run_variables(self.launch, self.attempt))
        env.update(self.staging.variables(env))
        facts = {"job": self.job.id} if self.job else {}
        self.events.event("attempt", a=self.attempt, host=socket.gethostname(), pid=os.getpid(), **facts)
        self.ranks.start(env, number_of_ranks(self.launch))
        self._say("Running")
        if self.attempt:  # the history may have left the run alone, since it had ended
            announce(os.path.join(self.launch["workspace"], ".hpcest", "edits"), self.launch["run"])

    def _meeting_point(self):
        """Where ranks find each other: the node of rank 0, and ports that are free there and kept for this attempt."""
        self._held = [ports.hold(self.launch["run"], self.attempt, number) for number in range(2)]
        numbers = [str(port) for port, _ in self._held]
        word = os.urandom(16).hex()
        return {
            "MASTER_ADDR": self._first_host(),
            "MASTER_PORT": numbers[0],
            "HPCEST_MEETING_PORT": numbers[1],
            "HPCEST_MEETING_WORD": word,
        }

    def _first_host(self):
        """Of one node its own name for itself. Rank 0 of several is where this process is, unless that is not a node of the job."""
        if self.job is None or self.job.nodes == 1:
            return "127.0.0.1"
        return self.job.first_host() or socket.gethostname()

    def _watch(self):
        """Until all ranks have ended: reap them, beat, and end them when asked or when time is up."""
        # A heartbeat is also how a request to cancel is seen that no signal brings.
        every = SLURM_BEAT_S if self.job and not self.launch.get("attached") else BEAT_S
        limit = self.launch.get("time")
        self.ending.deadline = self.began + limit if limit else None
        beat = 0.0
        while self.ranks.running:
            now = time.monotonic()
            if now - beat >= every:
                beat = now
                self._beat()
            moment = self.ending.act(now)
            pause = min(beat + every, now + BEAT_S if moment is None else moment) - now
            got = signal.sigtimedwait(_WAKE, max(0.0, pause))
            if got is not None:
                self.ending.hear(got.si_signo)
            self._reap()

    def _beat(self):
        try:
            os.utime(self._state("claim.%d.json" % self.attempt))
        except OSError:
            pass
        if os.path.exists(self._state("cancel")):
            self.ending.ask("cancel")

    def _reap(self):
        for pid, status in processes.reap():
            self.staging.take(pid, status)
            for rank, code, number in self.ranks.take(pid, status):
                self.events.event("exit", a=self.attempt, rank=rank, rc=code, signal=number or None)
                # The first rank that fails is the cause; what happens to the others follows from it.
                if code and not self.outcome["rc"] and self.outcome["why"] is None:
                    self.outcome.update(rc=code, signal=number, rank=rank)
                elif code and self.outcome["why"] and not self.outcome["rc"]:
                    self.outcome.update(rc=code, signal=number)

    # ------------------------------------------------------------------ the end
    def _finish(self, sentinel, guardian):
        self.ending.conclude(getattr(self.ranks, "cause", {}))
        if self.outcome["why"] is None and self.outcome["rc"] == os.EX_TEMPFAIL:
            problem = roles.why_apart(self.folder, self.attempt)
            if problem:
                self.outcome.update(why="launch", message=problem)
        again = self.outcome.get("requeue")
        if not again:
            self._say("Finalizing")
        if not self.staging.uploads:  # else it is not known yet
            self.note()
        self._unstage()
        spare = (guardian.pid,) if guardian else ()
        left = processes.end_all(lambda: self._left(spare), 2.0)
        if left:
            self.events.event("leftover", a=self.attempt, n=left)
        self._reap()
        if not again and self.outcome.get("final", True):
            self._upload()
            self._tidy()
        self._usage()
        if again:
            self._go_again(sentinel, self.job)
        self._conclude(sentinel)
        if guardian:
            guardian.dismiss()
        self._hand_on()

    def _unstage(self):
        """Have copies of the data removed on all nodes."""
        self.staging.close()
        end = time.monotonic() + (_REMOVAL_S if self.outcome["why"] is None else _HURRY_S)
        while not self.staging.is_closed() and time.monotonic() < end:
            time.sleep(_LOOK_S)
            self._reap()
        self.staging.kill()

    def _upload(self):
        """Take outputs to where they go, of a run that would have completed; one whose outputs don't arrive has not."""
        self._judge()
        if self.outcome["status"] != "Completed" or not self.staging.uploads:
            return
        self.staging.upload()
        self._attend(self.staging.is_uploaded)
        self._unstage()
        if self.staging.problem and self.outcome["why"] is None:
            self.outcome.update(rc=None, why="launch", message=self.staging.problem)
        self.note()

    def note(self):
        """Keep what is known of the end, for whoever finds this process killed."""
        self._judge()
        try:
            self.sentinel.note(self.outcome)
        except OSError:
            pass  # no room could be reserved; if all goes well the verdict is still to come

    def _left(self, spare):
        """What is left of the run on this node. In a job that others share, only what came from this process."""
        mine = processes.members(self.launch["run"], [os.getpid()], spare)
        return mine if self.job is None else processes.on_node(mine, self.job.node)

    def _tidy(self):
        try:
            snapshot = self.launch.get("snapshot")
            if snapshot:
                workdir.tidy(snapshot["manifest"], os.path.join(self.folder, "work"), snapshot["stamp"])
        except Exception as error:  # a working directory that stays is no reason to lose the verdict
            warn("the working directory was left as it is: %s" % error)
        if self.launch.get("secrets"):
            _remove(self._state("secrets.json"))

    def _go_again(self, sentinel, job):
        """Ask Slurm for another attempt, and wait for the end of this one. Returns only if Slurm refuses."""
        sentinel.write(dict(self.outcome, final=False))
        problem = job.requeue()
        if not problem:
            self.events.event("status", v="Queued", by="controller", a=self.attempt + 1, m=self.outcome["message"])
            self.events.close()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Slurm sends it now; whoever ignores it waits for KillWait
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
            time.sleep(120.0)
        self.outcome.update(requeue=False, refused=problem or "Slurm did not end the job")
        self._judge()
        self._tidy()

    def _usage(self):
        facts = {"elapsed_s": round(time.monotonic() - self.began, 3)}
        if not hasattr(self.ranks, "cause"):  # ranks on other nodes are no children of ours: Slurm's accounting knows them
            children = resource.getrusage(resource.RUSAGE_CHILDREN)
            facts.update(cpu_s=round(children.ru_utime + children.ru_stime, 3), peak_memory_mb=round(children.ru_maxrss / 1024.0, 1))
        self.events.event("usage", a=self.attempt, **facts)

    def _judge(self):
        status, reason, message = judge(self.outcome)
        self.outcome.update(status=status, reason=reason, message=message)

    def _conclude(self, sentinel):
        outcome = self.outcome
        try:
            sentinel.write(outcome)
        except OSError as error:
            warn("the verdict %s could not be written: %s" % (outcome, error))
        if outcome.get("final", True):  # else Slurm has the last word, and whoever asks it will write it down
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


def _remove(path):
    try:
        os.unlink(path)
    except OSError:
        pass


def main(manifest, attempt=None):
    """Run the attempt that ``manifest`` describes (in a job of its own: the one that Slurm counts), and exit with its code."""
    manifest = arrays.own_manifest(manifest, os.environ.get("SLURM_ARRAY_TASK_ID"))
    if attempt is None:
        attempt = attempt_of(os.environ) if read_launch(manifest).get("launcher") else 0
    sys.exit(Controller(manifest, int(attempt)).main())
