"""What the paths of files say of the rows in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from hpcest.onnode.partitions import Partitions


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        ("/{country}/{city}/data.csv", "/a/b/nl/delft/data.csv", {"country": "nl", "city": "delft"}),
        ("{country}.csv", "/a/nl.csv", {"country": "nl"}),
        ("{day:yyyy/MM/dd}/*.csv", "/a/2020/03/04/x 1.csv", {"day": datetime(2020, 3, 4)}),
        ("/{kind}-{at:yyyyMMddHHmmss}.log", "/a-b-20200304050607.log", {"kind": "a-b", "at": datetime(2020, 3, 4, 5, 6, 7)}),
        ("/{y:yyyy}/q.{quarter}/*", "/x/2021/q.3/f", {"y": datetime(2021, 1, 1), "quarter": "3"}),
    ],
)
def test_columns_come_from_the_end_of_a_path(text: str, path: str, found: dict[str, Any]) -> None:
    partitions = Partitions(text)
    assert partitions.of(path) == found
    assert [name for name, _ in partitions.columns] == list(found)


@pytest.mark.parametrize(
    ("text", "path"), [("{day:yyyy/MM/dd}/x", "/2020/3/4/x"), ("/{a}/{b}/x", "/only/x"), ("{a}.csv", "/a.txt"), ("{d:dd}", "/99")]
)
def test_a_path_that_is_made_up_otherwise_is_named(text: str, path: str) -> None:
    with pytest.raises(ValueError, match=r"is not as partition_format|unconverted|does not match"):
        Partitions(text).of(path)


@pytest.mark.parametrize("text", ["", "data.csv", "{}", "{a", "a}", "{a}{a}"])
def test_a_format_without_columns_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="partition_format"):
        Partitions(text)
