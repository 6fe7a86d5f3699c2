"""What a plugin promises, as tests to inherit: docs/plugins.md says how. Only test suites import this package; it needs pytest."""

from hpcest.testing.backends import BackendContract
from hpcest.testing.bench import Bench, Contract, Ended
from hpcest.testing.environments import EnvironmentContract
from hpcest.testing.frameworks import FrameworkContract
from hpcest.testing.listeners import ListenerContract
from hpcest.testing.pythons import python_with

__all__ = ["BackendContract", "Bench", "Contract", "Ended", "EnvironmentContract", "FrameworkContract", "ListenerContract", "python_with"]
