"""``RunConfiguration``: all that Azure ML's SDK says of a run beside its source directory, in one object that can be saved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.dependencies import CondaDependencies
from hpcest.sdk.distributed import Distributed, Mpi, MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from hpcest.sdk.environment import Environment
from hpcest.sdk.runconfig.sections import (
    COMMUNICATORS,
    FRAMEWORKS,
    CloudSection,
    DockerConfiguration,
    HistoryConfiguration,
    cloud_sections,
    communicator_of,
    distribution_of,
    named,
)  # fmt: skip
from hpcest.sdk.values import mapping, own, whole

if TYPE_CHECKING:
    from hpcest.model.spec import RunSpec
    from hpcest.sdk.workspace import Workspace


class RunConfiguration:
    """How a run is started: what is run, where, in which environment, by how many processes.

    All of it may be changed until a run is submitted; a misspelt attribute is refused with the nearest. Give it to a
    ScriptRunConfig, or submit it as it is: then the source directory is the current one. ``save`` and ``load`` keep it in a
    file of Azure ML's format.
    """

    #: The script, relative to the source directory, and its arguments (a list, or a dict as an estimator takes it).
    script: str | None
    arguments: Any
    #: A shell command to run instead of a script: a text, or a list of words.
    command: str | list[Any] | None
    #: The name of a compute target (a ComputeTarget may be assigned); None is the configured default.
    target: Any
    #: ``Python``, ``TensorFlow`` or ``PyTorch``; and ``None``, ``OpenMpi``, ``IntelMpi``, ``Nccl``, ``Gloo`` or ``ParameterServer``.
    framework: str
    communicator: str
    #: The number of nodes; how many processes on them is said by the section of the communicator.
    node_count: int
    mpi: MpiConfiguration
    pytorch: PyTorchConfiguration
    tensorflow: TensorflowConfiguration
    #: The time limit in seconds; None leaves it to the compute target.
    max_run_duration_seconds: int | None
    #: Azure ML's, without effect: an environment is always prepared.
    auto_prepare_environment: bool
    prepare_environment: bool
    #: An Environment, or an EnvironmentReference.
    environment: Any
    environment_variables: dict[str, Any]
    docker: DockerConfiguration
    history: HistoryConfiguration
    #: Inputs by name: what ``as_named_input`` gives, a path, or a Data section that was read from a file. Outputs likewise.
    data: dict[str, Any]
    output_data: dict[str, Any]
    data_references: dict[str, Any]
    #: hpcest's own: cores per process, GPUs and memory per node, options of the compute target's backend.
    cpus: int | None
    gpus: int | None
    memory: str | int | None
    backend_options: dict[str, Any]
    #: Sections that only a cloud can do something with: kept, saved, and told once where they were changed.
    amlcompute: CloudSection
    spark: CloudSection
    hdi: CloudSection
    kubernetescompute: CloudSection
    paralleltask: CloudSection
    container_instance: CloudSection

    def __init__(
        self,
        script: str | Path | None = None,
        arguments: Sequence[Any] | Mapping[str, Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        _history_enabled: bool | None = None,
        _path: str | Path | None = None,
        _name: str | None = None,
        command: str | Sequence[Any] | None = None,
        **unknown: Any,
    ) -> None:
        self.__dict__.update(_defaults(), _asked=None, _told=set(), _path=_path, _name=_name)
        given = {"script": script, "arguments": arguments, "framework": framework, "communicator": communicator, "command": command}
        for name in unknown:
            raise azure.unknown_keyword(type(self).__name__, name, [*given, "conda_dependencies", *self._known()])
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
        if _history_enabled is not None:
            self.history.output_collection = bool(_history_enabled)
        if conda_dependencies is not None:
            self.__dict__["environment"].python.conda_dependencies = conda_dependencies

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it. Raises SpecError."""
        if name not in self.__dict__ or name.startswith("_"):
            raise azure.unknown_keyword(type(self).__name__, name, self._known())
        self.__dict__[name] = value = _CHECKS.get(name, _same)(name, value)
        if name in ("communicator", "mpi", "pytorch", "tensorflow"):
            self.__dict__["_asked"] = None  # what was said last counts
        if name in ("mpi", "pytorch") and value.node_count != 1:
            self.__dict__["node_count"] = value.node_count
        elif name == "node_count":
            counting = [key for key in ("mpi", "pytorch", "_asked") if hasattr(self.__dict__[key], "node_count")]
            self.__dict__.update({key: replace(self.__dict__[key], node_count=value) for key in counting})

    def distribute(self, asked: Distributed | None) -> None:
        """Have processes find each other as a MpiConfiguration, PyTorchConfiguration, … says. Raises SpecError."""
        if asked is not None and not isinstance(asked, Distributed):
            raise SpecError(
                f"distributed_job_config={asked!r} is not a distribution",
                hint="give hpcest.MpiConfiguration(), PyTorchConfiguration() or TensorflowConfiguration()",
            )
        if asked is not None:
            section = {"mpi": "mpi", "pytorch": "pytorch", "tensorflow": "tensorflow"}.get(asked.kind)
            if section:
                setattr(self, section, asked)
            self.communicator = communicator_of(asked)
            if asked.framework.lower() in FRAMEWORKS:
                self.framework = asked.framework
            if isinstance(asked, TensorflowConfiguration) and self.node_count == 1 and asked.worker_count > 1:
                self.node_count = asked.worker_count
        self.__dict__["_asked"] = asked

    @property
    def distributed(self) -> Distributed | None:
        """How processes find each other: what ``distribute`` was given, or what the communicator and its section say. Raises SpecError."""
        given: Distributed | None = self.__dict__["_asked"]
        sections = {name: getattr(self, name) for name in ("mpi", "pytorch", "tensorflow")}
        return given or distribution_of(self.framework, self.communicator, sections)

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec that this describes now, with the current directory as source. Raises SpecError, UnknownNameError."""
        from hpcest.sdk.runconfig.compiling import Program, compiled

        return compiled(self, Program(".", self.script, self.arguments, self.command), experiment, workspace)

    def save(self, path: str | Path | None = None, name: str | None = None, separate_environment_yaml: bool = False) -> str:
        """Write it to the file ``name`` in the folder .azureml of ``path``, by default the current one; returns the file's path.

        Without ``name``, ``path`` may be the file itself; else it is called after the compute target. With
        ``separate_environment_yaml`` the packages go to environment.yml beside it. Raises SpecError.
        """
        from hpcest.sdk.runconfig.writing import saved

        return saved(self, path or self.__dict__["_path"], name or self.__dict__["_name"], separate=separate_environment_yaml)

    @staticmethod
    def load(path: str | Path, name: str | None = None) -> RunConfiguration:
        """The one that was saved as ``name`` in the folder .azureml, aml_config or ``path`` itself; or in the file ``path``.

        Sections that only a cloud can use are kept, and told in one warning. Raises ConfigError with the line of what is
        wrong, UnknownNameError.
        """
        from hpcest.sdk.runconfig.reading import loaded

        return loaded(Path(path), name)

    @staticmethod
    def delete(path: str | Path, name: str | None = None) -> None:
        """Remove the file that ``load`` would read. Raises UnknownNameError."""
        from hpcest.sdk.runconfig.reading import found

        try:
            found(Path(path), name).unlink()
        except OSError as error:
            raise SpecError(f"the run configuration {name or path} can't be removed: {error.strerror or error}") from error

    def copied(self) -> RunConfiguration:
        """One of its own with the same environment, so that changing either leaves the other as it is."""
        made = copy.copy(self)
        shared = {name: self.__dict__[name] for name in ("environment", "_asked", "data", "output_data", "data_references")}
        copies = {name: copy.deepcopy(value) for name, value in self.__dict__.items() if name not in (*shared, "arguments", "command")}
        lists = {name: own(self.__dict__[name]) for name in ("arguments", "command", "data", "output_data", "data_references")}
        made.__dict__.update({**shared, **copies, **lists})
        return made

    def _known(self) -> list[str]:
        return [name for name in self.__dict__ if not name.startswith("_")]

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in ("script", "target", "framework", "communicator", "node_count")}
        return f"RunConfiguration({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def _defaults() -> dict[str, Any]:
    return {
        **dict.fromkeys(("script", "command", "target", "max_run_duration_seconds", "cpus", "gpus", "memory")),
        "arguments": [],
        "framework": "Python",
        "communicator": "None",
        "node_count": 1,
        "mpi": MpiConfiguration(),
        "pytorch": PyTorchConfiguration(),
        "tensorflow": TensorflowConfiguration(),
        "environment": Environment(""),
        "environment_variables": {},
        "docker": DockerConfiguration(),
        "history": HistoryConfiguration(),
        "data": {},
        "output_data": {},
        "data_references": {},
        "backend_options": {},
        "auto_prepare_environment": True,
        "prepare_environment": True,
        **cloud_sections(),
    }


def _same(_: str, value: Any) -> Any:
    return value


def _target(_: str, value: Any) -> str | None:
    name = value if isinstance(value, str) else getattr(value, "name", None)
    if value is not None and not isinstance(name, str):
        raise SpecError(f"target must be the name of a compute target, not {value!r}", hint="see: hpcest compute list")
    return name or None


def _arguments(name: str, value: Any) -> Any:
    if value is None:
        return []
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, Mapping)):
        raise SpecError(f"{name} must be a list or a dict, not {value!r}", hint="such as ['--lr', 0.1]")
    return own(value)


def _nodes(name: str, value: Any) -> int:
    return whole(name, value, 1) or 1


def _environment(_: str, value: Any) -> Any:
    if hasattr(value, "to_spec") or hasattr(value, "get_environment"):
        return value
    raise SpecError(f"environment must be an Environment, not {value!r}", hint="make one: hpcest.Environment('name')")


def _section(kind: type[Any], base: type[Any] | None = None) -> Callable[[str, Any], Any]:
    def checked(name: str, value: Any) -> Any:
        if isinstance(value, base or kind):
            return value if isinstance(value, kind) else kind(**vars(value))
        raise SpecError(f"{name} must be a {kind.__name__}, not {value!r}", hint=f"make one: hpcest.{kind.__name__}()")

    return checked


#: Attribute → what is made of a value that is assigned to it.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "script": lambda _, value: None if value in (None, "") else str(value),
    "arguments": _arguments,
    "command": lambda _, value: own(value) or None,
    "target": _target,
    "framework": lambda kind, value: named(kind, value, FRAMEWORKS),
    "communicator": lambda kind, value: named(kind, value, COMMUNICATORS),
    "node_count": _nodes,
    "mpi": _section(MpiConfiguration, Mpi),
    "pytorch": _section(PyTorchConfiguration),
    "tensorflow": _section(TensorflowConfiguration),
    "docker": _section(DockerConfiguration),
    "history": _section(HistoryConfiguration),
    "environment": _environment,
    **dict.fromkeys(("environment_variables", "data", "output_data", "data_references", "backend_options"), mapping),
}
