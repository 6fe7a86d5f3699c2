"""The controller ends every run in a true state, whatever the program and the outside world do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.model.folders import RunFolder
from hpcest.onnode import processes
from hpcest.onnode.events import read_run
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from tests.onnode.conftest import Bench  # only for its type: pytest finds the fixture

Wait = Any


def log_of(folder: RunFolder, rank: int = 0, ranks: int = 1) -> str:
    return folder.rank_log(rank, ranks=ranks).read_text(errors="replace")


def test_a_program_that_ends_well(bench: Bench) -> None:
    """Its metrics, outputs and logs are in the run folder; what it did not change of its source is gone."""
    folder = bench.run(
        "from hpcest import Run\n"
        "run = Run.get_context()\n"
        "run.log('loss', 0.25)\n"
        "open('outputs/model', 'w').write('m'); open('logs/more.txt', 'w').write('l'); open('left.txt', 'w').write('x')\n"
        "print('hello')\n"
    )

    state, metrics = read_run(folder.path)
    assert (state.status, state.exit_code, state.reason) == ("Completed", 0, "")
    assert metrics.to_dict() == {"loss": 0.25}
    assert (folder.outputs / "model").read_text() == "m"
    assert (folder.logs / "more.txt").read_text() == "l"
    assert [path.name for path in folder.work.iterdir()] == ["left.txt"]
    assert log_of(folder) == "hello\n"
    assert get_json(str(folder.sentinel(0)))["status"] == "Completed"
    assert {"elapsed_s", "cpu_s", "peak_memory_mb"} <= set(state.usage)


def test_a_run_costs_few_files(bench: Bench) -> None:
    """A run that logs and does nothing else leaves at most ten files behind."""
    folder = bench.run("from hpcest import Run\nRun.get_context().log('a', 1)\n")

    assert len([path for path in folder.path.rglob("*") if path.is_file()]) <= 10


@pytest.mark.parametrize(
    ("program", "code", "reason", "message"),
    [
        ("raise SystemExit(3)", 3, "UserError", "the program exited with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "Signaled", "the program was killed (SIGKILL)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "Signaled", "the program was ended by SIGSEGV"),
        ("import sys; sys.exit(127)", 127, "UserError", "the program exited with code 127: a command was not found"),
    ],
)
def test_a_program_that_fails(bench: Bench, program: str, code: int, reason: str, message: str) -> None:
    """The verdict has the code that a shell would give, and a sentence."""
    folder = bench.run(program)

    state, _ = read_run(folder.path)
    assert (state.status, state.exit_code, state.reason) == ("Failed", code, reason)
    assert state.message.startswith(message)


def test_a_program_that_is_not_there(bench: Bench) -> None:
    folder = bench.run("", argv=["no-such-program-at-all"])

    state, _ = read_run(folder.path)
    assert (state.status, state.exit_code) == ("Failed", 127)
    assert "could not start 'no-such-program-at-all'" in log_of(folder)


def test_a_snapshot_that_is_gone_fails_the_run(bench: Bench) -> None:
    """What goes wrong before the program starts is a verdict too."""
    folder = bench.prepare("")
    Path(json.loads(folder.launch.read_text())["snapshot"]["manifest"]).unlink()
    bench.start(folder).wait(60)

    state, _ = read_run(folder.path)
    assert (state.status, state.reason) == ("Failed", "LaunchFailed")
    assert "manifest" in state.message


def test_ranks_are_told_where_they_are(bench: Bench) -> None:
    """Two nodes of two processes here: four ranks, one port, each with its own log."""
    program = (
        "import os\n"
        "names = 'RANK LOCAL_RANK NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT'.split()\n"
        "print(' '.join(os.environ[name] for name in names))"
    )
    folder = bench.run(program, nodes=2, procs_per_node=2)

    lines = [log_of(folder, rank, 4).split() for rank in range(4)]
    assert [line[:5] for line in lines] == [
        ["0", "0", "0", "4", "2"],
        ["1", "1", "0", "4", "2"],
        ["2", "0", "1", "4", "2"],
        ["3", "1", "1", "4", "2"],
    ]
    assert len({tuple(line[5:]) for line in lines}) == 1
    assert 1024 < int(lines[0][6]) < 65536


def test_arguments_are_expanded_for_each_rank(bench: Bench) -> None:
    """Variables that the rank has are replaced, other dollars stay."""
    folder = bench.prepare("import sys; print(sys.argv[1:])", procs_per_node=2)
    launch = json.loads(folder.launch.read_text())
    launch["argv"] += ["$RANK", "${LOCAL_RANK}/x", "$NO_SUCH", "a$", "$$", "pa$$word"]
    folder.launch.write_text(json.dumps(launch))
    bench.start(folder).wait(60)

    assert log_of(folder, 1, 2) == "['1', '1/x', '$NO_SUCH', 'a$', '$$', 'pa$$word']\n"


def test_the_first_rank_that_fails_is_the_cause(bench: Bench) -> None:
    """The others are ended, and their codes don't hide the culprit's."""
    began = time.monotonic()
    folder = bench.run("import os, time\nif os.environ['RANK'] == '1': os._exit(3)\ntime.sleep(60)", procs_per_node=3)

    state, _ = read_run(folder.path)
    assert (state.exit_code, state.message) == (3, "rank 1 exited with code 3")
    assert time.monotonic() - began < 30


def test_time_limit(bench: Bench) -> None:
    folder = bench.run("import time; time.sleep(60)", time=0.5)

    state, _ = read_run(folder.path)
    assert (state.status, state.reason) == ("Failed", "TimedOut")


def test_term_then_kill_after_the_grace_period(bench: Bench, wait_until: Wait) -> None:
    """A program that ignores TERM is killed; the run is canceled all the same."""
    folder = bench.prepare(
        "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(1)",
        grace=1.0,
    )
    controller = bench.start(folder)
    wait_until(lambda: folder.rank_log(0).exists() and "ready" in log_of(folder))
    controller.terminate()
    controller.wait(30)

    state, _ = read_run(folder.path)
    assert (state.status, state.exit_code) == ("Canceled", 137)
    assert log_of(folder) == "ready\nno\n"


def test_a_program_may_save_its_work_on_term(bench: Bench, wait_until: Wait) -> None:
    folder = bench.prepare(
        "import signal, sys, time\n"
        "def save(*_):\n    open('outputs/checkpoint', 'w').write('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    controller = bench.start(folder)
    wait_until(lambda: folder.rank_log(0).exists() and "ready" in log_of(folder))
    controller.terminate()
    controller.wait(30)

    assert read_run(folder.path)[0].status == "Canceled"
    assert (folder.outputs / "checkpoint").read_text() == "saved"


def test_cancel_by_file(bench: Bench, wait_until: Wait) -> None:
    """What another host can do: the controller looks for the file at each heartbeat."""
    folder = bench.prepare("import time; time.sleep(60)")
    folder.cancel.touch()
    bench.start(folder).wait(30)

    assert read_run(folder.path)[0].status == "Canceled"


def _sleepers(mark: str) -> list[int]:
    """The processes whose command line has ``mark``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", mark.encode()]:
                found.append(int(name))
    return found


