"""What is different on a terminal, and what never is: tables and colours there, plain data in a pipe, clean ends in both."""

from __future__ import annotations

import _thread
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

MakeRun = Callable[..., Any]
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
HPCEST = (sys.executable, "-m", "hpcest")


def on_a_terminal(*words: str, columns: int = 100, environ: Mapping[str, str] = MappingProxyType({})) -> tuple[str, int]:
    """What the command shows on a terminal of that width, and its code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "COLORTERM")}
    shown = b""
    with subprocess.Popen(
        [*HPCEST, *words], stdin=theirs, stdout=theirs, stderr=theirs, env={**env, "TERM": "xterm", **environ}
    ) as process:
        os.close(theirs)
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:
            pass  # a terminal that nobody has open any more
        code = process.wait(30)
    os.close(ours)
    return shown.decode().replace("\r\n", "\n"), code


@pytest.fixture
def some_runs(made_run: MakeRun) -> list[str]:
    long = {"display_name": "a name of many words that a table has to fold somewhere", "tags": {"a": "b"}}
    events = [{"e": "metric", "k": "accuracy", "v": 0.9}, {"e": "metric", "k": "\x1b[2Jevil", "v": 1}]
    return [made_run(**long, events=events).id, made_run(status="Failed", ended={"r": "UserError", "rc": 3}).id]


def test_tables_have_rules_and_colours_on_a_terminal(some_runs: list[str]) -> None:
    shown, code = on_a_terminal("runs")
    assert code == 0
    assert "────" in shown
    assert "\x1b[31mFailed (UserError)" in shown
    assert "\x1b[32mCompleted" in shown
    assert "\\x1b[2Jevil" in shown
    assert ESCAPES.sub("", shown).count("\x1b") == 0


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_refused(environ: dict[str, str], some_runs: list[str]) -> None:
    for words in (["runs"], ["show", some_runs[0]], ["doctor"]):
        shown, code = on_a_terminal(*words, environ=environ)
        assert (code, shown.count("\x1b")) == (0, 0)
    assert "\x1b[1mstatus" in on_a_terminal("show", some_runs[0], environ={"NO_COLOR": ""})[0]


@pytest.mark.parametrize("columns", [20, 40, 60, 100, 200])
def test_a_narrow_terminal_cuts_no_id_and_no_word(columns: int, some_runs: list[str]) -> None:
    shown, _ = on_a_terminal("runs", columns=columns)
    text = ESCAPES.sub("", shown)
    assert [word for word in text.split() if word in some_runs] == list(reversed(some_runs))
    compared = ESCAPES.sub("", on_a_terminal("compare", *some_runs, columns=columns)[0])
    assert all(f" {run} " in compared for run in some_runs)
    assert "…" not in text + compared


def test_a_pipe_gets_plain_text(workspace: WorkspaceFolder, some_runs: list[str]) -> None:
    """Whatever the environment says of colours and widths."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "20", "TERM": "xterm-256color"}
    for words in (["runs"], ["show", some_runs[0]], ["compare", *some_runs], ["doctor"]):
        done = subprocess.run([*HPCEST, *words], capture_output=True, text=True, env=env, check=False)
        assert (done.returncode, done.stdout.count("\x1b"), done.stdout.count("─")) == (0, 0, 0)
        assert all(len(line.split()) > 1 or not line for line in done.stdout.splitlines())


def test_names_are_shown_clean_on_a_terminal_and_raw_in_a_pipe(workspace: WorkspaceFolder, some_runs: list[str]) -> None:
    shown, _ = on_a_terminal("metrics", some_runs[0], "--csv")
    assert f"{some_runs[0]},\\x1b[2Jevil,,".replace("\\\\", "\\") in shown
    piped = subprocess.run([*HPCEST, "metrics", some_runs[0], "--csv"], capture_output=True, text=True, check=True).stdout
    assert f"{some_runs[0]},\x1b[2Jevil,," in piped


@pytest.mark.parametrize(
    "words", [["logs", "@latest"], ["runs"], ["metrics", "@latest", "--csv"], ["show", "@latest", "--json"], ["logs", "-f", "@latest"]]
)
def test_a_reader_that_goes_away_is_no_error(words: list[str], workspace: WorkspaceFolder, made_run: MakeRun) -> None:
    """As with ``hpcest logs @latest | head -1``: nothing on stderr, whatever was left to say."""
    events = [{"e": "metric", "k": "x", "v": number} for number in range(20_000)]
    made_run(files={"user_logs/std_log.txt": "line of a log\n" * 100_000}, events=events)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}  # which loses half of a write, and says nothing
    with subprocess.Popen([*HPCEST, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        code = process.wait(30)
    assert said.replace(f"run {os.listdir(workspace.runs)[0]}\n", "") == ""
    assert code in ((0, 1) if words == ["runs"] else (1,))  # two lines may be out before the reader goes


def test_a_closed_stdout_from_the_start(workspace: WorkspaceFolder, some_runs: list[str]) -> None:
    done = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *HPCEST, "runs"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_lacks_letters_shows_escapes(workspace: WorkspaceFolder, made_run: MakeRun) -> None:
    run = made_run(experiment="é→", files={"user_logs/std_log.txt": "caf\u00e9 \u2192\n"}).id
    for words, shown in ((["logs", run], b"caf\xe9 \\u2192\n"), (["runs"], b"\xe9\\u2192")):
        done = subprocess.run([*HPCEST, *words], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, check=True)
        assert shown in done.stdout


def test_ctrl_c_in_a_wait(workspace: WorkspaceFolder, hpcest: Callable[..., Any]) -> None:
    """The run goes on, and the code is the shell's for an interrupt."""
    (workspace.root / "it.py").write_text("import time; time.sleep(60)\n")
    run = hpcest("submit", "it.py").out.strip()
    main = threading.get_ident()

    def interrupt() -> None:
        while not any(
            frame.name == "wait" and "lifecycle" in frame.filename for frame in traceback.extract_stack(sys._current_frames()[main])
        ):
            time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert hpcest("wait", run) == ("", "interrupted\n", 130)
    thread.join()
    assert hpcest("show", run, "--json").json["status"] in ("Queued", "Running")
    hpcest("cancel", run)
    assert hpcest("wait", run).code in (1, 143)
