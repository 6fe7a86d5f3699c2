"""``estimator.run_config``: an estimator in the words of a run configuration; what is changed in one is changed in the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from hpcest.errors import SpecError
from hpcest.sdk import azure, values
from hpcest.sdk.distributed import Gloo, Mpi, MpiConfiguration, Nccl, PyTorchConfiguration, TensorflowConfiguration
from hpcest.sdk.environment import lines
from hpcest.sdk.runconfig.sections import (
    CLOUD,
    COMMUNICATORS,
    FRAMEWORKS,
    DockerConfiguration,
    HistoryConfiguration,
    communicator_of,
    named,
)  # fmt: skip
from hpcest.sdk.sections import CloudSettings, ContainerRegistry, DockerSection, PythonSection, WithoutEffect

if TYPE_CHECKING:
    from hpcest.sdk.estimator import Estimator
    from hpcest.sdk.runconfig.configuration import RunConfiguration

T = TypeVar("T")
_WHERE = "estimator.run_config"
#: Attribute of a run configuration → the estimator's.
_SAME = {name: name for name in (
    "command", "node_count", "max_run_duration_seconds", "environment_variables", "cpus", "gpus", "memory", "backend_options",
)} | {"target": "compute_target", "script": "entry_script", "data": "inputs"}  # fmt: skip
_GIVE = "give environment_definition=hpcest.Environment('name', …)"


class EstimatorRunConfig:
    """An estimator seen as a RunConfiguration: ``target``, ``node_count``, ``environment_variables``, ``environment``, ….

    It has no values of its own: what is assigned here is the estimator's. What only a cloud can do something with is
    accepted with a warning; a misspelt attribute is refused with the nearest. Raises SpecError.
    """

    _OTHERS: ClassVar[tuple[str, ...]] = (
        "arguments", "framework", "communicator", "environment", "mpi", "pytorch", "tensorflow", "docker", "history",
        "auto_prepare_environment", "prepare_environment", "data_references", "output_data",
    )  # fmt: skip

    def __init__(self, estimator: Estimator) -> None:
        self.__dict__["_estimator"] = estimator

    def __getattr__(self, name: str) -> Any:
        if name in _SAME:
            value = getattr(self.__dict__["_estimator"], _SAME[name])
            return getattr(value, "name", value) if name == "target" else value
        if name in CLOUD:
            return CloudSettings(_WHERE, name, CLOUD[name])
        if name in ("data_references", "output_data"):
            return self.__dict__["_estimator"].inputs
        if name in ("auto_prepare_environment", "prepare_environment"):
            return True
        raise AttributeError(f"{_WHERE} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """What is assigned is the estimator's from now on."""
        if name in _SAME:
            setattr(self.__dict__["_estimator"], _SAME[name], value)
        elif name in CLOUD:
            azure.warn(_WHERE, {name: CLOUD[name]})
        elif name in ("data_references", "output_data"):
            self._add_data(name, value)
        elif name in self._OTHERS:
            setter = getattr(type(self), f"_set_{name}", None)
            if setter is not None:
                setter(self, value)
        else:
            raise azure.unknown_keyword(_WHERE, name, [*_SAME, *self._OTHERS, *CLOUD])

    @property
    def arguments(self) -> Any:
        """The script's arguments: the estimator's own list, or what its dict comes to, which can only be replaced."""
        estimator = self.__dict__["_estimator"]
        if not estimator.script_params:
            estimator.script_params = []
        given = estimator.script_params
        return tuple(values.words(given)) if isinstance(given, Mapping) else given

    def _set_arguments(self, value: Any) -> None:
        self.__dict__["_estimator"].script_params = value

    def _add_data(self, name: str, value: Any) -> None:
        """References and outputs are the estimator's inputs too: each says itself what it is."""
        inputs = self.__dict__["_estimator"].inputs
        if not isinstance(value, Mapping) or not all(hasattr(one, "bind") for one in value.values()):
            raise SpecError(f"{name} must be a dict of data, not {value!r}", hint="such as {reference.data_reference_name: reference}")
        if isinstance(inputs, list):
            inputs.extend(value.values())
        else:
            inputs.update(value)

    @property
    def framework(self) -> str:
        """What Azure ML calls the estimator's framework; the estimator's class says it."""
        framework = self.__dict__["_estimator"].framework
        return FRAMEWORKS.get(framework, "Python")

    def _set_framework(self, value: Any) -> None:
        if named("framework", value, FRAMEWORKS) not in (self.framework, "Python"):
            raise SpecError(
                f"the framework of {type(self.__dict__['_estimator']).__name__} can't be changed to {value}",
                hint=f"take the estimator {value}",
            )

    @property
    def communicator(self) -> str:
        """How the processes talk, in Azure ML's words."""
        asked = self.__dict__["_estimator"].distributed
        return communicator_of(asked) if asked is not None else "None"

    def _set_communicator(self, value: Any) -> None:
        name = named("communicator", value, COMMUNICATORS)
        kinds: dict[str, Any] = {"OpenMpi": Mpi, "IntelMpi": Mpi, "Nccl": Nccl, "Gloo": Gloo, "ParameterServer": TensorflowConfiguration}
        if name != self.communicator and {name, self.communicator} != {"OpenMpi", "IntelMpi"}:
            self.__dict__["_estimator"].distributed_training = kinds[name]() if name in kinds else None

    @property
    def mpi(self) -> Any:
        """``process_count_per_node`` and ``node_count``, the estimator's own."""
        given = self.__dict__["_estimator"].distributed_training
        return given if isinstance(given, MpiConfiguration) else _Counts(self.__dict__["_estimator"])

    def _set_mpi(self, value: Any) -> None:
        if not isinstance(value, Mpi):
            raise SpecError(f"mpi must be a MpiConfiguration, not {value!r}", hint="make one: hpcest.MpiConfiguration()")
        self.__dict__["_estimator"].distributed_training = value

    @property
    def pytorch(self) -> PyTorchConfiguration:
        """The estimator's ``distributed_training``, which must be a PyTorchConfiguration."""
        return self._given(PyTorchConfiguration)

    def _set_pytorch(self, value: Any) -> None:
        self._distribute(PyTorchConfiguration, value)

    @property
    def tensorflow(self) -> TensorflowConfiguration:
        """The estimator's ``distributed_training``, which must be a TensorflowConfiguration."""
        return self._given(TensorflowConfiguration)

    def _set_tensorflow(self, value: Any) -> None:
        self._distribute(TensorflowConfiguration, value)

    def _given(self, kind: type[T]) -> T:
        given = self.__dict__["_estimator"].distributed_training
        if not isinstance(given, kind):
            raise SpecError(
                f"the estimator is not distributed by a {kind.__name__}", hint=f"set distributed_training=hpcest.{kind.__name__}(…)"
            )
        return given

    def _distribute(self, kind: Any, value: Any) -> None:
        if not isinstance(value, kind):
            raise SpecError(f"{value!r} is not a {kind.__name__}", hint=f"make one: hpcest.{kind.__name__}(…)")
        self.__dict__["_estimator"].distributed_training = value

    @property
    def environment(self) -> Any:
        """The estimator's ``environment_definition``; without one, a view of the packages and the image that it names."""
        return self.__dict__["_estimator"].environment_definition or EstimatorEnvironment(self.__dict__["_estimator"])

    def _set_environment(self, value: Any) -> None:
        if not hasattr(value, "to_spec") or isinstance(value, EstimatorEnvironment):
            raise SpecError(f"environment must be an Environment, not {value!r}", hint="make one: hpcest.Environment('name')")
        self.__dict__["_estimator"].environment_definition = value

    @property
    def docker(self) -> DockerConfiguration:
        """What Azure ML tells Docker; of it, only variables have an effect here."""
        return _Docker(self.__dict__["_estimator"])

    def _set_docker(self, value: Any) -> None:
        if not isinstance(value, DockerConfiguration):
            raise SpecError(f"docker must be a DockerConfiguration, not {value!r}", hint="make one: hpcest.DockerConfiguration()")
        _Docker(self.__dict__["_estimator"]).take(value)

    @property
    def history(self) -> HistoryConfiguration:
        """What of a run is kept: always all of it."""
        return _History()

    def _set_history(self, value: Any) -> None:
        if not isinstance(value, HistoryConfiguration):
            raise SpecError(f"history must be a HistoryConfiguration, not {value!r}", hint="make one: hpcest.HistoryConfiguration()")
        if value.without_effect():
            azure.warn(_WHERE, value.without_effect())

    def copied(self) -> RunConfiguration:
        """A RunConfiguration that says the same, and has values of its own. Raises SpecError for what it can't say."""
        from hpcest.sdk.runconfig.ofestimator import of_estimator

        return of_estimator(self.__dict__["_estimator"])

    def save(self, path: str | Path | None = None, name: str | None = None, separate_environment_yaml: bool = False) -> str:
        """Write it to a file, as ``RunConfiguration.save`` does; returns the file's path. Raises SpecError."""
        return self.copied().save(path, name, separate_environment_yaml)

    def __repr__(self) -> str:
        return f"{_WHERE} of {self.__dict__['_estimator']!r}"


