"""The rank launcher: becomes the user's program, with the variables that tell a rank where it is."""

import os
import re
import signal

from hpcest.onnode import processes
from hpcest.onnode.record import EventWriter, get_json, warn

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def rank_variables(launch, rank):
    """The variables of one rank. Ranks are numbered node by node, as Slurm's block distribution does."""
    per_node = launch["procs_per_node"] if launch.get("per") != "node" else 1
    nodes = launch["nodes"]
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(nodes * per_node),
        "LOCAL_RANK": str(rank % per_node),
        "LOCAL_WORLD_SIZE": str(per_node),
        "NODE_RANK": str(rank // per_node),
        "HPCEST_NODE_COUNT": str(nodes),
    }


def run_variables(launch, attempt):
    """The variables that are the same for all ranks of a run."""
    folder = launch["folder"]
    return {
        "HPCEST_RUN_ID": launch["run"],
        "HPCEST_RUN_DIR": folder,
        "HPCEST_ATTEMPT": str(attempt),
        "HPCEST_EXPERIMENT": launch.get("experiment", ""),
        "HPCEST_WORKSPACE": launch.get("workspace", ""),
        "HPCEST_OUTPUT_DIR": os.path.join(folder, "outputs"),
        "HPCEST_LOG_DIR": os.path.join(folder, "logs"),
    }


def environment(launch, attempt, rank, base):
    """The whole environment of one rank's program, made from ``base``."""
    env = {key: value for key, value in base.items() if key not in launch.get("unset", ())}
    env.update(run_variables(launch, attempt))
    env.update(rank_variables(launch, rank))
    env["HPCEST_EVENTS"] = os.path.join(launch["folder"], "events", "other-rank%d.a%d.jsonl" % (rank, attempt))
    env.update(launch.get("variables") or {})
    if launch.get("secrets"):
        env.update(get_json(os.path.join(launch["folder"], "state", "secrets.json")) or {})
    env["PATH"] = os.pathsep.join(list(launch.get("path") or ()) + [env.get("PATH") or os.defpath])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [launch["runtime"], env.get("PYTHONPATH")]))
    return env


def expand(argv, env):
    """``$NAME`` and ``${NAME}`` in each argument by the rank's value; other dollars stay as they are."""

    def value(match):
        return env.get(match.group(1) or match.group(2), match.group(0))

    return [_VARIABLE.sub(value, word) for word in argv]


def _default_signals():
    """Undo what the controller and Python set: an exec'd program inherits it."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in ("SIGPIPE", "SIGXFSZ", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def main(manifest, rank, attempt, parent):
    """Become rank ``rank`` of the run that ``manifest`` describes. Only returns by exiting."""
    launch, rank, attempt = get_json(manifest), int(rank), int(attempt)
    _default_signals()
    if int(parent):
        processes.die_with_parent(int(parent))
    env = environment(launch, attempt, rank, os.environ)
    argv = list(launch["prefix"]) + (expand(launch["argv"], env) if launch.get("expand", True) else launch["argv"])
    try:
        os.chdir(os.path.join(launch["folder"], "work"))
        os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is what we want
    except Exception as error:  # also what no operating system would take, such as half a surrogate pair
        message = "could not start %r: %s" % (argv[0], getattr(error, "strerror", None) or error)
        EventWriter(launch["folder"], "rank%d.a%d" % (rank, attempt)).event("launch", a=attempt, m=message)
        warn(message)
        os._exit(126 if isinstance(error, PermissionError) else 127)
