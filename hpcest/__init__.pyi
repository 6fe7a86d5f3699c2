# The public names with their real types, for type checkers and editors: at run time they are imported when first used.
# A test compares this list with __init__.py.
from hpcest.errors import HpcestError as HpcestError
from hpcest.hookspecs import hookimpl as hookimpl
from hpcest.sdk.dependencies import CondaDependencies as CondaDependencies
from hpcest.sdk.distributed import Distributed as Distributed
from hpcest.sdk.distributed import Gloo as Gloo
from hpcest.sdk.distributed import Mpi as Mpi
from hpcest.sdk.distributed import MpiConfiguration as MpiConfiguration
from hpcest.sdk.distributed import Nccl as Nccl
from hpcest.sdk.distributed import ParameterServer as ParameterServer
from hpcest.sdk.distributed import PyTorchConfiguration as PyTorchConfiguration
from hpcest.sdk.distributed import TensorflowConfiguration as TensorflowConfiguration
from hpcest.sdk.environment import Environment as Environment
from hpcest.sdk.estimator import Estimator as Estimator
from hpcest.sdk.experiment import Experiment as Experiment
from hpcest.sdk.frameworks import FrameworkEstimator as FrameworkEstimator
from hpcest.sdk.frameworks import PyTorch as PyTorch
from hpcest.sdk.frameworks import SKLearn as SKLearn
from hpcest.sdk.frameworks import TensorFlow as TensorFlow
from hpcest.sdk.model import Model as Model
from hpcest.sdk.run import Run as Run
from hpcest.sdk.sections import DockerSection as DockerSection
from hpcest.sdk.workspace import Workspace as Workspace

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

__version__: str
