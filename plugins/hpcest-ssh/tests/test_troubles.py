"""Machines that are down, connections that break, and settings that can't work."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site, Wait


def test_a_machine_that_is_down_says_nothing_about_its_runs(site: Site, wait_until: Wait) -> None:
    run = site.submit("import time\nprint('up')\ntime.sleep(4)\nopen('outputs/late', 'w').write('done meanwhile')")
    wait_until(lambda: "up" in site.hpcest("logs", run))
    site.machine.stop()
    shown = site.show(run)
    assert "Running" in shown
    assert "can't be reached" in shown or "broke" in shown
    said = site.hpcest("cancel", run, code=1)
    assert "can't be told to end now" in said
    (site.folder(run) / "state" / "cancel").unlink()
    time.sleep(4)
    site.machine.start()
    wait_until(lambda: (site.folder(run) / "outputs" / "late").exists() or site.show(run) is None)
    assert "done meanwhile" in (site.folder(run) / "outputs" / "late").read_text()


def test_a_request_to_cancel_is_kept_until_the_machine_can_be_told(site: Site, wait_until: Wait) -> None:
    run = site.submit("import time\nprint('up')\ntime.sleep(60)")
    wait_until(lambda: "up" in site.hpcest("logs", run))
    site.machine.stop()
    site.hpcest("cancel", run, code=1)
    site.machine.start()
    wait_until(lambda: "Canceled" in site.show(run))


@pytest.mark.parametrize(("shared", "call"), [(True, 1), (False, 1), (False, 2)])
def test_a_connection_that_breaks_in_a_submission_starts_the_run_once(site: Site, shared: bool, call: int) -> None:
    """The machine has done what it was asked for, and could not say so."""
    site.machine.guard()
    site.configure(shared=shared)
    site.machine.break_answer(call)
    run = site.submit("open('outputs/times', 'a').write('x')", "-f")
    assert (site.folder(run) / "outputs" / "times").read_text() == "x"
    assert "Completed" in site.show(run)
    assert site.machine.calls >= (1 if shared else 2) + 1


@pytest.mark.parametrize(("shared", "call"), [(True, 1), (False, 2)])
def test_whether_a_run_was_started_is_found_out_when_the_machine_is_back(site: Site, wait_until: Wait, shared: bool, call: int) -> None:
    """It was started, its answer was lost, and the machine was gone when it was tried again."""
    site.machine.guard(f"kill -9 $(cat {site.machine.folder}/listener)")
    site.configure(shared=shared)
    site.machine.break_answer(call)
    said = site.submit("print('it ran')", code=1)
    assert "whether it was started" in said
    (run,) = site.runs()
    assert "Failed" not in site.show(run)
    site.machine.stop()
    site.machine.start()
    wait_until(lambda: "Completed" in site.show(run))
    assert "it ran" in site.hpcest("logs", run)


def test_files_that_came_in_part_are_fetched_again(site: Site, wait_until: Wait) -> None:
    """The connection breaks in the middle of an output: the run is not over before all is here."""
    site.machine.guard()
    run = site.submit("open('outputs/big', 'wb').write(bytes(range(256)) * (1 << 17))\nprint('end')")
    time.sleep(2)
    site.machine.break_answer(1, after=9 << 20)
    shown = site.show(run)
    assert "broke" in shown
    assert "Completed" not in shown
    assert not (site.folder(run) / "outputs" / "big").exists()
    wait_until(lambda: "Completed" in site.show(run))
    assert (site.folder(run) / "outputs" / "big").read_bytes() == bytes(range(256)) * (1 << 17)
    assert not list(site.folder(run).rglob("incoming*"))


def test_several_who_look_at_once_leave_whole_files(site: Site) -> None:
    run = site.submit("import time\nfor n in range(4000):\n    print('line', n)\n    time.sleep(0.0005)")
    program = Path(sys.executable).with_name("hpcest")
    looks = [subprocess.Popen([program, "wait", run], cwd=site.root, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [look.wait(60) for look in looks] == [0, 0, 0]
    assert (site.folder(run) / "user_logs" / "std_log.txt").read_text() == "".join(f"line {number}\n" for number in range(4000))


def test_what_is_wrong_with_a_machine_is_said_with_the_next_step(site: Site, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    (tmp_path / "nothing").touch()
    unknown = [f"UserKnownHostsFile={tmp_path}/nothing", "GlobalKnownHostsFile=/dev/null", "ControlPath=none"]
    direct = [f"UserKnownHostsFile={site.machine.folder}/known_hosts", "ControlPath=none"]
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and says nothing
    cases: list[tuple[dict[str, object], str, str]] = [
        ({"host": "nobody.invalid", "options": direct}, "Could not resolve", "check 'host'"),
        ({"port": 1, "options": direct}, "refused", "check 'port'"),
        ({"port": silent.getsockname()[1], "options": direct, "connect": 1}, "timed out", "check that the machine is up"),
        ({"identity": tmp_path / "other", "options": direct}, "Permission denied", "ssh-copy-id"),
        ({"options": unknown}, "Host key verification failed", "connect once by hand"),
        ({"options": [*direct, "NoSuchOption=1"]}, "nosuchoption", "check 'options'"),
        ({"python": "/no/python"}, "/no/python", "'python' of the compute target"),
        ({"python": "/bin/false"}, "(code 1)", "3.8 or newer"),
        ({"workspace": "/proc/nowhere"}, "/proc/nowhere", "Hint"),
        ({"host": "''"}, "has no host", "user@host"),
    ]
    for options, words, hint in cases:
        site.options = {"shared": False}
        site.configure(**options)
        said = site.submit("print(1)", code=2 if "has no host" in words else 1)
        assert words in said, said
        assert hint in said, said
    silent.close()


def test_a_machine_that_does_not_see_the_workspace_says_so(site: Site, wait_until: Wait) -> None:
    """A file system that is not mounted: nothing can be started, and nothing is known of what was."""
    site.configure(shared=True)
    run = site.submit("import time; time.sleep(60)")
    wait_until(lambda: "Running" in site.show(run))
    site.machine.hide(site.root)
    assert "does not see this workspace" in site.hpcest("doctor", code=1)
    said = site.submit("print(1)", code=1)
    assert "the run's folder is not to be seen" in said
    assert "'shared: false'" in said
    shown = site.show(run)
    assert "Running" in shown
    assert "can't be seen" in shown
    site.machine.stop()
    site.machine.start()
    site.hpcest("cancel", run)
    wait_until(lambda: "Canceled" in site.show(run))


def test_the_doctor_says_whether_the_machine_answers(site: Site) -> None:
    site.configure(shared=True)
    assert "answers in" in site.hpcest("doctor")
    site.configure(shared=False)
    assert str(site.machine.folder / "far") in site.hpcest("doctor")
    site.configure(workspace="/proc/nowhere")
    assert "can't be written there" in site.hpcest("doctor", code=1)
    site.machine.stop()
    assert "refused" in site.hpcest("doctor", code=1)


def test_what_one_machine_can_not_give_is_refused(site: Site) -> None:
    assert "one machine" in site.submit("print(1)", "--nodes", "2", code=2)
    assert "built here" in site.submit("print(1)", "--env", "venv", "--pip", "packaging", code=2)
    site.configure(time="soon")
    assert "time 'soon' can't be read" in site.submit("print(1)", code=2)


def test_the_time_limit_of_the_compute_target_ends_a_run(site: Site) -> None:
    site.configure(shared=False, time="0:00:01", grace=1.0)
    run = site.submit("import time; time.sleep(60)")
    site.hpcest("wait", run, code=143)
    assert "TimedOut" in site.show(run)
