"""A workspace seen from outside: everything goes through the real command, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import RunFolder, WorkspaceFolder

# As root: gives up the power to read and write everything, which lasts through an exec. For others nothing changes.
POWERLESS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
if os.getuid() == 0:
    for power in (0, 1, 2, 3):  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
        assert libc.prctl(24, power, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True)
class Answer:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    def ok(self) -> Answer:
        """Itself, if the command did what it should."""
        assert self.code == 0, self
        return self

    @property
    def refusal(self) -> str:
        """The one message of a command that refused, hint included; fails for anything else."""
        assert self.code in (1, 2), self
        assert "Traceback" not in self.err + self.out, self
        assert self.out == "", self
        _, error, message = self.err.partition("Error: ")
        assert error, self
        assert "Error: " not in message, self
        return message.strip()


class Site:
    """A workspace, a source directory in it, and the commands that a user types there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source"
        self.source.mkdir(parents=True)
        self.workspace = WorkspaceFolder(root)

    def argv(self, *words: str | Path, powerless: bool = False) -> list[str]:
        """How the command is started."""
        drop = [sys.executable, "-c", POWERLESS] if powerless else []
        return [*drop, sys.executable, "-m", "hpcest", *map(str, words)]

    def start(self, *words: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own and return at once."""
        given = {"cwd": self.source, "stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        return subprocess.Popen(self.argv(*words), env={**os.environ, **(env or {})}, **given)

    def cli(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        powerless: bool = False,
        before: Sequence[str] = (),
    ) -> Answer:
        """Run a command to its end. A variable of ``env`` that is None is unset; ``before`` goes in front of all."""
        environ = {key: value for key, value in {**os.environ, **(env or {})}.items() if value is not None}
        done = subprocess.run(
            [*before, *self.argv(*words, powerless=powerless)],
            cwd=cwd or self.source, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def write(self, program: str, name: str = "train.py") -> Path:
        """A script in the source directory."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(program)
        return path

    def submit(self, program: str, *options: str | Path, env: Mapping[str, str | None] | None = None) -> RunFolder:
        """Submit a program, detached; its run."""
        script = self.write(program)
        return self.run(self.cli("submit", script, *options, env=env).ok().out.strip())

    def run(self, run_id: str) -> RunFolder:
        """The folder of a run."""
        assert run_id
        folder = self.workspace.run(run_id)
        assert folder.header.is_file(), run_id
        return folder

    def wait(self, *runs: RunFolder) -> Answer:
        """``hpcest wait``, not for ever."""
        return self.cli("wait", "--timeout", "100", *(run.id for run in runs))

    def show(self, run: RunFolder) -> dict[str, Any]:
        """``hpcest show --json``"""
        known: dict[str, Any] = json.loads(self.cli("show", "--json", run.id).ok().out)
        return known

    def ended(self, run: RunFolder) -> dict[str, Any]:
        """What is shown of a run when it has ended."""
        self.wait(run)
        return self.show(run)

    def runs(self, *options: str) -> list[dict[str, Any]]:
        """``hpcest runs --json``, all of them."""
        found: list[dict[str, Any]] = json.loads(self.cli("runs", "--json", "--limit", "0", *options).ok().out)
        return found

    def configure(self, text: str) -> None:
        """Replace the configuration of the workspace."""
        self.workspace.config.write_text(text)

    def nothing_is_left(self) -> None:
        """Assert that there is no run, whole or half made, and nothing in the queue."""
        assert os.listdir(self.workspace.runs) == []
        assert [path.name for path in Path(os.environ["HPCEST_LOCAL_DIR"]).rglob("*") if path.name[0].isdigit()] == []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A workspace whose path has a space, quotes and a newline in it."""
    made = Site(tmp_path / "work space 'x\"\ny")
    made.cli("init", made.root).ok()
    return made
