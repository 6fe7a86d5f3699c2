"""Processes that outlive their starter, known by a pid file that can't be mistaken for another process's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.commands import ClusterError, wait_for


def started_at(pid: int) -> str:
    """When the kernel started this process (in ticks since boot); empty if there is none or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True)
class Daemon:
    """One daemon in the foreground of a session of its own; its pid file says pid and start time."""

    name: str
    folder: Path
    """Of the pid file; the output goes to ``NAME.out`` beside it."""

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.pid"

    @property
    def output(self) -> Path:
        return self.folder / f"{self.name}.out"

    @property
    def pid(self) -> int | None:
        """The living process that ``start`` made; None if it has ended, whoever has its number now."""
        try:
            number, since = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(number) if since and started_at(int(number)) == since else None

    def running(self) -> bool:
        return self.pid is not None

    def start(self, argv: Sequence[str], *, env: dict[str, str] | None = None) -> None:
        """Start it if it doesn't run; ready is another question."""
        if self.running():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.output.open("wb") as output:
            process = subprocess.Popen(
                argv, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid_file.write_text(f"{process.pid} {started_at(process.pid) or 'gone'}")
        process.returncode = 0  # it is nobody's child any more soon: no warning that it still runs

    def stop(self, *, seconds: float = 20, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, by force where it takes longer than ``seconds``."""
        if (pid := self.pid) is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        try:
            wait_for(self._gone, self.name, seconds=seconds)
        except ClusterError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(self._gone, self.name, seconds=10)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # where we are its parent, a zombie would stay
        self.pid_file.unlink(missing_ok=True)

    def _gone(self) -> bool:
        return not self.running()
