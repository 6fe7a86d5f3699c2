"""How many cores a rank may use: what was asked for, what the launcher gave it, what the kernel lets it have."""

import os


def variables(launch, told, env):
    """HPCEST_CPUS; and HPCEST_CPU_LIMIT, the same where the kernel allows more, else empty: then programs can't take too many."""
    mine, allowed = _allotted(launch, told, env)
    return {"HPCEST_CPUS": str(mine), "HPCEST_CPU_LIMIT": str(mine) if mine < allowed else ""}


def _allotted(launch, told, env):
    """(cores for this rank, cores that the kernel allows it). Not every cluster binds tasks, so these may be the whole node."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    beside = max(1, int(told["LOCAL_WORLD_SIZE"]))
    in_step = "SLURM_STEP_ID" in env
    named = str(env.get("SLURM_CPUS_PER_TASK") or "") if in_step else ""
    if not named.isdigit() and launch.get("cpus"):
        named = str(launch["cpus"] * (launch["procs_per_node"] if launch.get("per") == "node" else 1))
    if named.isdigit():
        return max(1, min(allowed, int(named))), allowed
    node = str(env.get("SLURM_CPUS_ON_NODE") or "") if in_step else ""
    return max(1, min(allowed, (int(node) if node.isdigit() else allowed) // beside)), allowed
