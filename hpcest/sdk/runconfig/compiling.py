"""From a run configuration to a run spec."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.errors import SpecError
from hpcest.model.spec import Command, DataInput, DataOutput, Distribution, EnvironmentSpec, Resources, RunSpec
from hpcest.sdk import azure, values
from hpcest.sdk.data.binding import Binding
from hpcest.sdk.runconfig.data import Data, DataReferenceConfiguration, OutputData
from hpcest.sdk.runconfig.sections import CLOUD, CloudSection, cloud_sections

if TYPE_CHECKING:
    from hpcest.sdk.run import Run
    from hpcest.sdk.runconfig.configuration import RunConfiguration
    from hpcest.sdk.workspace import Workspace

_NOT_HERE = {"PySpark": "start Spark in the script", "CNTK": "a CNTK script is a Python program"}
#: Words of a shell, which stay as they are in a command that is given as a list.
_OPERATOR = re.compile(r"&&|\|\|?|;|&|[0-9]*(>>?|<|>&)[0-9]*|\(|\)")
_PLAIN = re.compile(r"[\w@%+=:,./$~{}*?\[\]^!-]+")
_FRAGMENT = re.compile(r"--?[\w-]+\s+\S.*")
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")
#: How a saved run configuration names data among its arguments.
_NAMED = re.compile(r"(DatasetConsumptionConfig|DatasetOutputConfig|OutputFileDatasetConfig):(\w+)")


#: What may stand for data by itself.
_PLACES = (str, os.PathLike, DataInput)


@dataclass
class Program:
    """What a run configuration is to run: either ``script`` (with ``arguments``) or ``command``, of the folder ``source``."""

    source: str | Path
    script: str | Path | None = None
    arguments: Any = None
    command: Any = None
    resume_from: Run | str | None = None


class Words(Binding):
    """What of data the words of a program and the sections of its configuration name."""

    def word(self, value: Any) -> Any:
        """An argument; data becomes the name of the variable with its path, also where a saved run configuration names it."""
        named = _NAMED.fullmatch(value) if isinstance(value, str) else None
        if named:
            return f"$AZURE_ML_{'INPUT' if named[1] == 'DatasetConsumptionConfig' else 'OUTPUT'}_{named[2]}"
        return super().word(value)

    def add(self, section: str, name: str, value: Any) -> None:
        """An entry of ``data``, ``output_data`` or ``data_references``. Raises SpecError."""
        if isinstance(value, Data):
            found = value.to_input(name, Path.cwd())
            self.inputs(dict.fromkeys((name, value.environment_variable_name or name), found))
        elif isinstance(value, OutputData):
            self.outputs[name] = value.to_output(name, Path.cwd())
        elif isinstance(value, DataReferenceConfiguration):
            value.bound(name, self.data, self.outputs)
        elif isinstance(value, DataOutput):
            self.outputs[name] = value
        elif hasattr(value, "bind") or (section == "data" and (isinstance(value, _PLACES) or hasattr(value, "data_input"))):
            self.inputs({name: value})
        else:
            gives = "OutputFileDatasetConfig(…)" if section == "output_data" else "dataset.as_named_input('NAME').as_mount()"
            raise SpecError(f"{section}[{name!r}] is {value!r}, which names no data", hint=f"set it to what {gives} gives")


def compiled(config: RunConfiguration, program: Program, experiment: str, workspace: Workspace) -> RunSpec:
    """The run spec of ``program`` as ``config`` says it is run. Raises SpecError, UnknownNameError.

    What has no effect here is told in one warning.
    """
    data = Words()
    command = command_of(program, data)
    for section in ("data_references", "data", "output_data"):
        for name, value in getattr(config, section).items():
            data.add(section, str(name), value)
    variables, ignored = config.docker.read()
    environment = _environment(config, workspace)
    tell(config, ignored, environment)
    distributed = config.distributed
    resources, distribution = _laid_out(config)
    return RunSpec(
        experiment=experiment,
        command=command,
        compute=config.target or workspace.context.config.default_compute,
        framework=_framework(config),
        framework_options=distributed.options if distributed else {},
        source=os.path.abspath(program.source),
        environment=environment,
        environment_variables={**variables, **values.texts("environment_variables", config.environment_variables)},
        resources=resources,
        distribution=distribution,
        inputs=data.texts,
        data=data.data,
        outputs=data.outputs,
        resume_from=values.resumed(program.resume_from, workspace),
        options=values.plain("backend_options", config.backend_options),
    )


def command_of(program: Program, data: Words) -> Command:
    """The command of a spec. Raises SpecError unless there is either a script or a command."""
    if (program.script is None) == (program.command is None):
        both = "both a script and a command" if program.script else "neither a script nor a command"
        raise SpecError(f"there is {both} to run", hint="give one: script='train.py', or command='python train.py'")
    if program.script is not None:
        return Command(script=str(program.script), arguments=values.arguments(data.params(program.arguments)))
    if program.arguments:
        raise SpecError("arguments go with a script; a command takes none", hint="write them into the command")
    if isinstance(program.command, str):
        return Command(line=program.command)
    return Command(line=shell_line([_Bound(data.word(word)) if is_data(word) else str(word) for word in program.command]))


def is_data(word: Any) -> bool:
    """Whether an argument stands for data: it is such an object, or names an entry of ``data`` as a saved run configuration does."""
    return hasattr(word, "to_argument") or (isinstance(word, str) and _NAMED.fullmatch(word) is not None)


class _Bound(str):
    """A word that stands for data: it is one word, whatever its path has in it."""


def shell_line(words: list[str]) -> str:
    """A shell line of a command's words: each stays one word, ``$NAME`` in it is replaced, and ``&&``, ``|``, ``>`` are the shell's.

    A first word with blanks (``python train.py``), and an option with its value in one (``--epochs 5``), are taken as they are.
    """
    line: list[str] = []
    first = True
    for word in words:
        if isinstance(word, _Bound):
            line.append(f'"{word}"')
        elif _OPERATOR.fullmatch(word) or _PLAIN.fullmatch(word) or _FRAGMENT.fullmatch(word) or (first and word):
            line.append(word)
        elif _VARIABLE.search(word):
            line.append('"' + re.sub(r'(["`\\])', r"\\\1", word) + '"')
        else:
            line.append(shlex.quote(word))
        first = word in ("&&", "||", ";", "|", "&")
    return " ".join(line)


def _laid_out(config: RunConfiguration) -> tuple[Resources, Distribution | None]:
    from hpcest.kit.units import parse_memory

    least = {"node_count": 1, "cpus": 1, "gpus": 0, "max_run_duration_seconds": 1}
    nodes, cpus, gpus, seconds = (values.whole(name, getattr(config, name), one) for name, one in least.items())
    memory = parse_memory(config.memory) if config.memory is not None else None
    resources, asked = Resources(nodes or 1, 1, cpus, gpus, memory, seconds), config.distributed
    if asked is None and resources.nodes > 1:
        raise SpecError(
            f"node_count is {resources.nodes}, and nothing says how the processes find each other",
            hint="give distributed_job_config=hpcest.MpiConfiguration(), or set communicator",
        )
    return (asked.laid_out(resources), asked.distribution) if asked else (resources, None)


def _framework(config: RunConfiguration) -> str:
    """The framework that the run's processes are started by."""
    name, asked = config.framework, config.distributed
    if name in _NOT_HERE:
        raise SpecError(f"the framework {name} is not there", hint=f"{_NOT_HERE[name]}: framework = 'Python'")
    wanted = "script" if name == "Python" else name.lower()
    if asked is None or not asked.framework or asked.framework == wanted:
        return wanted
    if wanted != "script":
        raise SpecError(
            f"the framework {name} can't be distributed by {type(asked).__name__}, which is for {asked.framework}",
            hint="take MpiConfiguration(), or the distribution of its own framework",
        )
    return asked.framework


