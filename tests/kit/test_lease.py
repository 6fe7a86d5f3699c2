"""The lease keeps others waiting while its holder lives, and nobody once the holder has gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import hpcest.kit.lease
from hpcest.kit.lease import Holder, lease, server_now, span, wait_notice

HOLD = """
import sys, time
from pathlib import Path
from typing import Any
from hpcest.kit.lease import lease
with lease(Path(sys.argv[1]), ttl=float(sys.argv[2])) as granted:
    print(granted, flush=True)
    time.sleep(float(sys.argv[3]))
"""


def holder(path: Path, *, ttl: float = 60.0, seconds: float = 60.0) -> subprocess.Popen[bytes]:
    """A process that has the lease."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path), str(ttl), str(seconds)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"True\n"
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def written(path: Path, **facts: object) -> None:
    """A lease left by someone else."""
    path.write_text(json.dumps({"user": "alice", "host": "n3", "pid": 12, "started": time.time(), "describe": "", **facts}))


def age(path: Path, seconds: float) -> None:
    """Make a lease look as if it had last been touched ``seconds`` ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_who_takes_it_first_has_it_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with lease(path, describe="alice at work") as granted:
        assert granted
        facts = json.loads(path.read_text())
        assert facts["pid"] == os.getpid()
        assert facts["host"] == socket.gethostname()
        assert facts["describe"] == "alice at work"
    assert [*tmp_path.iterdir()] == []


def test_it_is_given_back_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lease(tmp_path / "lease"):
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


def test_a_second_one_waits_and_says_for_whom(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    child = holder(path, seconds=1.0)
    seen: list[Holder] = []
    began = time.monotonic()
    with lease(path, waiting=seen.append) as granted:
        assert granted
        assert child.wait() == 0, "two had it at once"
    assert time.monotonic() - began > 0.5
    assert [one.pid for one in seen] == [child.pid]  # said once, not at each look
    end(child)


def test_what_someone_published_meanwhile_ends_the_wait(tmp_path: Path) -> None:
    path, product = tmp_path / "lease", tmp_path / "product"
    child = holder(path)
    threading.Timer(0.3, product.touch).start()
    with lease(path, done=product.exists) as granted:
        assert not granted
    assert path.exists()  # it is the other's
    end(child)


def test_nothing_is_taken_where_it_is_done_already(tmp_path: Path) -> None:
    with lease(tmp_path / "lease", done=lambda: True) as granted:
        assert not granted
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("moment", ["_create", "_acquire"])
def test_ctrl_c_while_the_lease_is_taken_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The file is there, and the function that made it has not returned."""
    real = getattr(hpcest.kit.lease, moment)

    def interrupted(*arguments: Any) -> None:
        assert real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(hpcest.kit.lease, moment, interrupted)
    with pytest.raises(KeyboardInterrupt), lease(tmp_path / "lease"):
        pass
    assert not list(tmp_path.iterdir())


def test_what_is_published_while_the_lease_is_taken_is_seen(tmp_path: Path) -> None:
    answers = iter([False, True])
    with lease(tmp_path / "lease", done=lambda: next(answers)) as granted:
        assert not granted
    assert [*tmp_path.iterdir()] == []


def test_a_killed_holder_on_this_host_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    child = holder(path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    began = time.monotonic()
    with lease(path) as granted:
        assert granted
    assert time.monotonic() - began < 10.0


def test_a_silent_holder_elsewhere_is_replaced_after_its_time(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    written(path)
    age(path, 61.0)
    with lease(path, ttl=60.0) as granted:
        assert granted
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_holder_elsewhere_that_was_heard_lately_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    written(path)
    age(path, 1.0)
    began = time.monotonic()
    with lease(path, ttl=3.0) as granted:
        assert granted
    assert time.monotonic() - began > 1.0


def test_a_living_holder_is_never_replaced_however_long_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    child = holder(path, ttl=0.5, seconds=2.0)
    with lease(path, ttl=0.5) as granted:
        assert granted
        assert child.poll() is not None or child.wait(0.5) == 0
    end(child)


@pytest.mark.parametrize("content", ["", "null", "[1]", '{"user": "a"', '{"unknown": 1}'])
def test_a_torn_lease_is_waited_for_and_replaced_by_age(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lease"
    path.write_text(content)
    age(path, 1.0)
    seen: list[Holder] = []
    with lease(path, ttl=1.3, waiting=seen.append) as granted:
        assert granted
    assert [str(one) for one in seen] == ["someone"]


def test_many_at_once_have_it_one_after_the_other(tmp_path: Path) -> None:
    """Also where all of them find a dead one first."""
    path, product = tmp_path / "lease", tmp_path / "product"
    child = holder(path)
    end(child)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with lease(path, ttl=5.0, done=product.exists) as granted:
            if granted:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.05)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 8
    assert max(most) == 1
    assert [*tmp_path.iterdir()] == []


def test_who_died_while_taking_over_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    written(path)
    age(path, 100.0)
    found = path.stat()
    right = tmp_path / f".lease.{found.st_ino:x}-{found.st_mtime_ns:x}.stale"
    right.touch()
    age(right, 11.0)
    with lease(path, ttl=60.0) as granted:
        assert granted
    assert [*tmp_path.iterdir()] == []


def test_a_lease_that_was_taken_over_is_left_to_its_new_holder(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with lease(path):
        path.unlink()
        written(path)
    assert json.loads(path.read_text())["user"] == "alice"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), lease(tmp_path / "nowhere" / "lease"):
        pytest.fail("granted")


def test_the_notice_names_the_holder_and_its_time() -> None:
    said: list[str] = []
    wait_notice(said.append)(Holder("alice", "n3", 12, time.time() - 125))
    wait_notice(said.append)(Holder())
    assert said == ["waiting for alice@n3 (started 2 min ago)", "waiting for someone"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (86400, "24 h"), (2 * 86400, "2 days")],
)
def test_spans_of_time_are_one_word(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_clock_of_the_folder_is_asked_without_a_trace(tmp_path: Path) -> None:
    assert abs(server_now(tmp_path) - time.time()) < 5
    assert [*tmp_path.iterdir()] == []
