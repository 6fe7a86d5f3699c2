"""What stands in hpcest for each public name of Azure ML's SDKs: for ``hpcest migrate``, and for the plugin that answers to ``azureml``.

A copy of this file goes to nodes with that plugin: it is the standard library only, under Python 3.8.
"""

from __future__ import annotations


def _here(names: str, module: str = "hpcest") -> dict[str, str]:
    return {name: f"{module}:{name}" for name in names.split()}


_SERVING = "hpcest does not deploy models: load one where you need it, from Model.get_model_path"
_CONFIGURED = "compute targets are named in the configuration: see 'hpcest compute list' and docs/configuration.md"
_PERMISSIONS = "leave it out: files' permissions are the only authentication"
_SERVICES = "leave it out: reach a port of the node by ssh -L; 'hpcest tensorboard RUN' shows the run's logs"
_SECRETS = "give secrets as environment variables when you submit: they are kept apart from the record"
_SWEEPS = "hpcest has no sweeps yet: submit a run for each choice of parameters, and compare them by 'hpcest runs --sort'"
_PIPELINES = "hpcest has no pipelines yet: submit a run for each step, with 'hpcest submit --after RUN'"
_AUTOML = "hpcest does not search for models: run a library that does, such as FLAML, as a training script"
_DATAPREP = "read files with pandas or pyarrow; hpcest.Dataset names and freezes them"
_MONITORING = "hpcest does not watch deployed models or data"
_FIRST_PARTY = "it belongs to Azure"
_OUTPUTS = "declare an output by OutputFileDatasetConfig"
_DATAPATHS = "give a path, or a Dataset, as an argument"
_DEFAULT_IMAGE = "leave base_image out: hpcest makes the environment from its packages"

_EXCEPTIONS = {
    **dict.fromkeys(("AzureMLException", "AzureMLAggregatedException"), "hpcest:HpcestError"),
    **dict.fromkeys(("UserErrorException", "TrainingException", "ExperimentExecutionException"), "hpcest.errors:UsageError"),
    **dict.fromkeys(("WorkspaceException", "ProjectSystemException"), "hpcest.errors:WorkspaceError"),
    **dict.fromkeys(("WebserviceException", "ModelNotFoundException"), "hpcest.errors:UnknownNameError"),
    "ActivityFailedException": "hpcest.errors:RunFailedError",
    "ComputeTargetException": "hpcest:ComputeTargetException",
    "ModelPathNotFoundException": "builtins:FileNotFoundError",
    "RunConfigurationException": "hpcest.errors:SpecError",
    "RunEnvironmentException": "builtins:RuntimeError",
    "ServiceException": "hpcest.errors:BackendError",
    "SnapshotException": "hpcest.errors:SnapshotError",
}
_DEPENDENCIES = _here("CondaDependencies")
_REGISTRY = _here("ContainerRegistry", "hpcest.sdk.sections")
_DATASETS = {**_here("FileDataset", "hpcest.sdk.data.dataset"), **_here("DataType TabularDataset", "hpcest.sdk.data.tabular")}
_V2 = _here("MpiDistribution PyTorchDistribution RayDistribution TensorFlowDistribution", "hpcest.sdk.jobs.types")
_RUN = {**_here("Run get_run"), "_OfflineRun": "hpcest.onnode.offline:OfflineRun"}

