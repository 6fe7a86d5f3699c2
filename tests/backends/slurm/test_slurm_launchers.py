"""Launchers: what stands before the command of one rank, and what refuses to start."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from hpcest.backends.slurm.launchers import KINDS, mpirun, parse, single, srun
from hpcest.errors import SpecError, UnknownNameError
from hpcest.model.spec import Resources
from tests.cluster.fixtures import Slurm


def program(folder: Path, name: str, says: str) -> Path:
    """An executable that prints one text whatever it is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return path


def test_srun_names_nodes_tasks_and_cores_and_lets_no_rank_hang() -> None:
    """Pitfalls 21 and 23: srun takes no cores from sbatch any more, and a dead rank must end the others."""
    made = srun(Resources(nodes=2, procs_per_node=3, cpus=4, gpus=2), "process", mpi="pmix", wait=60)
    assert made.argv == (
        "srun",
        "--kill-on-bad-exit=1",
        "--wait=60",
        "--nodes=2",
        "--ntasks=6",
        "--ntasks-per-node=3",
        "--cpus-per-task=4",
        "--mpi=pmix",
        "--input=none",
        "--export=ALL",
    )
    assert (made.kind, made.ranks) == ("srun", "slurm")


def test_srun_emits_nothing_that_nobody_asked_for() -> None:
    """No cores without an amount, no MPI type unless one was chosen, and nothing about GPUs (pitfall 31)."""
    argv = srun(Resources(gpus=2), "process").argv
    assert not [word for word in argv if word.startswith(("--cpus-per-task", "--mpi", "--gpu", "--gres"))]


def test_srun_starts_one_task_a_node_for_a_launcher_of_its_own_and_gives_it_all_cores() -> None:
    argv = srun(Resources(nodes=2, procs_per_node=4, cpus=3), "node").argv
    assert {"--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=12"} < set(argv)


def test_srun_waits_for_all_ranks_unless_it_is_told_for_how_long() -> None:
    """Said also where it is for ever: a site may have set another default."""
    assert "--wait=0" in srun(Resources(nodes=2), "process").argv


def test_srun_without_sizes_has_all_tasks_of_its_job() -> None:
    made = srun(Resources(nodes=2, procs_per_node=2, cpus=3), "process", mpi="pmi2", sized=False)
    assert made.argv == ("srun", "--kill-on-bad-exit=1", "--wait=0", "--cpus-per-task=3", "--mpi=pmi2", "--input=none", "--export=ALL")


def test_mpirun_of_open_mpi_places_ranks_by_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    made = mpirun(Resources(nodes=2, procs_per_node=3), "process", mpi="openmpi")
    assert (made.argv, made.ranks) == (("mpirun", "-np", "6", "--map-by", "ppr:3:node"), "ompi")


def test_threads_of_a_rank_are_not_bound_to_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open MPI binds a rank to a core by default; with several cores asked for, all its threads would share it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert mpirun(Resources(cpus=4), "process", mpi="openmpi").argv[-2:] == ("--bind-to", "none")
    assert mpirun(Resources(procs_per_node=4), "node", mpi="openmpi").argv == (
        "mpirun", "-np", "1", "--map-by", "ppr:1:node", "--bind-to", "none",
    )  # fmt: skip
    assert "--bind-to" not in mpirun(Resources(cpus=1), "process", mpi="openmpi").argv


def test_root_has_to_be_allowed_by_open_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--allow-run-as-root" in mpirun(Resources(), "process", mpi="openmpi").argv
    assert "--allow-run-as-root" not in mpirun(Resources(), "process", mpi="mpich").argv


@pytest.mark.parametrize("flavour", ["mpich", "intel"])
def test_mpirun_of_mpich_and_intel_is_hydra(flavour: str) -> None:
    made = mpirun(Resources(nodes=2, procs_per_node=3), "process", mpi=flavour)
    assert (made.argv, made.ranks) == (("mpiexec", "-n", "6", "-ppn", "3"), "pmi")


@pytest.mark.parametrize(
    ("says", "ranks"),
    [
        ("mpirun (Open MPI) 4.1.4", "ompi"),
        ("mpirun (Open MPI) 5.0.6", "ompi"),
        ("HYDRA build details:\n    Version: 4.3.0", "pmi"),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.14 Build 20241121", "pmi"),
    ],
)
def test_mpirun_is_asked_whose_it_is(says: str, ranks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "mpirun", says)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert mpirun(Resources(), "process").ranks == ranks


