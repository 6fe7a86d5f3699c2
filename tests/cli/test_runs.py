"""``hpcest runs``: rows that read well, JSON with keys that stay, and every way to choose among runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
KEYS = [
    "id", "experiment", "display_name", "status", "reason", "message", "created", "queued", "started", "ended", "compute",
    "framework", "environment", "script", "user", "host", "parent", "attempt", "exit_code", "params", "metrics", "tags",
]  # fmt: skip


def test_no_runs(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    done = hpcest("runs")
    assert (done.out, done.err, done.code) == ("", "no runs yet; submit one: hpcest submit SCRIPT\n", 0)
    assert hpcest("runs", "--json").out == "[]\n"
    assert hpcest("runs", "--status", "Failed").err == "no runs match\n"


def test_the_whole_listing(hpcest: Hpcest, made_run: MakeRun) -> None:
    now = time.time()
    made_run(run_id="aaaa1111", created=now - 3 * 3600, experiment="iris", display_name="two\nlines \x1b[31mred")
    values = {"acc": 0.91234567, "b": float("nan"), "c": "text", "d": 1}
    events = [{"e": "metric", "k": name, "v": value} for name, value in values.items()]
    made_run(
        run_id="bbbb2222",
        created=now - 60,
        experiment="a rather long name",
        status="Failed",
        ended={"r": "TimedOut", "rc": 143},
        events=events,
    )
    assert hpcest("runs").out == (
        "ID        EXPERIMENT          NAME                    STATUS             COMPUTE  CREATED  TOOK  METRICS\n"
        "bbbb2222  a rather long name                          Failed (TimedOut)  local    60 s           acc=0.912346  b=nan  c=text\n"
        "aaaa1111  iris                two\\nlines \\x1b[31mred  Completed          local    3 h\n"
    )


def test_json_has_the_keys_that_the_help_names(hpcest: Hpcest, made_run: MakeRun) -> None:
    made_run(
        experiment='odd "\u2028\ud83d\ude00\n\x00', display_name="\x1b]0;title\x07", tags={"\n": "\x7f", "a": "'"},
        ended={"r": "Lost", "m": "why \x1b"},
        events=[{"e": "metric", "k": "nan\t", "v": float("nan")}, {"e": "metric", "k": "inf", "v": float("-inf")}],
        command={"script": "t.py", "arguments": ["--lr", "0.1"]}, status="Failed",
    )  # fmt: skip
    done = hpcest("runs", "--json")
    (row,) = done.json
    assert list(row) == KEYS
    help_text = " ".join(hpcest("runs", "--help").out.split())
    assert all(f" {key}," in help_text or f" {key}." in help_text or f" {key} (" in help_text for key in KEYS)
    assert row["metrics"] == {"inf": "-Infinity", "nan\t": "NaN"}
    assert (row["tags"], row["display_name"], row["message"]) == ({"\n": "\x7f", "a": "'"}, "\x1b]0;title\x07", "why \x1b")
    assert row["params"] == {"lr": "0.1"}
    assert all(32 <= ord(char) < 127 or char == "\n" for char in done.out)
    assert all(char.isprintable() or char == "\n" for char in hpcest("runs").out)


def test_choosing(hpcest: Hpcest, made_run: MakeRun) -> None:
    now = time.time()
    rows: Any = (("a", "iris", "Completed", 0.9, {"k": "1"}), ("b", "iris", "Failed", 0.5, {"k": "2"}), ("c", "mnist", "Canceled", 0.7, {}))
    for place, (name, experiment, status, acc, tags) in enumerate(rows):
        events = [{"e": "metric", "k": "acc", "v": acc}]
        made_run(run_id=name * 8, experiment=experiment, status=status, tags=tags, events=events, created=now - 10 + place)

    def chosen(*words: object) -> str:
        done = hpcest("runs", "--json", *words)
        assert done.code == 0, done.err
        return "".join(row["id"][0] for row in done.json)

    assert chosen() == "cba"
    assert chosen("-e", "iris") == chosen("--experiment", "iris") == "ba"
    assert chosen("--status", "failed") == "b"
    assert chosen("--status", "Failed", "--status", "Canceled") == "cb"
    assert chosen("--tag", "k=1") == "a"
    assert chosen("--tag", "k") == "ba"
    assert chosen("--tag", "k=", "--tag", "k") == "ba"
    assert chosen("--tag", "k=") == ""
    assert chosen("--where", "metrics.acc > 0.6") == "ca"
    assert chosen("--where", "tags.k = 2 or status = Canceled") == "cb"
    assert chosen("--sort", "metrics.acc") == "bca"
    assert chosen("--sort", "-metrics.acc", "--limit", 2) == "ac"
    assert chosen("--limit", 0) == "cba"
    assert hpcest("runs", "--limit", 1).err == "these are 1 of more; see all: --limit 0\n"
    assert hpcest("runs", "--limit", 3).err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--status", "Fialed"], "'Fialed' is no status\nHint: allowed: NotStarted, Preparing"),
        (["--where", "acc >"], "'acc' is not a field"),
        (["--sort", "acc"], "runs can't be sorted by 'acc'"),
        (["--tag", "=x"], "Invalid value for --tag: '=x' is not NAME or NAME=VALUE"),
        (["--limit", "-1"], "Invalid value for '--limit': -1 is not in the range x>=0."),
    ],
)
def test_wrong_conditions(words: list[str], said: str, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    done = hpcest("runs", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.error


def test_children_are_listed_when_asked_for(hpcest: Hpcest, made_run: MakeRun) -> None:
    from hpcest import Run

    parent = Run(str(made_run().path))
    child = parent.child_run("fold")
    child.complete()
    assert [row["id"] for row in hpcest("runs", "--json").json] == [parent.id]
    rows = hpcest("runs", "--json", "--children").json
    assert [(row["id"], row["parent"]) for row in rows] == [(child.id, parent.id), (parent.id, "")]


def test_run_is_an_id_a_prefix_or_a_place(hpcest: Hpcest, made_run: MakeRun) -> None:
    now = time.time()
    for place, (name, experiment) in enumerate((("abcd1111", "iris"), ("abcd2222", "mnist"), ("efgh3333", "iris"))):
        made_run(run_id=name, experiment=experiment, created=now - 10 + place)
    means = {
        "abcd1111": "abcd1111", "abcd2": "abcd2222", "ef": "efgh3333", "@latest": "efgh3333", "@1": "efgh3333", "@2": "abcd2222",
        "@latest:mnist": "abcd2222", "@2:iris": "abcd1111",
    }  # fmt: skip
    for reference, run_id in means.items():
        assert hpcest("show", reference, "--json").json["id"] == run_id
    wrong = {
        "abcd": "run 'abcd' is ambiguous: 2 ids start with it",
        "efgh4333": "run 'efgh4333' is not known\nHint: did you mean 'efgh3333'?",
        "@9": "run '@9' is not known\nHint: this workspace has 3 runs: hpcest runs lists them",
        "@latest:non": "experiment 'non' is not known",
        "@": "'@' names no run",
        "../runs/abcd1111": "run '../runs/abcd1111' is not known",
        "e": "'e' is too short for a run",
    }
    for reference, said in wrong.items():
        done = hpcest("show", reference)
        assert (done.code, done.out) == (2, "")
        assert done.error.startswith(said)


def test_a_lost_index_is_rebuilt(hpcest: Hpcest, workspace: WorkspaceFolder, made_run: MakeRun) -> None:
    made_run(tags={"a": "1"})
    before = hpcest("runs", "--json").json
    done = hpcest("reindex")
    assert (done.out, done.err.startswith("1 runs indexed in "), done.code) == ("", True, 0)
    assert hpcest("runs", "--json").json == before
    os.unlink(workspace.index)
    assert hpcest("runs", "--json").json == before
