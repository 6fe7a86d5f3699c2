"""An MPI of a few lines, for tests of what is said when ranks don't meet or add up wrong: ranks meet in a directory."""

from __future__ import annotations

import sys
from pathlib import Path

#: Ranks meet in the directory FAKE_MEETING. FAKE_WRONG is what is added to each sum.
MPI4PY = """
import array, itertools, os, time
SUM, _number = "sum", itertools.count()

class _World:
    def __init__(self, environ):
        self.rank, self.size = int(environ.get("FAKE_RANK", 0)), int(environ.get("FAKE_SIZE", 1))
        self.place, self.wrong = environ.get("FAKE_MEETING", ""), float(environ.get("FAKE_WRONG", 0))
    def Get_rank(self): return self.rank
    def Get_size(self): return self.size
    def Allreduce(self, mine, total, op):
        number = next(_number)
        names = [os.path.join(self.place, "%d.%d" % (number, rank)) for rank in range(self.size)]
        with open(names[self.rank] + ".new", "wb") as stream:
            stream.write(mine.tobytes())
        os.rename(names[self.rank] + ".new", names[self.rank])
        columns, end = [], time.monotonic() + 20
        for name in names:
            while not os.path.exists(name) and time.monotonic() < end:
                time.sleep(0.001)
            with open(name, "rb") as stream:
                columns.append(array.array("d", stream.read()))
        total[:] = array.array("d", map(sum, zip(*columns)))
        total[0] += self.wrong

COMM_WORLD = _World(os.environ)
def Get_library_version(): return "MPICH Version:      4.3.0\\nMPICH Release date: today"
"""

MPIRUN = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
if words == ["--version"]:
    print("mpirun (Open MPI) 4.1.4")
    sys.exit(0)
count = int(words[words.index("-np") + 1])
command = words[words.index("python3"):]
ranks = []
for rank in range(count):
    told = {{"FAKE_RANK": str(rank), "FAKE_SIZE": str(count), "OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(count)}}
    ranks.append(subprocess.Popen(command, env={{**os.environ, **told}}))
sys.exit(max([rank.wait() for rank in ranks]))
"""


def small_mpi(folder: Path) -> Path:
    """A directory for PYTHONPATH with this ``mpi4py``; ``meeting`` beside it is where ranks meet."""
    package = folder / "site" / "mpi4py"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "MPI.py").write_text(MPI4PY)
    (folder / "meeting").mkdir()
    return folder / "site"


def small_mpirun(folder: Path) -> Path:
    """A directory for PATH with an ``mpirun`` that starts ranks of the same MPI."""
    program = folder / "mpibin" / "mpirun"
    program.parent.mkdir()
    program.write_text(MPIRUN.format(python=sys.executable))
    program.chmod(0o755)
    return program.parent
