"""``hpcest metrics`` and ``compare``: what runs logged, for people, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
EVENTS = [
    {"e": "metric", "k": "acc", "v": 0.912345678},
    {"e": "metric", "k": "loss", "v": 2, "s": 0},
    {"e": "metric", "k": "loss", "v": float("inf"), "s": 1},
    {"e": "metric", "k": 'odd, "name"\n', "v": "text, of it"},
    {"e": "list", "k": "list", "v": [1, 2.5]},
    {"e": "row", "k": "rows", "v": {"a": 1, "b": "x"}},
    {"e": "row", "k": "rows", "v": {"a": 2, "b": "y"}},
    {"e": "table", "k": "table", "v": {"c": [1, 2], "d": [3, 4]}},
    {"e": "image", "k": "picture", "v": "images/p.png"},
]


def test_one_line_for_each_metric(hpcest: Hpcest, made_run: MakeRun) -> None:
    run, other = made_run(events=EVENTS).id, made_run(events=EVENTS[:1]).id
    assert hpcest("metrics", run, other).out == (
        "RUN       METRIC         VALUE\n"
        f"{run}  acc            0.912346\n"
        f"{run}  list           2.5 (2 values)\n"
        f"{run}  loss           inf (2 values)\n"
        f'{run}  odd, "name"\\n  text, of it\n'
        f"{run}  picture        images/p.png\n"
        f"{run}  rows           table of a, b\n"
        f"{run}  table          table of c, d\n"
        f"{other}  acc            0.912346\n"
    )
    assert hpcest("metrics", made_run().id) == ("", "nothing was logged\n", 0)


def test_json_has_azures_shapes(hpcest: Hpcest, made_run: MakeRun) -> None:
    run, other = made_run(events=EVENTS).id, made_run().id
    assert hpcest("metrics", run, other, "--json").json == {
        run: {
            "acc": 0.912345678,
            "loss": [2, "Infinity"],
            'odd, "name"\n': "text, of it",
            "list": [1, 2.5],
            "rows": {"a": [1, 2], "b": ["x", "y"]},
            "table": {"c": [1, 2], "d": [3, 4]},
            "picture": "images/p.png",
        },
        other: {},
    }


def test_csv_has_every_value(hpcest: Hpcest, made_run: MakeRun) -> None:
    run = made_run(events=EVENTS).id
    done = hpcest("metrics", run, "--csv")
    assert done.out.startswith("run,name,step,time,value\n")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["run"], row["name"], row["step"], row["value"]) for row in rows] == [
        (run, "acc", "", "0.912345678"),
        (run, "list", "0", "1"),
        (run, "list", "1", "2.5"),
        (run, "loss", "0", "2"),
        (run, "loss", "1", "inf"),
        (run, 'odd, "name"\n', "", "text, of it"),
        (run, "picture", "0", "images/p.png"),
        (run, "rows/a", "0", "1"),
        (run, "rows/a", "1", "2"),
        (run, "rows/b", "0", "x"),
        (run, "rows/b", "1", "y"),
        (run, "table/c", "0", "1"),
        (run, "table/c", "1", "2"),
        (run, "table/d", "0", "3"),
        (run, "table/d", "1", "4"),
    ]
    assert [bool(row["time"]) for row in rows] == [row["name"] in ("acc", "loss", 'odd, "name"\n') for row in rows]
    assert "\r" not in done.out
    assert hpcest("metrics", made_run().id, "--csv").out == "run,name,step,time,value\n"
    assert "--csv and --json exclude each other" in hpcest("metrics", run, "--csv", "--json").error


@pytest.fixture
def pair(made_run: MakeRun) -> tuple[str, str]:
    common = {"experiment": "iris", "tags": {"same": "1"}, "git": {"commit": "a" * 40, "branch": "main"}}
    first = made_run(
        command={"script": "a.py", "arguments": ["--lr", "0.1", "--fast"]}, snapshot="1" * 64, resources={"nodes": 2},
        events=[{"e": "metric", "k": "acc", "v": 0.5}, {"e": "metric", "k": "loss", "v": 1.0}], **common,
    )  # fmt: skip
    second = made_run(
        command={"line": "python a.py --lr 0.2"}, snapshot="2" * 64, inputs={"data": "/x"}, status="Failed",
        events=[{"e": "metric", "k": "acc", "v": float("nan")}, {"e": "metric", "k": "loss", "v": 1.0}, {"e": "tag", "k": "new", "v": "x"}],
        **common,
    )  # fmt: skip
    return first.id, second.id


def test_compare(hpcest: Hpcest, pair: tuple[str, str]) -> None:
    first, second = pair
    expected = {
        "status": ["Completed", "Failed"],
        "param.fast": ["true", None],
        "param.lr": ["0.1", "0.2"],
        "setting.command": ["a.py", "python a.py --lr 0.2"],
        "setting.inputs.data": [None, "/x"],
        "setting.resources.nodes": [2, None],
        "setting.snapshot": ["1" * 12, "2" * 12],
        "metric.acc": [0.5, "NaN"],
        "tag.new": [None, "x"],
    }
    done = hpcest("compare", first, second, "--json")
    assert done.json == {"runs": [first, second], "rows": expected}
    assert list(done.json["rows"]) == list(expected)
    shown = hpcest("compare", first, second).out
    assert shown.splitlines()[:3] == [
        f"                         {first}      {second}",
        "status                   Completed     Failed",
        "param.fast               true",
    ]
    everything = hpcest("compare", first, second, "--all", "--json").json["rows"]
    assert everything["tag.same"] == ["1", "1"]
    assert everything["setting.git.commit"] == ["a" * 12, "a" * 12]
    assert everything["metric.loss"] == [1.0, 1.0]


def test_compare_needs_two_runs(hpcest: Hpcest, pair: tuple[str, str], made_run: MakeRun) -> None:
    for runs in (pair[:1], (pair[0], pair[0])):
        done = hpcest("compare", *runs)
        assert (done.code, done.out, "name at least two different runs" in done.error) == (2, "", True)
    twins = made_run().id, made_run().id
    assert hpcest("compare", *twins) == ("", "they do not differ\n", 0)
