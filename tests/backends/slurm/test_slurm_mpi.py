"""The MPI type of a run: what Slurm offers, what the program speaks, what the user wants."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from hpcest.backends.slurm.mpi import alternatives, choose, flavour, mpirun_flavour, spoken_in
from hpcest.errors import SpecError
from hpcest.model.plan import Activation
from tests.cluster.fixtures import Slurm

DEBIAN = ("cray_shasta", "none", "pmi2", "pmix", "pmix_v4")


@pytest.mark.parametrize(
    ("offered", "speaks", "chosen"),
    [
        (DEBIAN, "openmpi", "pmix"),
        (DEBIAN, "mpich", "pmi2"),
        (DEBIAN, "intel", "pmi2"),
        (DEBIAN, "", "pmix"),
        (("none", "pmix_v3", "pmix_v4"), "openmpi", "pmix_v4"),
        (("none", "pmix_v9", "pmix_v10"), "openmpi", "pmix_v10"),
        (("none", "pmix_v4"), "mpich", "pmix_v4"),
        (("none", "pmi2"), "openmpi", ""),
        (("none", "pmi2"), "", "pmi2"),
        (("none",), "mpich", ""),
        ((), "openmpi", ""),
        (DEBIAN, "an mpi of tomorrow", "pmix"),
    ],
)
def test_the_type_brings_slurm_and_the_program_together(offered: tuple[str, ...], speaks: str, chosen: str) -> None:
    assert choose(offered, speaks) == chosen


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (DEBIAN, "pmi2", "pmi2"),
        (DEBIAN, "pmix_v4", "pmix_v4"),
        (DEBIAN, "none", "none"),
        (("pmi2",), "none", "none"),
        (("pmi2", "pmix_v4"), "pmix", "pmix_v4"),
        ((), "pmix", "pmix"),
    ],
)
def test_what_is_wanted_wins_over_what_the_program_speaks(offered: tuple[str, ...], wanted: str, chosen: str) -> None:
    """Also where Slurm could not be asked what it offers."""
    assert choose(offered, "openmpi" if wanted != "pmix" else "mpich", wanted) == chosen


@pytest.mark.parametrize("wanted", ["openmpi", "pmix_v5", "pmi", "PMIX"])
def test_a_type_that_slurm_has_not_is_refused_with_those_it_has(wanted: str) -> None:
    with pytest.raises(SpecError) as caught:
        choose(("none", "pmi2", "pmix_v4"), "openmpi", wanted)
    assert wanted in caught.value.message
    assert "none, pmi2, pmix_v4" in caught.value.message


def test_alternatives_are_other_interfaces_and_not_other_versions_of_one() -> None:
    assert alternatives(DEBIAN, "pmix") == ["pmi2", "cray_shasta"]
    assert alternatives(DEBIAN, "pmi2") == ["pmix", "cray_shasta"]
    assert alternatives(("none", "pmix_v3", "pmix_v4"), "pmix_v4") == []
    assert alternatives(("none", "pmi2", "pmix"), "") == ["pmix", "pmi2"]


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        ("Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022", "openmpi"),
        ("mpirun (Open MPI) 5.0.6", "openmpi"),
        ("MPICH Version:      5.0.2\nMPICH ABI: 18:2:6", "mpich"),
        ("MPI VERSION    : CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)", "mpich"),
        ("MVAPICH2 Version      :\t2.3.7", "mpich"),
        ("Intel(R) MPI Library 2021.14 for Linux* OS\n", "intel"),
        ("HYDRA build details:", "mpich"),
        ("Microsoft MPI 10", ""),
        ("", ""),
    ],
)
def test_a_version_text_tells_the_flavour(text: str, speaks: str) -> None:
    assert spoken_in(text) == speaks


def executable(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return str(path)


def python_with(folder: Path, module: str) -> str:
    """A real Python in which ``mpi4py`` is the package that ``module`` says, as a wheel would bring it."""
    package = folder / "site" / "mpi4py"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class rc: initialize = finalize = True\n")
    (package / "MPI.py").write_text(module)
    return executable(folder / "bin" / "python", f'#!/bin/sh\nPYTHONPATH="{folder}/site" exec {sys.executable} "$@"\n')


def test_mpi4py_is_asked_without_starting_mpi(tmp_path: Path) -> None:
    """A login node may not allow MPI_Init, and some MPIs end the process there."""
    module = """if True:
        import mpi4py, os
        if mpi4py.rc.initialize or mpi4py.rc.finalize:
            os._exit(14)
        def Get_library_version(): return "MPICH Version:      4.3.0"
    """
    activation = Activation(python_with(tmp_path / "an env", module))
    assert flavour(activation, (activation.python, "train.py"), {"PATH": "/usr/bin:/bin"}) == "mpich"


def test_the_environment_is_asked_as_the_program_will_see_it(tmp_path: Path) -> None:
    """With the prefix of its container, its variables, its path, and without what it unsets."""
    module = """if True:
        import os
        def Get_library_version(): return os.environ["SAYS"] + " MPI" if "HIDDEN" not in os.environ else "MPICH"
    """
    python = python_with(tmp_path, module)
    wrapper = executable(tmp_path / "wrap", '#!/bin/sh\nSAYS="$SAYS Open"; export SAYS; exec "$@"\n')
    activation = Activation(python, prefix=(wrapper,), variables={"SAYS": "the"}, unset=("HIDDEN",))
    assert flavour(activation, (python, "x.py"), {"PATH": "/usr/bin:/bin", "HIDDEN": "1"}) == "openmpi"


LDD = {
    "openmpi": "\tlibmpi.so.40 => /usr/lib/libmpi.so.40 (0x0)\n\tlibopen-pal.so.40 => /usr/lib/libopen-pal.so.40 (0x0)\n",
    "mpich": "\tlibmpi.so.12 => /opt/mpich/lib/libmpi.so.12 (0x0)\n\tlibc.so.6 => /lib/libc.so.6 (0x0)\n",
    "intel": "\tlibmpifort.so.12 => /opt/intel/mpi/lib/libmpifort.so.12 (0x0)\n\tlibmpi.so.12 => /opt/intel/mpi/lib/libmpi.so.12 (0x0)\n",
    "": "\tlibmpfr.so.6 => /usr/lib/libmpfr.so.6 (0x0)\n\tlibc.so.6 => /lib/libc.so.6 (0x0)\n",
}


@pytest.mark.parametrize("speaks", list(LDD))
def test_a_compiled_program_is_known_by_what_it_links(speaks: str, tmp_path: Path) -> None:
    """``ldd`` is a script with the answers of real systems: three MPIs can't be installed side by side."""
    executable(tmp_path / "bin" / "ldd", f"#!/bin/sh\n[ \"$1\" = '{tmp_path}/src/my sim' ] && cat <<'END'\n{LDD[speaks]}END\n")
    executable(tmp_path / "src" / "my sim", "")
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    executable(tmp_path / "bin" / "mpirun", "#!/bin/sh\n")
    for command in (("./my sim", "-x"), ("/bin/sh", "-c", "exec it", "sh", "OMP_NUM_THREADS=1 './my sim' -x | tee log")):
        assert flavour(Activation(""), command, environ, folder=tmp_path / "src") == speaks