#: A module of Azure's → its names → what stands for each, ``module:name``.
NAMES: dict[str, dict[str, str]] = {
    "azureml": {},
    "azureml._common.exceptions": {"AzureMLException": "hpcest:HpcestError"},
    "azureml.contrib.tensorboard": _here("Tensorboard"),
    "azureml.contrib.train.rl": _here("Ray ReinforcementLearningEstimator WorkerConfiguration", "hpcest_rllib"),
    "azureml.core": {
        **_REGISTRY,
        **_here("ComputeTarget Dataset Datastore Environment Experiment Model Run RunConfiguration ScriptRunConfig Workspace get_run"),
        "ScriptRun": "hpcest:Run",
        "VERSION": "hpcest:__version__",
    },
    "azureml.core.authentication": {},
    "azureml.core.compute": _here("AmlCompute ComputeTarget RemoteCompute"),
    "azureml.core.compute.amlcompute": _here("AmlCompute"),
    "azureml.core.compute.compute": _here("ComputeTarget"),
    "azureml.core.compute_target": _here("ComputeTarget ComputeTargetException"),
    "azureml.core.conda_dependencies": _DEPENDENCIES,
    "azureml.core.container_registry": _REGISTRY,
    "azureml.core.dataset": _here("Dataset"),
    "azureml.core.datastore": _here("Datastore"),
    "azureml.core.environment": {
        **_here("DockerSection Environment"),
        **_DEPENDENCIES,
        "EnvironmentReference": "hpcest.sdk.runconfig.sections:EnvironmentReference",
        "ImageBuildDetails": "hpcest.sdk.builds:ImageBuildDetails",
        "PythonSection": "hpcest.sdk.sections:PythonSection",
    },
    "azureml.core.experiment": _here("Experiment"),
    "azureml.core.model": _here("Model"),
    "azureml.core.run": _RUN,
    "azureml.core.runconfig": {
        **_here("DockerConfiguration Environment MpiConfiguration PyTorchConfiguration RunConfiguration TensorflowConfiguration"),
        **_DEPENDENCIES,
        **_REGISTRY,
        **_here("Data DataLocation DataPath DataReferenceConfiguration OutputData Uri", "hpcest.sdk.runconfig.data"),
        "Dataset": "hpcest.sdk.runconfig.data:RunDataset",
        "HistoryConfiguration": "hpcest.sdk.runconfig.sections:HistoryConfiguration",
    },
    "azureml.core.script_run": {"ScriptRun": "hpcest:Run"},
    "azureml.core.script_run_config": {
        **_here("ScriptRunConfig"),
        **_here("get_run_config_from_script_run", "hpcest.sdk.runconfig.scriptrun"),
    },
    "azureml.core.workspace": _here("Workspace"),
    "azureml.data": {**_here("DataReference DatasetConsumptionConfig OutputFileDatasetConfig"), **_DATASETS},
    "azureml.data.abstract_dataset": _here("AbstractDataset", "hpcest.sdk.data.dataset"),
    "azureml.data.data_reference": _here("DataReference"),
    "azureml.data.dataset_consumption_config": _here("DatasetConsumptionConfig"),
    "azureml.data.datapath": _here("DataPath", "hpcest.sdk.data.datastore"),
    "azureml.data.dataset_factory": {
        **_here("FileDatasetFactory", "hpcest.sdk.data.dataset"),
        **_here("DataType TabularDatasetFactory", "hpcest.sdk.data.tabular"),
    },
    "azureml.data.dataset_type_definitions": _here("PromoteHeadersBehavior", "hpcest.sdk.data.tabular"),
    "azureml.data.file_dataset": _here("FileDataset", "hpcest.sdk.data.dataset"),
    "azureml.data.output_dataset_config": _here("OutputFileDatasetConfig"),
    "azureml.data.tabular_dataset": _here("TabularDataset", "hpcest.sdk.data.tabular"),
    "azureml.exceptions": _EXCEPTIONS,
    "azureml.mlflow": {},
    "azureml.telemetry": {},
    "azureml.tensorboard": _here("Tensorboard"),
    "azureml.tensorboard.export": _here("export_to_tensorboard", "hpcest.sdk.tensorboardexport"),
    "azureml.train": {},
    "azureml.train.dnn": {
        **_here("Gloo Mpi Nccl ParameterServer PyTorch TensorFlow"),
        "Chainer": "hpcest_chainer:Chainer",
    },
    "azureml.train.estimator": _here("Estimator"),
    "azureml.train.sklearn": _here("SKLearn"),
    "azureml.widgets": _here("RunDetails"),
    "azure.ai.ml": {**_here("Input MLClient Output command"), **_V2, **_here("load_job", "hpcest.sdk.jobs.command")},
    "azure.ai.ml.constants": _here("AssetTypes InputOutputModes", "hpcest.sdk.jobs.types"),
    "azure.ai.ml.entities": _here("BuildContext Data Environment Model", "hpcest.sdk.jobs.entities"),
}

_NO_COMPUTE = dict.fromkeys(
    (
        "AdlaCompute", "AksCompute", "BatchCompute", "ComputeInstance", "DataFactoryCompute", "DatabricksCompute", "HDInsightCompute",
        "KubernetesCompute", "SynapseCompute",
    ),
    _CONFIGURED,
)  # fmt: skip
_NO_IMAGE = dict.fromkeys(("DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE"), _DEFAULT_IMAGE)

