"""The estimator: a training script, what it needs and where it runs, in one object."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hpcest.errors import SpecError
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.sdk import azure, values
from hpcest.sdk.data.binding import Binding
from hpcest.sdk.distributed import Distributed, Gloo, Mpi, Nccl, ParameterServer
from hpcest.sdk.environment import lines
from hpcest.sdk.requirements import of_conda_file, of_requirements

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from hpcest.sdk.compute import ComputeTarget
    from hpcest.sdk.dependencies import CondaDependencies
    from hpcest.sdk.environment import Environment
    from hpcest.sdk.run import Run
    from hpcest.sdk.runconfig.estimatorview import EstimatorRunConfig
    from hpcest.sdk.sections import ContainerRegistry
    from hpcest.sdk.workspace import Workspace

#: Older spellings of keywords.
RENAMED = {
    "conda_dependencies_file_path": "conda_dependencies_file",
    "pip_requirements_file_path": "pip_requirements_file",
    "custom_docker_base_image": "custom_docker_image",
}


class Estimator:
    """Describes a run of a training script; submit it with ``Experiment.submit``.

    Every keyword is also an attribute that may be changed until the estimator is submitted, its lists and
    dicts too (they are the estimator's own); the run keeps what it was then. Keywords of Azure ML's estimators
    that make no sense here (vm_size, use_docker, …) are accepted with a warning, unknown ones are refused with
    the nearest.
    """

    #: The folder that is frozen as the run's snapshot; default the current one.
    source_directory: str | Path
    #: The name of a compute target, or a ComputeTarget; default the configured one.
    compute_target: str | ComputeTarget | None
    #: The script to run, relative to the source directory.
    entry_script: str | Path | None
    #: Its arguments: a dict (an empty text as value means a bare flag), or a list.
    script_params: Any
    #: A shell command to run instead of an entry script.
    command: str | None
    #: How many nodes, and how many processes on each.
    node_count: int
    process_count_per_node: int
    #: How the processes find each other: Mpi(), Gloo(), …; or in the older form 'mpi', 'ps', 'nccl', 'gloo'.
    distributed_training: Any
    distributed_backend: str | None
    #: Ask for one GPU per process, unless ``gpus`` says how many per node.
    use_gpu: bool
    #: Cores per process, GPUs per node, and memory per node such as '16G'.
    cpus: int | None
    gpus: int | None
    memory: str | int | None
    #: Requirement lines, and a file of them (relative to the source directory, or to the current one).
    pip_packages: list[str]
    pip_requirements_file: str | Path | None
    #: Conda package specifications, a conda YAML, and channels (before those that the YAML names).
    conda_packages: list[str]
    conda_dependencies_file: str | Path | None
    channels: list[str]
    #: An image to run in, and the registry that it is in, with a login that no record keeps.
    custom_docker_image: str | None
    image_registry_details: ContainerRegistry | None
    #: Run in the Python that is there, and install nothing.
    user_managed: bool
    #: An Environment, instead of packages, files and an image.
    environment_definition: Environment | None
    #: Variables that are set for the program.
    environment_variables: dict[str, Any]
    #: Data: a list of ``dataset.as_named_input('name').as_mount()`` and the like, or a dict of name → data or path. A path
    #: that exists here reaches the program as an absolute one.
    inputs: Any
    #: A run (or its id) whose outputs the program finds below $HPCEST_RESUME_FROM.
    resume_from: Run | str | None
    #: The time limit.
    max_run_duration_seconds: int | None
    #: Options of the compute target's backend for this run.
    backend_options: dict[str, Any]

    framework: ClassVar[str] = "script"
    #: Whether the framework spreads over nodes and processes by itself, so that nothing has to say how they find each other.
    spreads: ClassVar[bool] = False

    def __init__(
        self,
        source_directory: str | Path = ".",
        *misplaced: NoReturn,
        compute_target: str | ComputeTarget | None = None,
        entry_script: str | Path | None = None,
        script_params: Mapping[str, Any] | Sequence[Any] | None = None,
        command: str | None = None,
        node_count: int = 1,
        process_count_per_node: int = 1,
        distributed_training: Any = None,
        distributed_backend: str | None = None,
        use_gpu: bool = False,
        cpus: int | None = None,
        gpus: int | None = None,
        memory: str | int | None = None,
        pip_packages: Sequence[str] | None = None,
        pip_requirements_file: str | Path | None = None,
        conda_packages: Sequence[str] | None = None,
        conda_dependencies_file: str | Path | None = None,
        channels: Sequence[str] | None = None,
        custom_docker_image: str | None = None,
        image_registry_details: ContainerRegistry | None = None,
        user_managed: bool = False,
        environment_definition: Environment | None = None,
        environment_variables: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | Sequence[Any] | None = None,
        resume_from: Run | str | None = None,
        max_run_duration_seconds: int | None = None,
        backend_options: Mapping[str, Any] | None = None,
        **off_azure: Unpack[azure.EstimatorKeywords],
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "misplaced", "off_azure", "__class__")}
        kind = type(self).__name__
        if misplaced:
            raise azure.misplaced(kind, "source_directory", misplaced)
        others: dict[str, Any] = {name: value for name, value in off_azure.items() if name not in azure.PRIVATE}
        for name in others:
            if name not in azure.ESTIMATOR and name not in RENAMED:
                raise azure.unknown_keyword(kind, name, [*given, *azure.ESTIMATOR, *RENAMED])
        for old, new in RENAMED.items():
            value = others.pop(old, None)
            if value is not None and given[new] is not None:
                raise SpecError(f"{kind}: {old} and {new} mean the same", hint=f"give {new} alone")
            given[new] = given[new] if value is None else value
        azure.warn_ignored(kind, others, azure.ESTIMATOR)
        self.__dict__.update({name: _own(name, value) for name, value in given.items()})
        if not os.path.isdir(source_directory):
            raise SpecError(f"source_directory {str(source_directory)!r} is not a directory", hint="give the folder that holds the script")

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        if name not in self.__dict__ and not name.startswith("_"):
            raise azure.unknown_keyword(type(self).__name__, name, self.__dict__)
        self.__dict__[name] = value

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages in the form that Azure ML's SDK has: ``add_pip_package``, ``add_conda_package``, …"""
        from hpcest.sdk.dependencies import CondaDependencies

        for name in ("pip_packages", "conda_packages", "channels"):
            self.__dict__[name] = list(lines(name, getattr(self, name)))
        return CondaDependencies.over(self.pip_packages, self.conda_packages, self.channels)

    @property
    def run_config(self) -> EstimatorRunConfig:
        """The estimator in the words of a RunConfiguration: what is set there is the estimator's."""
        from hpcest.sdk.runconfig.estimatorview import EstimatorRunConfig

        return EstimatorRunConfig(self)

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec that this estimator describes now; changing it later does not change the spec. Raises SpecError."""
        asked, bound = self.distributed, Binding()
        command = self._command(bound)
        bound.inputs(self.inputs)
        return RunSpec(
            experiment=experiment,
            command=command,
            compute=self._compute() or workspace.context.config.default_compute,
            framework=asked.framework if asked and asked.framework and self.framework == "script" else self.framework,
            framework_options={**self.framework_options(), **(asked.options if asked else {})},
            source=os.path.abspath(self.source_directory),
            environment=self.environment_spec(),
            environment_variables=values.texts("environment_variables", self.environment_variables),
            resources=self.resources(),
            distribution=self._distribution(),
            inputs=bound.texts,
            data=bound.data,
            outputs=bound.outputs,
            resume_from=values.resumed(self.resume_from, workspace),
            options=values.plain("backend_options", self.backend_options),
        )

    def framework_options(self) -> dict[str, Any]:
        """What the framework is told of this run; the estimators of frameworks have some."""
        return {}

    def _compute(self) -> str:
        target = self.compute_target
        name = target if isinstance(target, str) else getattr(target, "name", None)
        if target is not None and not isinstance(name, str):
            raise SpecError(f"compute_target must be the name of a compute target, not {target!r}", hint="see: hpcest compute list")
        return name or ""

    def _command(self, bound: Binding) -> Command:
        if (self.entry_script is None) == (self.command is None):
            raise SpecError("an estimator needs either entry_script or command", hint="for example entry_script='train.py'")
        if self.command is None:
            return Command(script=str(self.entry_script), arguments=values.arguments(bound.params(self.script_params)))
        if self.script_params:
            raise SpecError("script_params go with an entry_script; a command takes none", hint="write them into the command")
        return Command(line=str(self.command))

    def resources(self) -> Resources:
        """The nodes, processes, cores, GPUs, memory and time that it asks for. Raises SpecError."""
        from hpcest.kit.units import parse_memory

        amounts = {"node_count": 1, "process_count_per_node": 1, "cpus": 1, "gpus": 0, "max_run_duration_seconds": 1}
        nodes, processes, cpus, gpus, seconds = (values.whole(name, getattr(self, name), least) for name, least in amounts.items())
        nodes, processes = nodes or 1, processes or 1
        memory = parse_memory(self.memory) if self.memory is not None else None
        resources, asked = Resources(nodes, processes, cpus, gpus, memory, seconds), self.distributed
        resources = asked.laid_out(resources) if asked else resources
        return replace(resources, gpus=resources.procs_per_node) if gpus is None and self.use_gpu else resources

    def _distribution(self) -> Distribution | None:
        asked = self.distributed
        if asked is None and not self.spreads and max(self.node_count, self.process_count_per_node) > 1:
            raise SpecError(
                f"{type(self).__name__}: {self.node_count} nodes with {self.process_count_per_node} processes each, and nothing says how "
                "they find each other",
                hint=f"add distributed_training={self._distributed_by()}",
            )
        return asked.distribution if asked else None

    def _distributed_by(self) -> str:
        """What the estimator's framework can be distributed by, as it is written."""
        from hpcest.pluginmanager import load_plugins

        known = {"mpi": "hpcest.Mpi()", "pytorch": "hpcest.Gloo() or hpcest.Nccl()", "tensorflow": "hpcest.TensorflowConfiguration()"}
        kinds = load_plugins().framework(self.framework).distributions
        return ", ".join(known.get(kind, f"a hpcest.Distributed of the kind {kind!r}") for kind in kinds)

    @property
    def distributed(self) -> Distributed | None:
        """``distributed_training``, or what the older ``distributed_backend`` means. Raises SpecError."""
        asked, backend = self.distributed_training, self.distributed_backend
        if isinstance(asked, Distributed):
            return self._of_my_framework(asked)
        if asked is not None:
            raise SpecError(
                f"distributed_training={asked!r} is not a distribution",
                hint="give hpcest.Mpi(), Gloo(), Nccl(), PyTorchConfiguration() or TensorflowConfiguration()",
            )
        if backend is None:
            return None
        kinds: dict[str, type[Distributed]] = {"mpi": Mpi, "ps": ParameterServer, "nccl": Nccl, "gloo": Gloo}
        if backend not in kinds:
            raise SpecError(f"distributed_backend {backend!r} is not known", hint="known: " + ", ".join(kinds))
        return self._of_my_framework(kinds[backend]())

    def _of_my_framework(self, asked: Distributed) -> Distributed:
        if self.framework != "script" and asked.framework not in ("", self.framework):
            raise SpecError(
                f"{type(self).__name__} can't be distributed by {type(asked).__name__}, which is for {asked.framework}",
                hint="take Mpi(), or the distribution of its own framework",
            )
        return asked

    def environment_spec(self) -> EnvironmentSpec:
        """What the program runs in, without what the framework adds to it. Raises SpecError, ConfigError."""
        defined, described = self.environment_definition, [name for name in _DESCRIBING if self.__dict__[name]]
        if defined is not None:
            if not hasattr(defined, "to_spec"):
                raise SpecError(
                    f"environment_definition must be an Environment, not {defined!r}", hint="make one: hpcest.Environment('name')"
                )
            if described:
                raise SpecError(
                    f"environment_definition and {described[0]} exclude each other", hint=f"move {described[0]} into the Environment"
                )
            return defined.to_spec()
        spec = EnvironmentSpec(
            kind="host" if self.user_managed and not self.custom_docker_image else "auto",
            pip=lines("pip_packages", self.pip_packages),
            conda=lines("conda_packages", self.conda_packages),
            channels=lines("channels", self.channels),
            image=self._image(),
        )
        if self.pip_requirements_file is not None:
            spec = spec.merged(of_requirements(self._beside(self.pip_requirements_file)))
        if self.conda_dependencies_file is not None:
            spec = spec.merged(of_conda_file(self._beside(self.conda_dependencies_file)))
        return spec

    def installed(self) -> EnvironmentSpec:
        """The same with the packages of the framework, as far as no site says otherwise. Raises SpecError, ConfigError."""
        return self.environment_spec()

    def _beside(self, name: str | Path) -> Path:
        """A file named relative to the source directory, as Azure ML does, or to the current one."""
        inside = Path(self.source_directory) / name
        return inside if inside.exists() else Path(name)

    def _image(self) -> str:
        """The image as its registry has it. Raises SpecError."""
        from hpcest.sdk.sections import located

        return located(self.custom_docker_image or "", self.image_registry_details)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(source_directory={str(self.source_directory)!r}, entry_script={self.entry_script!r})"


#: What describes an environment beside ``environment_definition``.
_DESCRIBING = (
    "pip_packages", "pip_requirements_file", "conda_packages", "conda_dependencies_file", "channels", "custom_docker_image",
    "user_managed",
)  # fmt: skip
_EMPTY: dict[str, type[Any]] = {
    "script_params": dict,
    "environment_variables": dict,
    "inputs": dict,
    "backend_options": dict,
    "pip_packages": list,
    "conda_packages": list,
    "channels": list,
}


def _own(name: str, value: Any) -> Any:
    """The estimator's own copy of a list or dict, so that it can be changed, and what was given stays as it is."""
    if value is None and name in _EMPTY:
        return _EMPTY[name]()
    if isinstance(value, Mapping):
        return {key: _own("", item) for key, item in value.items()}
    if isinstance(value, list) or (isinstance(value, tuple) and name in _EMPTY):
        return [_own("", item) for item in value]
    return value
