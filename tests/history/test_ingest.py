"""What reaches the index, from files that are whole, torn, replaced, half made, or from another version."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.history import edits, header, ingest, ledger, query
from hpcest.history.location import index_location
from hpcest.model.spec import RunSpec

if TYPE_CHECKING:
    from tests.history.conftest import Records


def settled(records: Records, run_id: str) -> bool:
    """Whether the index has stopped looking at a run."""
    with contextlib.closing(sqlite3.connect(index_location(records.workspace))) as connection:
        return bool(connection.execute("SELECT settled FROM progress WHERE run = ?", (run_id,)).fetchone()[0])


def the_run(records: Records, run_id: str) -> query.RunRow:
    row = query.get_run(records.workspace, run_id)
    assert row is not None
    return row


def test_every_column_comes_from_the_header_or_the_events(records: Records) -> None:
    """A whole run is in the index with all that the run folder says."""
    spec = {
        "display_name": "first try", "compute": "gpu", "framework": "pytorch", "environment": {"kind": "conda", "name": "torch2"},
        "command": {"script": "train.py", "arguments": ["--lr", "0.1", "--amp"]}, "properties": {"p": "spec"},
        "tags": {"team": "a", "drop": "1"},
    }  # fmt: skip
    now = records.now
    events: list[dict[str, Any]] = [
        {"t": now, "e": "status", "v": "Queued", "by": "submit"},
        {"t": now, "e": "job", "id": 4711, "backend": "slurm"},
        {"t": now + 1, "e": "status", "v": "Running", "by": "controller", "a": 1},
        {"t": now + 2, "e": "metric", "k": "loss", "v": 0.5, "s": 1},
        {"t": now + 3, "e": "metric", "k": "loss", "v": 0.25, "s": 2},
        {"t": now + 3, "e": "tag", "k": "best", "v": ""},
        {"t": now + 3, "e": "untag", "k": "drop"},
        {"t": now + 3, "e": "property", "k": "p", "v": "event"},
        {"t": now + 3, "e": "property", "k": "q", "v": "kept"},
        {"t": now + 3, "e": "name", "v": "second try"},
        {"t": now + 3, "e": "description", "v": "why"},
        {"t": now + 4, "e": "status", "v": "Failed", "by": "controller", "a": 1, "r": "OutOfMemory", "m": "ask for more", "rc": 137},
    ]
    records.run("abc", spec=spec, events=events)
    assert records.refresh() == 1
    assert the_run(records, "abc") == query.RunRow(
        id="abc", kind="run", experiment="mnist", display_name="second try", description="why", status="Failed", reason="OutOfMemory",
        message="ask for more", created=now - 100, queued=now, started=now + 1, ended=now + 4, compute="gpu", framework="pytorch",
        environment="torch2", script="train.py", user="me", host="login1", parent="", attempt=1, exit_code=137, job="4711",
        trashed=False, lost=0, collected=False, tags={"team": "a", "best": ""}, properties={"p": "spec", "q": "kept"},
        params={"lr": "0.1", "amp": "true"}, metrics={"loss": 0.25},
    )  # fmt: skip


def test_a_spec_that_leaves_its_defaults_out_has_them(records: Records) -> None:
    """What the header omits is what RunSpec says it is; a child has neither compute target nor framework."""
    records.run("plain")
    records.run("child", kind="child", spec={"parent": "plain"})
    records.refresh()
    default = RunSpec.__dataclass_fields__
    row, child = the_run(records, "plain"), the_run(records, "child")
    assert (row.compute, row.framework) == (default["compute"].default, default["framework"].default)
    assert (child.compute, child.framework, child.parent) == ("", "", "plain")


def test_only_what_is_new_is_added(records: Records) -> None:
    """Metrics are counted once, however often the index is refreshed in between."""
    records.run("abc")
    for step in range(5):
        records.append("abc", {"t": step, "e": "metric", "k": "loss", "v": step, "s": step})
        assert (records.refresh(), records.refresh()) == (1, 0)
    with contextlib.closing(sqlite3.connect(index_location(records.workspace))) as connection:
        assert connection.execute("SELECT count, min, max, value, step FROM metric_last").fetchall() == [(5, 0, 4, 4, 4)]


def test_a_torn_line_waits_for_its_end(records: Records) -> None:
    """Half a line changes nothing; the rest makes it an event."""
    records.run("abc", events=[{"t": 1, "e": "tag", "k": "a", "v": "1"}])
    records.append("abc", b'{"t":2,"e":"tag","k":"a",')
    records.refresh()
    assert the_run(records, "abc").tags == {"a": "1"}
    records.append("abc", b'"v":"2"}\n')
    assert records.refresh() == 1
    assert the_run(records, "abc").tags == {"a": "2"}


def test_nul_bytes_are_waited_for_and_given_up_when_old(records: Records) -> None:
    """Data under way may look like NULs for a moment; a hole that stays loses its line, not what follows."""
    path = records.append(
        records.run("abc").id, b'{"t":1,"e":"tag","k":"a","v":"1"}\n', b"\0" * 40 + b'\n{"t":2,"e":"tag","k":"b","v":"2"}\n'
    )
    records.refresh()
    assert the_run(records, "abc").tags == {"a": "1"}
    with open(path, "r+b") as stream:  # the data arrive
        stream.seek(34)
        stream.write(b'{"t":1,"e":"tag","k":"c","v":"3"}       ')
    records.refresh()
    assert the_run(records, "abc").tags == {"a": "1", "b": "2", "c": "3"}

    records.append(
        "abc", b"\0\0\0", b'{"t":3,"e":"tag","k":"d","v":"4"}\n', b'{"t":3,"e":"t\0\0\0\n', b'{"t":3,"e":"tag","k":"e","v":"5"}\n'
    )
    records.age(records.workspace.run("abc"), 90)
    records.refresh()
    row = the_run(records, "abc")
    assert row.tags == {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5"}
    assert row.lost == 1


JUNK = [
    b"not json\n",
    b'"text"\n',
    b"[1, 2]\n",
    b"17\n",
    b"{}\n",
    b"\n\n",
    b"\xff\xfe\n",
    b"[" * 100_000 + b"\n",
    b'{"e": 5}\n',
    b'{"e": ["status"]}\n',
    b'{"e":"status","v":["Failed"],"a":"x"}\n',
    b'{"e":"tag","k":["a"],"v":"b"}\n',
    b'{"e":"tag","t":"noon"}\n',
    b'{"e":"metric","k":null,"v":1}\n',
    b'{"e":"metric","k":"x","v":{"a":[1]},"t":null,"s":"first"}\n',
    b'{"e":"job","id":{"x":1}}\n',
    b'{"e":"child","id":7}\n',
    b'{"e":"lost","n":"many"}\n',
    b'{"e":"status","v":"Running","t":1' + b"0" * 400 + b"}\n",
    b'{"e":"metric","k":"big","v":1' + b"0" * 400 + b',"t":NaN,"s":Infinity}\n',
    b'{"e":"tag","k":"\\ud800","v":"\\udfff\\u0000"}\n',
    b'{"e":"property","k":"p","v":{"a":1}}\n',
    b'{"e":"usage","a":"x"}\n',
    b'{"e":"trash","v":[]}\n',
    b'{"e":"row","k":"r","v":5}\n',
    b'{"e":"list","k":"l","v":"text"}\n',
    b'{"e":"nobody knows","v":1}\n',
    b'{"e":"name","v":5}\n',
    b'{"e":"to_json"}\n',
]


@pytest.mark.parametrize("junk", JUNK)
def test_no_line_keeps_what_follows_from_being_read(records: Records, junk: bytes) -> None:
    """Whatever a line holds, the events after it count, and an index built anew is equal."""
    records.run("abc")
    records.append("abc", junk, {"t": 5, "e": "metric", "k": "loss", "v": 1.5}, records.status("Completed"))
    records.refresh()
    row = the_run(records, "abc")
    assert (row.status, row.metrics["loss"]) == ("Completed", 1.5)
    query.list_runs(records.workspace, sort="-metrics.loss")
    assert records.dump() == records.rebuilt()


def test_values_of_every_kind_are_kept(records: Records) -> None:
    """Numbers stay what they were, texts are texts, NaN is NaN, tables are not in the listing."""
    values: list[Any] = [3, 2.5, True, "text", float("inf"), 2**70, None, ""]
    events = [{"t": 1, "e": "metric", "k": f"m{place}", "v": value} for place, value in enumerate(values)]
    events += [
        {"t": 1, "e": "list", "k": "l", "v": [1, 5, 2]},
        {"t": 1, "e": "row", "k": "r", "v": {"a": 1}},
        {"t": 1, "e": "image", "k": "i", "v": "images/i.png"},
    ]
    records.run("abc", events=[*events, {"t": 1, "e": "metric", "k": "nan", "v": float("nan")}])
    records.refresh()
    metrics = the_run(records, "abc").metrics
    assert math.isnan(float(metrics.pop("nan")))
    assert metrics == {"m0": 3, "m1": 2.5, "m2": 1, "m3": "text", "m4": math.inf, "m5": float(2**70), "m7": "", "l": 2}
    assert isinstance(metrics["m0"], int)
    with contextlib.closing(sqlite3.connect(index_location(records.workspace))) as connection:
        assert connection.execute("SELECT count, min, max FROM metric_last WHERE name = 'l'").fetchone() == (3, 1, 5)
        assert connection.execute("SELECT kind, text FROM metric_last WHERE name = 'i'").fetchone() == ("image", "images/i.png")


def test_names_of_any_unicode_come_through(records: Records) -> None:
    """Experiments, tags and metrics are listed with the names that they were given."""
    name = "\u540d\u524d \U0001f600 'quoted\" \u202e\u0000 `tick`"
    records.run("abc", spec={"experiment": name, "tags": {name: name}}, events=[{"t": 1, "e": "metric", "k": name, "v": 1}])
    records.run("sur", spec={"experiment": "lone \ud800 half"})
    records.refresh()
    row = the_run(records, "abc")
    assert (row.experiment, row.tags, row.metrics) == (name, {name: name}, {name: 1})
    assert the_run(records, "sur").experiment == "lone ? half"


@pytest.mark.parametrize("how", ["shorter", "replaced", "removed"])
def test_a_file_that_is_another_now_is_read_from_its_beginning(records: Records, how: str) -> None:
    """A restored or cut file does not leave the sums of the old one behind."""
    folder = records.run("abc", events=[{"t": time.time() + step, "e": "metric", "k": "loss", "v": step} for step in range(20)])
    records.append("abc", {"t": 1, "e": "tag", "k": "a", "v": "1"}, file="user.jsonl")
    records.refresh()
    path = folder.events / "rank0-n1-1.jsonl"
    if how == "shorter":
        path.write_bytes(b'{"t":1,"e":"metric","k":"loss","v":7}\n')
    elif how == "replaced":
        path.with_name("other").write_bytes(b'{"t":1,"e":"metric","k":"loss","v":7}\n' * 200)
        path.with_name("other").rename(path)
    else:
        path.unlink()
    assert records.refresh() == 1
    row = the_run(records, "abc")
    assert row.metrics == ({} if how == "removed" else {"loss": 7})
    assert row.tags == {"a": "1"}
    assert records.dump() == records.rebuilt()


def test_a_half_made_run_waits_for_its_header(records: Records) -> None:
    """A folder without run.json, or with half of one, is no run yet; names with a dot are never looked at."""
    folder = records.workspace.run("abc")
    folder.events.mkdir(parents=True)
    (records.workspace.runs / ".new-xyz" / "events").mkdir(parents=True)
    (records.workspace.runs / ".new-xyz" / "run.json").write_text("{}")
    (records.workspace.runs / "stray.txt").write_text("no folder")
    os.mkdir(os.fsencode(records.workspace.runs) + b"/not-utf8-\xff")
    assert records.refresh() == 0
    folder.header.write_text('{"schema": 1, "id"')
    assert records.refresh() == 0
    assert query.list_runs(records.workspace) == []
    folder.header.write_text('{"schema": 1, "id": "abc", "spec": {"experiment": "late"}}')
    assert records.refresh() == 1
    assert [row.experiment for row in query.list_runs(records.workspace)] == ["late"]
    shutil.rmtree(records.workspace.runs / os.fsdecode(b"not-utf8-\xff"))


@pytest.mark.parametrize(
    "text", ['{"schema": 99, "id": 5, "spec": {"experiment": "new", "command": "a text now", "tags": ["x"]}, "more": {}}', "[]", "{}"]
)
def test_a_header_of_another_version_is_listed_with_what_it_says(records: Records, text: str) -> None:
    """A newer schema, or fields of other types, is no reason to hide a run; what is no object is no header."""
    folder = records.run("abc", events=[records.status("Running")])
    folder.header.write_text(text)
    records.refresh()
    rows = query.list_runs(records.workspace)
    assert [(row.id, row.status, row.script) for row in rows] == ([] if text == "[]" else [("abc", "Running", "")])
    assert not rows or rows[0].experiment == json.loads(text).get("spec", {}).get("experiment", "")


def test_a_run_of_a_plugin_that_is_gone_is_listed(records: Records) -> None:
    """Names of frameworks, environments and compute targets are only names to the index."""
    records.run("abc", spec={"framework": "gone", "compute": "gone", "environment": {"kind": "gone"}, "distribution": {"kind": "gone"}})
    records.refresh()
    row = the_run(records, "abc")
    assert (row.framework, row.compute, row.environment) == ("gone", "gone", "gone")


def test_a_run_whose_folder_is_gone_leaves_the_index(records: Records) -> None:
    """Moved to the trash or removed: all of it goes; restored, all of it is back."""
    folder = records.run("abc", spec={"tags": {"a": "1"}}, events=[{"t": 1, "e": "metric", "k": "loss", "v": 1}])
    records.run("other")
    records.refresh()
    before = records.dump()
    records.workspace.trash.mkdir()
    folder.path.rename(records.workspace.trash / "abc")
    assert records.refresh() == 1
    assert [row.id for row in query.list_runs(records.workspace)] == ["other"]
    assert not any("abc" in repr(rows) for rows in records.dump().values())
    (records.workspace.trash / "abc").rename(folder.path)
    assert records.refresh() == 1
    assert records.dump() == before


def test_a_file_system_that_is_away_forgets_nothing(records: Records) -> None:
    """No runs folder at all is an unmounted disk rather than the end of all runs."""
    records.run("abc")
    records.refresh()
    away = records.workspace.runs.rename(records.workspace.home / "away")
    assert records.refresh() == 0
    assert [row.id for row in query.list_runs(records.workspace)] == ["abc"]
    away.rename(records.workspace.runs)


def test_new_runs_are_found_although_the_folder_has_the_same_stamp(records: Records) -> None:
    """A run made within the same tick of a coarse clock is found all the same."""
    stamp = time.time_ns()
    for number in range(4):
        records.run(f"run{number}")
        os.utime(records.workspace.runs, ns=(stamp, stamp))
        assert records.refresh() == 1


def test_a_refresh_that_is_killed_half_way_is_taken_up_by_the_next(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing counts as seen before it is written, also where a pass writes several times."""
    records.run("r0")
    records.refresh()
    for number in range(1, 6):
        records.run(f"r{number}")
    read, seen = header.read_header, []

    def killed(folder: str) -> object:
        seen.append(folder)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return read(folder)

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_MOST_RUNS", 2)
        patch.setattr(ingest, "STAMP_TRUSTED_S", -1.0)
        patch.setattr(ingest, "read_header", killed)
        with pytest.raises(KeyboardInterrupt):
            records.refresh()
    assert len(query.list_runs(records.workspace)) == 3
    assert records.refresh() == 3
    assert records.dump() == records.rebuilt()


