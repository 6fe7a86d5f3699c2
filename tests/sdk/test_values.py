"""What estimators and run configurations are given is checked once, in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from hpcest.errors import SpecError
from hpcest.sdk import values


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: values.whole("gpus", -1, 0), "gpus must be a whole number from 0 up, not -1"),
        (lambda: values.whole("gpus", True, 0), "gpus must be a whole number from 0 up, not True"),
        (lambda: values.texts("variables", ["a"]), "variables must be a dict, not ['a']"),
        (lambda: values.plain("options", 3), "options must be a dict, not 3"),
        (lambda: values.plain("options", {"a": object}), "options must hold texts, numbers, lists and dicts: "),
        (lambda: values.words("--lr 1"), "script_params must be a dict or a list, not '--lr 1'"),
    ],
)
def test_what_can_not_be_meant_is_refused(call: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        call()
    assert error.value.message.startswith(message)


def test_what_is_given_comes_back_as_a_copy_of_its_own() -> None:
    """To the last list, where a record is made of it."""
    given: dict[Any, Any] = {"a": {"b": [1]}, 2: None}
    copy = values.plain("options", given)
    given["a"]["b"].append(2)
    assert copy == {"a": {"b": [1]}, "2": None}
    assert values.texts("variables", {"A": 1, "B": None}) == {"A": "1", "B": "None"}
    assert values.mapping("inputs", None) == {}
    assert (values.whole("nodes", 4, 1), values.whole("nodes", None, 1)) == (4, None)


def test_words_are_flags_where_they_have_no_value() -> None:
    """And keep their type, until they become texts."""
    assert values.words({"--lr": 0.1, "--fast": "", "--slow": None}) == ["--lr", 0.1, "--fast", "--slow"]
    assert values.arguments({"--lr": 0.1, "--fast": ""}) == ("--lr", "0.1", "--fast")
    assert values.words(None) == []
