"""The ranks of an attempt as one step of a Slurm job: one srun (or mpirun) that starts them on all nodes."""

import os
import re
import signal
import subprocess
import sys
import time

from hpcest.onnode import processes, signals
from hpcest.onnode.rank import boot_argv, log_path
from hpcest.onnode.slurmjob import unblock

#: What srun says when a step could not be started. A stepd that crashed leaves things behind that only
#: block the step number that it had, so a second try often works.
_NOT_LAUNCHED = ("aborted before step completely launched", "Unable to create step", "Address already in use", "Task launch for")
#: And when it could not ask slurmctld, which may be back in a minute.
_AWAY = ("Unable to contact slurm controller", "Unable to confirm allocation", "Socket timed out on send/recv")
_PAUSE_S, _AWAY_PAUSES_S = 1, (15, 30, 60, 60, 60)
#: A step that is asked for while slurmctld still waits for its nodes is put off for minutes, so it gets some seconds more.
_LATER = 'sleep "$0"; exec "$@"'
_BACK = 'until scontrol show job "$SLURM_JOB_ID" >/dev/null 2>&1; do sleep 5; done; ' + _LATER
_TASK = re.compile(r"error: (\S+): tasks? ([\d,-]+): (?:Exited with exit code (\d+)|([A-Z][\w ]*\w))")
_ENDING = re.compile(r"Terminating StepId|CANCELLED AT")
_OMPI = re.compile(r"Process name: \[\[\d+,\d+\],(\d+)\]\s+Exit code:\s+(\d+)")
_OMPI_SIGNAL = re.compile(r"process rank (\d+) with PID \d+ on node (\S+) exited on signal (\d+)")
_NODE = re.compile(r"[Nn]ode failure on (\S+)|DUE TO NODE (\S+) FAILURE")
_PATIENCE_S = 3.0


def _numbers_by_words():
    known = {}
    for number in range(1, signal.NSIG):
        try:
            known[signal.strsignal(number)] = number
        except ValueError:
            pass
    return known


def cause_of(text):
    """What the launcher's messages say of the end, as a dict: rank, node, code, signal, memory, node_failed, not_launched, away.

    The launcher's own exit code is the largest of all ranks: that of a rank that was killed because of
    another hides the culprit's. The first message is about the first rank that ended. ``named`` are those that ended
    before the others were made to, ``ended`` is (code, signal) of every rank, where the launcher tells.
    """
    found = {}
    node = _NODE.search(text)
    if node:
        found["node_failed"] = node.group(1) or node.group(2)
    if "Out Of Memory" in text or "oom_kill" in text or "oom-kill" in text or "exceeded memory limit" in text:
        found["memory"] = True
    task = _TASK.search(text)
    if task:
        ended, named = _ends(text)
        found.update(node=task.group(1).rstrip(":"), rank=named[0], named=named, ended=ended)
        code, number = ended[named[0]]
        found.update({"signal": number} if not task.group(3) else {"code": code})
    mpi = _OMPI.search(text)
    if mpi:
        found.update(rank=int(mpi.group(1)), code=int(mpi.group(2)))
    killed = _OMPI_SIGNAL.search(text)
    if killed:
        found.update(rank=int(killed.group(1)), node=killed.group(2), signal=int(killed.group(3)))
    if not task and not mpi and any(words in text for words in _NOT_LAUNCHED + _AWAY):
        found["not_launched"] = True
        found["away"] = any(words in text for words in _AWAY)
    return found


def _ends(text):
    """(rank -> (code, signal), the ranks that ended before the others were made to) of what srun said of its tasks."""
    ended: dict = {}
    named: list = []
    words = _numbers_by_words()
    ending = _ENDING.search(text)
    for task in _TASK.finditer(text):
        code, word = int(task.group(3) or 0), task.group(4) or ""
        number = words.get(word) or (signal.SIGKILL if "Memory" in word else 0)
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", task.group(2)):
            for rank in range(int(first), int(last or first) + 1):
                ended[rank] = (code or 128 + number, number)
                if not named or ending is None or task.start() < ending.start():
                    named.append(rank)
    return ended, named


