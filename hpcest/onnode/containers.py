"""What only a node knows that a container on it needs: its GPUs, and where its Slurm keeps what MPI's ranks meet by."""

import os

#: Device → how Apptainer is told to bring its driver's files along.
_GPUS = (("/dev/nvidiactl", "NV"), ("/dev/kfd", "ROCM"))


def variables(launch, env):
    """Settings for Apptainer in the environment ``env`` of a rank; for what is no container nothing."""
    program = os.path.basename((launch.get("prefix") or [""])[0])
    if not program.startswith(("apptainer", "singularity")):
        return {}
    name = "SINGULARITY_" if program.startswith("singularity") else "APPTAINER_"
    found = {name + flag: "1" for device, flag in _GPUS if os.path.exists(device) and name + flag not in env}
    places = [_on_this_node(place, env) for place in launch.get("binds") or ()]
    binds = [env[name + "BIND"]] if env.get(name + "BIND") else []
    binds += [place for place in places if os.path.isdir(place) and not set(place) & set(",:")]
    if binds:
        found[name + "BIND"] = ",".join(binds)
    return found


def _on_this_node(place, env):
    """``place`` as slurm.conf has it: ``%n`` is the node's name, ``%h`` its host's."""
    host = os.uname()[1].partition(".")[0]
    return place.replace("%n", env.get("SLURMD_NODENAME") or host).replace("%h", host)
