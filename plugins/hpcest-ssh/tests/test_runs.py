"""Runs on a machine behind a real sshd, with a workspace that it shares and with one that it does not."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site, Wait

TRAIN = """
import os, sys
from hpcest import Run
run = Run.get_context()
for step in range(3):
    run.log("loss", 1 / (step + 1))
os.makedirs("outputs/deep", exist_ok=True)
open("outputs/deep/model.bin", "wb").write(os.urandom(9 << 20))
open("outputs/where.txt", "w").write(os.getcwd() + "\\n" + sys.executable)
os.symlink("where.txt", "outputs/link.txt")
open("logs/notes.txt", "w").write("a note")
open("left.txt", "w").write("left in work")
print("hello from there", os.environ["TOKEN_OF_MINE"])
"""


@pytest.fixture(params=[True, False], ids=["shared", "sent"])
def either(request: pytest.FixtureRequest, site: Site) -> Site:
    """A workspace that the machine shares, and one that it does not."""
    site.configure(shared=request.param)
    return site


def test_a_run_leaves_its_outputs_logs_and_metrics_here(either: Site) -> None:
    run = either.submit(TRAIN, "-f", "--set", "environment_variables.TOKEN_OF_MINE=s3cret")
    folder = either.folder(run)
    assert (folder / "outputs" / "deep" / "model.bin").stat().st_size == 9 << 20
    assert os.readlink(folder / "outputs" / "link.txt") == "where.txt"
    assert (folder / "logs" / "notes.txt").read_text() == "a note"
    assert (folder / "work" / "left.txt").read_text() == "left in work"
    assert "hello from there s3cret" in (folder / "user_logs" / "std_log.txt").read_text()
    assert "Completed" in either.show(run)
    assert "0.333" in either.hpcest("metrics", run)
    assert not (folder / "state" / "secrets.json").exists()
    assert not list(folder.rglob("incoming*"))


def test_the_other_machine_has_its_own_copy_where_the_workspace_is_not_shared(site: Site) -> None:
    run = site.submit(TRAIN, "-f", "--set", "environment_variables.TOKEN_OF_MINE=x")
    place, python = (site.folder(run) / "outputs" / "where.txt").read_text().splitlines()
    far = site.machine.folder / "far"
    assert place.startswith(f"{far}/ws-")
    assert os.path.realpath(python) == os.path.realpath("/usr/bin/python3")
    assert not list(far.rglob("secrets.json"))
    (launch,) = far.rglob("launch.json")
    assert str(site.root) not in launch.read_text().replace(str(far), "")
    assert launch.stat().st_mode & 0o077 == 0


def test_the_exit_code_and_its_sentence_come_back(either: Site) -> None:
    run = either.submit("raise SystemExit(7)")
    either.hpcest("wait", run, code=7)
    shown = either.show(run)
    assert "Failed" in shown
    assert "exited with code 7" in shown


def test_logs_come_while_the_run_goes_on(site: Site, wait_until: Wait) -> None:
    run = site.submit("import time\nprint('first line')\nopen('outputs/a', 'w').write('early')\ntime.sleep(60)")
    wait_until(lambda: "first line" in site.hpcest("logs", run))
    wait_until(lambda: "Running" in site.show(run))
    assert (site.folder(run) / "outputs" / "a").read_text() == "early"
    site.hpcest("cancel", run)


def test_cancel_ends_the_program_at_once(either: Site, wait_until: Wait) -> None:
    run = either.submit("import time\nprint('up')\ntime.sleep(90)")
    wait_until(lambda: "up" in either.hpcest("logs", run))
    began = time.monotonic()
    either.hpcest("cancel", run)
    wait_until(lambda: "Canceled" in either.show(run))
    assert time.monotonic() - began < 4.5  # its heartbeat, which would see the file, comes each 5 s


def test_many_runs_are_submitted_and_asked_about_with_one_call(either: Site, wait_until: Wait) -> None:
    either.machine.guard()
    go = either.source.parent / "go"
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)\n"
    either.submit(waits + "open('outputs/number', 'w').write(os.environ['HPCEST_ARRAY_INDEX'])", "--array", "0-19")
    assert either.machine.calls == (1 if either.options["shared"] else 2)
    before = either.machine.calls
    assert len(either.runs()) == 20
    either.hpcest("runs")
    assert either.machine.calls == before + 1
    go.touch()
    wait_until(lambda: either.hpcest("runs").count("Completed") == 20)
    numbers = {(either.folder(run) / "outputs" / "number").read_text() for run in either.runs()}
    assert numbers == {str(number) for number in range(20)}


def test_with_slots_runs_wait_for_their_turn_and_can_be_taken_back(either: Site, wait_until: Wait) -> None:
    either.configure(slots=1)
    go = either.source.parent / "go"
    holds = f"import os, time\nprint('up')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)\nopen('outputs/ran', 'w')"
    first, second, third = (either.submit(holds) for _ in range(3))
    wait_until(lambda: "up" in either.hpcest("logs", first))
    assert "waits for a free slot" in either.show(second)
    assert "1 before it" in either.show(third)
    either.hpcest("cancel", second)
    assert "Canceled" in either.show(second)
    assert "Queued" in either.show(third)
    go.touch()
    either.hpcest("wait", first)
    either.hpcest("wait", third)
    assert [(either.folder(run) / "outputs" / "ran").exists() for run in (first, second, third)] == [True, False, True]


def test_a_resumed_run_has_the_outputs_of_the_old_one_there(site: Site) -> None:
    old = site.submit("open('outputs/checkpoint', 'w').write('epoch 4')", "-f")
    program = "import os\nprint(open(os.path.join(os.environ['HPCEST_RESUME_FROM'], 'checkpoint')).read())"
    new = site.submit(program, "-f", "--set", f"resume_from={old}")
    assert "epoch 4" in (site.folder(new) / "user_logs" / "std_log.txt").read_text()


def test_a_second_submission_of_one_source_sends_only_what_is_new(site: Site) -> None:
    (site.source / "data.bin").write_bytes(os.urandom(1 << 20))
    site.submit("print(1)", "-f")
    stored = {path: path.stat().st_ino for path in (site.machine.folder / "far").rglob("objects/??/*")}
    site.submit("print(2)", "-f")
    after = {path: path.stat().st_ino for path in (site.machine.folder / "far").rglob("objects/??/*")}
    assert len(after) == len(stored) + 1
    assert {path: after[path] for path in stored} == stored


@pytest.mark.parametrize(("boot", "reason", "words"), [("another", "NodeFail", "was restarted"), ("", "Lost", "it was killed")])
def test_a_run_that_was_lost_with_its_controller_says_why(either: Site, wait_until: Wait, boot: str, reason: str, words: str) -> None:
    run = either.submit("import os, time\nif os.fork() == 0: os.setsid()\nprint('pid', os.getpid(), flush=True)\ntime.sleep(60)")
    wait_until(lambda: either.hpcest("logs", run).count("pid") == 2)
    root = either.root if either.options["shared"] else either.machine.folder / "far"
    (claim,) = root.rglob("state/claim.0.json")
    facts = json.loads(claim.read_text())
    for process in (facts, facts["guardian"]):
        os.kill(process["pid"], 9)
        process["boot"] = boot or process["boot"]
    claim.write_text(json.dumps(facts))
    wait_until(lambda: reason in either.show(run))
    assert words in either.show(run)
    pids = [line.split()[1] for line in either.hpcest("logs", run).splitlines() if line.startswith("pid")]
    wait_until(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")])
