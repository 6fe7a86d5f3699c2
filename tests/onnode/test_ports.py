"""Ports for runs: nobody gets one twice, none that is taken, and all come back."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from hpcest.onnode import ports
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from tests.onnode.conftest import Bench  # only for its type: pytest finds the fixture

#: Takes three ports as one run does, says so, and keeps them until its stdin ends.
HOLDER = """\
import sys
from hpcest.onnode import ports
held = [ports.hold("the same seed", number) for number in range(3)]
print(*(port for port, _ in held), flush=True)
sys.stdin.read()
"""


def test_many_at_once_never_share_a_port() -> None:
    """Processes that begin at the same place, all at once, have different ports; so have two of one process."""
    holders = [subprocess.Popen([sys.executable, "-c", HOLDER], stdin=-1, stdout=-1, text=True) for _ in range(10)]
    said = [holder.stdout.readline().split() for holder in holders if holder.stdout]
    for holder in holders:
        holder.communicate(timeout=30)
    taken = [int(port) for words in said for port in words]

    assert len(taken) == 30
    assert len(set(taken)) == 30


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    """Whether on all addresses or on one."""
    first, held = ports.hold("a", 1)
    held.close()
    for address in ("", "127.0.0.1"):
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind((address, first))
            stranger.listen()
            port, held = ports.hold("a", 1)
            held.close()
            assert port != first


def test_a_port_is_free_again_with_the_last_process_that_holds_it() -> None:
    port, held = ports.hold("b", 2)
    other, more = ports.hold("b", 2)
    held.close()
    again, last = ports.hold("b", 2)
    more.close()
    last.close()

    assert other != port
    assert again == port


def test_ports_of_outgoing_connections_are_left_alone() -> None:
    """The kernel would give one of them to the next program that connects anywhere."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as stream:
        low, high = (int(word) for word in stream.read().split())
    taken = [ports.hold("c", number) for number in range(50)]
    numbers = [port for port, _ in taken]
    for _, held in taken:
        held.close()

    assert all(1024 <= port < 65536 for port in numbers)
    assert not [port for port in numbers if low <= port <= high]


def test_ten_runs_at_once_on_one_node(bench: Bench) -> None:
    """Each has a MASTER_PORT of its own, which its program can listen on; and the ranks of each have theirs."""
    program = (
        "import json, os, socket, time\n"
        "mine = os.environ['HPCEST_PEERS'].split(',')[int(os.environ['RANK'])].rsplit(':', 1)[1]\n"
        "taken = [int(mine)] + ([int(os.environ['MASTER_PORT'])] if os.environ['RANK'] == '0' else [])\n"
        "servers = [socket.create_server(('', port)) for port in taken]\n"
        "json.dump(taken, open('outputs/%s' % os.environ['RANK'], 'w'))\n"
        "end = time.monotonic() + 30\n"
        f"while len([1 for name in os.scandir({str(bench.workspace.root)!r}) if name.name.startswith('go')]) == 0:\n"
        "    assert time.monotonic() < end\n"
        "    time.sleep(0.05)\n"
    )
    runs = [bench.prepare(program, procs_per_node=2, meets=True) for _ in range(10)]
    started = [bench.start(run) for run in runs]
    files = [run.outputs / str(rank) for run in runs for rank in range(2)]
    _until(lambda: all(get_json(str(file)) for file in files))
    (bench.workspace.root / "go").touch()
    codes = [controller.wait(30) for controller in started]
    taken: list[int] = [port for file in files for port in get_json(str(file))]

    assert codes == [0] * 10
    assert len(taken) == len(set(taken)) == 30


def _until(condition: Any) -> None:
    import time

    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
