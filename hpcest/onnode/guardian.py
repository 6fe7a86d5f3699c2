"""A second process beside the controller that ends the run truly if the controller is killed."""

import os
import signal

from hpcest.onnode import processes


class Guardian:
    """Forked by the controller; sleeps until the controller says ``dismiss`` or is gone.

    In the second case it calls ``bereaved()``, which kills what is left of the run and writes the
    verdict, and exits. It keeps the locks that it inherited until then.
    """

    def __init__(self, bereaved):
        mine, self._theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._theirs)
                self._watch(mine, bereaved)
            finally:
                os._exit(0)
        os.close(mine)

    @staticmethod
    def _watch(pipe, bereaved):
        os.setsid()  # out of reach of what is sent to the controller's session
        for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if not os.read(pipe, 1):
            bereaved()

    @property
    def identity(self):
        return processes.identity(self.pid)

    def dismiss(self):
        """All is recorded: the guardian may go. Returns when it has."""
        try:
            os.write(self._theirs, b".")
            os.close(self._theirs)
            os.waitpid(self.pid, 0)
        except OSError:
            pass  # it was killed before: nothing to dismiss
