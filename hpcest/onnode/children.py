"""The ranks of an attempt as children of the controller: on this machine, without a launcher."""

import os
import signal
import subprocess

from hpcest.onnode import processes
from hpcest.onnode.rank import boot_argv, log_path, rank_variables


class Children:
    """One process for each rank. ``running`` maps a pid to its rank, ``ended`` a rank to its (exit code, signal)."""

    def __init__(self, launch, manifest, attempt):
        self.launch, self.manifest, self.attempt = launch, manifest, attempt
        self.running, self.ended = {}, {}

    def start(self, env, count):
        """Start all ranks, with ``env`` and their own variables on top."""
        for rank in range(count):
            argv = boot_argv(self.launch) + ["rank", self.manifest, str(rank), str(self.attempt), str(os.getpid())]
            with open(log_path(self.launch, rank, self.attempt), "ab") as log:
                child = subprocess.Popen(
                    argv,
                    env=dict(env, **rank_variables(self.launch, rank)),
                    cwd=self.launch["folder"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            child.returncode = 0  # we wait for all our children ourselves
            self.running[child.pid] = rank

    def send(self, number):
        """Signal every rank's process."""
        processes.send(self.running, number)

    def kill(self):
        """End them by force; may be called again while some are left."""
        processes.send(self.running, signal.SIGKILL)

    def take(self, pid, status):
        """The end of a child as a list of (rank, exit code, signal); empty if it was none of ours."""
        rank = self.running.pop(pid, None)
        if rank is None:
            return []
        self.ended[rank] = processes.exit_code(status)
        return [(rank,) + self.ended[rank]]
