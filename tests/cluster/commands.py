"""Programs that are run to their end, and conditions that are waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class ClusterError(Exception):
    """The cluster can't be brought into the wanted state; the message says which part and what its log says."""


def call(
    argv: Sequence[str], *, env: dict[str, str] | None = None, check: bool = True, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it said.

    :raises ClusterError: It is missing, too slow, or (with ``check``) failed.
    """
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise ClusterError(f"{' '.join(argv)}: {failure}") from failure
    if check and done.returncode:
        raise ClusterError(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done


def wait_for(
    condition: Callable[[], bool], what: str, *, seconds: float, alive: Callable[[], bool] = lambda: True, logs: Iterable[Path] = ()
) -> None:
    """Return as soon as ``condition()`` holds.

    :raises ClusterError: It doesn't within ``seconds``, or ``alive()`` says that it never will; ends with the tails of ``logs``.
    """
    end = time.monotonic() + seconds
    while not condition():
        dead, late = not alive(), time.monotonic() > end
        if dead or late:
            reason = "ended" if dead else f"is not ready after {seconds:g} s"
            raise ClusterError("\n".join([f"{what} {reason}", *map(tail, logs)]))
        time.sleep(0.05)


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a log below its name, or why there are none."""
    try:
        last = path.read_text(errors="replace").splitlines()[-lines:]
    except OSError as failure:
        last = [f"({failure.strerror})"]
    return "\n".join([f"{path}:", *(f"  {line}" for line in last)])
