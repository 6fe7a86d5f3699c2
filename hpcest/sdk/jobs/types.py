"""The small objects of Azure ML's SDK v2: inputs, outputs, and how processes find each other."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hpcest.errors import SpecError
from hpcest.sdk.jobs.data import DATA, INPUT_MODES, LITERALS, MODELS, OUTPUT_MODES

_OUTPUT_TYPES, _INPUT_TYPES = (*DATA, *MODELS), (*DATA, *MODELS, *LITERALS)


class AssetTypes:
    """The types of inputs and outputs."""

    URI_FILE, URI_FOLDER, MLTABLE = "uri_file", "uri_folder", "mltable"
    MLFLOW_MODEL, CUSTOM_MODEL, TRITON_MODEL = "mlflow_model", "custom_model", "triton_model"


class InputOutputModes:
    """The modes of inputs and outputs."""

    MOUNT, RO_MOUNT, RW_MOUNT, UPLOAD, DOWNLOAD, DIRECT = "mount", "ro_mount", "rw_mount", "upload", "download", "direct"
    EVAL_MOUNT, EVAL_DOWNLOAD = "eval_mount", "eval_download"


class ListViewType:
    """Which jobs are listed."""

    ACTIVE_ONLY, ARCHIVED_ONLY, ALL = "ActiveOnly", "ArchivedOnly", "All"


class _Written:
    """What a job file has as a mapping: the fields that were given, and the ``type`` of a distribution."""

    def to_mapping(self) -> dict[str, Any]:
        """The same as a job file writes it."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]  # all of them are dataclasses
        return {name: str(value) if isinstance(value, Path) else value for name, value in found.items() if value is not None}

    def __getitem__(self, name: str) -> Any:
        """A field by its name, as programs for Azure ML write it: ``job.outputs["model"]["path"]``. Raises KeyError."""
        if name not in self.__dict__:
            raise KeyError(name)
        return self.__dict__[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.to_mapping().items())})"


@dataclass(repr=False)
class Input(_Written):
    """An input of a job: a ``path`` with its ``type`` and ``mode``, or a literal of the type ``number``, say, with a ``default``.

    ``path`` is a file or folder (relative to the current directory), or ``azureml:NAME:VERSION`` of what is registered in the
    workspace. Raises SpecError for a type or mode that there is not.
    """

    type: str = "uri_folder"
    path: str | Path | None = None
    mode: str | None = None
    path_on_compute: str | None = None
    default: Any = None
    optional: bool | None = None
    min: float | None = None
    max: float | None = None
    enum: list[Any] | None = None
    description: str | None = None
    datastore: str | None = None

    def __post_init__(self) -> None:
        _one_of("Input", "type", self.type, _INPUT_TYPES)
        _one_of("Input", "mode", self.mode, INPUT_MODES)


@dataclass(repr=False)
class Output(_Written):
    """An output of a job: a folder (or file) that its program writes, at ``path`` or with the run.

    With a ``name`` it becomes a version of that dataset, or of that model where the type is one of a model, when the run has
    completed. Raises SpecError for a type or mode that there is not.
    """

    type: str = "uri_folder"
    path: str | Path | None = None
    mode: str | None = None
    description: str | None = None
    name: str | None = None
    version: str | None = None
    path_on_compute: str | None = None

    def __post_init__(self) -> None:
        _one_of("Output", "type", self.type, _OUTPUT_TYPES)
        _one_of("Output", "mode", self.mode, OUTPUT_MODES)


def _one_of(where: str, name: str, value: str | None, known: Any) -> None:
    if value is not None and value not in known:
        hint = "known: " + ", ".join(known)
        raise SpecError(f"{where} can't have the {name} {value!r}", hint=hint)


@dataclass(repr=False)
class MpiDistribution(_Written):
    """Processes that find each other by MPI, so many on each node."""

    process_count_per_instance: int | None = None
    type = "mpi"


@dataclass(repr=False)
class PyTorchDistribution(_Written):
    """torch.distributed, so many processes on each node."""

    process_count_per_instance: int | None = None
    type = "pytorch"


@dataclass(repr=False)
class TensorFlowDistribution(_Written):
    """TensorFlow's workers and parameter servers on all nodes together; by default one worker on each node."""

    parameter_server_count: int | None = 0
    worker_count: int | None = None
    type = "tensorflow"


@dataclass(repr=False)
class RayDistribution(_Written):
    """Ray, for a framework that knows it: ``command(framework='rllib', …)`` with the plugin of that name."""

    port: int | None = None
    address: str | None = None
    include_dashboard: bool | None = None
    dashboard_port: int | None = None
    head_node_additional_args: str | None = None
    worker_node_additional_args: str | None = None
    type = "ray"


#: What ``distribution=`` takes; a dict as a job file has it does as well.
DISTRIBUTIONS = (MpiDistribution, PyTorchDistribution, TensorFlowDistribution, RayDistribution)
