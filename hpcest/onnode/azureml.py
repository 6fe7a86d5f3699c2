"""What programs that were written for Azure ML, or log with MLflow, look for in their environment."""

import os
from urllib.parse import quote

from hpcest.onnode.nodelist import host_names
from hpcest.onnode.record import get_json

#: How the scheme of our tracking store begins; a tracking URI that begins otherwise is the user's own.
SCHEME = "hpcest:"


def variables(launch, told, env):
    """The variables of a rank: ``told`` is where it is among the ranks, ``env`` what it has so far."""
    folder, experiment = launch["folder"], launch.get("experiment", "")
    found = {
        "AZUREML_RUN_ID": launch["run"],
        "AZUREML_EXPERIMENT_ID": experiment,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_ARM_WORKSPACE_NAME": _name_of(launch.get("workspace", "")),
        "AZUREML_OUTPUT_DIRECTORY": os.path.join(folder, "outputs"),
        "AZUREML_LOGDIRECTORY_PATH": os.path.join(folder, "logs"),
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": launch.get("place") or os.path.join(folder, "work"),
        "AZUREML_CR_NODE_RANK": told.get("NODE_RANK", "0"),
        "AZUREML_PROCESS_NAME": "main" if told.get("WORLD_SIZE", "1") == "1" else "rank_" + told["RANK"],
    }
    found.update(_batch(told, env))
    if env.get("MLFLOW_TRACKING_URI", SCHEME).startswith(SCHEME):
        found["MLFLOW_TRACKING_URI"] = tracking_uri(os.path.dirname(os.path.dirname(os.path.dirname(folder))))
        found["MLFLOW_RUN_ID"] = launch["run"]
        found["MLFLOW_EXPERIMENT_NAME"] = experiment
    return found


def tracking_uri(root):
    """What MLflow is to be told to track in the workspace at ``root``."""
    return SCHEME + "//" + quote(os.fsencode(os.path.abspath(root)))


def _name_of(workspace):
    """What the workspace is called; its directory's name by default."""
    header = get_json(os.path.join(workspace, ".hpcest", "workspace.json")) or {}
    return str(header.get("name") or os.path.basename(workspace.rstrip("/")))


def _batch(told, env):
    """What Azure Batch told the ranks, and older programs still read."""
    found = {"AZ_BATCHAI_TASK_INDEX": told["RANK"]}
    address, port = env.get("MASTER_ADDR"), env.get("MASTER_PORT")
    peers = (told.get("HPCEST_PEERS") or "").split(",")
    hosts = list(dict.fromkeys(one.rpartition(":")[0] for one in peers if one))
    hosts = hosts or host_names(env.get("SLURM_JOB_NODELIST") or "") or [address]
    if address:
        found["AZ_BATCH_HOST_LIST"] = ",".join(hosts)
    if address and port:
        found["AZ_BATCH_MASTER_NODE"] = address + ":" + port
        found["AZ_BATCHAI_MPI_MASTER_NODE"] = address
        found["AZ_BATCHAI_PYTORCH_INIT_METHOD"] = "tcp://" + address + ":" + port
    return found
