"""TCP ports for a run on this machine: free now, and nobody else's among those who ask here, for as long as they are held.

Whoever binds port 0 and closes it again has a port that the next program may get too. Here a name is held beside the port,
an abstract Unix socket: it belongs to the machine (the network namespace) as ports do, to no file system and no user, and goes
with the last process that has it. Ports that the kernel gives to outgoing connections are left alone.
"""

import errno
import socket
import zlib

_LOWEST, _HIGHEST = 10000, 65535
_FEWEST = 1000
_STEP = 7919  # a prime: the whole range is gone through, and neighbours don't meet at once


def hold(*seed):
    """A port as (number, socket that holds it); ``seed`` makes different runs begin at different ones. Raises OSError."""
    ports = _ports()
    start = zlib.crc32(repr(seed).encode())
    for number in range(len(ports)):
        port = ports[(start + number * _STEP) % len(ports)]
        held = _held(port)
        if held is not None and _is_free(port):
            return port, held
        if held is not None:
            held.close()
    raise OSError(errno.EADDRINUSE, "no TCP port is free on %s" % socket.gethostname())


def _ports():
    """Those that are not for outgoing connections, the lower ones where there are enough."""
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range") as stream:
            low, high = (int(word) for word in stream.read().split())
    except (OSError, ValueError):
        low, high = 32768, 60999
    below, above = range(_LOWEST, low), range(high + 1, _HIGHEST + 1)
    return next((ports for ports in (below, above) if len(ports) >= _FEWEST), range(_LOWEST, _HIGHEST + 1))


def _held(port):
    """A socket whose name stands for the port; None where somebody has it."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind("\0hpcest-port-%d" % port)
        return held
    except OSError:
        held.close()
        return None


def _is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
            return True
        except OSError:
            return False