def test_at_last_the_mpirun_of_the_environment_is_asked(tmp_path: Path) -> None:
    executable(tmp_path / "env" / "mpirun", "#!/bin/sh\necho 'Intel(R) MPI Library for Linux* OS, Version 2021.14'\n")
    executable(tmp_path / "bin" / "mpirun", "#!/bin/sh\necho 'mpirun (Open MPI) 4.1.4'\n")
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    assert flavour(Activation("", path=(f"{tmp_path}/env",)), ("prog.jl",), environ) == "intel"
    assert mpirun_flavour("mpirun", environ) == "openmpi"


@pytest.mark.parametrize(
    "program", [(), ("",), ("no such program",), ("/bin/sh", "-c", "x", "sh", "an 'open quote"), ("/bin/sh", "-c", ""), ("/etc",)]
)
def test_nothing_that_can_be_asked_is_no_error(program: tuple[str, ...], tmp_path: Path) -> None:
    assert flavour(Activation(str(tmp_path / "no python")), program, {"PATH": str(tmp_path)}) == ""


def test_a_python_without_mpi4py_is_no_error(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    assert flavour(Activation(python), (python, "x.py"), {"PATH": os.fspath(tmp_path)}) == ""


def test_a_real_program_and_a_real_mpirun_tell_their_mpi(slurm: Slurm, tmp_path: Path) -> None:
    """Debian's Open MPI, as the test cluster has it: by the libraries of a compiled program, and by its launcher."""
    source = tmp_path / "a.c"
    source.write_text("#include <mpi.h>\nint main(int n, char **v) { MPI_Init(&n, &v); return MPI_Finalize(); }\n")
    slurm.run("mpicc", "-o", str(tmp_path / "prog"), str(source))
    assert flavour(Activation(""), ("./prog", "-x"), {"PATH": os.environ["PATH"]}, folder=tmp_path) == "openmpi"
    assert mpirun_flavour("mpirun", os.environ) == "openmpi"
