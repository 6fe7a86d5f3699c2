"""``hpcest compute check``: what it proves on this machine and on a real Slurm, and what it says where MPI does not work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.kit.process import run as run_program
from hpcest.model.folders import WorkspaceFolder
from tests.cluster.fixtures import REQUIRED, Slurm
from tests.onnode.small_mpi import small_mpi, small_mpirun

Hpcest = Callable[..., Any]
WaitUntil = Callable[..., None]

CONFIG = """
compute:
  cpu: {backend: slurm}
  wrong: {backend: slurm, launcher: 'srun:pmi2'}
  narrow: {backend: slurm, sbatch: {exclude: 'n[2-4]'}}
  held: {backend: slurm, sbatch: {hold: true}}
  gone: {backend: slurm, partition: no-such-partition}
"""


@pytest.fixture
def mpi_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An MPI of a few lines, with its mpirun: this machine may have none."""
    monkeypatch.setenv("PYTHONPATH", str(small_mpi(tmp_path)))
    monkeypatch.setenv("FAKE_MEETING", str(tmp_path / "meeting"))
    monkeypatch.setenv("PATH", f"{small_mpirun(tmp_path)}:{os.environ['PATH']}")


def test_on_this_machine_mpirun_starts_two_ranks(mpi_here: None, workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "local", "--json")
    assert said.code == 0, said.err
    (trial,) = said.json["trials"]
    assert (said.json["backend"], said.json["ok"], said.json["next"]) == ("local", True, "")
    assert (trial["launcher"], trial["ranks"], trial["problem"]) == ("mpirun", 2, "")
    assert set(trial["seconds"]) == {"8", "4194304"}


def test_the_check_is_an_ordinary_run_of_its_own_experiment(mpi_here: None, workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    trial = hpcest("compute", "check", "local", "--json").json["trials"][0]
    (listed,) = hpcest("runs", "--experiment", "preflight", "--json").json
    assert (listed["id"], listed["status"]) == (trial["run"], "Completed")
    assert '"seconds"' in hpcest("logs", trial["run"]).out


def test_a_sum_that_is_wrong_fails_the_check(
    mpi_here: None, workspace: WorkspaceFolder, hpcest: Hpcest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WRONG", "1")
    said = hpcest("compute", "check", "local")
    assert said.code == 1
    assert "the sum of 8 bytes over 2 ranks is wrong" in said.out
    assert "hpcest logs" in said.err


def test_without_an_mpirun_there_is_nothing_to_check_here(
    workspace: WorkspaceFolder, hpcest: Hpcest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = hpcest("compute", "check", "local")
    assert said.code == 1
    assert "there is no MPI launcher here" in said.error
    assert hpcest("runs", "--json").json == []


def test_a_target_that_is_not_configured_is_named(workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "gpuu")
    assert (said.code, "'gpuu' is not known" in said.error) == (2, True)


@pytest.fixture
def targets(slurm: Slurm, workspace: WorkspaceFolder) -> None:
    """Compute targets on the real cluster, whose nodes have Debian's Open MPI."""
    workspace.config.write_text(CONFIG)


def test_two_ranks_on_two_hosts_meet_by_what_is_chosen(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "cpu", "--json")
    assert said.code == 0, said.err
    (trial,) = said.json["trials"]
    assert (trial["launcher"], trial["ranks"], len(set(trial["hosts"]))) == ("srun:pmix", 2, 2)
    assert trial["library"].startswith("Open MPI")
    assert "to start at" in said.json["scheduler"]


def test_a_wrong_setting_is_found_and_the_right_one_named(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "wrong", "--json")
    assert said.code == 1
    first, second = said.json["trials"]
    assert (first["launcher"], first["ok"], second["launcher"], second["ok"]) == ("srun:pmi2", False, "srun:pmix", True)
    assert "PMIx" in first["problem"]
    assert said.json["next"].endswith("launcher: srun:pmix")


def test_a_launcher_that_was_named_is_tried_alone(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "cpu", "--launcher", "srun:none", "--json")
    assert said.code == 1
    assert [(one["launcher"], one["ok"]) for one in said.json["trials"]] == [("srun:none", False)]
    assert "leave out --launcher" in said.json["next"]


def test_mpirun_starts_ranks_on_two_nodes(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "cpu", "--launcher", "mpirun", "--json")
    (trial,) = said.json["trials"]
    assert (said.code, trial["ranks"], len(set(trial["hosts"]))) == (0, 2, 2)


def test_where_two_nodes_can_never_be_had_one_has_to_do(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "narrow", "--json")
    assert "two nodes can't be had" in said.err
    (trial,) = said.json["trials"]
    assert (said.code, trial["ranks"], trial["hosts"]) == (0, 2, ["n1"])


def test_what_slurm_refuses_is_said_before_anything_is_recorded(targets: None, hpcest: Hpcest) -> None:
    said = hpcest("compute", "check", "gone")
    assert said.code == 1
    assert "invalid partition" in said.error
    assert hpcest("runs", "--json").json == []


def test_ctrl_c_leaves_no_job_behind(targets: None, slurm: Slurm, hpcest: Hpcest, wait_until: WaitUntil) -> None:
    """Nobody would look for the job of a check that was given up."""
    check = subprocess.Popen([sys.executable, "-m", "hpcest", "compute", "check", "held"], stderr=subprocess.PIPE, text=True)
    assert check.stderr is not None
    said = next(line for line in check.stderr if ": Queued" in line)
    (listed,) = hpcest("runs", "--json").json
    assert listed["id"] in slurm.run("squeue", "--noheader", "--format=%j"), said
    check.send_signal(signal.SIGINT)
    said = check.communicate(timeout=60)[1]
    assert check.returncode == 130, said
    assert f"run {listed['id']} was told to end" in said
    wait_until(lambda: listed["id"] not in slurm.run("squeue", "--noheader", "--format=%j"), "the end of its job")
    assert hpcest("show", listed["id"], "--json").json["status"] in ("CancelRequested", "Canceled")


def test_a_cluster_without_accounting_will_do(bare_slurm: Slurm, workspace: WorkspaceFolder, hpcest: Hpcest) -> None:
    workspace.config.write_text(CONFIG)
    said = hpcest("compute", "check", "cpu", "--json")
    assert (said.code, len(set(said.json["trials"][0]["hosts"]))) == (0, 2), said.err


def test_mpich_is_met_by_pmi2(targets: None, hpcest: Hpcest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel of MPICH in an environment of its own; its library is found without mpi4py, its flavour by its mpirun."""
    venv = tmp_path / "with mpich"
    assert run_program([sys.executable, "-m", "venv", venv], timeout=120).ok
    done = run_program([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "mpich"], timeout=300)
    if not done.ok:
        (pytest.fail if REQUIRED else pytest.skip)(f"MPICH can't be installed: {done.err}")
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    chosen = hpcest("compute", "check", "cpu", "--json")
    assert [(one["launcher"], one["ok"]) for one in chosen.json["trials"]] == [("srun:pmi2", True)], chosen.err
    assert chosen.json["trials"][0]["library"].startswith("MPICH")
    refused = hpcest("compute", "check", "cpu", "--launcher", "srun:pmix", "--json")
    assert [one["ok"] for one in refused.json["trials"]] == [False]
    alone = hpcest("compute", "check", "cpu", "--launcher", "srun:none", "--json")
    assert "2 ranks were started, but MPI sees 1" in alone.json["trials"][0]["problem"]
    hydra = hpcest("compute", "check", "cpu", "--launcher", "mpirun", "--json")
    assert [one["ok"] for one in hydra.json["trials"]] == [True], hydra.err
