"""How a controller is started: its command line, and the environment that a run inherits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hpcest.model.folders import RunFolder
from hpcest.onnode.rank import boot_argv


def controller_argv(launch: Mapping[str, Any], folder: RunFolder) -> list[str]:
    """How the controller of a run is started on its node."""
    return [*boot_argv(launch), "controller", str(folder.launch)]


def submitted_environment() -> dict[str, str]:
    """This process's environment as a run inherits it: without what belongs to a run we are in."""
    ours = {"HPCEST_ATTEMPT", "HPCEST_EVENTS", "HPCEST_EXPERIMENT", "HPCEST_LOG_DIR", "HPCEST_NODE_COUNT", "HPCEST_OUTPUT_DIR"}
    ours |= {"HPCEST_RUN_DIR", "HPCEST_RUN_ID", "HPCEST_SLOT_FD"}
    ranks = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"}
    ranks |= {name for name in os.environ if name.startswith(("AZUREML_", "AZ_BATCH", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_"))}
    drop = ours | ranks if "HPCEST_RUN_ID" in os.environ else ours
    return {key: value for key, value in os.environ.items() if key not in drop}
