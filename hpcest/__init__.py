"""Estimators for HPC clusters: describe a training script, get a reproducible, recorded run.

Names are imported when they are first used. On a compute node, inside any container, only
``hpcest.onnode`` is there; ``from hpcest import Run`` works with that alone.
"""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# Public name -> the module that has it. Compared with the documentation by tests/test_public_names.py.
_WHERE = {
    "AmlCompute": "hpcest.sdk.compute",
    "ComputeTarget": "hpcest.sdk.compute",
    "ComputeTargetException": "hpcest.sdk.compute",
    "CondaDependencies": "hpcest.sdk.dependencies",
    "ContainerRegistry": "hpcest.sdk.sections",
    "DataReference": "hpcest.sdk.data.configs",
    "DataType": "hpcest.sdk.data.tabular",
    "Dataset": "hpcest.sdk.data.dataset",
    "DatasetConsumptionConfig": "hpcest.sdk.data.configs",
    "Datastore": "hpcest.sdk.data.datastore",
    "Distributed": "hpcest.sdk.distributed",
    "DockerConfiguration": "hpcest.sdk.runconfig.sections",
    "DockerSection": "hpcest.sdk.sections",
    "Environment": "hpcest.sdk.environment",
    "EnvironmentReference": "hpcest.sdk.runconfig.sections",
    "Estimator": "hpcest.sdk.estimator",
    "Experiment": "hpcest.sdk.experiment",
    "FileDataset": "hpcest.sdk.data.dataset",
    "FrameworkEstimator": "hpcest.sdk.frameworks",
    "Gloo": "hpcest.sdk.distributed",
    "HistoryConfiguration": "hpcest.sdk.runconfig.sections",
    "HpcestError": "hpcest.errors",
    "Input": "hpcest.sdk.jobs.types",
    "MLClient": "hpcest.sdk.jobs.client",
    "Model": "hpcest.sdk.model",
    "Mpi": "hpcest.sdk.distributed",
    "MpiConfiguration": "hpcest.sdk.distributed",
    "MpiDistribution": "hpcest.sdk.jobs.types",
    "Nccl": "hpcest.sdk.distributed",
    "Output": "hpcest.sdk.jobs.types",
    "OutputFileDatasetConfig": "hpcest.sdk.data.configs",
    "ParameterServer": "hpcest.sdk.distributed",
    "PyTorch": "hpcest.sdk.frameworks",
    "PyTorchConfiguration": "hpcest.sdk.distributed",
    "PyTorchDistribution": "hpcest.sdk.jobs.types",
    "RayDistribution": "hpcest.sdk.jobs.types",
    "RemoteCompute": "hpcest.sdk.compute",
    "Run": "hpcest.sdk.run",
    "RunConfiguration": "hpcest.sdk.runconfig.configuration",
    "RunDetails": "hpcest.sdk.widgets.details",
    "SKLearn": "hpcest.sdk.frameworks",
    "ScriptRunConfig": "hpcest.sdk.runconfig.scriptrun",
    "TabularDataset": "hpcest.sdk.data.tabular",
    "TensorFlow": "hpcest.sdk.frameworks",
    "TensorFlowDistribution": "hpcest.sdk.jobs.types",
    "Tensorboard": "hpcest.sdk.tensorboard",
    "TensorflowConfiguration": "hpcest.sdk.distributed",
    "Workspace": "hpcest.sdk.workspace",
    "command": "hpcest.sdk.jobs.command",
    "export_to_tensorboard": "hpcest.sdk.tensorboardexport",
    "get_run": "hpcest.sdk.run",
    "hookimpl": "hpcest.hookspecs",
    "load_job": "hpcest.sdk.jobs.command",
}
__all__ = [
    "AmlCompute",
    "ComputeTarget",
    "ComputeTargetException",
    "CondaDependencies",
    "ContainerRegistry",
    "DataReference",
    "DataType",
    "Dataset",
    "DatasetConsumptionConfig",
    "Datastore",
    "Distributed",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "EnvironmentReference",
    "Estimator",
    "Experiment",
    "FileDataset",
    "FrameworkEstimator",
    "Gloo",
    "HistoryConfiguration",
    "HpcestError",
    "Input",
    "MLClient",
    "Model",
    "Mpi",
    "MpiConfiguration",
    "MpiDistribution",
    "Nccl",
    "Output",
    "OutputFileDatasetConfig",
    "ParameterServer",
    "PyTorch",
    "PyTorchConfiguration",
    "PyTorchDistribution",
    "RayDistribution",
    "RemoteCompute",
    "Run",
    "RunConfiguration",
    "RunDetails",
    "SKLearn",
    "ScriptRunConfig",
    "TabularDataset",
    "TensorFlow",
    "TensorFlowDistribution",
    "Tensorboard",
    "TensorflowConfiguration",
    "Workspace",
    "__version__",
    "command",
    "export_to_tensorboard",
    "get_run",
    "hookimpl",
    "load_job",
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
