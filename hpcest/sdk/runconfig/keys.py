"""The keys that Azure ML's run configuration files have, in its own spelling, so that others are refused with their line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PythonKeys:
    """``environment.python:``"""

    userManagedDependencies: bool | None = None
    interpreterPath: str | None = None
    condaDependenciesFile: str | None = None
    condaDependencies: Any = None
    baseCondaEnvironment: str | None = None


@dataclass(frozen=True)
class ImageKeys:
    """``environment.docker:``"""

    enabled: bool | None = None
    baseImage: str | None = None
    baseDockerfile: str | None = None
    buildContext: Any = None
    sharedVolumes: Any = None
    gpuSupport: Any = None
    shmSize: Any = None
    arguments: list[str] | None = None
    baseImageRegistry: Any = None
    platform: Any = None


@dataclass(frozen=True)
class EnvironmentKeys:
    """``environment:``; ``hpcest`` holds what Azure ML has no keys for."""

    name: str | None = None
    version: str | None = None
    environmentVariables: dict[str, str] | None = None
    python: PythonKeys | None = None
    docker: ImageKeys | None = None
    hpcest: dict[str, Any] | None = None
    # without effect here:
    assetId: Any = None
    spark: Any = None
    databricks: Any = None
    r: Any = None
    inferencingStackVersion: Any = None


@dataclass(frozen=True)
class HistoryKeys:
    """``history:``"""

    outputCollection: bool | None = None
    snapshotProject: bool | None = None
    directoriesToWatch: list[str] | None = None


@dataclass(frozen=True)
class DockerKeys:
    """``docker:``"""

    useDocker: bool | None = None
    sharedVolumes: bool | None = None
    arguments: list[str] | None = None
    shmSize: str | None = None


@dataclass(frozen=True)
class MpiKeys:
    """``mpi:``"""

    processCountPerNode: int | None = None
    nodeCount: int | None = None


@dataclass(frozen=True)
class PyTorchKeys:
    """``pytorch:``"""

    communicationBackend: str | None = None
    processCount: int | None = None
    nodeCount: int | None = None


@dataclass(frozen=True)
class TensorflowKeys:
    """``tensorflow:``"""

    workerCount: int | None = None
    parameterServerCount: int | None = None


@dataclass(frozen=True)
class OwnKeys:
    """``hpcest:``, which Azure ML does not have."""

    cpus: int | None = None
    gpus: int | None = None
    memory: str | None = None
    backend_options: dict[str, Any] | None = None


@dataclass(frozen=True)
class DataKeys:
    """An entry of ``data:``"""

    dataLocation: Any = None
    mechanism: str | None = None
    environmentVariableName: str | None = None
    pathOnCompute: str | None = None
    createOutputDirectories: Any = None
    overwrite: Any = None
    options: Any = None


@dataclass(frozen=True)
class OutputKeys:
    """An entry of ``outputData:``"""

    outputLocation: Any = None
    mechanism: str | None = None
    additionalOptions: Any = None


@dataclass(frozen=True)
class ReferenceKeys:
    """An entry of ``dataReferences:``"""

    dataStoreName: str | None = None
    mode: str | None = None
    pathOnDataStore: str | None = None
    pathOnCompute: str | None = None
    overwrite: bool | None = None


@dataclass(frozen=True)
class FileKeys:
    """The whole file."""

    script: str | None = None
    arguments: Any = None
    command: Any = None
    target: str | None = None
    framework: str | None = None
    communicator: str | None = None
    autoPrepareEnvironment: Any = None
    prepareEnvironment: Any = None
    maxRunDurationSeconds: int | None = None
    nodeCount: int | None = None
    environment: EnvironmentKeys | None = None
    environmentVariables: dict[str, str] | None = None
    history: HistoryKeys | None = None
    docker: DockerKeys | None = None
    mpi: MpiKeys | None = None
    pytorch: PyTorchKeys | None = None
    tensorflow: TensorflowKeys | None = None
    dataReferences: dict[str, ReferenceKeys] | None = None
    data: dict[str, DataKeys] | None = None
    outputData: dict[str, OutputKeys] | None = None
    hpcest: OwnKeys | None = None
    # only a cloud has them:
    priority: Any = None
    spark: Any = None
    hdi: Any = None
    paralleltask: Any = None
    amlcompute: Any = None
    aisupercomputer: Any = None
    batchai: Any = None
    cmk8scompute: Any = None
    containerInstance: Any = None
    kubernetescompute: Any = None
    sourceDirectoryDataStore: Any = None
    credentialPassthrough: Any = None
    identity: Any = None
    applicationEndpoints: Any = None
    datacaches: Any = None