def _environment(config: RunConfiguration, workspace: Workspace) -> EnvironmentSpec:
    asked = config.environment
    found: EnvironmentSpec = (asked.get_environment(workspace) if hasattr(asked, "get_environment") else asked).to_spec()
    return found


def changed(config: RunConfiguration) -> list[str]:
    """The sections and keys without effect here that are not as Azure ML has them by default, and were not told yet."""
    found = []
    for name, default in cloud_sections().items():
        value = getattr(config, name)
        same = vars(value) == vars(default) if isinstance(value, CloudSection) and isinstance(default, CloudSection) else value == default
        if not same and value is not None and name not in config.__dict__["_told"]:
            found.append(name)
    return found


def tell(config: RunConfiguration, docker_arguments: list[str], environment: EnvironmentSpec) -> None:
    """Warn once of all that was asked for and has no effect here."""
    reasons = {name: CLOUD[name] for name in changed(config)}
    reasons.update(config.history.without_effect())
    if docker_arguments:
        name = f"docker.arguments {' '.join(docker_arguments)}"
        reasons[name] = "environment: {binds: […]} in the configuration says what containers see"
    if config.docker.use_docker and environment.kind == "auto" and not environment.image:
        reasons["docker.use_docker"] = "a kind of environment decides: Environment('name', kind='apptainer'), or name an image"
    told = config.__dict__["_told"]
    told_now = {name: reason for name, reason in reasons.items() if name not in told}
    told.update(told_now)
    azure.warn("run configuration", told_now)
