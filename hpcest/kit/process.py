"""The only door to other programs: a list of arguments, never a shell, always a time limit."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """How a program ended. ``code`` is -N after signal N, 127 where it can't be started, 124 on a time-out."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it ended with code 0."""
        return self.code == 0


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 30.0,
) -> Finished:
    """Run a program to its end and return what it printed. Never raises for what the program does.

    ``timeout`` is in seconds; output that isn't UTF-8 is kept with replacement characters.
    """
    words = tuple(os.fspath(word) for word in argv)
    log.debug("run: %s", shlex.join(words))
    given: dict[str, object] = {"input": stdin.encode()} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        # Either of the two that are given has its own type in run().
        done = subprocess.run(words, capture_output=True, cwd=cwd, env=env, timeout=timeout, check=False, **given)  # type: ignore[call-overload]
    except subprocess.TimeoutExpired as error:
        return Finished(words, 124, _text(error.stdout), f"{words[0]}: no answer in {timeout:g} s")
    except (OSError, ValueError) as error:  # not there, or a NUL in an argument
        return Finished(words, 127, "", str(error))
    return Finished(words, done.returncode, _text(done.stdout), _text(done.stderr))


def start(
    argv: Sequence[str | Path],
    *,
    output: IO[bytes],
    cwd: Path,
    env: Mapping[str, str],
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that outlives this one: a session of its own, both outputs to ``output``.

    ``keep`` are file descriptors that it inherits. Raises OSError.
    """
    words = [os.fspath(word) for word in argv]
    log.debug("start: %s", shlex.join(words))
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=dict(env), pass_fds=tuple(keep), start_new_session=True
    )


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
