"""Reading what a run's events say beside its metrics: the same as by reading all of them, and much faster."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcest.onnode import events, reading
from hpcest.onnode.gitfacts import git_properties
from hpcest.onnode.reading import read_state
from hpcest.onnode.run import Run

LINES = [
    b'{"t":1.5,"e":"metric","k":"a","v":1}',
    b'{"t":2,"e":"tag","k":"x","v":"{\\"t\\":1,\\"e\\":\\"metric\\",\\"k\\":1}"}',
    b'{"t": 2.5, "e": "metric", "k": "spaced", "v": 2}',
    b'{"e":"metric","t":2,"k":"turned","v":2}',
    b'{"t":3.5,"e":"metric","k":"tor',
    b'{"t":4,"e":"status","v":"Running","by":"program"}',
    b'{"t":5,"e":"row","k":"r","v":{"e":"metric"}}',
    b"",
    b"null",
    b"[1]",
    b"\0\0\0",
    b'{"t":6,"e":"child","id":"c1"}',
    b'{"t":7,"e":"property","k":"p","v":"1"}',
    b'{"t":7.5,"e":"metric","k":"e\\n","v":NaN,"s":3}',
    b'{"t":8,"e":"status","v":"Completed","by":"program"}',
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 24])
def test_the_same_as_reading_everything(folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torn lines, others' spelling, and whatever the size of a part."""
    file = folder / "events" / "rank0.a0-h-1.jsonl"
    file.write_bytes(b"\n".join(LINES) + b'\n{"t":9,"e":"tag","k":"torn","v":"x"}')
    (folder / "events" / "user-h-2.jsonl").write_bytes(b'{"t":9,"e":"tag","k":"x","v":"later"}\n')
    os.utime(file, (time.time() - 3600,) * 2)
    whole = events.read_run(folder)[0].to_json()
    monkeypatch.setattr(reading, "CHUNK", chunk)
    assert read_state(folder).to_json() == whole
    assert (whole["status"], whole["tags"], whole["children"]) == ("Completed", {"x": [9.0, "later"]}, ["c1"])


def test_data_under_way_is_left_for_the_next_time(folder: Path) -> None:
    file = folder / "events" / "rank0.a0-h-1.jsonl"
    file.write_bytes(b'{"t":1,"e":"tag","k":"a","v":""}\n\0\0\0\0{"t":2,"e":"tag","k":"b","v":""}\n')
    assert sorted(read_state(folder).tags) == ["a"] == sorted(events.read_run(folder)[0].tags)


def test_a_hundred_thousand_points_are_passed_over(folder: Path) -> None:
    """At least three times as fast as reading them."""
    run = Run(folder)
    for number in range(100_000):
        run.log("loss", number)
    run.tag("a", "b")

    def seconds(read: object) -> float:
        began = time.process_time()
        assert callable(read)
        read(folder)
        return time.process_time() - began

    assert min(seconds(read_state) for _ in range(3)) < min(seconds(events.read_run) for _ in range(3)) / 3
    assert run.get_tags() == {"a": "b"}


def test_a_folder_that_is_not_there() -> None:
    assert read_state("/nowhere/at/all").status == "NotStarted"


def test_git_properties() -> None:
    assert git_properties(None) == git_properties({}) == {}
    assert git_properties({"commit": "abc"}) == {
        "azureml.git.commit": "abc",
        "mlflow.source.git.commit": "abc",
        "azureml.git.dirty": "False",
    }
    assert git_properties(None, {"AZUREML_GIT_BUILD_URI": "u", "AZUREML_GIT_BUILD_ID": ""}) == {"azureml.git.build_uri": "u"}
