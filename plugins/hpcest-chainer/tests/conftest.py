"""A Python with a real Chainer and mpi4py, made once for all tests and sessions."""

from __future__ import annotations

import os
import shutil

import pytest
from hpcest.testing import python_with


@pytest.fixture(scope="session")
def python_with_chainer() -> str:
    """The interpreter; HPCEST_TEST_CHAINER_PYTHON names another one. MPI's own launcher has to be there too."""
    if shutil.which("mpirun") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("mpirun is not on PATH")
    before = ("numpy<1.24", "setuptools<60", "wheel", "mpi4py")
    return str(python_with("chainer", before, ("--no-build-isolation", "chainer==7.8.1")))
