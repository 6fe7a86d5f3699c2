"""A Python with a real Ray, made once for all tests and sessions."""

from __future__ import annotations

import pytest
from hpcest.testing import python_with


@pytest.fixture(scope="session")
def python_with_ray() -> str:
    """The interpreter; HPCEST_TEST_RAY_PYTHON names another one."""
    return str(python_with("ray", ("ray[default,rllib]==2.60.*", "gymnasium", "torch==2.13.*")))
