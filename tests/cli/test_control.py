"""``hpcest tag``, ``delete``, ``wait``, ``cancel`` and ``logs``: small commands that change a run, or tell how it goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
WaitUntil = Callable[..., None]


def test_tags_come_and_go(hpcest: Hpcest, made_run: MakeRun) -> None:
    run = made_run(tags={"old": "1"}).id

    def tags() -> dict[str, str]:
        (row,) = hpcest("runs", "--json").json
        found: dict[str, str] = row["tags"]
        return found

    assert tags() == {"old": "1"}
    assert hpcest("tag", run, "a=1=2", "b", "old=2") == ("", "", 0)
    assert tags() == {"a": "1=2", "b": "", "old": "2"}
    assert hpcest("tag", "--remove", run, "a", "b") == ("", "", 0)
    assert tags() == {"old": "2"}
    done = hpcest("tag", "--remove", run, "old", "a")
    assert (done.code, done.error) == (1, f"run {run} has no tag 'a'\nHint: its tags: old")
    assert tags() == {"old": "2"}
    assert "a tag needs a name" in hpcest("tag", run, "=x").error
    assert "Missing argument" in hpcest("tag", run).error


def test_a_tag_that_can_not_be_kept_is_an_error(hpcest: Hpcest, made_run: MakeRun) -> None:
    folder = made_run()
    folder.events.rename(folder.path / "was")
    folder.events.write_text("a file, so that nobody can write below it, root neither")
    done = hpcest("tag", folder.id, "a=1")
    assert (done.code, done.error) == (1, f"run {folder.id} can't be changed\nHint: see whether {folder.path}/events can be written")


def test_the_trash(hpcest: Hpcest, made_run: MakeRun, workspace: WorkspaceFolder) -> None:
    first, second = made_run().id, made_run().id
    done = hpcest("delete", first, second, second)
    assert done == (
        "",
        f"{first}: in the trash; take it out: hpcest delete --restore {first}\n"
        f"{second}: in the trash; take it out: hpcest delete --restore {second}\n",
        0,
    )
    assert hpcest("runs", "--json").json == []
    assert hpcest("show", first).code == 2
    assert hpcest("delete", "--restore", first).err == f"{first}: restored\n"
    assert [row["id"] for row in hpcest("runs", "--json").json] == [first]
    assert hpcest("delete", "--restore", "zzzz").error == f"run in the trash 'zzzz' is not known\nHint: known: {second}"
    assert "--restore and --purge exclude each other" in hpcest("delete", "--restore", "--purge", first).error


def test_nothing_is_removed_for_good_without_a_yes(hpcest: Hpcest, made_run: MakeRun, workspace: WorkspaceFolder) -> None:
    first, second = made_run().id, made_run().id
    hpcest("delete", second)
    for answer in ("n\n", "\n"):
        done = hpcest("delete", "--purge", first, second, stdin=answer)
        assert (done.code, done.out) == (1, "")
        assert f"remove {first}, {second} with all files for good? [y/N]: " in done.err
        assert done.error == "nothing was removed"
    assert (os.listdir(workspace.runs), os.listdir(workspace.trash)) == ([first], [second])
    assert hpcest("delete", "--purge", first, stdin="").code == 1
    assert hpcest("delete", "--purge", first, second, stdin="y\n").code == 0
    assert (os.listdir(workspace.runs), os.listdir(workspace.trash)) == ([], [])
    third = made_run().id
    assert hpcest("delete", "--purge", "-y", third).err == f"{third}: removed\n"
    outside = workspace.home / "trash/../runs"
    for wrong in ("../runs", "..", str(outside)):
        assert hpcest("delete", "--purge", "-y", wrong).code == 2
        assert hpcest("delete", "--restore", wrong).code == 2
    assert workspace.runs.is_dir()


@pytest.mark.parametrize(
    ("status", "ended", "code"),
    [
        ("Completed", {"rc": 0}, 0),
        ("Failed", {"rc": 3}, 3),
        ("Failed", {"rc": 137, "r": "Signaled"}, 137),
        ("Failed", {"rc": 300}, 1),
        ("Failed", {"r": "Lost"}, 1),
        ("Failed", {"rc": 0, "r": "TimedOut"}, 1),
        ("Canceled", {"rc": 143}, 143),
        ("Canceled", {}, 1),
    ],
)
def test_wait_returns_the_runs_code(status: str, ended: dict[str, Any], code: int, hpcest: Hpcest, made_run: MakeRun) -> None:
    run = made_run(status=status, ended=ended).id
    assert hpcest("wait", run) == ("", f"{run}: {status}\n", code)
    assert hpcest("logs", "-f", run).code == code


def test_wait_returns_the_code_of_the_first_that_failed(hpcest: Hpcest, made_run: MakeRun) -> None:
    fine, three, four = (made_run(status=status, ended={"rc": rc}).id for status, rc in (("Completed", 0), ("Failed", 3), ("Failed", 4)))
    assert [hpcest("wait", *runs).code for runs in ((fine,), (fine, four, three), (three, fine, four))] == [0, 4, 3]
    done = hpcest("wait", fine, three, "--json")
    assert done.json == [
        {"id": fine, "status": "Completed", "reason": "", "message": "", "exit_code": 0},
        {"id": three, "status": "Failed", "reason": "", "message": "", "exit_code": 3},
    ]
    assert done.code == 3
    assert "Invalid value for '--timeout'" in hpcest("wait", fine, "--timeout", -1).error


def test_cancel_ends_the_program(hpcest: Hpcest, workspace: WorkspaceFolder, wait_until: WaitUntil) -> None:
    (workspace.root / "it.py").write_text("import time; print('on', flush=True); time.sleep(60)\n")
    run = hpcest("submit", "it.py").out.strip()
    wait_until(lambda: hpcest("logs", run).out == "on\n", "the program to start")
    assert hpcest("cancel", run).code == 0
    assert hpcest("wait", run).err == f"{run}: Canceled; canceled on request\n"
    assert hpcest("cancel", run).err == f"{run}: Canceled; canceled on request\n"
    unknown = hpcest("cancel", run, "zzzz")
    assert (unknown.code, unknown.out) == (2, "")


def test_logs_are_what_was_printed_to_the_byte(hpcest: Hpcest, made_run: MakeRun) -> None:
    """Colours, carriage returns and a last line without an end; what is not UTF-8 is replaced."""
    text = "\x1b[32mgreen\x1b[0m\rprogress\ntab\there\n\n" + "é" * (1 << 20) + "\nno end"
    folder = made_run(files={"user_logs/std_log.txt": ""})
    Path(folder.user_logs, "std_log.txt").write_bytes(text.encode() + b"\xff")
    done = hpcest("logs", folder.id)
    assert (done.out == text + "\ufffd", done.err, done.code) == (True, "", 0)
    assert hpcest("logs", folder.id, "--rank", 0).out == done.out


def test_logs_of_several_ranks_and_attempts(hpcest: Hpcest, made_run: MakeRun) -> None:
    files = {"user_logs/std_log_0.txt": "a\n\nb", "user_logs/std_log_1.txt": "c\n", "user_logs/std_log_1.attempt1.txt": "d\n"}
    run = made_run(files=files).id
    assert hpcest("logs", run).out == "[0] a\n[0] \n[0] b\n[1] c\n[1] d\n"
    assert hpcest("logs", run, "--rank", 0).out == "a\n\nb"


def test_logs_of_a_run_that_has_none(hpcest: Hpcest, made_run: MakeRun) -> None:
    run = made_run(status="Failed", ended={"r": "BuildFailed", "m": "no such package"}, files={"system_logs/environment.log": "tried\n"}).id
    assert hpcest("logs", run) == (
        "",
        f"run {run} has no log: it is Failed; no such package\n"
        f"see how its environment was made: hpcest artifacts get {run} system_logs/environment.log\n",
        0,
    )


def test_init(hpcest: Hpcest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hpcest("init", "new", "--name", "lab") == ("", f"workspace {tmp_path / 'new'}\n", 0)
    assert hpcest("init", "new") == ("", f"{tmp_path / 'new'} is a workspace already\n", 0)
    (tmp_path / "file").write_text("")
    done = hpcest("init", "file")
    assert (done.code, done.error) == (1, "no workspace can be made in file: Not a directory\nHint: choose another directory")
    assert hpcest("-w", "other", "init").err == f"workspace {tmp_path / 'other'}\n"
    assert "name the directory once" in hpcest("-w", "other", "init", "new").error
    assert hpcest("init").err == f"workspace {tmp_path}\n"
