"""An estimator as a RunConfiguration of its own, so that it can be saved and submitted again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcest.errors import SpecError
from hpcest.sdk import azure
from hpcest.sdk.data.binding import Binding
from hpcest.sdk.distributed import MpiConfiguration, PyTorchConfiguration
from hpcest.sdk.environment import Environment
from hpcest.sdk.runconfig.configuration import RunConfiguration
from hpcest.sdk.runconfig.sections import FRAMEWORKS

if TYPE_CHECKING:
    from hpcest.sdk.estimator import Estimator

#: Frameworks that start a script as it is.
_PLAIN = ("script", "sklearn")
#: What is the same in both.
_SAME = ("max_run_duration_seconds", "environment_variables", "memory", "backend_options")


def of_estimator(estimator: Estimator) -> RunConfiguration:
    """What ``estimator`` describes now, with the packages of its framework. Raises SpecError for what the words can't say.

    Its source directory, and a run that it resumes from, are no part of a run configuration.
    """
    if estimator.framework not in (*_PLAIN, *FRAMEWORKS):
        raise SpecError(
            f"a run configuration knows no framework {estimator.framework!r}",
            hint=f"known: {', '.join(FRAMEWORKS.values())}; keep the estimator",
        )
    config = RunConfiguration(estimator.entry_script, estimator.script_params, command=estimator.command)
    config.target = estimator.compute_target
    config.framework = FRAMEWORKS.get(estimator.framework, "Python")
    for name in _SAME:
        setattr(config, name, getattr(estimator, name))
    _lay_out(config, estimator)
    config.environment = _environment(estimator)
    bound = Binding()
    bound.inputs(estimator.inputs)
    config.data, config.output_data = {**bound.data, **bound.texts}, dict(bound.outputs)
    options = estimator.framework_options()
    azure.warn("estimator.run_config", dict.fromkeys(options, "a run configuration has no place for it: set it on the estimator"))
    return config


def _lay_out(config: RunConfiguration, estimator: Estimator) -> None:
    """The nodes and processes, and how they find each other."""
    resources, asked = estimator.resources(), estimator.distributed
    config.cpus, config.gpus, processes = resources.cpus, resources.gpus, resources.procs_per_node
    if asked is not None and asked.kind == "mpi":
        asked = MpiConfiguration(processes, resources.nodes)
    elif isinstance(asked, PyTorchConfiguration):
        count = None if processes == 1 else processes * resources.nodes
        asked = PyTorchConfiguration(asked.communication_backend, count, resources.nodes)
    if asked is not None:
        config.distribute(asked)
    config.node_count = resources.nodes


def _environment(estimator: Estimator) -> Environment:
    if estimator.environment_definition is not None:
        return estimator.environment_definition
    made = Environment.from_spec(estimator.installed())
    if estimator.custom_docker_image:
        made.image = estimator.custom_docker_image
        made.registry = estimator.image_registry_details or made.registry
    made.user_managed = estimator.user_managed
    made.kind = "auto" if made.user_managed else made.kind
    return made
