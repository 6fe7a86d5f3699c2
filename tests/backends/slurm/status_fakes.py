"""Commands with the names of Slurm's, for versions and faults that a real cluster doesn't produce on demand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hpcest.backends.slurm.polling import Answer, Wanted, jobs

MINE = Wanted("7", "mine.a", 1000.0)


class Fakes:
    """A folder of commands before the real ones on PATH. Each call of one is counted."""

    def __init__(self, home: Path) -> None:
        self.bin, self.home = home / "bin", home
        self.bin.mkdir()
        (home / "local").mkdir(mode=0o700)
        self.environ = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HPCEST_LOCAL_DIR": str(home / "local"),
            "SLURM_CONF": os.environ.get("SLURM_CONF", "/nowhere/slurm.conf"),
        }

    def put(self, name: str, script: str) -> None:
        """Make the command ``name``; ``script`` is for sh, and finds the folder of the fakes in ``$home``."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\nhome="{self.home}"\necho "$@" >> "$home/{name}.calls"\n{script}\n')
        path.chmod(0o755)

    def says(self, name: str, *lines: str) -> None:
        """The command prints lines and succeeds."""
        (self.home / f"{name}.out").write_text("".join(f"{line}\n" for line in lines))
        self.put(name, f'cat "$home/{name}.out"')

    def fails(self, name: str, words: str, code: int = 1) -> None:
        """The command fails with words on stderr."""
        self.put(name, f'echo "{words}" >&2; exit {code}')

    def calls(self, name: str) -> list[str]:
        """The arguments of each call so far."""
        try:
            return (self.home / f"{name}.calls").read_text().splitlines()
        except FileNotFoundError:
            return []


def in_queue(job: str, name: str, state: str, **facts: object) -> str:
    """A line as squeue prints it for us."""
    fields = ("reason", "start", "submitted", "end", "restarts", "exit", "nodes", "dependency")
    plain = {"reason": "None", "start": "N/A", "submitted": "1000", "end": "N/A", "restarts": 0, "exit": 0, "dependency": "(null)"}
    told = {"nodes": "", **plain, **facts}
    return "|".join([job, job.partition("_")[0], state, *(str(told[field]) for field in fields), name, ""])


def in_accounts(job: str, name: str, state: str, **facts: object) -> str:
    """A line as sacct prints it for us."""
    fields = ("reason", "start", "submitted", "end", "exit", "nodes")
    told = {"reason": "None", "start": "Unknown", "submitted": "1000", "end": "Unknown", "exit": "0:0", "nodes": "None assigned", **facts}
    return "|".join([job, state, *(str(told[field]) for field in fields), name])


def kept(fakes: Fakes) -> Path:
    """The file with the shared answer."""
    (path,) = (fakes.home / "local").glob("hpcest-*/slurm/jobs-*.json")
    return path


def pass_time(fakes: Fakes, seconds: float) -> None:
    """As if all that is remembered had happened so much earlier."""
    data: dict[str, Any] = json.loads(kept(fakes).read_text())
    for name in ("tried", "asked", "accounting_tried"):
        data[name] = max(0.0, data[name] - seconds)
    for one in data["known"].values():
        one[1] -= seconds
    kept(fakes).write_text(json.dumps(data))


def ask(fakes: Fakes, *wanted: Wanted, newest: float = 0.0, floor: float = 5.0) -> Answer:
    return jobs(fakes.environ, wanted or (MINE,), newest=newest, floor=floor)
