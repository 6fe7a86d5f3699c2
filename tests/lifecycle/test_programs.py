"""Whatever a program does, its run's record is right and complete, and its exit code comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
LOGS = "from hpcest import Run\nrun = Run.get_context()\nrun.log('loss', 0.5)\nopen('outputs/model', 'w').write('m')\n"


@pytest.mark.parametrize(
    ("ends", "code", "status", "reason", "message"),
    [
        ("raise SystemExit(0)", 0, "Completed", "", ""),
        ("raise SystemExit(3)", 3, "Failed", "UserError", "the program exited with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "Failed", "Signaled", "the program was killed (SIGKILL)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "Failed", "Signaled", "the program was ended by SIGTERM"),
        ("import os; os.abort()", 134, "Failed", "Signaled", "the program was ended by SIGABRT"),
        ("raise SystemExit(255)", 255, "Failed", "UserError", "the program exited with code 255"),
        ("import shutil, os; shutil.rmtree(os.getcwd()); raise SystemExit(4)", 4, "Failed", "UserError", "the program exited with code 4"),
        ("import os; os.close(1); os.close(2); raise SystemExit(5)", 5, "Failed", "UserError", "the program exited with code 5"),
        ("import os, signal; os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getppid(), signal.SIGCONT)", 0, "Completed", "", ""),
    ],
)
def test_how_a_program_ends(site: Site, ends: str, code: int, status: str, reason: str, message: str) -> None:
    """``wait`` and ``submit -f`` return the program's code, or 128 and the signal; metrics and outputs are kept."""
    run = site.submit(LOGS + ends)
    known = site.ended(run)

    assert site.wait(run).code == code
    assert (known["status"], known["reason"], known["exit_code"]) == (status, reason, code)
    assert known["message"].startswith(message)
    assert known["metrics"] == {"loss": 0.5}
    assert {"outputs/model", "user_logs/std_log.txt"} <= set(known["artifacts"])
    assert [(row["status"], row["reason"], row["exit_code"], row["metrics"]) for row in site.runs()] == [
        (status, reason, code, {"loss": 0.5})
    ]
    assert site.cli("submit", "-f", "train.py").code == code


def test_explanations(site: Site) -> None:
    """A failed run comes with the end of its log, and the next step."""
    run = site.submit("print('before'); raise ValueError('the data is bad')")
    site.wait(run)
    said = site.cli("explain", run.id).ok().out

    assert "exited with code 1" in said
    assert "ValueError: the data is bad" in said
    assert "next: " in said


def test_a_hundred_megabytes_of_output(site: Site) -> None:
    """All of it is kept, and shown by who follows."""
    site.write("import os\nfor _ in range(100): os.write(1, b'x' * 999_999 + b'\\n')\n")
    count = "import sys; print(sum(len(data) for data in iter(lambda: sys.stdin.buffer.read(1 << 20), b'')))"
    with site.start("submit", "-f", "train.py", stdout=subprocess.PIPE) as follower:
        counted = subprocess.run([sys.executable, "-c", count], stdin=follower.stdout, capture_output=True, timeout=60, check=True)

    assert follower.returncode == 0
    assert int(counted.stdout) == 100_000_000
    (row,) = site.runs()
    assert site.run(row["id"]).rank_log(0).stat().st_size == 100_000_000


def test_output_that_is_not_utf_8(site: Site) -> None:
    """Kept as it is, shown with replacement characters; half a character at the end is no trouble."""
    run = site.submit("import os; os.write(1, b'a\\xffb \\xc3\\xbc \\xe2\\x82'); raise SystemExit(1)")
    site.wait(run)

    assert run.rank_log(0).read_bytes() == b"a\xffb \xc3\xbc \xe2\x82"
    assert site.cli("logs", run.id).ok().out.startswith("a\N{REPLACEMENT CHARACTER}b ü ")
    assert site.cli("logs", "-f", run.id).out.startswith("a\N{REPLACEMENT CHARACTER}b ü ")
    assert "a\N{REPLACEMENT CHARACTER}b ü" in site.cli("explain", run.id).ok().out


