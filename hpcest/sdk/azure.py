"""Keywords of Azure ML's SDK that make no sense off Azure: accepted, with one warning that names them all."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from hpcest.errors import SpecError

_DIRECTORY = "a workspace is a directory"
_PERMISSIONS = "files' permissions are the only authentication"

#: Keywords of Azure ML's estimators → what to do instead.
ESTIMATOR = {
    "vm_size": "choose a compute target, or ask for cpus, gpus and memory",
    "vm_priority": "choose a compute target whose queue has the priority you want",
    "source_directory_data_store": "the source directory is read where it is",
    "use_docker": "choose an environment by its kind",
    "shm_size": "a program here uses the machine's own /dev/shm",
}

#: Keywords of ``Workspace.create``, ``get`` and ``from_config`` → what to do instead.
WORKSPACE = {
    **dict.fromkeys(
        ("subscription_id", "resource_group", "location", "create_resource_group", "sku", "cloud", "id", "storage_account", "key_vault",
         "app_insights", "container_registry", "adb_workspace", "cmk_keyvault", "resource_cmk_uri", "hbi_workspace",
         "primary_user_assigned_identity", "default_cpu_compute_target", "default_gpu_compute_target", "private_endpoint_config",
         "private_endpoint_auto_approval", "v1_legacy_mode"),
        _DIRECTORY,
    ),
    "auth": _PERMISSIONS,
    "friendly_name": "call the workspace by name=",
    "show_output": "nothing is provisioned",
}  # fmt: skip

#: Keywords of ``Experiment.submit`` → what to do instead.
SUBMIT = {
    "run_id": "each run gets an id of its own: give it a display_name, or a tag",
    "show_output": "run.wait_for_completion(show_output=True)",
    "wait_post_processing": "a run has ended when its outputs are there",
}

#: Keywords of ``Run.register_model`` and ``Model.register`` → what to do instead.
MODEL = {
    **dict.fromkeys(("sample_input_dataset", "sample_output_dataset"), "name the data in datasets=[('sample', dataset)]"),
    **dict.fromkeys(("resource_configuration", "child_paths"), "hpcest does not deploy models"),
}


#: Keywords that only Azure ML's own programs pass: nothing is said of them.
PRIVATE = ("_disable_validation", "_show_lint_warnings", "_show_package_warnings", "_enable_optimized_mode", "_telemetry_values")


class EstimatorKeywords(TypedDict, total=False):
    """What an estimator takes for Azure ML's sake: keywords without effect, and older spellings of others."""

    vm_size: Any
    vm_priority: Any
    source_directory_data_store: Any
    use_docker: Any
    shm_size: Any
    conda_dependencies_file_path: Any
    pip_requirements_file_path: Any
    custom_docker_base_image: Any


class PlaceKeywords(TypedDict, total=False):
    """What all that makes, opens or changes a workspace takes for Azure ML's sake."""

    subscription_id: Any
    location: Any
    create_resource_group: Any
    sku: Any
    cloud: Any
    id: Any
    storage_account: Any
    key_vault: Any
    app_insights: Any
    container_registry: Any
    adb_workspace: Any
    cmk_keyvault: Any
    resource_cmk_uri: Any
    hbi_workspace: Any
    primary_user_assigned_identity: Any
    default_cpu_compute_target: Any
    default_gpu_compute_target: Any
    private_endpoint_config: Any
    private_endpoint_auto_approval: Any
    v1_legacy_mode: Any
    show_output: Any


class ConfigKeywords(PlaceKeywords, total=False):
    """What ``Workspace.from_config`` takes, beside ``auth``."""

    resource_group: Any
    friendly_name: Any


class WorkspaceKeywords(ConfigKeywords, total=False):
    """What ``Workspace.create`` and ``get`` take."""

    auth: Any


class SubmitKeywords(TypedDict, total=False):
    """What ``Experiment.submit`` takes for Azure ML's sake."""

    run_id: Any
    show_output: Any
    wait_post_processing: Any


class OffAzureWarning(UserWarning):
    """Keywords were accepted for Azure ML's sake, and have no effect here."""


def warn_ignored(where: str, given: Mapping[str, Any], known: Mapping[str, str], own: Iterable[str] = ()) -> None:
    """Warn once of all keywords in ``given`` that have no effect off Azure. Raises SpecError for one that is not ``known``.

    That error names the nearest of those, or of the ``own`` ones that do have an effect.
    A keyword that is None counts as not given.
    """
    for name in given:
        if name not in known:
            raise unknown_keyword(where, name, [*own, *known])
    warn(where, {name: known[name] for name, value in given.items() if value is not None})


def warn(where: str, without_effect: Mapping[str, str]) -> None:
    """Warn, where the user's own line stands, of what has no effect here: name → what to do instead. Of nothing, not at all."""
    names: dict[str, list[str]] = {}
    for name, reason in without_effect.items():
        names.setdefault(reason, []).append(name)
    told = "; ".join(f"{', '.join(several)} ({reason})" for reason, several in names.items())
    if told:
        warn_line(f"{where}: no effect here: {told}")


def warn_line(line: str) -> None:
    """Warn with this line where the user's own line stands."""
    import inspect

    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(("hpcest.", "hpcest_")):
        level, frame = level + 1, frame.f_back
    warnings.warn(line, OffAzureWarning, stacklevel=level)


def unknown_keyword(where: str, name: str, known: Iterable[str]) -> SpecError:
    """The error for a keyword that nobody knows, with the nearest one."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return SpecError(f"{where} has no keyword {name!r}", hint=f"did you mean {near[0]!r}?" if near else f"see help({where})")


def misplaced(where: str, first: str, words: Iterable[Any]) -> SpecError:
    """The error for arguments without a keyword after the ``first`` one, the only one that may do without."""
    words = list(words)
    shown = ", ".join(repr(word) for word in words[:3]) + (", …" if len(words) > 3 else "")
    scripts = [word for word in words if isinstance(word, str) and word.endswith((".py", ".sh", ".R", ".jl"))]
    example = f"entry_script={scripts[0]!r}" if scripts else "compute_target='local'"
    return SpecError(f"{where} takes only {first} without a keyword, not {shown} as well", hint=f"name the others, such as {example}")
