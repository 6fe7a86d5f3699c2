"""The index is a function of the files: however they grew and whenever they were read, it is the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcest.onnode.events import read_run
from hpcest.onnode.record import encode
from hpcest.onnode.state import ORDER, RunState

if TYPE_CHECKING:
    from tests.history.conftest import Records

# Few times, names and values, so that many collide.
times = st.sampled_from([0, 1, 1.5, 2, 3, None, "noon"])
names = st.sampled_from(["a", "b", "\u00fc", "\ud800"])
values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.sampled_from(["", "x", "0.5", "\udfff"]), st.just([1, "y"])
)
statuses = st.fixed_dictionaries(
    {"t": times, "e": st.just("status"), "v": st.sampled_from([*ORDER])},
    optional={
        "a": st.integers(0, 2),
        "by": st.sampled_from(["controller", "watch", "user"]),
        "m": values,
        "r": values,
        "rc": values,
        "who": names,
    },
)
others = st.one_of(
    st.fixed_dictionaries({"t": times, "e": st.sampled_from(["tag", "untag", "property"]), "k": names, "v": values}),
    st.fixed_dictionaries(
        {"t": times, "e": st.sampled_from(["metric", "metric", "list", "row", "table", "image"]), "k": names, "v": values},
        optional={"s": values},
    ),
    st.fixed_dictionaries({"t": times, "e": st.sampled_from(["name", "description", "trash", "collected", "unknown"]), "v": values}),
    st.fixed_dictionaries(
        {"t": times, "e": st.sampled_from(["job", "child", "usage", "lost"])},
        optional={"id": names, "a": st.integers(0, 2), "n": values, "x": values},
    ),
)
lines = st.one_of(
    statuses.map(encode),
    others.map(encode),
    others.map(encode),
    st.sampled_from([b"torn {\n", b"\n", b"[]\n", b"\xff\n", b'{"e":"tag","k":"a","v":[1\n', b"2]}\n"]),
)
WRITERS = ("rank0-n1-1", "rank1-n2-2", "user-login1-3")


def sorted_json(state: RunState) -> str:
    return json.dumps(state.to_json(), sort_keys=True)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.lists(lines, max_size=8).map(b"".join), min_size=3, max_size=3),
    pieces=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200)), max_size=12),
    seed=st.integers(0, 1 << 16),
)
def test_reading_in_pieces_equals_reading_at_once(
    new_records: Callable[[], Records], data: list[bytes], pieces: list[tuple[int, int]], seed: int
) -> None:
    """Random events of three writers, cut anywhere, read at random moments: the same as an index built at the end."""
    records = new_records()
    records.run("abc", spec={"tags": {"a": "spec"}, "command": {"script": "t.py", "arguments": ["--lr", "0.1"]}})
    rest, chance = [*data], random.Random(seed)
    for writer, size in [*pieces, (0, 1 << 20), (1, 1 << 20), (2, 1 << 20)]:
        records.append("abc", rest[writer][:size], file=f"{WRITERS[writer]}.jsonl")
        rest[writer] = rest[writer][size:]
        if chance.random() < 0.6:
            records.refresh()
    records.refresh()
    grown = records.dump()
    assert grown == records.rebuilt()
    assert grown["progress"][0][1] == json.dumps(
        read_run(records.workspace.run("abc").path)[0].to_json(), sort_keys=True, separators=(",", ":")
    )


@settings(max_examples=200, deadline=None)
@given(
    events=st.lists(st.one_of(statuses, others), max_size=12),
    owners=st.lists(st.integers(0, 2), min_size=12, max_size=12),
    seed=st.integers(0, 1 << 16),
)
def test_the_state_does_not_depend_on_the_order_of_the_writers(events: list[dict[str, Any]], owners: list[int], seed: int) -> None:
    """Interleaving the files of several writers differently gives the same state, also where times are equal."""
    files: list[list[dict[str, Any]]] = [[], [], []]
    for event, owner in zip(events, owners, strict=False):
        files[owner].append(event)
    one_by_one, mixed = RunState(), RunState()
    for writer, file in zip(WRITERS, files, strict=True):
        for event in file:
            one_by_one.apply(event, writer)
    left, chance = [[*file] for file in files], random.Random(seed)
    while any(left):
        owner = chance.choice([number for number, file in enumerate(left) if file])
        mixed.apply(left[owner].pop(0), WRITERS[owner])
    assert sorted_json(mixed) == sorted_json(one_by_one)


def test_within_one_file_the_later_line_counts_when_times_are_equal(records: Records) -> None:
    """A program whose clock has whole seconds is taken at the order of its lines."""
    records.run("abc")
    for value in ("5", "4", "3"):
        records.append("abc", {"t": 7, "e": "metric", "k": "loss", "v": float(value)}, {"t": 7, "e": "tag", "k": "phase", "v": value})
        records.refresh()
    state, _ = read_run(records.workspace.run("abc").path)
    assert state.tags["phase"] == [7, "3"]
    assert [row for row in records.dump()["metric_last"] if row[3] == 3.0]
    assert records.dump() == records.rebuilt()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"e": "metric", "k": "a", "v": 1}, {"e": "metric", "k": "a", "v": 2}),
        ({"e": "metric", "k": "a", "v": "text", "s": 1}, {"e": "row", "k": "a", "v": {}}),
        ({"e": "tag", "k": "a", "v": "1"}, {"e": "untag", "k": "a"}),
        ({"e": "property", "k": "a", "v": "1"}, {"e": "property", "k": "a", "v": "2"}),
        ({"e": "name", "v": "1"}, {"e": "name", "v": "2"}),
        ({"e": "description", "v": "1"}, {"e": "description", "v": "2"}),
        ({"e": "job", "id": "1"}, {"e": "job", "id": "2"}),
        ({"e": "usage", "n": 1}, {"e": "usage", "n": 2}),
        ({"e": "usage", "a": 1}, {"e": "usage", "a": 2}),
        ({"e": "child", "id": "b"}, {"e": "child", "id": "a"}),
        ({"e": "trash", "v": True}, {"e": "trash", "v": False}),
        ({"e": "status", "v": "Failed"}, {"e": "status", "v": "Completed"}),
        ({"e": "status", "v": "Preparing", "who": "x"}, {"e": "status", "v": "Queued"}),
        ({"e": "status", "v": "Running", "m": "x"}, {"e": "status", "v": "Running", "m": "y"}),
    ],
)
def test_equal_times_of_two_writers_are_decided_alike_in_either_order(
    new_records: Callable[[], Records], first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Whichever of two files was read first, the sums agree; so they do when both are read at once."""
    dumps = []
    for order in ((0, 1), (1, 0), (None,)):
        records = new_records()
        records.run("abc", created=1.0)
        for turn in order:
            for writer, event in ((0, first), (1, second)):
                if turn in (writer, None):
                    records.append("abc", {"t": 5, **event}, file=f"{WRITERS[writer]}.jsonl")
            records.refresh()
        dumps.append({table: rows for table, rows in records.dump().items() if table != "source"})  # inodes differ
    assert dumps[0] == dumps[1] == dumps[2]


def test_two_bad_lines_that_make_json_together_are_bad_lines(records: Records) -> None:
    """Reading many lines at once is only a faster way to read each."""
    records.run("abc")
    records.append("abc", b'{"e":"tag","k":"a","v":[1\n2]}\n', b'{"e":"tag","k":"b"},{"e":"tag","k":"c"}\n')
    records.refresh()
    assert records.dump()["tag"] == []
    assert records.dump()["run"][0][23] == 3
