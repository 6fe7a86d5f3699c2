"""Other programs: what they print, how they end, and what is left when they do not."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hpcest.kit.process import Finished, run, start

AWKWARD = ["a b", "", "'", '"', "$HOME", "`id`", "*", "new\nline", "-n", "é", "; exit 3", "\\"]


def test_arguments_arrive_as_they_were_given() -> None:
    done = run([sys.executable, "-c", "import sys; print(repr(sys.argv[1:]))", *AWKWARD])
    assert (done.ok, done.out, done.err) == (True, f"{AWKWARD!r}\n", "")


def test_both_outputs_and_the_code_are_kept_apart() -> None:
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert done == Finished(("sh", "-c", "echo out; echo err >&2; exit 3"), 3, "out\n", "err\n")
    assert not done.ok


def test_a_path_may_stand_in_a_command(tmp_path: Path) -> None:
    script = tmp_path / "a script"
    script.write_text("#!/bin/sh\npwd\n")
    script.chmod(0o755)
    assert run([script], cwd=tmp_path).out == f"{tmp_path.resolve()}\n"


def test_a_program_gets_the_variables_that_it_is_given_and_no_others() -> None:
    assert run(["/usr/bin/env"], env={"ONLY": "this one"}).out == "ONLY=this one\n"


def test_a_program_reads_what_it_is_given_or_nothing() -> None:
    assert run(["cat"], stdin="é\n").out == "é\n"
    code = "from hpcest.kit.process import run; print(repr(run(['cat']).out))"
    assert run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdin="not for the child").out == "''\n"


def test_output_that_is_not_text_is_kept_with_replacements() -> None:
    assert run(["printf", r"a\377b"]).out == "a\ufffdb"


def test_a_program_that_is_not_there_is_no_exception(tmp_path: Path) -> None:
    done = run([tmp_path / "none"])
    assert (done.code, done.out) == (127, "")
    assert str(tmp_path / "none") in done.err
    assert run(["true"], cwd=tmp_path / "none").code == 127


def test_a_signal_is_a_negative_code() -> None:
    assert run(["sh", "-c", "kill -TERM $$"]).code == -signal.SIGTERM


def test_a_program_that_takes_too_long_is_killed_and_what_it_printed_is_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run(["sh", "-c", "echo $$ > pid; echo early; exec sleep 60"], cwd=tmp_path, timeout=0.5)
    assert time.monotonic() - began < 10
    assert (done.code, done.out, done.err) == (124, "early\n", "sh: no answer in 0.5 s")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_is_run_can_be_seen_in_the_log_ready_to_paste(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "hpcest.kit.process"):
        run(["echo", "a b"])
    assert caplog.messages == ["run: echo 'a b'"]


def test_a_started_program_has_a_session_of_its_own_and_writes_where_told(tmp_path: Path) -> None:
    code = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), os.environ['K'], os.read(0, 1)); os.write(2, b'err')"
    with open(tmp_path / "log", "wb") as output:
        started = start([sys.executable, "-u", "-c", code], output=output, cwd=tmp_path, env={"K": "v"})
    assert started.wait(30) == 0
    assert (tmp_path / "log").read_text() == f"True {tmp_path.resolve()} v b''\nerr"


def test_a_started_program_inherits_the_descriptors_that_are_named_and_no_others(tmp_path: Path) -> None:
    kept, closed = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(closed, True)
    code = f"import os; print(os.path.exists('/proc/self/fd/{kept}'), os.path.exists('/proc/self/fd/{closed}'))"
    with open(tmp_path / "log", "wb") as output:
        started = start([sys.executable, "-c", code], output=output, cwd=tmp_path, env={}, keep=[kept])
    assert started.wait(30) == 0
    os.close(kept)
    os.close(closed)
    assert (tmp_path / "log").read_text() == "True False\n"


def test_starting_what_is_not_there_raises(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as output, pytest.raises(FileNotFoundError):
        start([tmp_path / "none"], output=output, cwd=tmp_path, env={})
