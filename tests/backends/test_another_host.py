"""What the local backend says of runs that this machine can't see for itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcest.backends.local import SILENT_S, Local, LocalOptions
from hpcest.model.folders import RunFolder
from hpcest.model.status import Status
from hpcest.onnode.record import put_json


@pytest.mark.parametrize(("silent", "status"), [(1.0, None), (SILENT_S + 60, Status.NOT_RESPONDING)])
def test_a_run_on_another_host_is_a_doubt_at_most(tmp_path: Path, silent: float, status: Status | None) -> None:
    """Only the machine that it runs on can say that it has ended."""
    folder = RunFolder(tmp_path / "abc12345")
    folder.state.mkdir(parents=True)
    put_json(str(folder.claim(0)), {"host": "elsewhere", "boot": "x", "pid": 1, "start": 1})
    beat = time.time() - silent
    os.utime(folder.claim(0), (beat, beat))

    evidence = Local(LocalOptions()).look({folder.id: (folder, {"host": "elsewhere"})})[folder.id]

    assert evidence.status is status
    assert "elsewhere" in evidence.message
