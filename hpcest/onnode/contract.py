"""A program that proves what every rank is promised: its variables, its port, and a way to each other rank.

It needs nothing but a Python. Each rank prints one line of JSON: ``rank``, ``host``, ``variables``, ``cores`` (what the kernel
allows), ``ms`` (there and back to rank 0) and ``problems``, sentences. The exit code is 0 also where there are some.
"""

import json
import os
import socket
import sys
import threading
import time

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "HPCEST_NODE_COUNT", "HPCEST_CPUS")
ALIASES = {
    "OMPI_COMM_WORLD_RANK": "RANK", "OMPI_COMM_WORLD_SIZE": "WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK": "LOCAL_RANK",
    "AZ_BATCHAI_TASK_INDEX": "RANK", "AZ_BATCHAI_MPI_MASTER_NODE": "MASTER_ADDR", "AZUREML_CR_NODE_RANK": "NODE_RANK",
    "AZUREML_RUN_ID": "HPCEST_RUN_ID", "AZUREML_OUTPUT_DIRECTORY": "HPCEST_OUTPUT_DIR",
}  # fmt: skip
TEXTS = ("MASTER_ADDR", "MASTER_PORT", "HPCEST_PEERS", "TF_CONFIG", "HPCEST_RUN_ID", "HPCEST_ATTEMPT", "HPCEST_OUTPUT_DIR")
_PATIENCE_S = 30.0


def check(env):
    """What is wrong with the variables ``env``, as sentences."""
    problems = ["%s is not set" % name for name in NUMBERS + TEXTS if not env.get(name)]
    problems += ["%s=%s is no number" % (name, env[name]) for name in NUMBERS if env.get(name) and not env[name].isdigit()]
    if problems:
        return problems
    rank, size, local, beside, node, nodes, cpus = (int(env[name]) for name in NUMBERS)
    for low, name, high in ((rank, "RANK", size), (local, "LOCAL_RANK", beside), (node, "NODE_RANK", nodes)):
        if not low < high:
            problems.append("%s=%d is not below %d" % (name, low, high))
    aliases = [(name, env.get(name), other, env[other]) for name, other in ALIASES.items()]
    problems += ["%s=%s, and %s=%s" % one for one in aliases if one[1] != one[3]]
    if len(env["HPCEST_PEERS"].split(",")) != size:
        problems.append("HPCEST_PEERS names %d ranks, and there are %d" % (len(env["HPCEST_PEERS"].split(",")), size))
    if cpus > len(os.sched_getaffinity(0)):
        problems.append("HPCEST_CPUS=%d, and the kernel allows %d" % (cpus, len(os.sched_getaffinity(0))))
    return problems


def _serve(port, count, problems):
    """Answer ``count`` connections on a port, in a thread."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", port))
        server.listen(count + 8)
    except OSError as error:
        problems.append("port %d is taken: %s" % (port, error.strerror))
        return None

    def answer():
        server.settimeout(_PATIENCE_S)
        for _ in range(count):
            try:
                with server.accept()[0] as one:
                    one.sendall(one.recv(16))
            except OSError:
                return

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def _call(place):
    """Milliseconds there and back; a sentence where nobody answers."""
    end = time.monotonic() + _PATIENCE_S / 2
    problem = ""
    while time.monotonic() < end:
        try:
            with socket.create_connection(place, timeout=5) as one:
                start = time.monotonic()
                one.sendall(b"hello")
                if one.recv(16) == b"hello":
                    return round((time.monotonic() - start) * 1000, 3), ""
                problem = "it hung up"
        except OSError as error:
            problem = error.strerror or str(error)
        time.sleep(0.1)
    return None, "%s:%d can't be reached from here: %s" % (place + (problem,))


def _meet(env, problems):
    """Reach rank 0 by MASTER_ADDR and MASTER_PORT, and the next rank at its own port."""
    rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
    peers = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in env["HPCEST_PEERS"].split(","))]
    threads = [_serve(int(env["MASTER_PORT"]), size, problems)] if rank == 0 else []
    threads.append(_serve(peers[rank][1], 1, problems))
    took, problem = _call((env["MASTER_ADDR"], int(env["MASTER_PORT"])))
    _, other = _call(peers[(rank + 1) % size])
    problems += [one for one in (problem, other) if one]
    for thread in threads:
        if thread is not None:
            thread.join(_PATIENCE_S)
    return took


def main():
    """Print what this rank has found."""
    env = dict(os.environ)
    problems = check(env)
    took = None if problems else _meet(env, problems)
    shown = {name: env.get(name) for name in NUMBERS + tuple(ALIASES) + TEXTS}
    found = {
        "rank": env.get("RANK"),
        "host": socket.gethostname(),
        "variables": shown,
        "cores": len(os.sched_getaffinity(0)),
        "ms": took,
        "problems": problems,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
