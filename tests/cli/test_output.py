"""The small functions that print: numbers, times and texts as people read them."""

from __future__ import annotations

import json
import time

import pytest

from hpcest.cli import output


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ("plain é", "plain é"),
        ("a\x1b[31m\n\t\x00\x7f\x9b", "a\\x1b[31m\\n\\t\\x00\\x7f\\x9b"),
        ("\u202e\u200b\u2028", "\\u202e\\u200b\\u2028"),
        ("lone \udc80 \ud800", "lone \\udc80 \\ud800"),
        (3, "3"),
        ([1, "x"], "[1, 'x']"),
    ],
)
def test_one_cell(value: object, shown: str) -> None:
    assert output.clean(value) == shown


def test_lines_keep_their_ends() -> None:
    assert output.clean_lines("a\x1b\n\nb\r") == "a\\x1b\n\nb\\r"


def test_json_has_only_what_json_has(capsys: pytest.CaptureFixture[str]) -> None:
    value = {1: [float("nan"), (float("inf"), {"deep": float("-inf")})], "é\x1b": output, "lone": "\udc80"}
    output.print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed, parse_constant=pytest.fail) == {
        "1": ["NaN", ["Infinity", {"deep": "-Infinity"}]], "é\x1b": str(output), "lone": "\udc80",
    }  # fmt: skip
    assert printed.isascii()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (0.04, "0.0 s"), (9.96, "10.0 s"), (12.3, "12 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"),
     (172800, "2 d"), (9e6, "104 d")],
)  # fmt: skip
def test_spans(seconds: float | None, shown: str) -> None:
    assert output.span(seconds) == shown


def test_moments_and_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert (output.moment(1795229229.9), output.moment(None), output.moment(0)) == ("2026-11-21 02:47:09", "", "")
    assert (output.age(None), output.age(time.time() + 100), output.age(time.time() - 300)) == ("", "0.0 s", "5 min")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1"), (0.1234567, "0.123457"), (1e20, "1e+20"), (float("nan"), "nan"), ([], "[]"), ([1, 2.0], "2 (2 values)"),
     ({"a": 1, "b": [2]}, "table of a, b"), ("x", "x"), (True, "True"), (None, "None")],
)  # fmt: skip
def test_metrics(value: object, shown: str) -> None:
    assert output.number(value) == shown


def test_tables_are_aligned_and_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("id", "what"), [("a" * 300, 1), ("b", None)])
    output.table(("id", "what"), [], empty="nothing")
    output.table(("id", "what"), [])
    output.table(("", "aB"), [("x", "y")], names=True)
    said = capsys.readouterr()
    assert said.out == f"ID{' ' * 298}  WHAT\n{'a' * 300}  1\nb\nID  WHAT\n   aB\nx  y\n"
    assert said.err == "nothing\n"


def test_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    output.pairs({"a": 1, "none": None, "empty": [], "long\n": ["x\x1b", "y"], "zero": 0, "status": "Failed"})
    assert capsys.readouterr().out == "a       1\nlong\\n  x\\x1b\n        y\nzero    0\nstatus  Failed\n"
    output.pairs({})
    assert capsys.readouterr().out == ""


def test_a_clock_beyond_all_years_is_shown_as_it_is() -> None:
    """A record with such a time must still be shown."""
    assert output.moment(1e300) == "1e+300"
