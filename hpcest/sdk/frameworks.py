"""The estimators of frameworks: what an Estimator is, with a version to install and the framework's own settings."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hpcest.errors import SpecError
from hpcest.model.spec import EnvironmentSpec, RunSpec
from hpcest.sdk.dependencies import package_of
from hpcest.sdk.distributed import Distributed, ParameterServer
from hpcest.sdk.estimator import Estimator

if TYPE_CHECKING:
    from hpcest.sdk.workspace import Workspace

#: What says by itself what the program runs in, so that nothing is installed for it.
_ELSEWHERE = ("environment_definition", "custom_docker_image", "user_managed")


class _DefaultVersion:
    """``DEFAULT_VERSION`` of a class: the version that is installed where none is named."""

    def __get__(self, _: object, kind: type[FrameworkEstimator]) -> str:
        from hpcest.lifecycle.presets import default_version
        from hpcest.pluginmanager import load_plugins

        return default_version(load_plugins().framework(kind.framework))


class FrameworkEstimator(Estimator):
    """An estimator whose framework is installed for it, in the version ``framework_version``, beside what it asks for.

    Without a version the framework's default is installed. Nothing is installed where ``environment_definition``,
    ``custom_docker_image`` or ``user_managed`` says what the program runs in. A plugin's estimator derives from this class and
    names its ``framework``; ``own`` are keywords that are options of the framework.
    """

    #: The version to install; a part of one (``2``) means the newest of those.
    framework_version: str | None
    #: Keywords that are handed to the framework as its options.
    own: ClassVar[tuple[str, ...]] = ()
    #: The version that is installed where none is named, as far as no site says otherwise.
    DEFAULT_VERSION = _DefaultVersion()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Have ``help(cls)`` and editors show every keyword."""
        super().__init_subclass__(**keywords)
        cls.__signature__ = _signature(cls)  # type: ignore[attr-defined]  # inspect looks for it

    def __init__(
        self, source_directory: str | Path = ".", *misplaced: NoReturn, framework_version: str | None = None, **keywords: Any
    ) -> None:
        options = {name: keywords.pop(name) for name in self.own if name in keywords}
        super().__init__(source_directory, *misplaced, **keywords)
        self.__dict__.update({**dict.fromkeys(self.own), **options, "framework_version": framework_version})

    def framework_options(self) -> dict[str, Any]:
        """The keywords in ``own`` that were given."""
        return {name: value for name in self.own if (value := getattr(self, name)) is not None}

    def to_spec(self, experiment: str, workspace: Workspace) -> RunSpec:
        """The run spec that this estimator describes now. Raises SpecError, UnknownNameError."""
        spec = super().to_spec(experiment, workspace)
        elsewhere = [name for name in _ELSEWHERE if self.__dict__[name]]
        if elsewhere and self.framework_version:
            raise SpecError(
                f"framework_version and {elsewhere[0]} exclude each other", hint=f"{elsewhere[0]} says what is installed already"
            )
        has_presets = workspace.context.plugins.framework(self.framework).presets is not None
        return replace(spec, framework_version=self.framework_version or ("" if elsewhere or not has_presets else "default"))

    def installed(self) -> EnvironmentSpec:
        """What the program runs in, with the packages of the framework's version. Raises SpecError, UnknownNameError."""
        from hpcest.lifecycle.presets import preset
        from hpcest.pluginmanager import load_plugins

        asked, kind = self.environment_spec(), load_plugins().framework(self.framework)
        if kind.presets is None or any(self.__dict__[name] for name in _ELSEWHERE):
            return asked
        found, named = preset(kind, self.framework_version or "", gpu=bool(self.resources().gpus)), set(map(package_of, asked.pip))
        return replace(found, pip=tuple(line for line in found.pip if package_of(line) not in named or line.startswith("-"))).merged(asked)

    @classmethod
    def get_supported_versions(cls) -> list[str]:
        """The versions that ``framework_version`` takes, the newest first, without those that a site adds."""
        from hpcest.lifecycle.presets import versions
        from hpcest.pluginmanager import load_plugins

        return versions(load_plugins().framework(cls.framework))


def _signature(kind: type[FrameworkEstimator]) -> inspect.Signature:
    """The keywords of a class and of those that it derives from, each once."""
    found: dict[str, inspect.Parameter] = {}
    for one in kind.__mro__[: kind.__mro__.index(Estimator) + 1]:
        if "__init__" in vars(one):
            for parameter in list(inspect.signature(vars(one)["__init__"]).parameters.values())[1:]:
                if parameter.kind is not parameter.VAR_KEYWORD or one is Estimator:
                    found.setdefault(parameter.name, parameter)
    for name in kind.own:
        found.setdefault(name, inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None))
    return inspect.Signature(sorted(found.values(), key=lambda parameter: parameter.kind))


class SKLearn(FrameworkEstimator):
    """Trains with scikit-learn: one process that uses the cores which it asks for (``cpus``)."""

    framework = "sklearn"
    spreads = True  # it does not: the framework says so


class PyTorch(FrameworkEstimator):
    """Trains with PyTorch. With several processes they find each other as ``init_process_group()`` expects.

    ``launcher='torchrun'`` has torchrun start the processes of each node, ``max_restarts`` times again after a failure.
    """

    framework = "pytorch"
    own = ("launcher", "max_restarts")


class TensorFlow(FrameworkEstimator):
    """Trains with TensorFlow. With several processes each has TF_CONFIG.

    ``worker_count`` and ``parameter_server_count`` are Azure ML's older way to ask for parameter servers
    (``distributed_backend='ps'``); ``distributed_training=TensorflowConfiguration(…)`` is the newer one.
    """

    framework = "tensorflow"
    #: With ``distributed_backend='ps'``: how many workers and parameter servers.
    worker_count: int
    parameter_server_count: int

    def __init__(
        self,
        source_directory: str | Path = ".",
        *misplaced: NoReturn,
        worker_count: int = 1,
        parameter_server_count: int = 1,
        **keywords: Any,
    ) -> None:
        super().__init__(source_directory, *misplaced, **keywords)
        self.__dict__.update(worker_count=worker_count, parameter_server_count=parameter_server_count)

    @property
    def distributed(self) -> Distributed | None:
        """As of any estimator; the older form counts workers and servers by keywords of its own."""
        if self.distributed_backend == "ps" and self.distributed_training is None:
            return ParameterServer(self.worker_count, self.parameter_server_count)
        return super().distributed