class Step:
    """The launcher of all ranks. ``running`` is not empty while it lives; ``cause`` is what it said of a failure."""

    def __init__(self, launch, manifest, attempt, job):
        self.launch, self.manifest, self.attempt, self.job = launch, manifest, attempt, job
        self.running = {}
        self.cause = {}
        self._helpers = {}  # pid -> the signal that it delivers
        self._tries = 0
        self._killed_at = None
        self._log = os.path.join(launch["folder"], "system_logs", "controller.log")

    @property
    def ended(self):
        """(code, signal) of each rank that the launcher said something of."""
        return self.cause.get("ended") or {}

    def start(self, env, count, pause=0):
        """Start the launcher, after so many seconds; it numbers the ranks itself."""
        self._env, self._count = env, count
        self._tries += 1
        self._offset = _size(self._log)
        launcher = self.launch["launcher"]
        argv = list(launcher["argv"]) + boot_argv(self.launch) + ["rank", self.manifest, launcher["ranks"], str(self.attempt), "0"]
        # close_fds: what a batch system handed down to find its ranks by (PMI_FD, say) has to reach them.
        # A session of its own: what is sent to the controller's reaches no rank by the way.
        if pause:
            argv = ["sh", "-c", _BACK if self.cause.get("away") else _LATER, str(pause)] + argv
        child = self._popen(argv, close_fds=False, start_new_session=True)
        self.running, self.cause = {child.pid: None}, {}

    def _popen(self, argv, **how):
        child = subprocess.Popen(
            argv,
            env=self._env,
            cwd=self.launch["folder"],
            stdin=subprocess.DEVNULL,
            preexec_fn=unblock,  # noqa: PLW1509 - the controller has one thread
            **how,
        )
        child.returncode = 0  # we wait for all our children ourselves
        return child

    def send(self, number):
        """Signal every rank's program on all nodes."""
        if self.job is None or self.job.nodes == 1:
            signals.deliver(self.launch["run"], self.attempt, number, self.job and self.job.node)
            return
        argv = ["srun", "--overlap", "--mpi=none", "--nodes=%d" % self.job.nodes, "--ntasks=%d" % self.job.nodes]
        argv += ["--ntasks-per-node=1", "--cpus-per-task=1", "--mem=0", "--gres=none", "--input=none", "--quiet"]
        words = ["signal", self.launch["run"], str(self.attempt), signal.Signals(number).name]
        helper = self._popen(argv + boot_argv(self.launch) + words, stdout=sys.stderr)
        self._helpers[helper.pid] = number

    def kill(self):
        """End the ranks by force, then the launcher; called again while it is left."""
        now = time.monotonic()
        if self._killed_at is None:
            self._killed_at = now
            self.send(signal.SIGKILL)
        else:
            late = now - self._killed_at > _PATIENCE_S
            processes.send(self.running, signal.SIGKILL if late else signal.SIGTERM)

    def take(self, pid, status):
        """The end of the launcher as one (rank, exit code, signal); of anything else an empty list."""
        if pid in self._helpers:
            number = self._helpers.pop(pid)
            if status:  # no further step could be started: then by the launcher, though it reaches more than is meant
                processes.send(self.running, number)
        if pid not in self.running:
            return []
        self.running = {}
        code, number = processes.exit_code(status)
        if code == 0:
            return [(None, 0, 0)]
        self.cause = cause_of(_text_from(self._log, self._offset))
        pause = self._pause()
        if pause:
            self.start(self._env, self._count, pause)
            return []
        if self.cause.get("code"):
            code, number = self.cause["code"], 0
        elif self.cause.get("signal"):
            number = self.cause["signal"]
            code = 128 + number
        elif 128 < code < 128 + signal.NSIG:
            number = code - 128
        return [(self.cause.get("rank"), code, number)]

    def _pause(self):
        """Seconds until the launcher is worth another try; None where it isn't."""
        pauses = _AWAY_PAUSES_S if self.cause.get("away") else (_PAUSE_S,)
        again = self.cause.get("not_launched") and self._killed_at is None and self._tries <= len(pauses) and not self._began()
        return pauses[self._tries - 1] if again else None

    def _began(self):
        """Whether any rank got as far as its log."""
        return any(os.path.exists(log_path(self.launch, rank, self.attempt)) for rank in range(self._count))


def _size(path):
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _text_from(path, offset):
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return stream.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
