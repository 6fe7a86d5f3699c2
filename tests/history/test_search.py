"""The search language: what it finds, what it says when it can't be read, and that it never becomes SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcest.errors import UsageError
from hpcest.history import query, search
from hpcest.history.header import clean
from hpcest.history.location import index_location

if TYPE_CHECKING:
    from tests.history.conftest import Records

NOON = datetime(2026, 5, 31, 12).timestamp()


@pytest.fixture
def some(records: Records) -> Records:
    """good: a finished run with everything; bad: another one; bare: a run that has nothing yet."""
    arguments = ["--lr", "0.01", "--optimizer", "Adam", "--amp"]
    records.run(
        "good",
        spec={
            "display_name": "My Run",
            "command": {"script": "t.py", "arguments": arguments},
            "tags": {"kind": "x", "fold": "3", "best": ""},
        },
        created=NOON,
        events=[
            records.status("Running", t=NOON + 60),
            *(
                {"t": NOON + 61, "e": "metric", "k": name, "v": value}
                for name, value in (("acc", 0.95), ("val loss", 2), ("nan", float("nan")), ("text", "Done"))
            ),
            {"t": 1, "e": "property", "k": "commit", "v": "abc"},
            records.status("Completed", t=NOON + 3660, rc=0),
        ],
    )
    records.run(
        "bad",
        spec={
            "experiment": "cifar",
            "command": {"script": "t.py", "arguments": ["--lr", "1e-2", "--optimizer", "sgd"]},
            "tags": {"kind": "y", "fold": "10"},
        },
        created=NOON + 86400,
        events=[
            records.status("Running", t=NOON + 86400),
            {"t": 1, "e": "metric", "k": "acc", "v": 0.5},
            records.status("Failed", t=NOON + 86460, rc=3, r="UserError"),
        ],
    )
    records.run("bare", spec={"experiment": "cifar"}, created=NOON + 2 * 86400, user='o\'neil "x" `y`')
    records.refresh()
    return records


def found(records: Records, where: str) -> set[str]:
    return {row.id for row in query.list_runs(records.workspace, where=where, limit=None)}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("metrics.acc > 0.9 and params.lr = '0.01' and tags.kind != 'y'", "good"),
        ("metrics.acc > 0.4", "good bad"),
        ("metrics.acc>=0.95", "good"),
        ("metrics.acc > '0.9'", "good"),
        ("not metrics.acc > 0.9", "bad bare"),
        ("metrics.`val loss` = 2", "good"),
        ("metrics.nan = nan", "good"),
        ("metrics.text = Done", "good"),
        ("metrics.text ~ don", "good"),
        ("metrics.acc", "good bad"),
        ("not metrics.acc", "bare"),
        ("metrics.none > -1e9", ""),
        ("params.lr = 0.01", "good bad"),
        ("params.lr = '0.01'", "good"),
        ("params.lr < 1", "good bad"),
        ("params.optimizer ~ 'ADAM'", "good"),
        ("params.optimizer !~ adam", "bad bare"),
        ("params.amp = true", "good"),
        ("params.optimizer in (sgd, 'Adam')", "good bad"),
        ("params.optimizer not in (sgd)", "good bare"),
        ("tags.kind != x", "bad bare"),
        ("tags.kind <> 'x'", "bad bare"),
        ("tags.fold > 5", "bad"),
        ("tags.fold > '2'", "good"),
        ("tags.best", "good"),
        ("tags.best = ''", "good"),
        ("properties.commit = abc", "good"),
        ("status = Completed", "good"),
        ("STATUS = x or id = good", None),
        ("status = completed or status == 'FAILED'", "good bad"),
        ("status in (NotStarted, Failed)", "bad bare"),
        ("status ~ ed", "good bad bare"),
        ("experiment = cifar", "bad bare"),
        ("experiment = 'CIFAR'", ""),
        ("name = 'My Run'", "good"),
        ('name ~ "my"', "good"),
        ("name = ''", "bad bare"),
        ("reason = UserError", "bad"),
        ("exit_code = 0", "good"),
        ("exit_code != 0", "bad bare"),
        ("exit_code > 2", "bad"),
        ("attempt = 0", "good bad bare"),
        ("user = 'o''neil \"x\" `y`'", "bare"),
        ("user ~ '\"x\"'", "bare"),
        ("created = 2026-05-31", "good"),
        ("created > 2026-05-31", "bad bare"),
        ("created >= 2026-05-31", "good bad bare"),
        ("created < 2026-06-01", "good"),
        ("created <= 2026-06-01", "good bad"),
        ("created != 2026-06-01", "good bare"),
        ("created > '2026-05-31 12:00'", "bad bare"),
        ("created >= 2026-05-31T12:00:00", "good bad bare"),
        ("created = '2026-05-31 12:00'", "good"),
        ("started < 2100-01-01", "good bad"),
        ("not started < 2100-01-01", "bare"),
        ("ended >= 2026-06-01", "bad"),
        ("duration > 30m", "good"),
        ("duration = 3600", "good"),
        ("duration <= 1m", "bad"),
        ("duration < 1h30m and duration > 59.5min", "good"),
        ("id = good or id = bad and status = Failed", "good bad"),
        ("(id = good or id = bad) and status = Failed", "bad"),
        ("not (id = good or id = bad)", "bare"),
        ("not not id = good", "good"),
        ("ID in ('good')", None),
        ("id NOT IN (good, bad) AND NOT name = 'x' OR id = 'zzz'", "bare"),
        ("  id=good  ", "good"),
        ("id > b and id < bb", "bad bare"),
    ],
)
def test_what_is_found(some: Records, where: str, expected: str | None) -> None:
    """Every field and operator; None: field names are as they are spelt."""
    if expected is None:
        with pytest.raises(UsageError, match="is not a field"):
            found(some, where)
    else:
        assert found(some, where) == set(expected.split())


def test_an_age_is_the_moment_so_long_ago() -> None:
    """Newer than two days is greater; the moments of one condition are the same moment."""
    assert search.condition("created > 2d", now=1000000.0) == ("ifnull(created > ?, 0)", (1000000.0 - 172800,))
    assert search.condition("ended <= 1w2d3h4m5s", now=1e9).values == (1e9 - 7 * 86400 - 2 * 86400 - 3 * 3600 - 4 * 60 - 5,)


@pytest.mark.parametrize(
    ("where", "at", "problem"),
    [
        ("accuracy > 0.9", 0, "'accuracy' is not a field; did you mean metrics.accuracy, params.accuracy or tags.accuracy?"),
        ("id = a and stauts = x", 11, "'stauts' is not a field; did you mean status?"),
        ("metric.acc > 1", 0, "'metric.acc' is not a field"),
        ("metrics. > 1", 0, "'metrics.' is not a field"),
        ("metrics.acc >", 13, "expected a value"),
        ("metrics.acc 0.9", 12, "expected an operator"),
        ("status Completed", 7, "expected an operator after 'status'"),
        ("status = Done", 9, "'Done' is no status"),
        ("status in (Failed, Done)", 19, "'Done' is no status"),
        ("id = a b", 7, "expected an operator, 'and', 'or' or the end"),
        ("(id = a", 7, "expected ')'"),
        ("id = a)", 6, "expected an operator, 'and', 'or' or the end"),
        ("id in a", 6, "expected '('"),
        ("id in ()", 7, "expected a value"),
        ("id in (a b)", 9, "expected ')'"),
        ("id = 'open", 5, "a quote ' is not closed"),
        ("metrics.`x = 1", 8, "a quote ` is not closed"),
        ("id ! a", 3, "'!' means nothing here"),
        ("and", 0, "expected a field"),
        ("", 0, "expected a field"),
        ("id = and", 5, "expected a value"),
        ("not", 3, "expected a field"),
        ("'id' = a", 0, "expected a field"),
        ("created > yesterday", 10, "expected a time for created"),
        ("created > 2026-13-01", 10, "expected a time for created"),
        ("created ~ 2026", 0, "created is no text"),
        ("duration > long", 11, "expected a number for duration"),
        ("exit_code = 2h", 12, "expected a number for exit_code"),
        ("(" * 60 + "id = a", 40, "nested more than 40 deep"),
        ("not " * 60 + "id = a", 160, "nested more than 40 deep"),
        (" or ".join(["id = a"] * 300), 2005, "more than 200 comparisons"),
        ("id in (" + ",".join("a" * 300) + ")", 407, "more than 200 comparisons"),
    ],
)
def test_an_error_points_at_its_place(where: str, at: int, problem: str) -> None:
    """The condition, a caret below what is wrong, and all fields as the hint."""
    with pytest.raises(UsageError) as caught:
        search.condition(where)
    message, shown, caret = caught.value.message.split("\n")
    assert message.startswith(problem)
    assert shown == "  " + where
    assert caret == "  " + " " * at + "^"
    assert "metrics.NAME" in caught.value.hint
    assert "~ (contains)" in caught.value.hint


def test_the_caret_stands_right_below_wide_and_invisible_characters() -> None:
    """A terminal takes two columns for some characters, and a line break would break the picture."""
    with pytest.raises(UsageError) as caught:
        search.condition("name = '\u540d\u524d\n' x")
    assert caught.value.message.splitlines()[1:] == ["  name = '\u540d\u524d ' x", " " * 17 + "^"]


texts = st.text(st.one_of(st.characters(), st.sampled_from("'\"`();-%_\\ \n\0\ud800aA0")), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=texts, name=texts.filter(lambda text: clean(text) != ""), quote=st.sampled_from("'\""))
def test_any_text_is_found_as_itself_and_is_never_sql(new_records: Callable[[], Records], value: str, name: str, quote: str) -> None:
    """Quoted, every value and every name of a tag finds the run that has it, and only that."""
    connection = _index_of_two(new_records, clean(name), clean(value))
    literal = quote + value.replace(quote, quote * 2) + quote
    field = "tags.`" + name.replace("`", "``") + "`"
    for where, ids in (
        (f"{field} = {literal}", ["has"]),
        (f"{field} != {literal}", ["other"]),
        (f"{field} ~ {literal}", ["has"]),
        (field, ["has"]),
    ):
        condition = search.condition(where)
        assert [row[0] for row in connection.execute(f"SELECT id FROM run WHERE {condition.sql} ORDER BY id", condition.values)] == ids
        assert condition.sql.count("?") == len(condition.values)
        assert set(condition.sql) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_ ()?=<>,.'0")


def _index_of_two(new_records: Callable[[], Records], name: str, value: str) -> sqlite3.Connection:
    """An index with two runs, one of which has the tag; made once, the tag is changed in place."""
    if "connection" not in _KEPT:
        records = new_records()
        records.run("has")
        records.run("other")
        records.refresh()
        _KEPT["connection"] = sqlite3.connect(index_location(records.workspace))
    connection: sqlite3.Connection = _KEPT["connection"]
    connection.execute("DELETE FROM tag")
    connection.execute("INSERT INTO tag VALUES ('has', ?, ?, NULL)", (name, value))
    return connection


_KEPT: dict[str, Any] = {}


# fmt: off
WORDS = [
    "id", "metrics.a", "tags.`x y`", "created", "duration", "status", "=", "<", "~", "!=", "in", "not", "and", "or", "(", ")", ",", "'x'",
    "0.5", "2d", "Failed", "2026-01-01", "; DROP TABLE run; --", "' OR 1=1 --", "x'; DELETE FROM tag; --", "?", "NULL", '"', "params.a",
]
# fmt: on


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        texts,
        st.lists(
            st.sampled_from(WORDS),
            max_size=14,
        ).map(" ".join),
    )
)
def test_anything_typed_is_a_condition_or_an_error(new_records: Callable[[], Records], text: str) -> None:
    """It runs as it is, changes nothing, or is refused with a caret; as a sort order likewise."""
    connection = _index_of_two(new_records, "x", "y")
    problems = ""
    try:
        condition = search.condition(text)
        connection.execute(f"SELECT id FROM run WHERE {condition.sql}", condition.values).fetchall()
    except UsageError as error:
        problems = error.message
    assert not problems or problems.endswith("^")
    problems = ""
    try:
        order = search.order(text)
        connection.execute(f"SELECT id FROM run ORDER BY {order.sql}", order.values).fetchall()
    except UsageError as error:
        problems = error.message
    assert not problems or "can't be sorted by" in problems
    assert connection.execute("SELECT count(*) FROM run").fetchone()[0] == 2


Condition = tuple[str, Callable[[query.RunRow], bool]]
atoms = st.sampled_from(
    [
        ("metrics.acc > 0.5", lambda row: row.metrics.get("acc", -1) > 0.5),
        ("metrics.acc != 0.5", lambda row: row.metrics.get("acc") != 0.5),
        ("params.lr <= 0.01", lambda row: float(row.params.get("lr", "9")) <= 0.01),
        ("tags.kind = x", lambda row: row.tags.get("kind") == "x"),
        ("tags.kind", lambda row: "kind" in row.tags),
        ("status in (Failed, Completed)", lambda row: row.status in ("Failed", "Completed")),
        ("experiment ~ IF", lambda row: "if" in row.experiment),
        ("exit_code >= 0", lambda row: row.exit_code is not None),
        ("ended < 2100-01-01", lambda row: row.ended is not None),
        ("duration > 5m", lambda row: row.duration is not None and row.duration > 300),
    ]
)


def _combined(children: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    return st.one_of(
        children.map(lambda one: (f"not ({one[0]})", lambda row: not one[1](row))),
        st.tuples(children, children).map(lambda two: (f"({two[0][0]} and {two[1][0]})", lambda row: two[0][1](row) and two[1][1](row))),
        st.tuples(children, children).map(lambda two: (f"({two[0][0]} or {two[1][0]})", lambda row: two[0][1](row) or two[1][1](row))),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(condition=st.recursive(atoms, _combined, max_leaves=12))
def test_and_or_and_not_mean_what_they_mean_in_python(some: Records, condition: Condition) -> None:
    """Every condition is true or false for every run, whatever the run lacks."""
    where, holds = condition
    everything = query.list_runs(some.workspace, limit=None)
    assert found(some, where) == {row.id for row in everything if holds(row)}
