"""The event writer loses nothing that it can keep, and never stops the program."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcest.onnode.events import event_files, read_events, read_run
from hpcest.onnode.record import EventWriter, encode, get_json, put_json


def test_a_line_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    """So that killing the process loses nothing."""
    program = (
        f"import os, signal, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from hpcest.onnode.record import EventWriter\n"
        f"writer = EventWriter({str(tmp_path)!r}, 'rank0')\n"
        "for n in range(1000): writer.event('metric', k='n', v=n)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    events, _, bad = read_events(event_files(tmp_path)[0])
    assert ([event["v"] for event in events], bad) == (list(range(1000)), 0)


def test_fields_that_are_none_are_left_out(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path, "x")
    writer.event("metric", k="a", v=1, s=None)
    writer.close()
    (event,) = read_events(writer.path)[0]
    assert set(event) == {"t", "e", "k", "v"}


def test_a_forked_child_writes_a_file_of_its_own(tmp_path: Path) -> None:
    """One file has one writer."""
    program = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from hpcest.onnode.record import EventWriter\n"
        f"writer = EventWriter({str(tmp_path)!r}, 'rank0')\n"
        "writer.event('tag', k='parent')\n"
        "if os.fork() == 0: writer.event('tag', k='child'); os._exit(0)\n"
        "os.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert sorted(read_events(path)[0][0]["k"] for path in event_files(tmp_path)) == ["child", "parent"]


def test_a_full_disk_stops_nothing_and_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines wait in memory until there is room; half a line that got out is ended and skipped."""
    writer = EventWriter(tmp_path, "rank0")
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        writer.event("metric", k="n", v=0)
        room = os.path.getsize(writer.path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room * 3 + 7, hard))
        for n in range(1, 10):
            writer.event("metric", k="n", v=n)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)

    events, _, bad = read_events(writer.path)
    assert [event["v"] for event in events] == list(range(10))
    assert bad <= 1
    assert capsys.readouterr().err.count("can't record") == 1
    writer.close()


def test_a_folder_that_can_not_be_written_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events").write_text("in the way")
    writer = EventWriter(tmp_path, "rank0")
    writer.event("metric", k="n", v=1)
    assert not writer.flush()
    assert "can't record" in capsys.readouterr().err
    (tmp_path / "events").unlink()
    assert writer.flush()
    assert read_run(tmp_path)[1].to_dict() == {"n": 1}
    writer.close()


@given(st.lists(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.floats(allow_nan=False)))), st.integers(0, 3000))
def test_a_tail_is_read_when_it_is_whole(tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, object]], cut: int) -> None:
    """Wherever a file is cut off, reading it in two steps gives the same as reading it at once."""
    path = tmp_path_factory.mktemp("tail") / "events.jsonl"
    data = b"".join(encode(event) for event in events)
    path.write_bytes(data[:cut])
    first, offset, bad = read_events(path)
    path.write_bytes(data)
    second, end, more_bad = read_events(path, offset)
    assert (first + second, end, bad + more_bad) == (events, len(data), 0)


def test_bytes_still_under_way_are_waited_for(tmp_path: Path) -> None:
    """A network file system shows NULs where data has not arrived."""
    path = tmp_path / "events.jsonl"
    whole = encode({"e": "tag", "k": "a"}) + encode({"e": "tag", "k": "b"})
    first = len(encode({"e": "tag", "k": "a"}))
    path.write_bytes(whole[: first + 3] + b"\0" * (len(whole) - first - 4) + b"\n")
    events, offset, _ = read_events(path)
    assert ([event["k"] for event in events], offset) == (["a"], first)
    path.write_bytes(whole)
    assert [event["k"] for event in read_events(path, offset)[0]] == ["b"]


def test_lines_that_are_no_events_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"e":"tag","k":"a"}\n17\nnonsense\n\xff\xfe\n{"e":"tag","k":"b"}\n')
    events, _, bad = read_events(path)
    assert ([event["k"] for event in events], bad) == (["a", "b"], 3)


def test_put_json_is_whole_or_absent(tmp_path: Path) -> None:
    put_json(str(tmp_path / "a.json"), {"x": 1})
    assert get_json(str(tmp_path / "a.json")) == {"x": 1}
    with pytest.raises(FileNotFoundError):
        put_json(str(tmp_path / "no" / "a.json"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_log_on_the_full_disk_too(tmp_path: Path) -> None:
    """In a run the warning itself goes to a file on that disk; the program goes on all the same."""
    (tmp_path / "events").write_text("in the way")
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from hpcest.onnode.record import EventWriter\n"
        f"EventWriter({str(tmp_path)!r}, 'rank0').event('metric', k='n', v=1)\n"
        "print('went on')\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"went on\n"
