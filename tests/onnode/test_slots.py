"""The local queue: first come, first served, as many at once as there are slots, each run once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcest.model.folders import RunFolder
from hpcest.onnode.events import read_run
from hpcest.onnode.record import get_json
from hpcest.onnode.slots import Queue

if TYPE_CHECKING:
    from tests.onnode.conftest import Bench

Wait = Any
TICK = "import os, time\nopen({log!r}, 'a').write('+'); time.sleep({seconds}); open({log!r}, 'a').write('-')\n"


def ticket(bench: Bench, folder: RunFolder, *, nested: bool = False) -> dict[str, Any]:
    return {
        "argv": bench.argv(folder), "environ": dict(os.environ), "folder": str(folder.path), "log": str(folder.controller_log),
        "nested": nested,
    }  # fmt: skip


def finished(folder: RunFolder) -> bool:
    return folder.sentinel(0).exists()


def test_no_more_at_once_than_slots(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    """A run that ends starts the next one; nobody else has to come by."""
    queue, log = Queue(tmp_path / "q", 2), str(tmp_path / "log")
    folders = [bench.prepare(TICK.format(log=log, seconds=0.3), queue=str(tmp_path / "q")) for _ in range(6)]
    for folder in folders:
        queue.add(folder.id, ticket(bench, folder))
    wait_until(lambda: all(map(finished, folders)))

    deepest = depth = 0
    for step in Path(log).read_text():
        depth += 1 if step == "+" else -1
        deepest = max(deepest, depth)
    assert (deepest, depth) == (2, 0)
    wait_until(lambda: queue.ahead(folders[-1].id) is None)


def test_first_come_first_served(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    queue = Queue(tmp_path / "q", 1)
    folders = [bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('{n}')", queue=str(tmp_path / "q")) for n in range(5)]
    for folder in folders:
        queue.add(folder.id, ticket(bench, folder))
    wait_until(lambda: all(map(finished, folders)))

    assert (tmp_path / "log").read_text() == "01234"


def test_adding_twice_runs_once(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    queue = Queue(tmp_path / "q", 2)
    folder = bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('x')", queue=str(tmp_path / "q"))
    for _ in range(3):
        queue.add(folder.id, ticket(bench, folder))
    wait_until(lambda: finished(folder))
    queue.add(folder.id, ticket(bench, folder))
    time.sleep(0.5)

    assert (tmp_path / "log").read_text() == "x"


def test_many_submitters_at_once(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    """Every run is run, once."""
    folders = [bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('x')", queue=str(tmp_path / "q")) for _ in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda folder: Queue(tmp_path / "q", 3).add(folder.id, ticket(bench, folder)), folders))
    wait_until(lambda: all(map(finished, folders)))

    assert (tmp_path / "log").read_text() == "x" * 12
    assert {read_run(folder.path)[0].status for folder in folders} == {"Completed"}


def test_a_submitter_killed_between_start_and_bookkeeping(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    """The ticket stays, so the controller is started again; the run is not."""
    folder = bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('x')", queue=str(tmp_path / "q"))
    controller = bench.start(folder)
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / f"000000000001-{folder.id}.json").write_text(json.dumps(ticket(bench, folder)))
    Queue(tmp_path / "q").dispatch()
    wait_until(lambda: finished(folder))
    controller.wait()
    time.sleep(0.5)

    assert (tmp_path / "log").read_text() == "x"


def test_a_controller_killed_before_its_claim_is_started_again(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    """Whoever comes by next finds a started ticket with a dead process and no claim."""
    folder = bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('x')", queue=str(tmp_path / "q"))
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / "q").mkdir()
    started = {**ticket(bench, folder), "started": {"host": os.uname().nodename, "boot": "", "pid": child.pid, "start": 1}}
    (tmp_path / "q" / f"000000000001-{folder.id}.started.{child.pid}").write_text(json.dumps(started))
    Queue(tmp_path / "q").dispatch()
    wait_until(lambda: finished(folder))

    assert (tmp_path / "log").read_text() == "x"


def test_a_waiting_run_can_be_taken_out(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    queue = Queue(tmp_path / "q", 1)
    first = bench.prepare("import time; time.sleep(0.5)", queue=str(tmp_path / "q"))
    second = bench.prepare(f"open({str(tmp_path / 'log')!r}, 'a').write('x')", queue=str(tmp_path / "q"))
    queue.add(first.id, ticket(bench, first))
    queue.add(second.id, ticket(bench, second))
    assert queue.remove(second.id)
    assert not queue.remove(second.id)
    wait_until(lambda: finished(first))
    time.sleep(0.3)

    assert not (tmp_path / "log").exists()


def test_a_run_submitted_by_a_run_needs_no_slot(bench: Bench, tmp_path: Path, wait_until: Wait) -> None:
    """It would wait for ever for the slot that its parent holds."""
    queue = Queue(tmp_path / "q", 1)
    parent = bench.prepare("import time; time.sleep(2)", queue=str(tmp_path / "q"))
    waiting = bench.prepare("", queue=str(tmp_path / "q"))
    nested = bench.prepare("", queue=str(tmp_path / "q"))
    queue.add(parent.id, ticket(bench, parent))
    queue.add(waiting.id, ticket(bench, waiting))
    queue.add(nested.id, ticket(bench, nested, nested=True))
    wait_until(lambda: finished(nested))

    assert not finished(parent)
    assert not finished(waiting)
    wait_until(lambda: finished(waiting))


def test_a_controller_that_can_not_be_started_is_a_verdict(bench: Bench, tmp_path: Path) -> None:
    folder = bench.prepare("")
    Queue(tmp_path / "q", 1).add(folder.id, {**ticket(bench, folder), "argv": ["/no/such/python"]})

    state, _ = read_run(folder.path)
    assert (state.status, state.reason) == ("Failed", "LaunchFailed")
    assert get_json(str(folder.sentinel(0)))["rc"] is None
    assert Queue(tmp_path / "q").ahead(folder.id) is None


def test_the_environment_of_a_ticket_is_for_its_owner_alone(bench: Bench, tmp_path: Path) -> None:
    queue = Queue(tmp_path / "q", 1)
    holder, waiting = bench.prepare("import time; time.sleep(1)", queue=str(tmp_path / "q")), bench.prepare("", queue=str(tmp_path / "q"))
    queue.add(holder.id, ticket(bench, holder))
    queue.add(waiting.id, ticket(bench, waiting))

    (path,) = (tmp_path / "q").glob(f"*-{waiting.id}.json")
    assert (path.stat().st_mode & 0o077, (tmp_path / "q").stat().st_mode & 0o077) == (0, 0)
