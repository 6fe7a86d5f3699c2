"""``hpcest show`` and ``explain``: all that is known of a run, at every point of its life."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Run
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.passage import Passage, record
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import Command, RunSpec

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
WaitUntil = Callable[..., None]
KEYS = [
    "id", "status", "reason", "message", "attempt", "exit_code", "created", "queued", "started", "ended", "user", "host", "folder", "spec",
    "environment", "job", "facts", "usage", "display_name", "description", "tags", "properties", "params", "metrics",
    "inputs", "outputs", "artifacts", "parent", "children", "models",
]  # fmt: skip


def test_the_whole_of_a_finished_run(hpcest: Hpcest, made_run: MakeRun) -> None:
    created = time.mktime((2026, 5, 4, 3, 2, 1, 0, 0, -1))
    folder = made_run(
        run_id="abcd1234", created=created, experiment="iris", display_name="first", description="why\nso", compute="night",
        command={"script": "train.py", "arguments": ["--text", "a b"]}, snapshot="0123456789abcdef", tags={"kind": "x"},
        properties={"p": "q"}, git={"commit": "fedcba9876543210", "branch": "main", "dirty": True},
        status="Failed", ended={"r": "UserError", "rc": 3, "m": "it\nbroke"},
        events=[
            {"e": "metric", "k": "acc", "v": 0.5}, {"e": "metric", "k": "loss", "v": 2.0}, {"e": "metric", "k": "loss", "v": 1 / 3},
            {"e": "usage", "elapsed_s": 1.5, "cpu_s": 0.5, "peak_memory_mb": 18.1},
        ],
        files={f"outputs/{number:02d}": "" for number in range(22)},
    )  # fmt: skip
    folder.lock.write_text(json.dumps({"kind": "host", "key": "0123456789abcdef", "facts": {}}))
    Run(str(folder.path)).register_model("net", "outputs/00")
    done = hpcest("show", "abcd1234")
    shown = [line for line in done.out.splitlines() if not line.startswith("ended")]
    assert shown == [
        "run          abcd1234 (first)",
        "status       Failed (UserError)",
        "why          it",
        "             broke",
        "experiment   iris",
        "description  why",
        "             so",
        "command      train.py --text 'a b'",
        "compute      night",
        "environment  host 0123456789ab",
        "snapshot     0123456789ab",
        "git          main fedcba987654 with changes",
        "created      2026-05-04 03:02:01 by me on login1",
        "exit code    3",
        "used         1.5 s, 0.5 s of CPU, 18.1 MB at most in one process",
        "tags         kind=x",
        "properties   p=q",
        "metrics      acc = 0.5",
        "             loss = 0.333333 (2 values)",
        "artifacts    outputs/00",
        *(f"             outputs/{number:02d}" for number in range(1, 20)),
        "             and 2 more",
        "models       net:1",
        f"folder       {folder.path}",
    ]
    known = hpcest("show", "abcd1234", "--json").json
    assert list(known) == KEYS
    assert (known["metrics"], known["exit_code"], known["environment"]["kind"]) == ({"acc": 0.5, "loss": [2.0, 1 / 3]}, 3, "host")
    assert (known["usage"], known["job"], known["models"], len(known["artifacts"])) == (
        {"elapsed_s": 1.5, "cpu_s": 0.5, "peak_memory_mb": 18.1}, {}, ["net:1"], 22,
    )  # fmt: skip
    help_text = " ".join(hpcest("show", "--help").out.split())
    assert all(f"{key}" in help_text for key in KEYS)


def test_what_a_program_named_never_drives_the_terminal(hpcest: Hpcest, made_run: MakeRun) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202e"
    folder = made_run(
        experiment=evil, display_name=evil, description=evil, tags={evil: evil}, properties={evil: evil}, status="Failed",
        ended={"m": evil, "r": "UserError", "rc": 1}, command={"script": evil, "arguments": [evil]}, files={"user_logs/std_log.txt": evil},
        events=[{"e": "metric", "k": evil, "v": evil}],
    )  # fmt: skip
    (folder.outputs / evil.replace("/", "")).touch()
    for words in (["show"], ["explain"], ["metrics"], ["artifacts", "list"], ["runs"], ["compare", folder.id], ["wait"], ["cancel"]):
        done = hpcest(*words, *([folder.id] if words != ["runs"] else []))
        assert all(char.isprintable() or char == "\n" for char in done.out + done.err), words
    for words in (["show"], ["explain"], ["metrics"], ["artifacts", "list"], ["wait"]):
        assert json.loads(hpcest(*words, folder.id, "--json").out)


def test_a_run_that_is_being_prepared(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    passage = Passage.of(Context(workspace), RunSpec("iris", Command("hello.py")), lambda line: None)
    record(passage)
    known = hpcest("show", passage.folder.id, "--json").json
    assert list(known) == KEYS
    assert (known["status"], known["queued"], known["started"], known["environment"], known["job"]) == ("Preparing", None, None, {}, {})
    shown = hpcest("show", passage.folder.id)
    assert shown.out.startswith(
        f"run         {passage.folder.id}\nstatus      Preparing\nexperiment  iris\ncommand     hello.py\ncompute     local\ncreated  "
    )
    explained = hpcest("explain", passage.folder.id)
    assert explained.out == f"{passage.folder.id} is Preparing: its environment is being made, by the process that submitted it\n"
    logs = hpcest("logs", passage.folder.id)
    assert (logs.out, logs.err, logs.code) == ("", f"run {passage.folder.id} has no log: it is Preparing\n", 0)


def test_queued_and_running(hpcest: Hpcest, workspace: WorkspaceFolder, wait_until: WaitUntil) -> None:
    workspace.config.write_text("compute:\n  local: {backend: local, slots: 1}\n")
    go_on = workspace.root / "go on"
    (workspace.root / "it.py").write_text(
        f"import os, time\nprint('on', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.02)\n"
    )
    first, second = (hpcest("submit", "it.py").out.strip() for _ in range(2))
    wait_until(lambda: hpcest("logs", first).out == "on\n", "the first to run")
    running, queued = (hpcest("show", run, "--json").json for run in (first, second))
    assert (running["status"], running["ended"], running["exit_code"], set(running["facts"])) == ("Running", None, None, {"host", "pid"})
    assert (running["job"]["backend"], running["job"]["compute"], running["job"]["id"]) == ("local", "local", first)
    assert (queued["status"], queued["started"], queued["message"]) == ("Queued", None, "waits for a free slot")
    assert "\nwhy          waits for a free slot\n" in hpcest("show", second).out
    assert hpcest("explain", second).out == f"{second} is Queued: waits for a free slot\n"
    assert hpcest("logs", second).err == f"run {second} has no log: it is Queued; waits for a free slot\n"
    assert [row["status"] for row in hpcest("runs", "--json").json] == ["Queued", "Running"]
    assert hpcest("delete", first).error == f"run {first} is Running\nHint: end it first: hpcest cancel {first}"
    waited = hpcest("wait", second, first, "--timeout", "0.1")
    assert waited.code == 1
    assert waited.err == f"{second}: still Queued after 0.1 s; waits for a free slot\n{first}: still Running after 0.1 s\n"
    assert hpcest("cancel", second).err == f"{second}: Canceled; canceled while it waited\n"
    go_on.touch()
    waited = hpcest("wait", first, second, "--json")
    assert waited.code == 1
    assert waited.json == [
        {"id": first, "status": "Completed", "reason": "", "message": "", "exit_code": 0},
        {"id": second, "status": "Canceled", "reason": "", "message": "canceled while it waited", "exit_code": None},
    ]
    assert hpcest("cancel", first, "--json").json == [{"id": first, "status": "Completed", "message": ""}]


def test_explain_ends_with_the_log(hpcest: Hpcest, made_run: MakeRun) -> None:
    lines = "".join(f"line {number}\n" for number in range(30)) + "\tValueError: \x1b[31mno\n"
    folder = made_run(
        status="Failed", ended={"r": "UserError", "rc": 3, "m": "the program exited with code 3"}, files={"user_logs/std_log.txt": lines}
    )
    done = hpcest("explain", folder.id)
    assert done.out.splitlines()[:3] == [
        f"{folder.id} is Failed: the program exited with code 3",
        "next: read the log's end; after a change in the source, submit it anew",
        "the log ends with:",
    ]
    assert done.out.splitlines()[-2:] == ["    line 29", "            ValueError: \\x1b[31mno"]
    known = hpcest("explain", folder.id, "--json").json
    assert list(known) == ["id", "status", "reason", "why", "next", "log"]
    assert known["log"][-1] == "\tValueError: \x1b[31mno"
    fine = made_run()
    assert hpcest("explain", fine.id, "--json").json == {
        "id": fine.id, "status": "Completed", "reason": "", "why": "its program ended with exit code 0", "next": "", "log": [],
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_a_run_folder_that_lost_its_header(damage: str, hpcest: Hpcest, made_run: MakeRun) -> None:
    """It is said, and never a traceback."""
    folder = made_run()
    other = made_run()
    Path(folder.header).unlink() if damage == "gone" else Path(folder.header).write_text("{")
    assert [row["id"] for row in hpcest("runs", "--json").json] == [other.id]
    done = hpcest("show", folder.id)
    assert done.code == (2 if damage == "gone" else 0)
