"""``ScriptRunConfig``: a script or command of a folder, and the run configuration that says how it is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.runconfig.compiling import Program, compiled
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.reading import AZURE_LIMIT

if TYPE_CHECKING:
    from hpcest.model.spec import RunSpec
    from hpcest.sdk.compute import ComputeTarget
    from hpcest.sdk.distributed import Distributed
    from hpcest.sdk.environment import Environment
    from hpcest.sdk.run import Run
    from hpcest.sdk.runconfig.sections import DockerConfiguration, EnvironmentReference
    from hpcest.sdk.workspace import Workspace

#: Keyword → the attribute of the run configuration that it is.
_IN_CONFIG = {
    "compute_target": "target",
    "environment": "environment",
    "max_run_duration_seconds": "max_run_duration_seconds",
    "docker_runtime_config": "docker",
    "environment_variables": "environment_variables",
    "cpus": "cpus",
    "gpus": "gpus",
    "memory": "memory",
    "backend_options": "backend_options",
}
_OWN = ("source_directory", "script", "arguments", "run_config", "command", "resume_from")


class ScriptRunConfig:
    """A script of ``source_directory`` with ``arguments`` (or a ``command``) and how it is run; submit it with ``Experiment.submit``.

    ``run_config`` is the RunConfiguration that is given, or one of its own; if other keywords change it, a copy of the given one.
    Its script, arguments and command count where this has none. All may be changed until it is submitted: a misspelt attribute
    or keyword is refused with the nearest. Raises SpecError.
    """

    #: The folder that is frozen as the run's snapshot.
    source_directory: str | Path
    #: The script, relative to it, and its arguments: a list, or a dict as an estimator takes it.
    script: str | Path | None
    arguments: Any
    #: A shell command to run instead: a text, or a list of words.
    command: str | Sequence[Any] | None
    run_config: RunConfiguration
    #: A run (or its id) whose outputs the program finds below $HPCEST_RESUME_FROM.
    resume_from: Run | str | None
    #: These are attributes of ``run_config``, under other names there: target, docker.
    compute_target: Any
    environment: Any
    docker_runtime_config: DockerConfiguration
    max_run_duration_seconds: int | None
    #: How processes find each other: MpiConfiguration(), PyTorchConfiguration(), …
    distributed_job_config: Distributed | None
    environment_variables: dict[str, Any]
    cpus: int | None
    gpus: int | None
    memory: str | int | None
    backend_options: dict[str, Any]

    def __init__(
        self,
        source_directory: str | Path = ".",
        script: str | Path | None = None,
        arguments: Sequence[Any] | Mapping[str, Any] | None = None,
        run_config: RunConfiguration | None = None,
        *misplaced: NoReturn,
        compute_target: str | ComputeTarget | None = None,
        environment: Environment | EnvironmentReference | None = None,
        distributed_job_config: Distributed | None = None,
        resume_from: Run | str | None = None,
        max_run_duration_seconds: int | None = None,
        command: str | Sequence[Any] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
        environment_variables: Mapping[str, Any] | None = None,
        cpus: int | None = None,
        gpus: int | None = None,
        memory: str | int | None = None,
        backend_options: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "misplaced", "unknown", "__class__")}
        kind = type(self).__name__
        if misplaced:
            raise SpecError(f"{kind}: {misplaced[0]!r} stands without a keyword", hint="name it, such as compute_target='local'")
        for name in unknown:
            if name not in azure.PRIVATE:
                raise azure.unknown_keyword(kind, name, given)
        if run_config is not None and not isinstance(run_config, RunConfiguration):
            raise SpecError(f"run_config must be a RunConfiguration, not {run_config!r}", hint="make one: hpcest.RunConfiguration()")
        if not os.path.isdir(source_directory):
            raise SpecError(f"source_directory {str(source_directory)!r} is not a directory", hint="give the folder that holds the script")
        if max_run_duration_seconds == AZURE_LIMIT:
            given["max_run_duration_seconds"] = None
        changes = {attribute: given[name] for name, attribute in _IN_CONFIG.items() if given[name] is not None}
        config = run_config or RunConfiguration()
        if changes or distributed_job_config is not None:
            config = config.copied()
        self.__dict__.update(run_config=config, **dict.fromkeys(("script", "command", "resume_from", "arguments")))
        for attribute, value in changes.items():
            setattr(config, attribute, value)
        if distributed_job_config is not None:
            config.distribute(distributed_job_config)
        for name in ("source_directory", "script", "arguments", "command", "resume_from"):
            if given[name] is not None:
                setattr(self, name, given[name])

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        if name in _IN_CONFIG:
            setattr(self.run_config, _IN_CONFIG[name], value)
        elif name == "distributed_job_config":
            self.run_config.distribute(value)
        elif name not in _OWN:
            raise azure.unknown_keyword(type(self).__name__, name, [*_OWN, *_IN_CONFIG, "distributed_job_config"])
        elif name == "arguments" and value is not None:
            checked = RunConfiguration(arguments=value)  # a list of one's own
            self.__dict__[name] = checked.arguments
        elif name == "run_config" and not isinstance(value, RunConfiguration):
            raise SpecError(f"run_config must be a RunConfiguration, not {value!r}", hint="make one: hpcest.RunConfiguration()")
        else:
            self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in _IN_CONFIG and "run_config" in self.__dict__:
            return getattr(self.__dict__["run_config"], _IN_CONFIG[name])
        if name == "distributed_job_config":
            return self.run_config.distributed
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec that this describes now; changing it later does not change the spec. Raises SpecError, UnknownNameError."""
        config = self.run_config
        if self.script is not None and self.command is not None:
            raise SpecError("there is both a script and a command to run", hint="give one of them")
        script, command = (self.script, self.command) if self.script or self.command else (config.script, config.command)
        words = self.arguments if self.arguments is not None else [] if command is not None else config.arguments
        return compiled(config, Program(self.source_directory, script, words, command, self.resume_from), experiment, workspace)

    def __repr__(self) -> str:
        program = f"command={self.command!r}" if self.command is not None else f"script={self.script!r}"
        return f"{type(self).__name__}(source_directory={str(self.source_directory)!r}, {program})"


def get_run_config_from_script_run(script_run_config: ScriptRunConfig) -> RunConfiguration:
    """A RunConfiguration with the script, arguments and command of a ScriptRunConfig, for ``save``."""
    made = script_run_config.run_config.copied()
    for name in ("script", "arguments", "command"):
        value = getattr(script_run_config, name)
        if value is not None:
            setattr(made, name, value)
    return made
