"""The rank launcher: becomes the user's program, with the variables that tell a rank where it is."""

import os
import re
import signal
import time

from hpcest.onnode import azureml, containers, cores, processes, pulse, roles, supervise
from hpcest.onnode.record import EventWriter, get_json, warn

_LOOKS = 50
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")

#: How a launcher tells a process its rank: the variables of rank, number of ranks, rank on the node, ranks on the node.
_TOLD_BY = {
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", None),
    "ompi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    "pmi": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}


def read_launch(manifest):
    """The launch manifest. On a network file system this node may learn a little later that it is there. Raises OSError."""
    for _ in range(_LOOKS):
        launch = get_json(manifest)
        if launch is not None:
            return launch
        try:
            os.listdir(os.path.dirname(manifest))  # makes a client look anew
        except OSError:
            pass
        time.sleep(0.2)
    raise OSError("the launch manifest %s can't be read on %s" % (manifest, os.uname()[1]))


def boot_argv(launch):
    """How a part of the package that travels with a run is started on its node; the part and its arguments follow."""
    return [launch["python"], "-I", "-S", "-X", "utf8", os.path.join(launch["runtime"], "hpcest", "onnode", "boot.py")]


def number_of_ranks(launch):
    """How many processes the launcher starts on all nodes together."""
    return launch.get("ranks") or launch["nodes"] * _per_node(launch)


def _per_node(launch):
    return launch["procs_per_node"] if launch.get("per") != "node" else 1


def log_path(launch, rank, attempt):
    """The file that a rank's output goes to."""
    name = "std_log" if number_of_ranks(launch) == 1 else "std_log_%d" % rank
    if attempt:
        name += ".attempt%d" % attempt
    return os.path.join(launch["folder"], "user_logs", name + ".txt")


def rank_variables(launch, rank):
    """The variables of one rank. Ranks are numbered node by node, as Slurm's block distribution does."""
    per_node = _per_node(launch)
    return _variables(rank, number_of_ranks(launch), rank % per_node, per_node, rank // per_node, launch["nodes"])


def told_variables(launch, by, base):
    """The same as the launcher tells them in ``base``. Raises KeyError if it doesn't."""
    rank, size, local_rank, local_size = _TOLD_BY[by]
    per_node = int(base[local_size]) if local_size and base.get(local_size) else _per_node(launch)
    number = int(base[rank])
    node = int(base["SLURM_NODEID"]) if by == "slurm" else number // per_node
    if by == "slurm":
        per_node = (_counts(base.get("SLURM_STEP_TASKS_PER_NODE", ""))[node:] or [per_node])[0]
    local = int(base[local_rank]) if base.get(local_rank) else number % per_node
    return _variables(number, int(base[size]), local, per_node, node, launch["nodes"])


def _counts(text):
    """Slurm's tasks of each node, such as ``3,1`` or ``2(x3),1``."""
    found: list = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        found += [int(count)] * int(times or 1)
    return found


def _variables(rank, size, local_rank, local_size, node, nodes):
    numbers = {"RANK": rank, "SIZE": size, "LOCAL_RANK": local_rank, "LOCAL_SIZE": local_size}
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_size),
        "NODE_RANK": str(node),
        "HPCEST_NODE_COUNT": str(nodes),
        # Programs that were written for mpirun look for these, whoever starts them.
        **{"OMPI_COMM_WORLD_" + name: str(number) for name, number in numbers.items()},
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
        **({"HPCEST_HELPERS": launch["helpers"]} if launch.get("helpers") else {}),
    }


def environment(launch, attempt, told, base):
    """The whole environment of one rank's program: ``told`` is where it is among the ranks, ``base`` what it inherits."""
    dropped = set(launch.get("unset") or ()) | {"HPCEST_MEETING_PORT", "HPCEST_MEETING_WORD"}
    env = {key: value for key, value in base.items() if key not in dropped}
    env.update(run_variables(launch, attempt))
    env.update(told)
    env.update(azureml.variables(launch, told, dict(env, **(launch.get("variables") or {}))))
    own = {name: expand([text], env)[0] for name, text in (launch.get("rank_variables") or {}).items()}
    env.update({name: text for name, text in own.items() if text})  # what comes to nothing is left alone
    env["HPCEST_EVENTS"] = os.path.join(launch["folder"], "events", "other-rank%s.a%d.jsonl" % (told["RANK"], attempt))
    env.update(launch.get("variables") or {})
    if launch.get("secrets"):
        env.update(get_json(os.path.join(launch["folder"], "state", "secrets.json")) or {})
    env.update(containers.variables(launch, env))
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


def _to_own_log(path):
    """Send this process's output to ``path``: written by the rank itself, no relay can lose its last lines."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def main(manifest, rank, attempt, parent):
    """Become a rank of the run that ``manifest`` describes: a number, or who tells it. Only returns by exiting."""
    launch, attempt = read_launch(manifest), int(attempt)
    _default_signals()
    if launch.get("umask") is not None:
        os.umask(launch["umask"])
    if int(parent):
        processes.die_with_parent(int(parent))
    if rank in _TOLD_BY:
        told = told_variables(launch, rank, os.environ)
        if (launch.get("launcher") or {}).get("here"):  # several nodes are rehearsed on one machine
            told = rank_variables(launch, int(told["RANK"]))
        _to_own_log(log_path(launch, int(told["RANK"]), attempt))
    else:
        told = rank_variables(launch, int(rank))
    if launch["nodes"] > 1 and told["LOCAL_RANK"] == "0":
        pulse.start(launch["folder"], attempt)
    told.update(cores.variables(launch, told, os.environ))
    connection = None
    if launch.get("meets"):
        met, connection = roles.meet(launch, attempt, told, os.environ)
        told.update(met)
    env = environment(launch, attempt, told, os.environ)
    argv = list(launch["prefix"]) + (expand(launch["argv"], env) if launch.get("expand", True) else launch["argv"])

    def become():
        _become(launch, attempt, argv, env)

    if connection is None:
        become()
    supervise.outlive(become, connection, serves=roles.serves(launch, told), forwards=rank not in _TOLD_BY)


def _become(launch, attempt, argv, env):
    try:
        os.chdir(launch.get("place") or os.path.join(launch["folder"], "work"))
        os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is what we want
    except Exception as error:  # also what no operating system would take, such as half a surrogate pair
        message = "could not start %r: %s" % (argv[0], getattr(error, "strerror", None) or error)
        EventWriter(launch["folder"], "rank%s.a%d" % (env["RANK"], attempt)).event("launch", a=attempt, m=message)
        warn(message)
        os._exit(126 if isinstance(error, PermissionError) else 127)