class _Counts:
    """``run_config.mpi`` over an estimator that says itself how many processes it has."""

    def __init__(self, estimator: Estimator) -> None:
        self.__dict__["_estimator"] = estimator

    def __getattr__(self, name: str) -> Any:
        if name in ("process_count_per_node", "node_count"):
            return getattr(self.__dict__["_estimator"], name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("process_count_per_node", "node_count"):
            raise azure.unknown_keyword(f"{_WHERE}.mpi", name, ("process_count_per_node", "node_count"))
        given = self.__dict__["_estimator"].distributed_training
        if isinstance(given, Mpi) and name == "process_count_per_node":
            given.process_count_per_node = value
        else:
            setattr(self.__dict__["_estimator"], name, value)


class _Docker(DockerConfiguration):
    """The estimator's: variables go to its own, the rest is told."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.__dict__["_estimator"] = estimator

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if "_estimator" in self.__dict__ and name == "arguments":
            self.take(self)

    def take(self, given: DockerConfiguration) -> None:
        """Do what ``given`` asks for, as far as that is possible."""
        variables, others = given.read()
        self.__dict__["_estimator"].environment_variables.update(variables)
        if others:
            name = f"docker.arguments {' '.join(others)}"
            azure.warn(_WHERE, {name: "environment: {binds: […]} in the configuration says what containers see"})


class _History(HistoryConfiguration):
    """The estimator's: what can't be done is told at once."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if self.without_effect():
            azure.warn(_WHERE, self.without_effect())


class EstimatorEnvironment(WithoutEffect):
    """The packages, the image and the variables of an estimator that has no ``environment_definition``, as an Environment has them."""

    _SHOWN_AS: ClassVar[str] = f"{_WHERE}.environment"
    _NOT_THERE: ClassVar[dict[str, Any]] = {"interpreter": "", "prefix": ""}
    _LISTS: ClassVar[tuple[str, ...]] = ("pip_packages", "conda_packages", "channels")
    _SAME: ClassVar[dict[str, str]] = {
        "image": "custom_docker_image", "user_managed": "user_managed", "environment_variables": "environment_variables"
    }  # fmt: skip

    def __init__(self, estimator: Estimator) -> None:
        self.__dict__["_estimator"] = estimator

    @property
    def python(self) -> PythonSection:
        """Packages and interpreter, as Azure ML spells them."""
        return PythonSection(self)  # type: ignore[arg-type]  # it has the fields that the section reads and writes

    @property
    def docker(self) -> DockerSection:
        """The image, as Azure ML spells it."""
        return DockerSection(self)  # type: ignore[arg-type]  # likewise

    def __getattr__(self, name: str) -> Any:
        estimator = self.__dict__["_estimator"]
        if name in self._LISTS:
            estimator.__dict__[name] = list(lines(name, getattr(estimator, name)))
            return estimator.__dict__[name]
        if name == "registry":
            estimator.image_registry_details = estimator.image_registry_details or ContainerRegistry()
            return estimator.image_registry_details
        if name in self._SAME:
            return getattr(estimator, self._SAME[name]) or {"image": "", "user_managed": False}.get(
                name, getattr(estimator, self._SAME[name])
            )
        if name in self._NOT_THERE:
            return self._NOT_THERE[name]
        if name in ("name", "version"):
            return "" if name == "name" else None
        raise AttributeError(f"{_WHERE}.environment has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        estimator = self.__dict__["_estimator"]
        if name in self._LISTS:
            setattr(estimator, name, list(lines(name, value)))
        elif name == "registry":
            estimator.image_registry_details = value
        elif isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif name in ("name", "version"):
            azure.warn(self._SHOWN_AS, {name: "the environment of an estimator is not registered"})
        elif name in self._SAME:
            setattr(estimator, self._SAME[name], value or ({} if name == "environment_variables" else None if name == "image" else False))
        elif name in self._NOT_THERE:
            if value:
                raise SpecError(f"an estimator has no {name} of its own, such as {value!r}", hint=_GIVE)
        else:
            known = [*self._LISTS, "python", "docker", "registry", *self._SAME]
            raise azure.unknown_keyword(f"{_WHERE}.environment", name, known)
