"""Why an attempt ended, where the ranks heard of it before their controller did."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcest.onnode.ending import Ending
from hpcest.onnode.slurmjob import SlurmJob
from hpcest.onnode.verdict import judge


@pytest.mark.parametrize(
    ("state", "outcome", "verdict"),
    [
        ("TIMEOUT", {"rc": 143, "signal": int(signal.SIGTERM)}, ("Failed", "TimedOut")),
        ("TIMEOUT", {"rc": 143, "signal": 0}, ("Failed", "TimedOut")),  # a shell in between
        ("CANCELLED", {"rc": 143, "signal": int(signal.SIGTERM)}, ("Canceled", "")),
        ("RUNNING", {"rc": 143, "signal": int(signal.SIGTERM)}, ("Failed", "Signaled")),  # somebody else told the program
        ("", {"rc": 143, "signal": int(signal.SIGTERM)}, ("Failed", "Signaled")),  # and Slurm can't be asked
        ("TIMEOUT", {"rc": 1, "signal": 0}, ("Failed", "UserError")),
    ],
)
def test_slurm_may_tell_the_ranks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, outcome: dict[str, Any], verdict: tuple[str, str]
) -> None:
    """Where all processes of a job are signalled, the program may be gone before its controller has heard. So is the question."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\nkill -TERM $$\necho JobId=1 JobState={state} Reason=None\n[ -n '{state}' ]\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = SlurmJob({**os.environ, "SLURM_JOB_ID": "1"})
    found = {"attempt": 0, "why": None, "ranks": 1, **outcome}
    controller = SimpleNamespace(outcome=found, launch={"folder": str(tmp_path)}, job=job, ranks=SimpleNamespace(ended={}))
    Ending(controller).conclude({})
    assert judge(found)[:2] == verdict
