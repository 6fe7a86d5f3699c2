"""Processes that are killed, at any moment: no run is lost, none is run twice, and every record is true."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from hpcest.model.folders import RunFolder
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
ENDED = {"Completed", "Failed", "Canceled"}


def ticking(path: Path, then: str = "") -> str:
    """A program that leaves its run's id in ``path``."""
    line = "os.write(os.open({!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), (os.environ['HPCEST_RUN_ID'] + '\\n').encode())\n"
    return "import os, time\n" + line.format(str(path)) + then


def ids_in(path: Path) -> collections.Counter[str]:
    return collections.Counter(path.read_text().split() if path.exists() else [])


def test_a_submitter_that_is_killed(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """At 30 moments of its 0.1 s or so: what is a run ends truly, what is none leaves nothing that is listed."""
    ticks = tmp_path / "ticks"
    site.submit(ticking(ticks))
    began = time.monotonic()
    site.cli("submit", "train.py").ok()
    took = time.monotonic() - began
    for moment in range(30):
        process = site.start("submit", "train.py", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1.2 * min(took, 0.5) * moment / 30)
        process.kill()
        process.wait()
    wait_until(lambda: {row["status"] for row in site.runs()} <= ENDED)

    rows = site.runs()
    assert ids_in(ticks) == {row["id"]: 1 for row in rows if row["status"] == "Completed"}
    assert {row["reason"] for row in rows if row["status"] == "Failed"} <= {"LaunchFailed"}
    assert {path.name for path in site.workspace.runs.iterdir() if not path.name.startswith(".new-")} == {row["id"] for row in rows}
    assert len(rows) > 5
    assert len(site.runs()) == len(rows)


def test_what_a_killed_submitter_left_does_not_stay_in_the_queue(site: Site, tmp_path: Path) -> None:
    """A ticket holds the submitter's environment."""
    run = site.submit("print('one')")
    site.wait(run).ok()
    (queue,) = Path(os.environ["HPCEST_LOCAL_DIR"]).glob("*/queue/default")
    (queue / "000000000009-abcdefgh.json.tmp").write_text('{"environ": {"API_TOKEN": "x"}')
    site.wait(site.submit("print('two')")).ok()

    assert {path.name for path in queue.iterdir()} <= {"lock", "last.json", "slots.json", "slot.0", "slot.1", "slot.2", "slot.3"}


@pytest.mark.parametrize(
    "wanted", [["controller"], ["controller", "guardian"], ["guardian"], ["program"], ["controller", "guardian", "program"]]
)
def test_the_processes_of_a_run_are_killed(site: Site, wanted: list[str], wait_until: Wait) -> None:
    """Whichever it is: the program is gone, the record is true, the next run starts."""
    site.configure("compute: {local: {slots: 1}}\n")
    run = site.submit("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    following = site.submit("print('next')\n")
    wait_until(lambda: run.rank_log(0).exists() and run.rank_log(0).read_text().endswith("\n"))
    claim = get_json(str(run.claim(0)))
    pids = {"controller": claim["pid"], "guardian": claim["guardian"]["pid"], "program": int(run.rank_log(0).read_text())}
    for name in wanted:
        os.kill(pids[name], signal.SIGKILL)
    if wanted == ["guardian"]:
        site.cli("cancel", run.id).ok()
    known = site.ended(run)

    expected = {"guardian": ("Canceled", ""), "program": ("Failed", "Signaled")}.get(wanted[0], ("Failed", "Lost"))
    assert (known["status"], known["reason"]) == expected
    wait_until(lambda: not Path(f"/proc/{pids['program']}").exists())
    site.wait(following).ok()
    assert [row["status"] for row in site.runs()] == ["Completed", known["status"]]


def test_many_submitters_at_once(site: Site, tmp_path: Path) -> None:
    """Fifty runs from ten processes that also list: each is run once, never more at once than there are slots."""
    ticks = tmp_path / "ticks"
    site.configure("compute: {local: {slots: 2}}\n")
    site.write(
        "import os, time\n"
        f"out = os.open({str(ticks)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(out, b'+\\n'); time.sleep(0.02); os.write(out, b'-\\n')\n"
    )
    loop = (
        "import subprocess, sys\n"
        "submit = ['submit', 'train.py']\n"
        "for words in (submit, submit, ['runs'], submit, submit, ['runs'], submit):\n"
        "    done = subprocess.run([sys.executable, '-m', 'hpcest', *words], capture_output=True, text=True)\n"
        "    if done.returncode or 'Error' in done.stderr or 'warning' in done.stderr: print(words, done.stderr)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", loop], cwd=site.source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(10)
    ]
    assert [process.communicate()[0] for process in started] == [b""] * 10
    rows = site.runs()
    site.wait(*(site.run(row["id"]) for row in rows)).ok()

    assert len(rows) == 50
    assert {row["status"] for row in site.runs()} == {"Completed"}
    steps = ticks.read_text().split()
    assert collections.Counter(steps) == {"+": 50, "-": 50}
    assert max(steps[:end].count("+") - steps[:end].count("-") for end in range(101)) <= 2


def test_a_workspace_that_is_removed_while_runs_wait(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """Its runs go with it; those of other workspaces in the same queue don't notice."""
    site.configure("compute: {local: {slots: 1}}\n")
    gate, other = tmp_path / "gate", tmp_path / "other"
    first = site.submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n")
    site.cli("init", other).ok()
    (other / ".hpcest" / "config.yaml").write_text("compute: {local: {slots: 1}}\n")
    site.cli("-w", other, "submit", "train.py").ok()
    last = site.submit("print('last')\n")
    other.rename(tmp_path / "away")
    gate.touch()

    site.wait(first, last).ok()
    assert site.show(last)["status"] == "Completed"


def wait_for_text(run: RunFolder, text: str, wait_until: Wait) -> None:
    wait_until(lambda: run.rank_log(0).exists() and text in run.rank_log(0).read_text())


def test_children_of_a_run_that_is_killed(site: Site, wait_until: Wait) -> None:
    """What a program made as child runs ends with it."""
    run = site.submit(
        "import time\nfrom hpcest import Run\nrun = Run.get_context()\n"
        "done = run.child_run('done'); done.log('x', 1); done.complete()\n"
        "open_ = run.child_run('open'); open_.log('x', 2)\nprint('made', flush=True)\ntime.sleep(60)\n"
    )
    wait_for_text(run, "made", wait_until)
    assert {row["status"] for row in site.runs("--children") if row["parent"]} == {"Completed", "Running"}
    claim = get_json(str(run.claim(0)))
    for pid in (claim["guardian"]["pid"], claim["pid"]):
        os.kill(pid, signal.SIGKILL)
    site.ended(run)

    rows = {row["display_name"]: row for row in site.runs("--children")}
    assert rows["done"]["status"] == "Completed"
    assert (rows["open"]["status"], rows["open"]["message"]) == ("Failed", "ended with its parent")
    assert rows["open"]["metrics"] == {"x": 2}


def test_a_run_that_submits_runs(site: Site) -> None:
    """With one slot: the inner ones share it, or all would wait for ever."""
    site.configure("compute: {local: {slots: 1}}\n")
    site.write("import sys; print('inner'); sys.exit(3)\n", "inner.py")
    outer = site.submit(
        "import subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'hpcest', 'submit', '-f', 'inner.py'])\n"
        "sys.exit(done.returncode + 1)\n"
    )

    assert site.wait(outer).code == 4
    rows = site.runs()
    assert sorted((row["status"], row["exit_code"]) for row in rows) == [("Failed", 3), ("Failed", 4)]


def test_many_inner_runs_take_turns(site: Site, tmp_path: Path) -> None:
    """Without any that waits, too: as many at once as there are slots, however many the outer one submits."""
    ticks = tmp_path / "ticks"
    site.configure("compute: {local: {slots: 1}}\n")
    site.write(
        f"import os, time\nout = os.open({str(ticks)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "os.write(out, b'+\\n'); time.sleep(0.05); os.write(out, b'-\\n')\n",
        "inner.py",
    )
    outer = site.submit(
        "import subprocess, sys\nfor _ in range(4): subprocess.run([sys.executable, '-m', 'hpcest', 'submit', 'inner.py'], check=True)\n"
    )
    site.wait(outer).ok()
    site.wait(*(site.run(row["id"]) for row in site.runs())).ok()

    assert ticks.read_text().split() == ["+", "-"] * 4
    site.wait(site.submit("print('another')\n")).ok()
    (queue,) = Path(os.environ["HPCEST_LOCAL_DIR"]).glob("*/queue/default")
    assert sorted(path.name for path in queue.glob("slot.*")) == ["slot.0"]


def test_an_inner_run_outlives_its_outer_one(site: Site, tmp_path: Path) -> None:
    """It is a run of its own: ending the outer one does not end it."""
    gate = tmp_path / "gate"
    site.write(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n", "inner.py")
    outer = site.submit("import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'hpcest', 'submit', 'inner.py'], check=True)\n")
    site.wait(outer).ok()
    gate.touch()
    (inner,) = (site.run(row["id"]) for row in site.runs() if row["id"] != outer.id)

    assert site.ended(inner)["status"] == "Completed"