FORKS = """
import subprocess, sys, time
for detach in (False, True):
    subprocess.Popen(["sleep", "{mark}"], start_new_session=detach)
subprocess.Popen(["sh", "-c", "(setsid sleep {mark} &) ; exit 0"]).wait()
print("forked", flush=True)
{then}
"""


def test_children_that_outlive_the_program_are_ended(bench: Bench) -> None:
    """Also daemons that left their session and their parents; the program's own verdict stays."""
    mark = "4711.25"
    folder = bench.run(FORKS.format(mark=mark, then="sys.exit(0)"))

    assert read_run(folder.path)[0].status == "Completed"
    assert _sleepers(mark) == []


def test_a_killed_controller_is_no_lost_run(bench: Bench, wait_until: Wait) -> None:
    """Its guardian ends the whole tree and writes the verdict, without anyone asking."""
    mark = "4712.25"
    folder = bench.prepare(FORKS.format(mark=mark, then="time.sleep(60)"))
    controller = bench.start(folder)
    wait_until(lambda: folder.rank_log(0).exists() and "forked" in log_of(folder))
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    wait_until(lambda: folder.sentinel(0).exists())

    state, _ = read_run(folder.path)
    assert (state.status, state.reason) == ("Failed", "Lost")
    assert _sleepers(mark) == []


def test_a_killed_guardian_changes_nothing(bench: Bench, wait_until: Wait) -> None:
    folder = bench.prepare("import time; print('up', flush=True); time.sleep(1)")
    controller = bench.start(folder)
    wait_until(lambda: folder.rank_log(0).exists() and "up" in log_of(folder))
    os.kill(get_json(str(folder.claim(0)))["guardian"]["pid"], signal.SIGKILL)
    controller.wait(30)

    assert read_run(folder.path)[0].status == "Completed"