def test_the_environments_mpirun_goes_before_that_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must be the one that belongs to the program's library, also where the job's PATH has another."""
    mine, other = tmp_path / "my env" / "bin", tmp_path / "bin"
    program(mine, "mpirun", "HYDRA build details:")
    mpiexec = program(mine, "mpiexec", "HYDRA build details:")
    program(other, "mpirun", "mpirun (Open MPI) 4.1.4")
    monkeypatch.setenv("PATH", f"{other}:/usr/bin:/bin")
    assert mpirun(Resources(), "process", path=[str(mine)]).argv[0] == str(mpiexec)
    assert mpirun(Resources(), "process").argv[0] == "mpirun"


def test_without_any_mpirun_here_open_mpis_is_expected_in_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set-up line (module load openmpi) brings it where the job runs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mpirun(Resources(), "process").ranks == "ompi"


def test_single_has_no_step() -> None:
    assert single(Resources(), "process").argv == ()
    assert single(Resources(procs_per_node=4), "node").argv == ()


@pytest.mark.parametrize(
    ("resources", "per"), [(Resources(nodes=2), "process"), (Resources(procs_per_node=2), "process"), (Resources(nodes=2), "node")]
)
def test_single_refuses_several_ranks(resources: Resources, per: str) -> None:
    with pytest.raises(SpecError, match=r"starts one process, but the run has 2") as caught:
        single(resources, per)
    assert "srun" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("srun", ("srun", "")),
        ("srun:pmix", ("srun", "pmix")),
        ("srun:pmi2", ("srun", "pmi2")),
        ("srun:pmix_v4", ("srun", "pmix_v4")),
        ("srun:none", ("srun", "none")),
        ("mpirun", ("mpirun", "")),
        ("mpirun:intel", ("mpirun", "intel")),
        ("single", ("single", "")),
        ("auto", ("auto", "")),
        ("", ("auto", "")),
    ],
)
def test_a_launcher_is_named_by_a_text(text: str, meaning: tuple[str, str]) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize("text", ["sruns", "aprun", "srun pmix", "SRUN", ":pmix"])
def test_an_unknown_launcher_lists_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownNameError, match="launcher") as caught:
        parse(text)
    assert all(name in caught.value.hint for name in ("auto", *KINDS))


@pytest.mark.parametrize("text", ["single:pmix", "auto:pmix", "srun:", "mpirun:", "mpirun:pmix"])
def test_what_stands_after_the_colon_must_mean_something(text: str) -> None:
    with pytest.raises(SpecError, match="launcher") as caught:
        parse(text)
    assert caught.value.hint


def in_allocation(slurm: Slurm, resources: Resources, launcher: tuple[str, ...], line: str, *more: str) -> list[str]:
    """What the ranks of a shell line print, in an allocation as sbatch would be asked for it."""
    asked = [f"--nodes={resources.nodes}", f"--ntasks-per-node={resources.procs_per_node}", "--time=1", "--quiet"]
    asked += [f"--cpus-per-task={resources.cpus}"] if resources.cpus else []
    asked += [f"--gpus-per-node={resources.gpus}"] if resources.gpus else []
    return slurm.run("salloc", *asked, *more, *launcher, "sh", "-c", line, timeout=120).splitlines()


def test_all_ranks_of_a_node_see_all_its_gpus_and_have_their_cores(slurm: Slurm) -> None:
    """Pitfalls 21 and 31: nothing about GPUs on the line of srun, and the cores written out."""
    resources = Resources(nodes=2, procs_per_node=2, cpus=2, gpus=2)
    made = srun(resources, "process", mpi="none")
    said = in_allocation(slurm, resources, made.argv, "echo $SLURM_PROCID $SLURM_NTASKS $SLURM_CPUS_PER_TASK $CUDA_VISIBLE_DEVICES")
    assert sorted(said) == ["0 4 2 0,1", "1 4 2 0,1", "2 4 2 0,1", "3 4 2 0,1"]


def test_a_launcher_on_each_node_has_all_cores_and_gpus_of_its_ranks(slurm: Slurm) -> None:
    resources = Resources(nodes=2, procs_per_node=2, cpus=2, gpus=2)
    made = srun(resources, "node", mpi="none")
    said = in_allocation(slurm, resources, made.argv, "echo $SLURM_NODEID $SLURM_NTASKS $SLURM_CPUS_PER_TASK $CUDA_VISIBLE_DEVICES")
    assert sorted(said) == ["0 2 4 0,1", "1 2 4 0,1"]


def test_a_rank_that_dies_ends_the_others(slurm: Slurm) -> None:
    """Pitfall 23: without the option the other rank would sleep on."""
    made = srun(Resources(nodes=2), "process", mpi="none")
    began = time.monotonic()
    with pytest.raises(AssertionError, match="Exited with exit code 3"):
        in_allocation(slurm, Resources(nodes=2), made.argv, '[ "$SLURM_PROCID" = 1 ] && exit 3; sleep 50')
    assert time.monotonic() - began < 30


def test_mpirun_of_open_mpi_finds_the_nodes_of_the_allocation_and_forwards_the_environment(slurm: Slurm) -> None:
    resources = Resources(nodes=2, procs_per_node=2, cpus=2)
    made = mpirun(resources, "process", mpi="openmpi")
    line = "echo $OMPI_COMM_WORLD_RANK/$OMPI_COMM_WORLD_SIZE $OMPI_COMM_WORLD_LOCAL_RANK/$OMPI_COMM_WORLD_LOCAL_SIZE $GREETING"
    said = in_allocation(slurm, resources, ("env", "GREETING=hello", *made.argv), line)
    assert sorted(said) == ["0/4 0/2 hello", "1/4 1/2 hello", "2/4 0/2 hello", "3/4 1/2 hello"]
