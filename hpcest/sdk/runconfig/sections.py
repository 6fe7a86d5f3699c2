"""The sections of a run configuration: small objects whose attributes may be changed, and whose misspelt ones are refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.distributed import Distributed, PyTorchConfiguration, TensorflowConfiguration

if TYPE_CHECKING:
    from hpcest.sdk.environment import Environment
    from hpcest.sdk.workspace import Workspace

#: Lower case → what Azure ML calls it.
FRAMEWORKS = {name.lower(): name for name in ("Python", "PySpark", "CNTK", "TensorFlow", "PyTorch")}
COMMUNICATORS = {name.lower(): name for name in ("None", "ParameterServer", "OpenMpi", "IntelMpi", "Nccl", "Gloo")}

#: Options of ``docker run`` whose effect a program here has without them.
_GIVEN = ("--ipc", "--shm-size", "--gpus", "--runtime", "--network", "--net", "--rm")


class _Attributes:
    """Objects that are what their attributes are."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


class Section(_Attributes):
    """Attributes with defaults. Raises SpecError for one that there is not, with the nearest."""

    #: Attribute → its default.
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Have ``help(cls)`` and editors show the attributes."""
        super().__init_subclass__(**keywords)
        if "__init__" not in vars(cls):
            shown = [
                inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=value) for name, value in cls.DEFAULTS.items()
            ]
            cls.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # inspect looks for it

    def __init__(self, *placed: Any, **given: Any) -> None:
        for name, default in self.DEFAULTS.items():
            self.__dict__[name] = list(default) if isinstance(default, list) else default
        if len(placed) > len(self.DEFAULTS):
            raise SpecError(
                f"{type(self).__name__} takes {len(self.DEFAULTS)} values, not {len(placed)}", hint=f"see help({type(self).__name__})"
            )
        for name, value in [*zip(self.DEFAULTS, placed, strict=False), *given.items()]:
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        """A misspelt attribute would silently change nothing: refuse it."""
        if name not in self.DEFAULTS:
            raise azure.unknown_keyword(type(self).__name__, name, self.DEFAULTS)
        self.__dict__[name] = value


class DockerConfiguration(Section):
    """What Azure ML tells Docker when it starts a run: ``docker_runtime_config`` of a ScriptRunConfig.

    Here the kind of the environment decides whether there is a container; it has the machine's own /dev/shm and network. Of
    ``arguments``, ``-e NAME=VALUE`` sets a variable; those that can have no effect are told when the run is submitted.
    """

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"use_docker": False, "shared_volumes": True, "arguments": [], "shm_size": "2g"}
    use_docker: bool
    shared_volumes: bool
    arguments: list[str]
    shm_size: str | None

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Sequence[str] | None = None,
        shm_size: str | None = "2g",
        **unknown: Any,
    ) -> None:
        super().__init__(
            use_docker=use_docker, shared_volumes=shared_volumes, arguments=list(arguments or ()), shm_size=shm_size, **unknown
        )

    def read(self) -> tuple[dict[str, str], list[str]]:
        """The variables that ``arguments`` set, and those arguments that have no effect here. Raises SpecError."""
        given: Any = self.arguments
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise SpecError(f"DockerConfiguration: arguments must be a list, not {given!r}", hint="such as ['-e', 'NAME=VALUE']")
        variables: dict[str, str] = {}
        others: list[str] = []
        words = [str(word) for word in given]
        while words:
            option, has_value, value = words.pop(0).partition("=")
            takes_next = not has_value and words and not words[0].startswith("-")
            value = words.pop(0) if takes_next else value
            if option in ("-e", "--env") and "=" in value:
                name, _, variables_value = value.partition("=")
                variables[name] = variables_value
            elif option not in _GIVEN:
                others.append(f"{option} {value}".strip())
        return variables, others


class HistoryConfiguration(Section):
    """What of a run is kept: here always its snapshot, outputs and logs, and what it leaves in its working directory."""

    DEFAULTS: ClassVar[Mapping[str, Any]] = {"output_collection": True, "snapshot_project": True, "directories_to_watch": ["logs"]}
    output_collection: bool
    snapshot_project: bool
    directories_to_watch: list[str]

    def without_effect(self) -> dict[str, str]:
        """What was asked for and is not done, with the reason."""
        off = [name for name in ("output_collection", "snapshot_project") if getattr(self, name) is False]
        found = {f"history.{name}": "a run is always recorded" for name in off}
        others = [str(name) for name in self.directories_to_watch or () if str(name).strip("./") not in ("logs", "outputs")]
        if others:
            name = f"history.directories_to_watch {', '.join(map(repr, others))}"
            found[name] = "what a program leaves in its working directory stays in the run folder, below work/"
        return found


class CloudSection(_Attributes):
    """A section that only a cloud can do something with: it is kept and saved, and told once when something in it was changed."""

    def __init__(self, **defaults: Any) -> None:
        self.__dict__.update(defaults)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        """Any name will do: none has an effect."""
        self.__dict__[name] = value


@dataclass(frozen=True)
class EnvironmentReference:
    """A registered environment by its name; without a ``version`` the latest when the run is submitted."""

    name: str
    version: int | str | None = None

    def get_environment(self, workspace: Workspace) -> Environment:
        """The environment that is registered in ``workspace``. Raises UnknownNameError."""
        from hpcest.sdk.environment import Environment

        return Environment.get(workspace, self.name, version=self.version)


#: Section or key that has no effect here → what to do instead.
CLOUD = {
    "amlcompute": "choose a compute target, or ask for cpus, gpus and memory",
    "kubernetescompute": "choose a compute target, or ask for cpus, gpus and memory",
    "priority": "choose a compute target whose queue has the priority you want",
    "spark": "start Spark in the script",
    "hdi": "start Spark in the script",
    "aisupercomputer": "choose a compute target, or ask for cpus, gpus and memory",
    "batchai": "choose a compute target, and set node_count",
    "cmk8scompute": "choose a compute target, or ask for cpus, gpus and memory",
    "container_instance": "choose a compute target, or ask for cpus, gpus and memory",
    "paralleltask": "submit many runs: Experiment.submit_all",
    "source_directory_data_store": "the source directory is read where it is",
    "credential_passthrough": "files' permissions are the only authentication",
    "identity": "files' permissions are the only authentication",
    "application_endpoints": "log in to the node where the run is",
    "datacaches": "as_download() copies data to the node",
}


def cloud_sections() -> dict[str, Any]:
    """Those sections and keys, each as Azure ML has it by default."""
    return {
        "amlcompute": CloudSection(vm_size=None, vm_priority=None, retain_cluster=False, name=None, cluster_max_node_count=None),
        "kubernetescompute": CloudSection(instance_type=None),
        **{name: CloudSection() for name in ("aisupercomputer", "batchai", "cmk8scompute", "container_instance")},
        "priority": None,
        "spark": CloudSection(configuration={"spark.app.name": "Azure ML Experiment", "spark.yarn.maxAppAttempts": 1}),
        "hdi": CloudSection(yarn_deploy_mode="cluster"),
        "paralleltask": CloudSection(max_retries_per_worker=0, worker_count_per_node=1, terminal_exit_codes=None),
        "source_directory_data_store": None,
        "credential_passthrough": False,
        "identity": None,
        "application_endpoints": {},
        "datacaches": [],
    }


def named(kind: str, value: Any, known: Mapping[str, str]) -> str:
    """A framework or communicator in Azure ML's spelling, whatever the case. Raises SpecError with the nearest."""
    from difflib import get_close_matches

    text = "None" if value is None and kind == "communicator" else "Python" if value is None else str(value)
    if text.lower() in known:
        return known[text.lower()]
    near = get_close_matches(text.lower(), list(known), n=1)
    hint = f"did you mean {known[near[0]]!r}?" if near else "known: " + ", ".join(known.values())
    raise SpecError(f"{kind} {value!r} is not known", hint=hint)


