"""One build as its steps: each program's output goes to the log as it comes, each step's end is said."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hpcest.contracts import Say
from hpcest.environments.complaints import decisive, hint_for
from hpcest.errors import EnvironmentBuildError
from hpcest.kit import process

HEARTBEAT_S = 15.0
#: Seconds one program may take; building a large package from source can take an hour.
TIME_LIMIT_S = 3 * 3600.0
_GRACE_S = 3.0
# Becomes the program, after forking a watcher that ends the program's whole group once the other end of
# the pipe is closed: also where this process is killed, nothing goes on that would block the next build.
_LEASHED = """
import os, sys
leash, argv = int(sys.argv[1]), sys.argv[2:]
if os.fork() == 0:
    os.close(1), os.close(2)
    os.read(leash, 1)
    os.killpg(0, 9)
os.close(leash)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    sys.exit("error: %s: %s" % (argv[0], error.strerror))
"""


class _Child(Protocol):
    """What ``kit.process.start`` gives, as far as it is used here."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


class BuildLog:
    """The log of one build. Every line passes ``veil``, which takes the secrets out.

    ``path`` is where it lies; close it, or use it in a ``with``.
    """

    def __init__(self, path: Path, say: Say, veil: Callable[[str], str]) -> None:
        self.path = path
        self._say, self._veil = say, veil
        self._began = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(path, "ab", buffering=0)  # noqa: SIM115  closed by close()

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        """How long the build has taken up to now."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """Write lines to the log, each with the seconds since the build began. A full disk can't stop it."""
        data = "".join(f"[{self.seconds:8.2f}] {line}\n" for line in self._veil(text).splitlines())
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed, and a straggler still talks
            self._stream.write(data.encode("utf-8", "replace"))

    def say(self, text: str) -> None:
        """Tell the user, and write it to the log."""
        self.note(text)
        self._say(self._veil(text))

    def move(self, path: Path) -> None:
        """Have the log at another path of the same file system from now on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, path)
        self.path = path

    def close(self) -> None:
        """Give the file back."""
        self._stream.close()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[list[str]]:
        """Say how long the block took; what it appends to the list is said too: ``resolve: 12 packages, 0.7 s``."""
        began, done = time.monotonic(), list[str]()
        yield done
        self.say(f"{name}: {', '.join([*done, f'{time.monotonic() - began:.1f} s'])}")

    def run(self, step: str, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], check: bool = True) -> str:
        """Run a program of a step to its end; return what it wrote to both outputs.

        Raises EnvironmentBuildError with the program's decisive words where it fails, unless ``check`` is
        off. Whatever ends the wait, Ctrl-C too, ends the program with everything that it started.
        """
        self.note(f"$ {shlex.join(os.fspath(word) for word in argv)}")
        lines: list[str] = []
        code = self._run_to_end(step, argv, cwd, env, lines)
        if code and check:
            raise self.failure(step, decisive(lines) or f"{Path(argv[0]).name} ended with code {code} and said nothing")
        return "\n".join(lines)

    def failure(self, step: str, words: str) -> EnvironmentBuildError:
        """The error that ends the build at ``step``, with a hint where the words are known ones."""
        words = self._veil(words)
        self.note(f"failed at {step}: {words}")
        return EnvironmentBuildError(f"{step} failed: {words}", hint=hint_for(words) or f"read {self.path}", log=str(self.path))

    def _run_to_end(self, step: str, argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str], lines: list[str]) -> int:
        source, sink = os.pipe()
        reader = threading.Thread(target=self._copy, args=(source, lines), name=f"log of {step}", daemon=True)
        reader.start()
        theirs, leash = os.pipe()
        leashed = [sys.executable, "-I", "-S", "-c", _LEASHED, str(theirs), *argv]
        try:
            with open(sink, "wb") as end, open(theirs, "rb"):
                child = process.start(leashed, output=end, cwd=cwd, env=env, keep=[theirs])
            try:
                return self._wait(child, step)
            finally:
                _end(child)
                reader.join(_GRACE_S)  # a daemon that the program left may hold the pipe for ever
        finally:
            os.close(leash)

    def _wait(self, child: _Child, step: str) -> int:
        began = time.monotonic()
        while not _has_ended(child, HEARTBEAT_S):
            passed = time.monotonic() - began
            if passed > TIME_LIMIT_S:
                raise self.failure(step, f"no end after {passed / 3600:.1f} h")
            self.say(f"{step}: {passed:.0f} s …")
        return child.wait()

    def _copy(self, source: int, lines: list[str]) -> None:
        with open(source, "rb") as output:
            for raw in output:
                line = self._veil(raw.decode("utf-8", "replace").rstrip())
                if line:
                    lines.append(line)
                    self.note(line)


def _has_ended(child: _Child, seconds: float) -> bool:
    """Wait for so many seconds at most."""
    end, nap = time.monotonic() + seconds, 0.001
    while child.poll() is None:
        if time.monotonic() > end:
            return False
        time.sleep(nap)
        nap = min(nap * 2, 0.05)
    return True


def _end(child: _Child) -> None:
    """End what the program left running: its whole process group, first kindly."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGTERM)
        _has_ended(child, _GRACE_S)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