def test_two_controllers_run_an_attempt_once(bench: Bench) -> None:
    """Starting a run again is harmless: the second controller finds the claim and leaves."""
    folder = bench.prepare("open('outputs/runs', 'a').write('x'); import time; time.sleep(0.5)")
    started = [bench.start(folder) for _ in range(4)]
    codes = [process.wait(30) for process in started]

    assert codes == [0, 0, 0, 0]
    assert (folder.outputs / "runs").read_text() == "x"


def test_a_lot_of_output_and_odd_bytes(bench: Bench) -> None:
    """Nothing is lost, cut or decoded on the way into the log."""
    folder = bench.run("import os\nfor _ in range(100): os.write(1, b'x' * 999_999 + b'\\xff')\n")

    assert folder.rank_log(0).stat().st_size == 100_000_000
    assert folder.rank_log(0).read_bytes()[-1:] == b"\xff"


def test_ten_thousand_output_files(bench: Bench) -> None:
    folder = bench.run("for n in range(10000): open(f'outputs/{n}', 'w').write('x')\n")

    assert read_run(folder.path)[0].status == "Completed"
    assert len(list(folder.outputs.iterdir())) == 10000


def test_a_program_that_deletes_its_working_directory(bench: Bench) -> None:
    """Its outputs stay, and so does the store that its source came from."""
    folder = bench.run(
        "import os, shutil\nfrom hpcest import Run\nopen('outputs/kept', 'w').write('k')\n"
        "shutil.rmtree(os.getcwd())\nRun.get_context().log('after', 1)\n"
    )

    state, metrics = read_run(folder.path)
    assert state.status == "Completed"
    assert metrics.to_dict() == {"after": 1}
    assert (folder.outputs / "kept").exists()
    assert len([path for path in bench.workspace.objects.rglob("*") if path.is_file()]) == 1


def test_a_program_that_edits_its_source_edits_its_copy(bench: Bench) -> None:
    folder = bench.run("open('train.py', 'a').write('# changed')")

    assert (folder.work / "train.py").read_text().endswith("# changed")
    (stored,) = (path for path in bench.workspace.objects.rglob("*") if path.is_file())
    assert "# changed" not in stored.read_text().replace("'# changed'", "")


def test_secrets_reach_the_program_and_are_gone_afterwards(bench: Bench) -> None:
    folder = bench.prepare("import os; print(os.environ['API_TOKEN'])", secrets=["API_TOKEN"])
    (folder.state / "secrets.json").write_text('{"API_TOKEN": "s3cret"}')
    bench.start(folder).wait(30)

    assert log_of(folder) == "s3cret\n"
    assert not (folder.state / "secrets.json").exists()


def test_signals_and_streams_are_as_a_shell_would_leave_them(bench: Bench) -> None:
    """No blocked signals, SIGPIPE at its default, an empty stdin."""
    program = (
        "import signal, sys\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), repr(sys.stdin.read()))\n"
        "import subprocess; print(subprocess.run(['grep', 'SigIgn', '/proc/self/status'], capture_output=True, text=True).stdout)\n"
    )
    folder = bench.run(f"import os\nos.execvp('{sys.executable}', ['{sys.executable}', '-c', {program!r}])")

    assert log_of(folder).startswith("set() ''")


def test_resident_memory_stays_small(bench: Bench, wait_until: Wait) -> None:
    """The controller keeps under 40 MB resident."""
    folder = bench.prepare("import time; print('up', flush=True); time.sleep(1)")
    controller = bench.start(folder)
    wait_until(lambda: folder.rank_log(0).exists() and "up" in log_of(folder))
    status = Path(f"/proc/{controller.pid}/status").read_text()
    controller.wait(30)

    assert int(status.split("VmRSS:")[1].split()[0]) < 40 * 1024


def test_identity_tells_a_reused_pid_from_the_process_it_was() -> None:
    child = subprocess.Popen(["sleep", "60"])
    who = processes.identity(child.pid)
    assert processes.alive(who) is True
    assert processes.alive({**who, "start": who["start"] - 1}) is False
    assert processes.alive({**who, "boot": "another"}) is False
    assert processes.alive({**who, "host": "elsewhere"}) is None
    child.kill()
    assert processes.alive(who) is False or child.wait() == -signal.SIGKILL
    child.wait()
    assert processes.alive(who) is False
