"""What several tests of the backend start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.slurm.status_fakes import Fakes, in_queue


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    """A cluster without accounting on which job 7 runs. Tests of something else have a ``fakes`` of their own."""
    made = Fakes(tmp_path)
    made.says("squeue", in_queue("7", "mine.a", "RUNNING"))
    made.fails("sacct", "Slurm accounting storage is disabled")
    return made
