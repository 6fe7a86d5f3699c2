"""The real TensorBoard over runs, past ones and such that go on."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest

from hpcest import Run, Workspace
from hpcest.errors import HpcestError, SpecError
from hpcest.onnode.record import EventWriter
from hpcest.sdk.tensorboard import Tensorboard
from hpcest.testing import python_with
from tests.sdk.conftest import MakeRun

WRITE = """
import sys, time
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
writer = EventFileWriter(sys.argv[1])
writer.add_event(Event(wall_time=time.time(), step=1, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.5)])))
writer.close()
"""
WaitUntil = Callable[..., None]


@pytest.fixture(scope="module")
def program() -> str:
    """A TensorBoard."""
    return str(python_with("tensorboard", ("tensorboard",)).with_name("tensorboard"))


@pytest.fixture(scope="module")
def event_file(program: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """The name and the content of a file that TensorBoard's own writer has made."""
    folder = tmp_path_factory.mktemp("events")
    subprocess.run([str(Path(program).with_name("python")), "-c", WRITE, str(folder)], check=True, timeout=120)
    (path,) = folder.iterdir()
    return path.name, path.read_bytes()


@pytest.fixture
def wrote(event_file: tuple[str, bytes]) -> Callable[[Run, str], None]:
    """``wrote(run, "logs")``: has the run an event file there."""

    def write(run: Run, place: str) -> None:
        folder = Path(run.folder, place)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / event_file[0]).write_bytes(event_file[1])

    return write


Wrote = Callable[[Run, str], None]


def seen(url: str) -> set[str]:
    """What TensorBoard calls the runs of which it knows the metric."""
    with urllib.request.urlopen(f"{url}data/plugin/scalars/tags", timeout=10) as answer:
        return {name for name, tags in json.load(answer).items() if "loss" in tags}


def test_runs_are_shown_by_their_names_with_those_below_them(made_run: MakeRun, program: str, wrote: Wrote, wait_until: WaitUntil) -> None:
    first, second, child = made_run(display_name="a/b c"), made_run(), made_run()
    EventWriter(first.folder, "rank0.a0").event("child", id=child.id)
    for run, place in ((first, "logs"), (second, "logs/sub"), (second, "outputs/tb"), (child, "logs")):
        wrote(run, place)
    with Tensorboard([first, second], program=program, port=16006) as board:
        expected = {f"a_b_c-{first.id}", f"{second.id}/sub", f"{second.id}-outputs/tb", child.id}
        wait_until(lambda: seen(board.url) == expected, seconds=60)
        assert re.fullmatch(rf"ssh -N -L {board.port}:localhost:{board.port} \S+@\S+", board.tunnel)
        assert board.start() == board.url
    with pytest.raises(URLError):
        seen(board.url)


def test_a_run_that_goes_on_is_followed(
    made_run: MakeRun, program: str, wrote: Wrote, wait_until: WaitUntil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes after the start shows, also in places that had nothing."""
    monkeypatch.setattr("hpcest.sdk.tensorboard._AGAIN_S", 0.2)
    run = made_run(status="Running")
    board = Tensorboard(run, str(tmp_path / "links"), 16106, program=program)
    assert board.without_events() == [run.id]
    url = board.start()
    wrote(run, "logs")
    wrote(run, "outputs")
    wait_until(lambda: seen(url) == {run.id, f"{run.id}-outputs"}, seconds=60)
    board.stop()
    board.stop()
    assert list((tmp_path / "links").iterdir()) == []
    assert Path(run.folder, "logs").is_dir()


def test_a_port_that_is_taken_is_passed_over(made_run: MakeRun, program: str, wrote: Wrote) -> None:
    run = made_run()
    wrote(run, "logs")
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Tensorboard(run, port=port, program=program) as board:
            assert board.port > port
            assert str(board.port) in board.url


def test_ended_runs_without_event_files_are_refused(made_run: MakeRun, program: str) -> None:
    run = made_run(files={"outputs/model": "x"})
    with pytest.raises(HpcestError, match=f"there is nothing for TensorBoard in {run.id}: no file events.out.tfevents"):
        Tensorboard([run], program=program).start()


def test_a_program_that_is_not_there_or_does_not_start_is_said(made_run: MakeRun, wrote: Wrote, tmp_path: Path) -> None:
    run = made_run()
    wrote(run, "logs")
    with pytest.raises(HpcestError, match=r"can't be started: /none: No such file"):
        Tensorboard(run, program="/none").start()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho it has no numpy >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(HpcestError, match="doesn't start: it has no numpy"):
        Tensorboard(run, program=str(broken)).start()


def test_where_it_is_not_installed_the_next_step_is_named(made_run: MakeRun, wrote: Wrote, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made_run()
    wrote(run, "logs")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HpcestError, match="TensorBoard is not installed here") as caught:
        Tensorboard(run).start()
    assert caught.value.hint.endswith("pip install tensorboard")


def test_the_tensorboard_of_a_run_serves_where_there_is_no_other(
    made_run: MakeRun, program: str, wrote: Wrote, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_run()
    wrote(run, "logs")
    Path(run.folder, "launch.json").write_text(json.dumps({"interpreter": str(Path(program).with_name("python")), "prefix": []}))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Tensorboard(run, port=16206) as board:
        assert board.url.startswith("http://localhost:")


def test_a_folder_is_shown_without_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, event_file: tuple[str, bytes], wait_until: WaitUntil
) -> None:
    """Azure ML's notebooks export runs to a folder, and show that; here it is named as they do, relative to where they are."""
    monkeypatch.chdir(tmp_path)
    Path("logdir/one").mkdir(parents=True)
    Path("logdir/one", event_file[0]).write_bytes(event_file[1])
    with Tensorboard([], local_root="logdir", program=program, port=16306) as board:
        wait_until(lambda: seen(board.url) == {"one"})
    assert [path.name for path in Path("logdir").iterdir()] == ["one"]


def test_it_needs_a_run() -> None:
    with pytest.raises(SpecError, match="needs a run"):
        Tensorboard([])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_it_is_and_leaves_nothing_running(
    workspace: Workspace, made_run: MakeRun, program: str, wrote: Wrote, tmp_path: Path, number: int
) -> None:
    run = made_run()
    wrote(run, "logs")
    argv = [sys.executable, "-m", "hpcest", "-w", str(workspace.root), "tensorboard", run.id, "--program", program, "--port", "16306"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        url = command.stdout.readline().strip()
        assert url.startswith("http://localhost:"), command.stderr.read()
        assert "ssh -N -L" in command.stderr.readline()
        seen(url)
        command.send_signal(number)
        command.communicate(timeout=60)
    assert command.returncode == (0 if number == signal.SIGINT else 128 + number)
    with pytest.raises(URLError):
        seen(url)
    assert not list(tmp_path.glob("hpcest-tensorboard-*"))
