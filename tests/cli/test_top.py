"""``hpcest top``: what goes on now, once or live, with one question to each scheduler a look."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

from hpcest.model.folders import WorkspaceFolder
from tests.cluster.fixtures import Slurm

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
WaitUntil = Callable[..., None]
KEYS = [
    "id", "experiment", "display_name", "status", "reason", "message", "compute", "created", "started", "ended", "attempt", "metrics",
    "step", "job",
]  # fmt: skip


def test_nothing_goes_on(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    assert hpcest("top")[:3] == ("", "no runs go on\n", 0)
    assert hpcest("top", "--once", "--json").json == []
    assert hpcest("top", "--json").code == 2


def test_what_ended_lately_with_its_progress(hpcest: Hpcest, made_run: MakeRun) -> None:
    now = time.time()
    events = [{"e": "metric", "k": "loss", "v": 0.5, "s": 7}, {"e": "metric", "k": "acc", "v": 0.25}]
    made_run(run_id="bbbb2222", status="Failed", ended={"r": "TimedOut", "m": "took too long", "rc": 143}, events=events)
    made_run(run_id="aaaa1111", created=now - 9e5, ended={"t": now - 3600})
    (row,) = hpcest("top", "--once", "--json").json
    assert list(row) == KEYS
    assert (row["status"], row["reason"], row["metrics"], row["step"]) == ("Failed", "TimedOut", {"acc": 0.25, "loss": 0.5}, 7)
    headings, line = hpcest("top").out.splitlines()
    assert headings.split() == ["ID", "EXPERIMENT", "NAME", "STATUS", "COMPUTE", "SINCE", "PROGRESS", "MESSAGE"]
    assert "Failed (TimedOut)" in line
    assert "step 7  acc=0.25  loss=0.5  took too long" in line
    assert hpcest("top", "--once", "-e", "other", "--json").json == []


def test_the_keys_are_those_of_the_help(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    help_text = " ".join(hpcest("top", "--help").out.split())
    assert all(f" {key}," in help_text or f" {key} (" in help_text for key in KEYS)


def test_what_waits_and_what_runs_comes_first(hpcest: Hpcest, workspace: WorkspaceFolder, made_run: MakeRun, wait_until: WaitUntil) -> None:
    workspace.config.write_text("compute:\n  local: {backend: local, slots: 1}\n")
    made_run(run_id="zzzz9999")
    (workspace.root / "it.py").write_text("import hpcest, time\nhpcest.Run.get_context().log('loss', 0.5)\ntime.sleep(60)\n")
    first, second = (hpcest("submit", "it.py").out.strip() for _ in range(2))

    def shown() -> list[list[Any]]:
        return [[row["id"], row["status"], row["message"], row["metrics"]] for row in hpcest("top", "--once", "--json").json]

    wait_until(lambda: shown()[1][3] == {"loss": 0.5}, "the metric")
    waiting, running, ended = shown()
    assert waiting == [second, "Queued", "waits for a free slot", {}]
    assert running[:2] == [first, "Running"]
    assert ended[:2] == ["zzzz9999", "Completed"]
    hpcest("cancel", second, first)
    wait_until(lambda: [row[1] for row in shown()] == ["Canceled", "Canceled", "Completed"], "their end")


def test_live_until_ctrl_c(workspace: WorkspaceFolder, made_run: MakeRun) -> None:
    """Made anew as asked for, what runs were named never drives the terminal, and Ctrl-C is a good end."""
    made_run(run_id="bbbb2222", display_name="\x1b[2Jevil")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))
    words = [sys.executable, "-m", "hpcest", "top", "-i", "0.1"]
    heard = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    signal.signal(signal.SIGINT, heard)
    os.close(theirs)
    text, until = b"", time.monotonic() + 20
    while text.count(b"bbbb2222") < 3 and time.monotonic() < until and select.select([ours], [], [], 1)[0]:
        text += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    while process.poll() is None and time.monotonic() < until + 20:  # what nobody reads would stop it
        if select.select([ours], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # it has gone
                text += os.read(ours, 65536)
    process.kill()
    os.close(ours)
    assert text.count(b"bbbb2222") >= 3, text[-2000:]
    assert process.wait(30) == 0
    assert b"\x1b[2J" not in text
    assert b"Ctrl-C ends this" in text


def test_a_hundred_waiting_jobs_cost_one_question(
    slurm: Slurm, workspace: WorkspaceFolder, hpcest: Hpcest, monkeypatch: Any, tmp_path: Any
) -> None:
    workspace.config.write_text("compute: {cpu: {backend: slurm, poll: 0.1, sbatch: {hold: true}}}\ndefault_compute: cpu\n")
    ids = hpcest("submit", "hello.py", "--array", "0-19").out.split()
    ids.append(hpcest("submit", "hello.py").out.strip())
    time.sleep(0.2)
    (tmp_path / "bin").mkdir()
    wrapper, said = tmp_path / "bin" / "squeue", tmp_path / "asked"
    real = next(place for place in os.environ["PATH"].split(":") if os.path.exists(f"{place}/squeue"))
    wrapper.write_text(f'#!/bin/sh\necho x >> {said}\nexec {real}/squeue "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    rows = hpcest("top", "--once", "--json").json
    try:
        assert {row["id"] for row in rows} == set(ids)
        assert {row["status"] for row in rows} == {"Queued"}
        assert all("is held" in row["message"] for row in rows), rows[0]
        assert said.read_text() == "x\n"
    finally:
        canceled = hpcest("cancel", *ids, "--json")
    assert {row["status"] for row in canceled.json} <= {"Canceled", "CancelRequested"}
