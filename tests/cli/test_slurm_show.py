"""``hpcest show``, ``explain``, ``cancel``, ``logs`` and ``doctor`` of runs on a real Slurm."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder
from tests.cluster.fixtures import Slurm

Hpcest = Callable[..., Any]
WaitUntil = Callable[..., None]

CONFIG = """
default_compute: cpu
compute:
  cpu: {backend: slurm, poll: 0.5, grace: 5}
  gone: {backend: slurm, partition: no-such-partition}
  patient: {backend: slurm, grace: 100000}
"""
CHATTY = """
import os, sys
for line in range(200):
    print(f"rank {os.environ['RANK']} line {line} " + "x" * (line % 50))
sys.stderr.write(f"unfinished {os.environ['RANK']}")
"""


@pytest.fixture
def cluster(slurm: Slurm, workspace: WorkspaceFolder) -> Slurm:
    """The real Slurm, as the workspace's compute targets."""
    workspace.config.write_text(CONFIG)
    return slurm


def test_what_a_run_used_is_shown_when_the_accounts_have_it(
    cluster: Slurm, workspace: WorkspaceFolder, hpcest: Hpcest, wait_until: WaitUntil
) -> None:
    (workspace.root / "busy.py").write_text(
        "import time\nend = time.time() + 1.5\nkept = bytearray(60 << 20)\nwhile time.time() < end: pass\n"
    )
    run = hpcest("submit", "busy.py", "--mem", "300M", "-n", "2").out.strip()
    assert hpcest("wait", run).code == 0
    wait_until(lambda: "cores" in hpcest("show", run, "--json").json["usage"], "the accounts")
    known = hpcest("show", run, "--json").json
    used = known["usage"]
    assert (used["cores"], used["nodes"], used["memory_mb"]) == (2, 2, 600)
    assert used["cpu_s"] > 1
    assert used["elapsed_s"] > 1.4
    shown = hpcest("show", run).out
    assert re.search(
        r"used .* s on 2 nodes, .* s of CPU \(\d+% of 2 cores\), .* MB at most in one process, .* of 600 MB of memory\n", shown
    )
    assert f"\njob          {known['job']['id']} (busy.{run})\n" in shown
    again = hpcest("show", run, "--json").json
    assert again["usage"] == used, "what is recorded is not asked for again"


def test_without_accounting_nothing_hangs(bare_slurm: Slurm, workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    workspace.config.write_text(CONFIG)
    run = hpcest("submit", "hello.py").out.strip()
    assert hpcest("wait", run).code == 0
    began = time.monotonic()
    known = hpcest("show", run, "--json").json
    assert time.monotonic() - began < 10
    assert (known["status"], "cores" in known["usage"]) == ("Completed", False)
    found = {row["check"]: row["found"] for row in hpcest("doctor", "--json").json}
    assert found["slurm accounting"] == "there is none"


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("hold", r"is held; let it go by: scontrol release {id} \(JobHeldUser\)"),
        ("begin=now+1hour", r"may not start yet: .* \(BeginTime\); Slurm expects it to start at .*\d\d:\d\d"),
    ],
)
def test_why_a_job_waits(cluster: Slurm, hpcest: Hpcest, wait_until: WaitUntil, option: str, why: str) -> None:
    run = hpcest("submit", "hello.py", "-S", option).out.strip()
    try:
        wait_until(lambda: "(" in hpcest("explain", run).out, "Slurm's reason")
        known = hpcest("show", run, "--json").json
        expected = f"{run} is Queued: {why}".replace("{id}", known["job"]["id"])
        assert re.fullmatch(expected, hpcest("explain", run).out.strip())
        assert f"PENDING {known['facts']['slurm_reason']}" in hpcest("show", run).out
    finally:
        hpcest("cancel", run)


def test_many_are_canceled_with_two_commands(
    cluster: Slurm, hpcest: Hpcest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    ids = [hpcest("submit", "hello.py", "-S", "hold").out.strip() for _ in range(3)]
    real = next(place for place in os.environ["PATH"].split(":") if os.path.exists(f"{place}/scancel"))
    (tmp_path / "bin").mkdir()
    said = tmp_path / "said"
    (tmp_path / "bin" / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {said}\nexec {real}/scancel "$@"\n')
    (tmp_path / "bin" / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = hpcest("cancel", *ids)
    assert (done.code, [line.partition(":")[0] for line in done.err.splitlines()]) == (0, ids)
    assert len(said.read_text().splitlines()) == 2
    wait_until(lambda: {hpcest("show", run, "--json").json["status"] for run in ids} == {"Canceled"}, "their end")


def test_no_line_of_four_ranks_is_lost_or_mixed(cluster: Slurm, workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    (workspace.root / "chatty.py").write_text(CHATTY)
    run = hpcest("submit", "chatty.py", "-n", "2", "-p", "2").out.strip()
    lines = hpcest("logs", "-f", run).out.splitlines()
    expected = {rank: [f"[{rank}] rank {rank} line {line} {'x' * (line % 50)}" for line in range(200)] for rank in range(4)}
    for rank, its in expected.items():
        assert sorted(line for line in lines if line.startswith(f"[{rank}]")) == sorted([*its, f"[{rank}] unfinished {rank}"])
    assert len(lines) == 4 * 201
    assert sorted(hpcest("logs", run).out.splitlines()) == sorted(lines)
    one = hpcest("logs", run, "--rank", "2").out.splitlines()
    assert sorted(one) == sorted(line.removeprefix("[2] ") for line in lines if line.startswith("[2]"))
    assert hpcest("logs", "-f", run, "--rank", "2").out.splitlines() == one


def test_doctor_tells_of_the_cluster_once_and_of_each_target(cluster: Slurm, hpcest: Hpcest) -> None:
    done = hpcest("doctor", "--json")
    rows = [(row["check"], row["state"], row["found"], row["next"]) for row in done.json]
    found = {check: said for check, _, said, _ in rows if check.startswith("slurm")}
    assert len([check for check, *_ in rows if check == "slurm accounting"]) == 1
    assert "cluster full" in found["slurm"]
    assert "pmix" in found["slurm mpi types"]
    assert "MaxArraySize 1001" in found["slurm limits"]
    assert any(check == "compute cpu" and state == "ok" and "would take a job" in said for check, state, said, _ in rows)
    (refused,) = [row for row in rows if row[0] == "compute gone" and row[1] == "bad"]
    assert "invalid partition" in refused[2]
    assert "main" in refused[3]
    assert any(check == "compute patient" and "KillWait" in said for check, _, said, _ in rows)
    assert done.code == 1


def test_doctor_does_not_wait_for_a_slurm_that_is_down(
    cluster: Slurm, hpcest: Hpcest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = re.sub(r"(?im)^SlurmctldPort=.*", "SlurmctldPort=16999", cluster.conf.read_text())
    (tmp_path / "slurm.conf").write_text(conf)
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    began = time.monotonic()
    done = hpcest("doctor", "--json")
    assert time.monotonic() - began < 8
    assert [row["state"] for row in done.json if "slurmctld does not answer" in row["found"]] == ["bad"] * 3
