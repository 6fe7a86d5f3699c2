"""The program that proves an MPI: what it measures, and each way in which it says that something is wrong.

Here an ``mpi4py`` of a few lines brings processes together by files, so that sums and sizes can be wrong on
demand; real MPIs are met on the test cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest.onnode import allreduce
from tests.onnode.small_mpi import small_mpi

PROGRAM = Path(allreduce.__file__)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the small ``mpi4py``."""
    return small_mpi(tmp_path)


def ranks(count: int, site: Path, **variables: str) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each of ``count`` processes that meet."""
    base = {"PATH": os.defpath, "PYTHONPATH": str(site), "FAKE_SIZE": str(count), "FAKE_MEETING": str(site.parent / "meeting"), **variables}
    started = [
        subprocess.Popen(
            [sys.executable, "-S", str(PROGRAM)],
            env={**base, "FAKE_RANK": str(rank), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=60) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def test_rank_0_prints_one_line_with_what_was_proven(site: Path) -> None:
    first, *others = ranks(2, site, WORLD_SIZE="2")
    assert first[0] == 0, first[2]
    found = json.loads(first[1])
    assert (found["ranks"], found["hosts"], found["library"]) == (2, [os.uname().nodename[:64]], "MPICH Version: 4.3.0")
    assert set(found["seconds"]) == {"8", "4194304"}
    assert all(0 < seconds < 60 for seconds in found["seconds"].values())
    assert others == [(0, "", "")]


def test_each_rank_alone_is_what_a_wrong_process_manager_looks_like(site: Path) -> None:
    """N times "size 1": the launcher has started two, and MPI sees one."""
    for code, out, said in ranks(1, site, WORLD_SIZE="2"):
        assert (code, out) == (1, "")
        assert "2 ranks were started, but MPI sees 1" in said
        assert "MPICH" in said


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE"])
def test_by_hand_the_launchers_own_number_counts(name: str, site: Path) -> None:
    assert ranks(1, site, **{name: "2"})[0][0] == 1
    assert ranks(1, site, **{name: "1"})[0][0] == 0


def test_a_wrong_sum_is_an_error(site: Path) -> None:
    (code, out, said), *_ = ranks(1, site, FAKE_WRONG="0.001")
    assert (code, out) == (1, "")
    assert "the sum of 8 bytes over 1 ranks is wrong on rank 0" in said


def test_without_any_mpi_rank_0_says_so_and_the_others_are_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names that the dynamic linker would find are taken away: this machine may well have an MPI."""
    monkeypatch.setattr(allreduce, "_KNOWN", ())
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert [allreduce.main({"RANK": rank, "PATH": str(tmp_path)}) for rank in "01"] == [1, 1]
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("allreduce: no MPI was found: mpi4py")


def test_an_mpi4py_that_finds_no_library_is_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "mpi4py" / "MPI.py").write_text("raise RuntimeError('cannot load MPI library\\nand more')\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(allreduce, "_KNOWN", ())
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert allreduce.main({"PATH": str(tmp_path)}) == 1
    assert "mpi4py can't be used (cannot load MPI library)" in capsys.readouterr().err
    sys.modules.pop("mpi4py")


def test_libraries_are_sought_from_the_nearest_to_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LD_LIBRARY_PATH, the Python's own prefix (a wheel with an MPI), beside mpirun, then what the linker knows."""
    places = {"module": "libmpi.so.40", "venv/lib": "libmpi.so.12", "opt/mpi/lib": "libmpi.so"}
    for folder, name in places.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()
    mpirun = tmp_path / "opt" / "mpi" / "bin" / "mpirun"
    mpirun.parent.mkdir()
    mpirun.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    found = allreduce.libraries({"PATH": str(mpirun.parent), "LD_LIBRARY_PATH": f"{tmp_path}/module:"})
    assert found[:3] == [str(tmp_path / folder / name) for folder, name in places.items()]
    assert "libmpi.so.40" in found[3:]


def test_a_file_that_is_no_mpi_library_is_passed_over(tmp_path: Path) -> None:
    broken = tmp_path / "libmpi.so.40"
    broken.write_text("no library")
    with pytest.raises(OSError, match="libmpi"):
        allreduce.Library(str(broken))
    with pytest.raises(AttributeError):
        allreduce.Library("libm.so.6")
