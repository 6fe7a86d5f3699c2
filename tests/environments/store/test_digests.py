"""A digest is remembered as long as the file looks the same, and nothing wrong is ever believed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from hpcest.environments.store.digests import Digests, sha256_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that was written a while ago."""
    path = tmp_path / "base's \udcff.sif"
    path.write_bytes(b"x" * 3_000_000)
    age(path)
    return path


def age(path: Path) -> None:
    then = time.time() - 100
    os.utime(path, (then, then))


def lie(memo: Path, digest: str) -> None:
    """Have another digest in the memo, so that it shows whether it is used."""
    lines = [json.loads(line) for line in memo.read_text().split("\n") if line]
    memo.write_text("".join(json.dumps([*line[:-1], digest]) + "\n" for line in lines))


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path, file: Path) -> None:
    digests = Digests(tmp_path / "cache" / "memo")
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digests.of(file) == right == sha256_of(file)
    lie(digests.memo, "a" * 64)
    assert Digests(digests.memo).of(file) == "a" * 64  # not read again
    file.write_bytes(b"y" * 3_000_000)
    age(file)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert digests.of(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, file: Path) -> None:
    os.utime(file)
    digests = Digests(tmp_path / "memo")
    assert digests.of(file) == sha256_of(file)
    assert not digests.memo.exists()


@pytest.mark.parametrize("torn", ['["/x", 1', "null", "[1,2,3,4,5]", '["/x",1,1,1,"zz"]', "\x00\x00", '{"a": 1}', "[" * 50])
def test_torn_and_foreign_lines_are_ignored(tmp_path: Path, file: Path, torn: str) -> None:
    digests = Digests(tmp_path / "memo")
    digests.memo.write_text(torn)
    digests.memo.chmod(0o600)
    assert digests.of(file) == sha256_of(file)
    lie_at_the_end = digests.memo.read_text().replace(sha256_of(file), "b" * 64)
    digests.memo.write_text(lie_at_the_end)
    assert digests.of(file) == "b" * 64  # the line after the torn one counts


def test_a_memo_that_others_can_write_is_not_believed(tmp_path: Path, file: Path) -> None:
    digests = Digests(tmp_path / "memo")
    digests.of(file)
    lie(digests.memo, "a" * 64)
    digests.memo.chmod(0o622)
    assert digests.of(file) == sha256_of(file)


def test_a_long_memo_is_shortened(tmp_path: Path, file: Path) -> None:
    digests = Digests(tmp_path / "memo")
    line = json.dumps(["/gone", 1, 1, 1, "c" * 64]) + "\n"
    digests.memo.write_text(line * (1_100_000 // len(line)))
    digests.memo.chmod(0o600)
    assert digests.of(file) == sha256_of(file)
    assert digests.memo.stat().st_size < 1000
    lie(digests.memo, "d" * 64)
    assert digests.of(file) == "d" * 64


def test_a_memo_that_cannot_be_written_costs_only_time(tmp_path: Path, file: Path) -> None:
    (tmp_path / "blocked").write_text("")
    assert Digests(tmp_path / "blocked" / "memo").of(file) == sha256_of(file)


def test_the_memo_lies_in_the_users_cache(tmp_path: Path) -> None:
    assert Digests(environ={"XDG_CACHE_HOME": str(tmp_path)}).memo == tmp_path / "hpcest" / "digests.jsonl"