#: A module of Azure's → its names without a counterpart → what to do instead.
WITHOUT: dict[str, dict[str, str]] = {
    "azureml.contrib.train.rl": {"HeadConfiguration": "the head of a Ray cluster is on the run's first node"},
    "azureml.core": {
        "Image": _SERVING,
        "Keyvault": _SECRETS,
        "LinkedService": _FIRST_PARTY,
        "Webservice": _SERVING,
    },
    "azureml.core.authentication": dict.fromkeys(
        (
            "AbstractAuthentication", "ArmTokenAuthentication", "AzureCliAuthentication", "InteractiveLoginAuthentication",
            "MsiAuthentication", "ServicePrincipalAuthentication", "TokenAuthentication",
        ),
        _PERMISSIONS,
    ),
    "azureml.core.compute": _NO_COMPUTE,
    "azureml.core.environment": {"DockerBuildContext": "Environment.from_dockerfile", **_NO_IMAGE},
    "azureml.core.model": {"InferenceConfig": _SERVING},
    "azureml.core.runconfig": {
        **_NO_IMAGE,
        "ParallelTaskConfiguration": _PIPELINES,
        **dict.fromkeys(("AmlComputeConfiguration", "HdiConfiguration", "KubernetesComputeConfiguration"), _CONFIGURED),
        "ApplicationEndpointConfiguration": _SERVICES,
        "SparkConfiguration": "start Spark in the script",
    },
    "azureml.data.datapath": {"DataPathComputeBinding": _DATAPATHS},
    "azureml.data": dict.fromkeys(("HDFSOutputDatasetConfig", "LinkFileOutputDatasetConfig", "LinkTabularOutputDatasetConfig"), _OUTPUTS),
    "azureml.mlflow": {"get_portal_url": "run.get_portal_url()"},
    "azureml.telemetry": {"set_diagnostics_collection": "leave it out: hpcest reports nothing to anybody"},
    "azure.ai.ml": {"dsl": _PIPELINES, "load_component": _PIPELINES},
    "azure.ai.ml.entities": {
        **dict.fromkeys(("AmlCompute", "ComputeInstance"), _CONFIGURED),
        **dict.fromkeys(("BatchDeployment", "BatchEndpoint", "CodeConfiguration"), _SERVING),
        **dict.fromkeys(("ManagedOnlineDeployment", "ManagedOnlineEndpoint"), _SERVING),
        **dict.fromkeys(("CommandComponent", "PipelineJob"), _PIPELINES),
        **dict.fromkeys(("JobService", "JupyterLabJobService", "SshJobService", "TensorBoardJobService", "VsCodeJobService"), _SERVICES),
        "Workspace": "a workspace is a directory: hpcest.Workspace",
    },
}  # fmt: skip

#: A module without a counterpart, whose submodules have none either → what to do instead.
REFUSED: dict[str, str] = {
    "azure.ai.ml.automl": _AUTOML,
    "azure.ai.ml.dsl": _PIPELINES,
    "azure.ai.ml.parallel": _PIPELINES,
    "azure.ai.ml.sweep": _SWEEPS,
    "azure.identity": _PERMISSIONS,
    "azureml.accel": _SERVING,
    "azureml.automl": _AUTOML,
    "azureml.contrib.automl": _AUTOML,
    "azureml.contrib.dataset": _DATAPREP,
    "azureml.contrib.explain": "use the interpret package in a training script",
    "azureml.contrib.interpret": "use the interpret package in a training script",
    "azureml.contrib.mir": _SERVING,
    "azureml.contrib.notebook": "run a notebook with papermill as a training script",
    "azureml.contrib.pipeline": _PIPELINES,
    "azureml.contrib.services": _SERVING,
    "azureml.contrib.server": _SERVING,
    "azureml.core.image": _SERVING,
    "azureml.core.keyvault": _SECRETS,
    "azureml.core.linked_service": _FIRST_PARTY,
    "azureml.core.private_endpoint": _FIRST_PARTY,
    "azureml.core.resource_configuration": _SERVING,
    "azureml.core.webservice": _SERVING,
    "azureml.data.azure_storage_datastore": "a datastore is a folder: register it by its path",
    "azureml.datadrift": _MONITORING,
    "azureml.dataprep": _DATAPREP,
    "azureml.explain": "use the interpret package in a training script",
    "azureml.fsspec": "open the path itself",
    "azureml.interpret": "use the interpret package in a training script",
    "azureml.monitoring": _MONITORING,
    "azureml.opendatasets": "download the files, and register them by Dataset.File.from_files",
    "azureml.pipeline": _PIPELINES,
    "azureml.responsibleai": _MONITORING,
    "azureml.studio": _FIRST_PARTY,
    "azureml.train.automl": _AUTOML,
    "azureml.train.hyperdrive": _SWEEPS,
    "azureml.train.restclients": _FIRST_PARTY,
}


def counterpart(module: str, name: str) -> tuple[str, str]:
    """The module and the name that stand for ``name`` of Azure's ``module``; two empty texts where nothing does."""
    where, _, found = NAMES.get(module, {}).get(name, "").partition(":")
    return where, found


def refusal(module: str) -> str:
    """What to do instead of a module that has no counterpart; empty for one that has, or that is no module of Azure's."""
    parts = module.split(".")
    return next((REFUSED[above] for n in range(len(parts), 1, -1) for above in [".".join(parts[:n])] if above in REFUSED), "")


def is_module(module: str) -> bool:
    """Whether ``module`` has names here, or modules below it that have."""
    return module in NAMES or any(known.startswith(module + ".") for known in NAMES)


def instead(module: str, name: str) -> str:
    """What to do where ``name`` of Azure's ``module`` (or ``module`` itself, with an empty name) has no counterpart, in a sentence."""
    below = f"{module}.{name}" if name else module
    known = refusal(below) or WITHOUT.get(module, {}).get(name, "")
    if known:
        return known
    from difflib import get_close_matches

    siblings = [*NAMES.get(module, ()), *(one.rpartition(".")[2] for one in NAMES if one.rpartition(".")[0] == module)]
    near = get_close_matches(name, siblings, n=1) if name else get_close_matches(below, NAMES, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    elsewhere = next((f"it is in {other}" for other in NAMES if name in NAMES[other]), "")
    return elsewhere or "docs/from-azureml.md says what there is"
