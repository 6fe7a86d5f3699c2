"""Files that are whole for every reader, whoever writes and whatever goes wrong."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcest.kit.files import create_exclusively, read_json, write_json, write_private, write_text, written_beside
from hpcest.kit.process import run

HOUSE = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("text", ["", "plain", "two\nlines\r\n", "é\u2028\0 \U0001f40d", "x" * 1_000_000])
@pytest.mark.parametrize("sync", [False, True])
def test_a_text_is_written_as_it_is(tmp_path: Path, text: str, sync: bool) -> None:
    file = tmp_path / "a file"
    write_text(file, "what was there before")
    write_text(file, text, sync=sync)
    assert file.read_bytes() == text.encode()
    assert names(tmp_path) == ["a file"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    code = """if True:
        import os, sys
        from pathlib import Path
        from hpcest.kit.files import write_text
        os.umask(0o027)
        write_text(Path(sys.argv[1]), "x")
    """
    done = run([sys.executable, "-c", code, tmp_path / "file"], cwd=HOUSE)
    assert done.err == ""
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def interrupted() -> None:
        with written_beside(file) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    with pytest.raises(FileNotFoundError), written_beside(file):
        pass  # nothing was written
    assert (names(tmp_path), file.read_text()) == (["file"], "old")


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "file", "x")


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 255)
    write_text(file, "x")
    assert create_exclusively(file, "y") is False
    assert names(tmp_path) == [file.name]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    file, done = tmp_path / "file.json", threading.Event()
    write_json(file, ["0"] * 20_000)

    def write() -> None:
        for number in range(1, 60):
            write_json(file, [str(number)] * 20_000)
        done.set()

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while not done.is_set() and not writer.done():
            values = read_json(file)
            assert len(values) == 20_000
            assert len(set(values)) == 1
            seen.add(values[0])
        writer.result()
    assert read_json(file)[0] == "59"
    assert len(seen) > 1


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"é": [1, 2.5, None, True, {"": "\n"}]}
    write_json(tmp_path / "file", value, sync=True)
    assert read_json(tmp_path / "file") == value == json.loads((tmp_path / "file").read_text())


def test_no_file_reads_as_none_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none") is None
    (tmp_path / "file").write_text("{")
    assert read_json(tmp_path / "file" / "below") is None
    with pytest.raises(ValueError, match="Expecting"):
        read_json(tmp_path / "file")
    (tmp_path / "file").write_bytes(b'"\xff"')
    with pytest.raises(ValueError, match="utf-8"):
        read_json(tmp_path / "file")


def test_what_is_private_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "file", {"b": "é", "a": [1, None]}, indent=1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    write_private(tmp_path / "file", {"a": 1})
    with pytest.raises(TypeError):
        write_private(tmp_path / "file", object())
    assert (tmp_path / "file").read_text() == '{"a": 1}'


def test_one_of_many_makes_a_file_and_all_see_it_whole(tmp_path: Path) -> None:
    """Processes, not threads: they race for real."""
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from hpcest.kit.files import create_exclusively
        me, folder = sys.argv[1], Path(sys.argv[2])
        (folder / f"ready.{me}").touch()
        while len(list(folder.glob("ready.*"))) < 6:
            time.sleep(0.001)
        won = [n for n in range(50) if create_exclusively(folder / f"claim.{n}", me * 10_000)]
        print(len(won), all(set((folder / f"claim.{n}").read_text()) <= set("012345") for n in range(50)))
    """
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda me: run([sys.executable, "-c", code, str(me), tmp_path], cwd=HOUSE, timeout=120), range(6)))
    assert [one.err for one in done] == [""] * 6
    assert sum(int(one.out.split()[0]) for one in done) == 50
    assert all(one.out.split()[1] == "True" for one in done)
    for number in range(50):
        text = (tmp_path / f"claim.{number}").read_text()
        assert len(text) == 10_000
        assert len(set(text)) == 1
    assert not list(tmp_path.glob(".*"))