def test_a_finished_run_is_left_alone_until_an_edit_is_announced(records: Records) -> None:
    """Settled runs cost nothing; an announcement by any host has them read again, for a while."""
    folder = records.finished("abc")
    records.refresh()
    assert settled(records, "abc")
    records.append("abc", {"t": records.now, "e": "tag", "k": "a", "v": "1"}, file="user-login2-9.jsonl")
    assert records.refresh() == 0
    records.workspace.edits.mkdir()
    (records.workspace.edits / "login2.jsonl").write_text('{"run": "abc"}\nnonsense\n{"run": 5}\n{"run": "nosuch"}\n{"run": "ab')
    assert records.refresh() == 1
    assert the_run(records, "abc").tags == {"a": "1"}
    # The announcement may be here before what it announces.
    records.age(folder)
    assert records.refresh() == 0
    records.append("abc", {"t": records.now + 1, "e": "tag", "k": "a", "v": "2"}, file="user-login3-9.jsonl")
    assert records.refresh() == 1
    assert the_run(records, "abc").tags == {"a": "2"}
    assert not settled(records, "abc")


def test_an_announcement_may_come_before_what_it_announces(records: Records) -> None:
    """On a network file system the event may be seen later than the announcement: the run is watched for a while."""
    records.finished("abc")
    records.refresh()
    edits.announce(records.workspace, "abc")
    assert records.refresh() == 0
    assert records.refresh() == 0
    records.append("abc", {"t": records.now, "e": "tag", "k": "a", "v": "1"}, file="user-login2-9.jsonl")
    records.age(records.workspace.run("abc"))
    assert records.refresh() == 1
    assert the_run(records, "abc").tags == {"a": "1"}


