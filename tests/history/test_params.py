"""Parameters are what a person would read off the command line."""

from __future__ import annotations

import pytest

from hpcest.history.params import number, parse_arguments, parse_line


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--lr 0.1 --epochs 3", {"lr": "0.1", "epochs": "3"}),
        ("--lr=0.1 --name=a=b --empty=", {"lr": "0.1", "name": "a=b", "empty": ""}),
        ("--amp --lr 0.1 --resume", {"amp": "true", "lr": "0.1", "resume": "true"}),
        ("--bias -0.5 --range -1e-3 --low -.5", {"bias": "-0.5", "range": "-1e-3", "low": "-.5"}),
        ("--layers 64 32 16 --lr 0.1 data.csv", {"layers": "64 32 16", "lr": "0.1"}),
        ("-n 5 -v", {"n": "5", "v": "true"}),
        ("data.csv --optimizer adam extra", {"optimizer": "adam"}),
        ("model.depth=3 +trainer/gpus=2 ++a=1 x=", {"model.depth": "3", "trainer/gpus": "2", "a": "1", "x": ""}),
        ("--lr 0.1 --lr 0.2", {"lr": "0.2"}),
        ("--flag -- --not-a-value", {"flag": "true", "not-a-value": "true"}),
        ("- -- --", {}),
        ("http://x/?a=b 3=4 =5", {}),
        ("--batch_size 32 --\u00fcber \u00e4", {"batch_size": "32", "\u00fcber": "\u00e4"}),
    ],
)
def test_arguments(words: str, found: dict[str, str]) -> None:
    """Options with their values, flags, lists of numbers, and key=value as Hydra takes them."""
    assert parse_arguments(words.split()) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("python train.py --lr 0.1 --name 'a b' && echo --done", {"lr": "0.1", "name": "a b", "done": "true"}),
        ("train --verbose | tee log", {"verbose": "true"}),
        ("echo 'open", {}),
        ("", {}),
    ],
)
def test_a_shell_line(line: str, found: dict[str, str]) -> None:
    """The same for what a shell will read; operators are no values."""
    assert parse_line(line) == found


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), ("-1e-3", -0.001), ("inf", float("inf")), ("nan", None), ("1_000", None), ("", None), ("1a", None)]
)
def test_numbers(text: str, value: float | None) -> None:
    """What can be compared as a number, and nothing that Python alone takes for one."""
    assert number(text) == value
