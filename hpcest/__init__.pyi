# The public names with their real types, for type checkers and editors: at run time they are imported when first used.
# A test compares this list with __init__.py.
from hpcest.errors import HpcestError as HpcestError
from hpcest.hookspecs import hookimpl as hookimpl
from hpcest.sdk.compute import AmlCompute as AmlCompute
from hpcest.sdk.compute import ComputeTarget as ComputeTarget
from hpcest.sdk.compute import ComputeTargetException as ComputeTargetException
from hpcest.sdk.compute import RemoteCompute as RemoteCompute
from hpcest.sdk.data.configs import DataReference as DataReference
from hpcest.sdk.data.configs import DatasetConsumptionConfig as DatasetConsumptionConfig
from hpcest.sdk.data.configs import OutputFileDatasetConfig as OutputFileDatasetConfig
from hpcest.sdk.data.dataset import Dataset as Dataset
from hpcest.sdk.data.dataset import FileDataset as FileDataset
from hpcest.sdk.data.datastore import Datastore as Datastore
from hpcest.sdk.data.tabular import DataType as DataType
from hpcest.sdk.data.tabular import TabularDataset as TabularDataset
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
from hpcest.sdk.jobs.client import MLClient as MLClient
from hpcest.sdk.jobs.command import command as command
from hpcest.sdk.jobs.command import load_job as load_job
from hpcest.sdk.jobs.types import Input as Input
from hpcest.sdk.jobs.types import MpiDistribution as MpiDistribution
from hpcest.sdk.jobs.types import Output as Output
from hpcest.sdk.jobs.types import PyTorchDistribution as PyTorchDistribution
from hpcest.sdk.jobs.types import RayDistribution as RayDistribution
from hpcest.sdk.jobs.types import TensorFlowDistribution as TensorFlowDistribution
from hpcest.sdk.model import Model as Model
from hpcest.sdk.run import Run as Run
from hpcest.sdk.run import get_run as get_run
from hpcest.sdk.runconfig.configuration import RunConfiguration as RunConfiguration
from hpcest.sdk.runconfig.scriptrun import ScriptRunConfig as ScriptRunConfig
from hpcest.sdk.runconfig.sections import DockerConfiguration as DockerConfiguration
from hpcest.sdk.runconfig.sections import EnvironmentReference as EnvironmentReference
from hpcest.sdk.runconfig.sections import HistoryConfiguration as HistoryConfiguration
from hpcest.sdk.sections import ContainerRegistry as ContainerRegistry
from hpcest.sdk.sections import DockerSection as DockerSection
from hpcest.sdk.tensorboard import Tensorboard as Tensorboard
from hpcest.sdk.tensorboardexport import export_to_tensorboard as export_to_tensorboard
from hpcest.sdk.widgets.details import RunDetails as RunDetails
from hpcest.sdk.workspace import Workspace as Workspace

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

__version__: str
