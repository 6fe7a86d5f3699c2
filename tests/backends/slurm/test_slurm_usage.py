"""What jobs used is taken from the accounting, summed as people expect, and a hint says what lay idle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.backends.slurm.usage import idle_hint, seconds, usage
from tests.backends.slurm.status_fakes import Fakes
from tests.cluster.fixtures import Slurm

EATER = "import time; eaten = bytearray(300 << 20); end = time.process_time() + 2\nwhile time.process_time() < end: pass"


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


def test_a_real_job_has_used_what_it_used(slurm: Slurm, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """Two seconds of CPU, 300 MB, one GPU of its two cores' job."""
    options = ("-c", "2", "--mem=1000", "--gres=gpu:1", "--acctg-freq=task=1")
    program = tmp_path / "eater.py"
    program.write_text(EATER)
    before = time.time()
    job = slurm.run("sbatch", "--parsable", "-o", "/dev/null", *options, "--wrap", f"/usr/bin/python3 '{program}'").strip()
    wait_until(lambda: usage(os.environ, [job], since=before).get(job, {}).get("peak_memory_mb"), "the accounting to know", 120)
    found = usage(os.environ, [job], since=before)[job]
    assert (found["cores"], found["gpus"], found["nodes"], found["memory_mb"]) == (2, 1, 1, 1000)
    assert 1.5 < found["cpu_s"] < 10
    assert found["elapsed_s"] >= 1
    assert 250 < found["peak_memory_mb"] < 400


def test_without_an_accounting_there_is_nothing(bare_slurm: Slurm) -> None:
    assert usage(os.environ, ["1"]) == {}


def test_steps_are_taken_together(fakes: Fakes) -> None:
    """The largest process of any step; the step that used most as a whole; the job's own row for the rest."""
    fakes.says(
        "sacct",
        "7|100|01:40.500|||billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=4G,node=2",
        "7.batch|100|00:01|20480K|cpu=00:00:01,mem=20480K|cpu=4,mem=2G,node=1",
        "7.0|90|01:39.500|102400K|cpu=00:01:39,mem=819200K|cpu=8,mem=4G,node=2",
        "7_[2-3]|0|00:00:00||||",
        "70|5|00:00:00|||cpu=1,mem=1.50G,node=1",
        "a banner",
    )
    found = usage(fakes.environ, ["7", "8"])
    had = {"cores": 8, "nodes": 2, "gpus": 2, "memory_mb": 4096.0}
    assert found == {"7": {"elapsed_s": 100.0, "cpu_s": 100.5, **had, "peak_memory_mb": 100.0, "used_memory_mb": 800.0}}


def test_an_accounting_that_fails_or_hangs_is_no_error(fakes: Fakes) -> None:
    fakes.fails("sacct", "Connection refused")
    assert usage(fakes.environ, ["7"]) == {}
    fakes.put("sacct", "exec sleep 60")
    assert usage(fakes.environ, ["7"], timeout=0.3) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("00:00.022", 0.022), ("01:02:03", 3723.0), ("2-01:00:00", 176400.0), ("03:04", 184.0), ("", None), ("UNLIMITED", None)],
)
def test_times_are_read(text: str, value: float | None) -> None:
    assert seconds(text) == value


def test_idle_cores_and_memory_are_named_with_a_better_request() -> None:
    used = {"elapsed_s": 3600, "cpu_s": 3500, "cores": 16, "memory_mb": 65536, "used_memory_mb": 2048}
    hint = idle_hint(used)
    assert hint == "it used 6% of its 16 cores and 3% of its 64G of memory; asking for 1 of them and 3G lets it start sooner"


@pytest.mark.parametrize(
    "used",
    [
        {},
        {"elapsed_s": 30, "cpu_s": 1, "cores": 16},
        {"elapsed_s": 3600, "cpu_s": 20000, "cores": 16},
        {"elapsed_s": 3600, "cpu_s": 10, "cores": 1},
        {"elapsed_s": 3600, "cores": 16},
        {"elapsed_s": 3600, "memory_mb": 200, "peak_memory_mb": 3},
        {"elapsed_s": "odd", "cpu_s": None},
    ],
)
def test_there_is_no_hint_where_nothing_lay_idle_or_nothing_is_known(used: dict[str, object]) -> None:
    assert idle_hint(used) == ""
