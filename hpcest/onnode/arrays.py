"""One manifest for a whole job array: what all tasks have in common, and what each has of its own."""

import os

from hpcest.onnode.rank import read_launch
from hpcest.onnode.record import get_json, put_json


def own_manifest(manifest, task):
    """The path of task number ``task``'s own launch manifest, written into its run folder if it isn't there yet.

    A manifest that is no array's is returned as it is. Raises OSError, IndexError.
    """
    whole = read_launch(manifest)
    if "tasks" not in whole:
        return manifest
    launch = dict(whole["common"], **whole["tasks"][int(task)])
    launch["variables"] = dict(whole["common"].get("variables") or {}, **(whole["tasks"][int(task)].get("variables") or {}))
    own = os.path.join(launch["folder"], "launch.json")
    if get_json(own) is None:
        before = os.umask(0o077)
        put_json(own, launch)
        os.umask(before)
    _turn_to(os.path.join(launch["folder"], "system_logs"))
    return own


def _turn_to(folder):
    """Write what this process and Slurm's launcher say into the run's own log from now on."""
    os.makedirs(folder, exist_ok=True)
    log = os.open(os.path.join(folder, "controller.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
