"""The Slurm job that a controller runs in: what it is told by its environment, and what it asks Slurm for."""

import signal
import subprocess
import time

from hpcest.onnode.nodelist import host_names

ASK_S = 5.0
#: States in which the job goes on, or is to come again.
ALIVE = ("PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED", "CONFIGURING", "RESIZING")
#: State → why the attempt was ended, in the words of ``verdict``.
WHY = {
    "CANCELLED": "cancel",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "OUT_OF_MEMORY": "memory",
}


def attempt_of(environ):
    """Which start of the job this is, counted from 0."""
    return int(environ.get("SLURM_RESTART_COUNT") or 0)


class SlurmJob:
    """This job, or this task of an array."""

    def __init__(self, environ):
        array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
        #: What scontrol takes. The plain id of an array's last task is the array's own, and means all of it.
        self.id = "%s_%s" % (array, task) if array and task else environ["SLURM_JOB_ID"]
        self.nodes = int(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES") or 1)
        self.node = environ.get("SLURMD_NODENAME", "")
        self.environ = environ

    def first_host(self):
        """The name of the job's first node, where rank 0 runs; empty where that is this one, which knows its own name better."""
        name = next(iter(host_names(self.environ.get("SLURM_JOB_NODELIST", ""))), "")
        return "" if name == self.node else name

    def why_ended(self):
        """Why Slurm ends the job, as (why, state). ``why`` is None where it can't be told, and "" if the job just runs."""
        code, text = self._scontrol("show", "job", "-o", self.id)
        state = ""
        for word in text.split() if code == 0 else ():
            if word.startswith("JobState="):
                state = word[9:]
            elif word == "Reason=TimeLimit" and state == "COMPLETING":
                state = "TIMEOUT"  # while its processes are being ended
        if state == "RUNNING":
            return "", state
        if state in ALIVE:
            return "requeued", state
        return WHY.get(state), state

    def requeue(self):
        """Have Slurm start the job again. Returns "" or Slurm's words; the caller will get SIGTERM soon."""
        text = ""
        for pause in (0.0, 1.0, 3.0, 5.0):
            time.sleep(pause)
            code, text = self._scontrol("requeue", self.id)
            if code == 0:
                return ""
            if "disabled" in text or "denied" in text:
                break
        return text or "no answer"

    def _scontrol(self, *words):
        """(exit code, what it printed); None as the code where it gives no answer."""
        try:
            done = subprocess.run(
                ("scontrol",) + words,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=ASK_S,
                check=False,
                preexec_fn=_undisturbed,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return None, str(error)
        return done.returncode, done.stdout.decode("utf-8", "replace").strip()


def unblock():
    """For a child before its exec: the controller blocks signals to wait for them, its children must not."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _undisturbed():
    """The same for a question, which is asked when Slurm sends SIGTERM to every process of the job: to this one too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    unblock()
