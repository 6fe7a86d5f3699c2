"""Estimators for HPC clusters: describe a training script, get a reproducible, recorded run.

Names are imported when they are first used. On a compute node, inside any container, only
``hpcest.onnode`` is there; ``from hpcest import Run`` works with that alone.
"""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# Public name -> the module that has it. Compared with the documentation by tests/test_public_names.py.
_WHERE = {
    "CondaDependencies": "hpcest.sdk.dependencies",
    "Distributed": "hpcest.sdk.distributed",
    "DockerSection": "hpcest.sdk.sections",
    "Environment": "hpcest.sdk.environment",
    "Estimator": "hpcest.sdk.estimator",
    "Experiment": "hpcest.sdk.experiment",
    "FrameworkEstimator": "hpcest.sdk.frameworks",
    "Gloo": "hpcest.sdk.distributed",
    "HpcestError": "hpcest.errors",
    "Model": "hpcest.sdk.model",
    "Mpi": "hpcest.sdk.distributed",
    "MpiConfiguration": "hpcest.sdk.distributed",
    "Nccl": "hpcest.sdk.distributed",
    "ParameterServer": "hpcest.sdk.distributed",
    "PyTorch": "hpcest.sdk.frameworks",
    "PyTorchConfiguration": "hpcest.sdk.distributed",
    "Run": "hpcest.sdk.run",
    "SKLearn": "hpcest.sdk.frameworks",
    "TensorFlow": "hpcest.sdk.frameworks",
    "TensorflowConfiguration": "hpcest.sdk.distributed",
    "Workspace": "hpcest.sdk.workspace",
    "hookimpl": "hpcest.hookspecs",
}
__all__ = [
    "CondaDependencies",
    "Distributed",
    "DockerSection",
    "Environment",
    "Estimator",
    "Experiment",
    "FrameworkEstimator",
    "Gloo",
    "HpcestError",
    "Model",
    "Mpi",
    "MpiConfiguration",
    "Nccl",
    "ParameterServer",
    "PyTorch",
    "PyTorchConfiguration",
    "Run",
    "SKLearn",
    "TensorFlow",
    "TensorflowConfiguration",
    "Workspace",
    "__version__",
    "hookimpl",
]

# The copy of this package that travels with a run holds onnode/ alone. If the program's own Python
# has hpcest installed too, the rest is found there.
__path__ += [
    _other
    for _other in (_os.path.join(_entry, "hpcest") for _entry in _sys.path)
    if _other not in __path__ and _os.path.isfile(_os.path.join(_other, "__init__.py"))
]


def __getattr__(name):  # type: ignore[no-untyped-def]  # runs under Python 3.8 on nodes, untyped there
    if name not in _WHERE:
        raise AttributeError("module 'hpcest' has no attribute %r" % name)
    from importlib import import_module

    try:
        found = getattr(import_module(_WHERE[name]), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("hpcest."):
            raise
        if name != "Run":
            raise ImportError(
                "hpcest.%s is not available here: only the tracking part of hpcest travels with a run; "
                "install hpcest in this environment to use the rest" % name
            ) from None
        from hpcest.onnode.run import Run as found
    globals()[name] = found
    return found


def __dir__():  # type: ignore[no-untyped-def]  # likewise
    return __all__