def test_announce_appends_one_line_for_each_edit(records: Records) -> None:
    """The announcement of this host is read once, and again when there is another."""
    folder = records.finished("abc")
    records.refresh()
    for value in ("1", "2"):
        records.append("abc", {"t": records.now + int(value), "e": "tag", "k": "a", "v": value}, file="user-login2-9.jsonl")
        edits.announce(records.workspace, "abc")
        assert records.refresh() == 1
        assert the_run(records, "abc").tags == {"a": value}
    path = records.workspace.edits / f"{os.uname().nodename}-{os.getuid()}.jsonl"
    assert path.read_text() == '{"run":"abc"}\n' * 2
    assert folder.path.exists()


@pytest.mark.parametrize(
    ("change", "rests"),
    [("nothing", True), ("not collected", False), ("child", True), ("running", False), ("just written", False), ("just ended", False)],
)
def test_a_run_is_settled_when_nothing_more_can_come(records: Records, change: str, rests: bool) -> None:
    """Over, collected, and quiet for a minute by the clocks of both the node and the file server."""
    end = records.now - (5 if change == "just ended" else 3600)
    events = [records.status("Running" if change == "running" else "Completed", t=end)]
    if change not in ("not collected", "child"):
        events.append({"t": end, "e": "collected"})
    folder = records.run("abc", events=events, kind="child" if change == "child" else "run")
    if change != "just written":
        records.age(folder)
    records.refresh()
    assert settled(records, "abc") is rests
    records.age(folder, 7200)
    records.refresh()
    assert settled(records, "abc") is (rests or change == "just written")


