"""Listings: newest first, filtered, sorted, whole; and what a watcher has to look at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from hpcest.errors import UsageError
from hpcest.history import query

if TYPE_CHECKING:
    from tests.history.conftest import Records


@pytest.fixture
def some(records: Records) -> Records:
    """Four runs of two experiments, a child, and a run that is trashed in place; a1 is the oldest."""
    now = records.now
    records.run(
        "a1",
        created=now - 50,
        spec={"tags": {"kind": "x"}},
        events=[records.status("Completed"), {"t": 1, "e": "metric", "k": "acc", "v": 0.5}],
    )
    records.run(
        "a2",
        created=now - 40,
        spec={"tags": {"kind": "y"}},
        events=[records.status("Failed"), {"t": 1, "e": "metric", "k": "acc", "v": 0.9}],
    )
    records.run("b1", created=now - 30, spec={"experiment": "other", "tags": {"best": ""}}, events=[records.status("Running")])
    records.run(
        "b2",
        created=now - 20,
        spec={"experiment": "other"},
        events=[records.status("Queued"), {"t": 1, "e": "metric", "k": "acc", "v": "bad"}],
    )
    records.run("c1", created=now - 10, kind="child", spec={"parent": "b1"}, events=[records.status("Running")])
    records.run("t1", created=now - 5, events=[{"t": 1, "e": "trash", "v": True}])
    records.refresh()
    return records


def ids(rows: list[query.RunRow]) -> list[str]:
    return [row.id for row in rows]


def test_newest_first_without_children_and_trash(some: Records) -> None:
    """The plain listing, and its limit."""
    assert ids(query.list_runs(some.workspace)) == ["b2", "b1", "a2", "a1"]
    assert ids(query.list_runs(some.workspace, limit=2)) == ["b2", "b1"]
    assert ids(query.list_runs(some.workspace, limit=0)) == []
    assert len(query.list_runs(some.workspace, limit=None)) == 4


def test_filters_are_all_met(some: Records) -> None:
    """Experiment, status, tags, parent, and a condition, alone and together."""
    workspace = some.workspace
    assert ids(query.list_runs(workspace, experiment="other")) == ["b2", "b1"]
    assert ids(query.list_runs(workspace, status="failed")) == ["a2"]
    assert ids(query.list_runs(workspace, status=["Failed", "Running"])) == ["b1", "a2"]
    assert query.list_runs(workspace, status=[]) == []
    assert ids(query.list_runs(workspace, tags={"kind": "x"})) == ["a1"]
    assert ids(query.list_runs(workspace, tags={"kind": None})) == ["a2", "a1"]
    assert ids(query.list_runs(workspace, tags={"best": ""})) == ["b1"]
    assert ids(query.list_runs(workspace, parent="b1")) == ["c1"]
    assert ids(query.list_runs(workspace, include_children=True)) == ["c1", "b2", "b1", "a2", "a1"]
    assert ids(query.list_runs(workspace, trashed=True)) == ["t1"]
    assert ids(query.list_runs(workspace, where="metrics.acc >= 0.5", tags={"kind": None}, status="Completed")) == ["a1"]
    with pytest.raises(UsageError, match="'Done' is no status"):
        query.list_runs(workspace, status="Done")


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("created", ["a1", "a2", "b1", "b2"]),
        ("-created", ["b2", "b1", "a2", "a1"]),
        ("metrics.acc", ["a1", "a2", "b2", "b1"]),
        ("-metrics.acc", ["b2", "a2", "a1", "b1"]),
        ("tags.kind", ["a1", "a2", "b2", "b1"]),
        ("experiment,created", ["a1", "a2", "b1", "b2"]),
        ("-experiment, id", ["b1", "b2", "a1", "a2"]),
        ("-ended", ["a2", "a1", "b2", "b1"]),
    ],
)
def test_sorting(some: Records, sort: str, order: list[str]) -> None:
    """By any field, down with a minus; runs without a value last; ties newest first."""
    assert ids(query.list_runs(some.workspace, sort=sort)) == order


@pytest.mark.parametrize("sort", ["acc", "metrics.", "", "created desc", "id; drop table run", "-"])
def test_sorting_by_no_field_is_refused(some: Records, sort: str) -> None:
    """The message names it, the hint lists the fields."""
    if sort == "":
        assert len(query.list_runs(some.workspace, sort=sort)) == 4
        return
    with pytest.raises(UsageError, match="can't be sorted by") as caught:
        query.list_runs(some.workspace, sort=sort)
    assert "metrics.NAME" in caught.value.hint


def test_more_runs_than_one_statement_can_name(records: Records) -> None:
    """Tags and metrics are there for each of very many runs."""
    for number in range(1200):
        records.run(f"r{number:04d}", spec={"tags": {"n": str(number)}}, created=records.now + number)
    records.refresh()
    rows = query.list_runs(records.workspace, limit=None)
    assert [row.tags["n"] for row in rows] == [str(number) for number in reversed(range(1200))]


def test_the_facts_of_one_run(some: Records) -> None:
    """``get_run`` has children and trash too, and None for what is not there."""
    row = query.get_run(some.workspace, "c1")
    assert row is not None
    assert (row.parent, row.finished) == ("b1", False)
    assert query.get_run(some.workspace, "t1") is not None
    assert query.get_run(some.workspace, "a") is None


def test_how_long_a_run_took(records: Records) -> None:
    """From start to end, or until now; nothing before it started."""
    records.run("a1", events=[records.status("Running", t=records.now - 60), records.status("Completed", t=records.now - 20)])
    records.run("a2", events=[records.status("Running", t=records.now - 60)])
    records.run("a3")
    records.refresh()
    spans = [row.duration for row in query.list_runs(records.workspace, sort="id")]
    assert spans[0] == pytest.approx(40)
    assert spans[1] == pytest.approx(time.time() - records.now + 60, abs=5)
    assert spans[2] is None


def test_experiments(some: Records) -> None:
    """The one with the latest run first; children and trash are not counted."""
    assert list(query.experiments(some.workspace)) == ["other", "mnist"]
    mnist = query.experiments(some.workspace)["mnist"]
    assert mnist.runs == 2
    assert mnist.latest == pytest.approx(some.now - 40)


def test_a_watcher_is_told_of_every_run_that_needs_it(some: Records) -> None:
    """Those that go on, with their job's facts, and those that ended but were not collected; once collected no more."""
    some.append("b1", {"t": 2, "e": "job", "id": "77", "backend": "slurm"})
    some.append("a1", {"t": 2, "e": "collected"})
    some.refresh()
    found = {row.id: row for row in query.unfinished(some.workspace)}
    assert set(found) == {"a2", "b1", "b2", "c1", "t1"}
    assert found["b1"] == ("b1", {"t": 2.0, "id": "77", "backend": "slurm"}, "Running")
    assert (found["a2"].status, found["b2"].job) == ("Failed", None)


def test_the_first_question_builds_the_index(records: Records) -> None:
    """Asking needs no refresh before it."""
    records.run("abc")
    assert ids(query.list_runs(records.workspace)) == ["abc"]