def test_ten_thousand_output_files(site: Site, tmp_path: Path) -> None:
    run = site.submit("import os\nos.mkdir('outputs/many')\nfor n in range(10000): open(f'outputs/many/{n}', 'w').close()\n")
    known = site.ended(run)

    assert known["status"] == "Completed"
    assert len([name for name in known["artifacts"] if name.startswith("outputs/many/")]) == 10000
    assert len(site.cli("show", run.id).ok().out.splitlines()) < 100
    site.cli("artifacts", "get", run.id, "outputs/many/77", tmp_path / "one").ok()
    assert (tmp_path / "one").is_file()


def alive(mark: str) -> list[int]:
    """The processes that sleep for ``mark`` seconds."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(int(name))
    return found


def test_children_that_outlive_the_program(site: Site) -> None:
    """They end with the run, also those that left their session; the program's verdict stays."""
    mark = f"47{os.getpid()}.5"
    run = site.submit(
        "import subprocess\n"
        f"subprocess.Popen(['sleep', '{mark}'])\nsubprocess.Popen(['sleep', '{mark}'], start_new_session=True)\n"
        f"subprocess.run(['sh', '-c', '(setsid sleep {mark} &) ; exit 0'])\nraise SystemExit(6)"
    )

    assert site.wait(run).code == 6
    assert alive(mark) == []


def test_ranks(site: Site) -> None:
    """A rehearsal of two nodes with two processes each: distinct ranks, ``$RANK`` in arguments, a log for each."""
    program = "import os, sys\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['NODE_RANK'], *sys.argv[1:])\n"
    site.write(program + LOGS)
    run = site.run(
        site.cli("submit", "-n", "2", "-p", "2", "train.py", "--", "--part=$RANK", "${LOCAL_RANK}of$LOCAL_WORLD_SIZE").ok().out.strip()
    )
    known = site.ended(run)

    assert known["status"] == "Completed"
    assert known["metrics"] == {"loss": [0.5] * 4}
    expected = [f"{rank} 4 {rank // 2} --part={rank} {rank % 2}of2\n" for rank in range(4)]
    assert [run.rank_log(rank, ranks=4).read_text() for rank in range(4)] == expected
    assert sorted(site.cli("logs", run.id).ok().out.splitlines(True)) == [f"[{rank}] {line}" for rank, line in enumerate(expected)]
    assert site.cli("logs", run.id, "--rank", "3").ok().out == expected[3]


def test_one_rank_that_fails(site: Site) -> None:
    """It ends the others, and is named."""
    site.write("import os, time\nif os.environ['RANK'] == '2': raise SystemExit(9)\ntime.sleep(60)\n")
    answer = site.cli("submit", "-f", "-p", "4", "train.py")

    assert answer.code == 9
    assert "rank 2 exited with code 9" in answer.err


def test_a_shell_line_is_left_to_its_shell(site: Site) -> None:
    """Nothing in it is replaced before."""
    job = site.write('command: >-\n  X=new; echo "$X $RANK" \'$HOME\' "$(echo $X)"; exit 7\n', "job.yaml")
    run = site.run(site.cli("submit", job, env={"X": "old"}).ok().out.strip())

    assert site.wait(run).code == 7
    assert run.rank_log(0).read_text() == "new 0 $HOME new\n"


@pytest.mark.parametrize("saves", [True, False])
def test_the_time_limit(site: Site, saves: bool) -> None:
    """The program gets TERM and may save its work; one that doesn't listen is killed."""
    site.configure("compute: {local: {grace: 0.5}}\n")
    act = "open('outputs/saved', 'w').close() or sys.exit(0)" if saves else "None"
    site.write(f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: {act})\nwhile True: time.sleep(0.1)\n")
    run = site.run(site.cli("submit", "train.py", "--time", "1s").ok().out.strip())

    assert site.wait(run).code == (1 if saves else 137)
    known = site.show(run)
    assert (known["status"], known["reason"]) == ("Failed", "TimedOut")
    assert "its time limit of 1 s" in known["message"]
    assert ("outputs/saved" in known["artifacts"]) == saves
