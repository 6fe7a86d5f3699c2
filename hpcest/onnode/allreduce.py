"""A program that proves an MPI: all ranks add up 8 bytes and 4 MiB of doubles, and rank 0 prints one line of JSON.

It needs nothing but a Python: mpi4py where that can be imported, else the libmpi it finds. Exit code 1,
with a sentence, where there is no MPI, where MPI sees other ranks than the launcher started, and where a sum is wrong.
"""

import array
import ctypes
import glob
import importlib
import json
import os
import shutil
import socket
import sys
import time

SMALL, LARGE = 1, 4 * 1024 * 1024 // 8
_NAME = 64  # characters of a host's name that are kept
_STARTED = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "PMI_SIZE")
_HERE = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "PMI_RANK")
_KNOWN = ("libmpi.so.40", "libmpi.so.12", "libmpich.so.12", "libmpi.so.20", "libmpi.so")


class Mpi4py:
    """MPI through mpi4py. Raises ImportError or RuntimeError where that, or its libmpi, is missing."""

    def __init__(self):
        MPI = importlib.import_module("mpi4py.MPI")
        self._sum, self._world = MPI.SUM, MPI.COMM_WORLD
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self.version = MPI.Get_library_version()
        self.through = "mpi4py"

    def allreduce(self, mine, total):
        self._world.Allreduce(mine, total, op=self._sum)

    def finish(self):
        """mpi4py calls MPI_Finalize itself."""


class Library:
    """MPI through ctypes. Raises OSError or AttributeError for a file that is no MPI library."""

    def __init__(self, path):
        # Open MPI's own plugins look for its symbols among the global ones.
        self._lib = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self.through = path
        if hasattr(self._lib, "ompi_mpi_comm_world"):
            handles = [self._address(name) for name in ("ompi_mpi_comm_world", "ompi_mpi_double", "ompi_mpi_op_sum")]
        else:  # MPICH and all that share its binary interface: handles are numbers
            handles = list(map(ctypes.c_int, (0x44000000, 0x4C00080B, 0x58000003)))
        self._world, self._double, self._sum = handles
        self._call("MPI_Init", None, None)
        self.rank, self.size = self._number("MPI_Comm_rank"), self._number("MPI_Comm_size")
        text, length = ctypes.create_string_buffer(8192), ctypes.c_int()
        self._call("MPI_Get_library_version", text, ctypes.byref(length))
        self.version = text.value.decode("utf-8", "replace")

    def _address(self, name):
        return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(self._lib, name)))

    def _call(self, name, *arguments):
        code = getattr(self._lib, name)(*arguments)
        if code:
            raise RuntimeError("%s failed with code %d" % (name, code))

    def _number(self, name):
        value = ctypes.c_int()
        self._call(name, self._world, ctypes.byref(value))
        return value.value

    def allreduce(self, mine, total):
        arguments = [ctypes.c_void_p(one.buffer_info()[0]) for one in (mine, total)]
        self._call("MPI_Allreduce", *arguments, ctypes.c_int(len(mine)), self._double, self._sum, self._world)

    def finish(self):
        self._call("MPI_Finalize")


def libraries(environ):
    """Where a libmpi may be, likeliest first: LD_LIBRARY_PATH, this Python's own, beside mpirun, the system's."""
    folders = [folder for folder in environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if folder]
    folders.append(os.path.join(sys.prefix, "lib"))
    for name in ("mpirun", "mpiexec"):
        found = shutil.which(name, path=environ.get("PATH"))
        for path in [found, os.path.realpath(found)] if found else ():
            above = os.path.dirname(os.path.dirname(path))
            folders += [os.path.join(above, "lib"), os.path.join(above, "lib64")]
    paths = [path for folder in folders for path in sorted(glob.glob(os.path.join(folder, "libmpi.so*")), reverse=True)]
    return list(dict.fromkeys(paths)) + list(_KNOWN)


def an_mpi(environ):
    """The first MPI that can be loaded, or None; and what was wrong with an mpi4py that is there."""
    problem = ""
    try:
        return Mpi4py(), problem
    except ImportError as error:
        problem = "" if getattr(error, "name", None) == "mpi4py" else str(error)
    except RuntimeError as error:
        problem = str(error)
    for path in libraries(environ):
        try:
            return Library(path), problem
        except (OSError, AttributeError):
            continue
    return None, problem


def told(environ, names):
    """The number that the first of some variables holds, or None."""
    for name in names:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return None


def measure(mpi, count, times):
    """Add ``count`` doubles over all ranks; return the median seconds of one. Raises ArithmeticError for a wrong sum."""
    pattern = [float(number % 97 + 1) for number in range(min(count, 4096))]
    repeats = count // len(pattern)
    mine = array.array("d", [(mpi.rank + 1) * value for value in pattern]) * repeats
    right = array.array("d", [mpi.size * (mpi.size + 1) // 2 * value for value in pattern]) * repeats
    took = []
    for _ in range(times):
        total = array.array("d", [0.0]) * count
        began = time.perf_counter()
        mpi.allreduce(mine, total)
        took.append(time.perf_counter() - began)
        if total != right:
            raise ArithmeticError("the sum of %d bytes over %d ranks is wrong on rank %d" % (8 * count, mpi.size, mpi.rank))
    return sorted(took)[len(took) // 2]


def hosts(mpi):
    """The names of the hosts of all ranks, each once, in the order of the ranks: each rank adds its own to zeros."""
    mine = array.array("d", [0.0]) * (mpi.size * _NAME)
    for place, byte in enumerate(socket.gethostname().encode()[:_NAME]):
        mine[mpi.rank * _NAME + place] = byte
    total = array.array("d", mine)
    mpi.allreduce(mine, total)
    codes = bytes(int(value) for value in total)
    names = [codes[place : place + _NAME].rstrip(b"\0").decode("utf-8", "replace") for place in range(0, len(codes), _NAME)]
    return list(dict.fromkeys(names))


def complain(message):
    """Say what is wrong, where the log is read."""
    sys.stderr.write("allreduce: %s\n" % message)
    sys.stderr.flush()
    return 1


def main(environ):
    """Prove the MPI; return the exit code."""
    mpi, problem = an_mpi(environ)
    if mpi is None:
        if told(environ, _HERE):
            return 1  # rank 0 says it for all
        reason = "mpi4py can't be used (%s)" % problem.strip().split("\n")[0] if problem else "mpi4py can't be imported"
        return complain("no MPI was found: %s, and no libmpi in LD_LIBRARY_PATH, beside mpirun, or in the system" % reason)
    started = told(environ, _STARTED)
    name = " ".join(mpi.version.strip(" \0\n").split("\n")[0].split()) or "an MPI"
    if started is not None and started != mpi.size:
        return complain(
            "%d ranks were started, but MPI sees %d: this program's MPI (%s, %s) and the launcher don't speak the same "
            "process management interface" % (started, mpi.size, name, mpi.through)
        )
    try:
        measure(mpi, SMALL, 3)  # the first ones make the connections
        found = {
            "ranks": mpi.size,
            "hosts": hosts(mpi),
            "library": name,
            "through": mpi.through,
            "seconds": {str(8 * count): measure(mpi, count, times) for count, times in ((SMALL, 21), (LARGE, 5))},
        }
    except (ArithmeticError, RuntimeError) as error:
        return complain(str(error))
    if mpi.rank == 0:
        print(json.dumps(found, sort_keys=True))
        sys.stdout.flush()
    mpi.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