def communicator_of(asked: Distributed) -> str:
    """What Azure ML calls the way in which ``asked`` has processes talk; ``None`` for one that Azure ML does not know."""
    if asked.kind == "mpi":
        return "IntelMpi"
    if isinstance(asked, TensorflowConfiguration):
        return "ParameterServer"
    return COMMUNICATORS.get(asked.backend, "None") if isinstance(asked, PyTorchConfiguration) else "None"


def checked_fields(section: Distributed) -> Distributed:
    """``section``, if no misspelt attribute was set on it, which would silently change nothing. Raises SpecError."""
    known = getattr(section, "__dataclass_fields__", vars(section))
    for name in vars(section):
        if name not in known:
            raise azure.unknown_keyword(type(section).__name__, name, known)
    return section


def distribution_of(framework: str, communicator: str, sections: Mapping[str, Any]) -> Distributed | None:
    """What a communicator and its section (``mpi``, ``pytorch`` or ``tensorflow``) ask for.

    Raises SpecError for a section that counts processes without its communicator.
    """
    for section in sections.values():
        checked_fields(section)
    mpi, pytorch, tensorflow = sections["mpi"], sections["pytorch"], sections["tensorflow"]
    if communicator == "None":
        counted = {
            "mpi": (mpi.process_count_per_node, (1,), "'OpenMpi'"),
            "pytorch": (pytorch.process_count, (None, 1), "'Nccl' or 'Gloo'"),
        }
        if framework == "TensorFlow":  # older SDKs wrote 2 into every file
            counted["tensorflow"] = (tensorflow.worker_count, (1, 2), "'ParameterServer'")
        for name, (count, defaults, needed) in counted.items():
            if count not in defaults:
                raise SpecError(f"{name} asks for {count} processes, and the communicator is None", hint=f"set communicator to {needed}")
        return None
    if communicator in ("Nccl", "Gloo"):
        return PyTorchConfiguration(communicator, pytorch.process_count, pytorch.node_count)
    asked: Distributed = tensorflow if communicator == "ParameterServer" else mpi
    return asked