def test_an_index_that_cannot_be_written_is_read_with_a_warning(records: Records, caplog: pytest.LogCaptureFixture) -> None:
    """A listing still works when the disk is full."""
    import resource

    records.run("abc")
    records.refresh()
    for number in range(300):
        records.run(f"new{number}", spec={"description": "x" * 2000})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        assert records.refresh() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "can't be written" in caplog.text
    assert [row.id for row in query.list_runs(records.workspace)] == ["abc"]
    assert records.refresh() == 300


def test_a_long_file_is_read_in_parts(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory needed does not grow with the file; lines longer than a part are read too."""
    from hpcest.history import scan

    monkeypatch.setattr(scan, "CHUNK", 64)
    records.run("abc", events=[{"t": step, "e": "metric", "k": "loss", "v": step} for step in range(50)])
    records.append("abc", {"t": 99, "e": "tag", "k": "long", "v": "x" * 1000}, records.status("Running"))
    records.refresh()
    row = the_run(records, "abc")
    assert (row.metrics, row.status, len(row.tags["long"])) == ({"loss": 49}, "Running", 1000)


def test_the_same_sums_without_trusting_file_sizes(records: Records) -> None:
    """As on a network file system, where only opening a file tells its size."""
    from hpcest.history import scan
    from hpcest.history.fold import Fold
    from hpcest.onnode.state import RunState

    folder = str(records.run("abc", events=[{"t": 1, "e": "tag", "k": "a", "v": "1"}]).path)
    first = scan.read_run(folder, None, lambda _: Fold(RunState(), {}), network=True)
    assert first is not None
    assert first.fold is not None
    again = scan.read_run(folder, first.sources, lambda _: Fold(RunState(), {}), network=True)
    assert again is not None
    assert (again.fold, again.sources, again.newest) == (None, {}, first.newest)
    Path(folder, "events", "rank0-n1-1.jsonl").write_bytes(b"")
    cut = scan.read_run(folder, first.sources, lambda _: Fold(RunState(), {}), network=True)
    assert cut is not None
    assert cut.fresh


def test_reindex_counts_the_runs(records: Records) -> None:
    """It returns how many runs the new index has."""
    for number in range(3):
        records.run(f"run{number}")
    assert ingest.reindex(records.workspace) == 3
    assert records.refresh() == 0
