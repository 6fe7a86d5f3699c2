"""Runs that a process records about itself: what they record, and that each ends as it really did."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest import Experiment, Run, Workspace
from hpcest.errors import HpcestError, SnapshotError, UnknownNameError, UsageError
from hpcest.history import ingest, query
from hpcest.lifecycle.explain import explain
from hpcest.lifecycle.rerun import spec_of_run
from hpcest.lifecycle.watch import look_at

MakeRun = Callable[..., Run]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def iris(workspace: Workspace, project: Path) -> Experiment:
    return Experiment(workspace, "iris")


def program(workspace: Workspace, code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that has started an interactive run called ``run``, and then runs ``code``; it prints its run's id first."""
    Path("own.py").write_text(
        f"import os, signal, sys, time\nfrom hpcest import Experiment, Workspace\n"
        f"run = Experiment(Workspace({str(workspace.root)!r}), 'iris').start_logging()\nprint(run.id, flush=True)\n{code}\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "own.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def ended(workspace: Workspace, code: str) -> Run:
    """The run of such a process when the process is gone."""
    process = program(workspace, code)
    out, _ = process.communicate(timeout=60)
    return Run.get(workspace, out.split()[0])


# ---------------------------------------------------------------------- what it records
def test_it_is_in_the_history_at_once(iris: Experiment, project: Path) -> None:
    """With a snapshot of the directory, its status, and all that is logged."""
    run = iris.start_logging(display_name="first", tags={"kind": "try", "n": 1})
    (found,) = iris.get_runs()
    assert (found.id, found.status, found.display_name, found.get_tags()) == (run.id, "Running", "first", {"kind": "try", "n": "1"})
    run.log("loss", 0.5)
    run.log_list("scores", [1, 2])
    run.upload_file("outputs/model.txt", "train.py")
    assert found.get_metrics() == {"loss": 0.5, "scores": [1, 2]}
    (project / "train.py").write_text("changed since")
    assert Path(run.restore_snapshot(path="again"), "train.py").read_text() == "print('trained')\n"
    assert run.get_snapshot_id() == run.get_details()["properties"]["ContentSnapshotId"]
    run.complete()
    assert found.status == "Completed"
    (row,) = query.list_runs(iris.workspace.folder, experiment="iris")
    ingest.refresh(iris.workspace.folder)
    (row,) = query.list_runs(iris.workspace.folder, experiment="iris")
    assert (row.kind, row.status, row.metrics["loss"], row.started is not None) == ("interactive", "Completed", 0.5, True)
    assert [one.id for one in iris.get_runs(type="azureml.scriptrun")] == []
    assert run.get_details()["status"] == "Completed"
    ingest.reindex(iris.workspace.folder)
    assert query.get_run(iris.workspace.folder, run.id) == row


def test_with_ends_it(iris: Experiment) -> None:
    with iris.start_logging() as done:
        done.log("x", 1)
    with pytest.raises(RuntimeError), iris.start_logging() as failed:
        raise RuntimeError("oh no")
    with iris.start_logging() as canceled:
        canceled.cancel()
    assert [run.get_status() for run in (done, failed, canceled)] == ["Completed", "Failed", "Canceled"]
    assert failed.get_details()["error"] == {"code": "UserError", "message": "RuntimeError: oh no"}
    done.fail("too late")
    assert done.get_status() == "Completed"


def test_the_first_word_counts(iris: Experiment) -> None:
    run = iris.start_logging()
    run.fail("a reason", "E42")
    run.complete()
    assert run.get_detailed_status()["details"] == "E42: a reason"
    assert run.wait_for_completion(raise_on_error=False)["status"] == "Failed"


def test_outputs_of_a_folder_are_kept(iris: Experiment, project: Path) -> None:
    (project / "made/deep").mkdir(parents=True)
    with iris.start_logging(outputs="made") as run:
        (project / "made/deep/model.txt").write_text("weights")
        with run.child_run("c", outputs="made") as child:
            pass
    assert run.get_file_names() == child.get_file_names() == ["outputs/deep/model.txt"]
    model = run.register_model("net", "outputs/deep")
    assert (model.run_id, (model.path / "model.txt").read_text()) == (run.id, "weights")


def test_its_own_outputs_are_what_comes_to_be_there_meanwhile(iris: Experiment, project: Path) -> None:
    """As in Azure ML: the folder is there to be written to, and what an earlier run has left is not this one's."""
    with iris.start_logging() as first:
        (project / "outputs/old.txt").write_text("old")
        (project / "outputs/both.txt").write_text("first")
    with iris.start_logging() as second:
        (project / "outputs/deep").mkdir()
        (project / "outputs/deep/new.txt").write_text("new")
        (project / "outputs/both.txt").write_text("second")
    assert first.get_file_names() == ["outputs/both.txt", "outputs/old.txt"]
    assert second.get_file_names() == ["outputs/both.txt", "outputs/deep/new.txt"]
    assert second.register_model("net", "outputs/both.txt").path.read_text() == "second"
    third = iris.start_logging()
    (project / "outputs/canceled.txt").write_text("x")
    third.cancel()
    assert third.get_file_names() == ["outputs/canceled.txt"]


def test_nothing_is_left_where_a_run_had_no_outputs(
    iris: Experiment, project: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with iris.start_logging():
        assert (project / "outputs").is_dir()
    with iris.start_logging(snapshot_directory=None), iris.start_logging(outputs="made"):
        assert not (project / "outputs").exists()
    monkeypatch.chdir(own_home)
    with pytest.warns(UserWarning, match="no snapshot is taken"), iris.start_logging():
        assert not (own_home / "outputs").exists()
    assert not (project / "outputs").exists()


def test_children_end_with_it(iris: Experiment) -> None:
    run = iris.start_logging()
    first, second = run.create_children(2)
    first.log("x", 1)
    first.complete()
    assert second.get_status() == "Running"
    run.complete()
    assert [child.get_status() for child in run.get_children()] == ["Completed", "Completed"]
    assert run.get_metrics(recursive=True) == {run.id: {}, first.id: {"x": 1}, second.id: {}}


def test_a_snapshot_that_can_not_be_taken_is_no_reason_to_stop(iris: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCEST_SNAPSHOT_MAX_FILES", "1")
    (project / "second.py").write_text("")
    with pytest.warns(UserWarning, match="no snapshot is taken: .*more than 1 files"):
        run = Experiment(Workspace(iris.workspace.root), "iris").start_logging()
    assert run.get_snapshot_id() == ""
    run.complete()
    for nothing in (None, ""):
        with iris.start_logging(snapshot_directory=nothing) as run:
            assert run.get_snapshot_id() == ""
    with pytest.raises(SnapshotError, match=r"'.*nowhere' is not a directory"):
        iris.start_logging(snapshot_directory="nowhere")


def test_the_home_directory_is_not_frozen(iris: Experiment, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_home.mkdir(exist_ok=True)
    monkeypatch.chdir(own_home)
    with pytest.warns(UserWarning, match="no snapshot is taken of"):
        iris.start_logging().complete()


def test_a_workspace_that_can_not_be_written(workspace: Workspace, project: Path) -> None:
    """It raises before the training has begun, and leaves nothing."""
    workspace.folder.runs.rmdir()
    workspace.folder.runs.write_text("in the way")
    with pytest.raises(HpcestError, match="no run can be recorded"):
        Experiment(workspace, "iris").start_logging()


def test_git_is_recorded_under_both_names(iris: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-qm", "first"],
        ["remote", "add", "origin", "https://u:secret@host/r.git"],
    ):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("AZUREML_GIT_BUILD_ID", "b7")
    (project / "train.py").write_text("changed")
    run = iris.start_logging()
    run.complete()
    properties = run.get_properties()
    assert {name: value for name, value in properties.items() if "git" in name} == {
        "azureml.git.repository_uri": "https://host/r.git",
        "mlflow.source.git.repoURL": "https://host/r.git",
        "azureml.git.branch": "main",
        "mlflow.source.git.branch": "main",
        "azureml.git.commit": commit,
        "mlflow.source.git.commit": commit,
        "azureml.git.dirty": "True",
        "azureml.git.build_id": "b7",
    }
    assert [one.id for one in iris.get_runs(properties={"azureml.git.commit": commit})] == [run.id]


# ---------------------------------------------------------------------- how it ends
def test_a_program_that_says_nothing_is_canceled(workspace: Workspace, project: Path) -> None:
    run = ended(workspace, "run.log('x', 1)")
    assert run.get_detailed_status() == {
        "status": "Canceled",
        "reason": "",
        "details": "its program ended without complete(), fail() or 'with'",
        "facts": {},
    }
    assert run.get_metrics() == {"x": 1}


def test_an_exception_is_a_failure(workspace: Workspace, project: Path) -> None:
    run = ended(workspace, "raise ValueError('broken')")
    assert (run.get_status(), run.get_detailed_status()["details"]) == ("Failed", "ValueError: broken")


def test_what_was_said_is_not_said_again(workspace: Workspace, project: Path) -> None:
    assert ended(workspace, "run.complete()\nraise ValueError('later')").get_status() == "Completed"


def test_a_forked_child_does_not_end_its_parents_run(workspace: Workspace, project: Path) -> None:
    run = ended(
        workspace, "pid = os.fork()\nif pid == 0: sys.exit(0)\nos.waitpid(pid, 0)\nassert run.get_status() == 'Running'\nrun.complete()"
    )
    assert run.get_status() == "Completed"


def test_its_script_and_arguments_are_known(workspace: Workspace, project: Path) -> None:
    process = program(workspace, "run.complete()", "--lr", "0.1")
    run = Run.get(workspace, process.communicate(timeout=60)[0].split()[0])
    (row,) = query.list_runs(workspace.folder)
    assert (row.script, row.params) == ("own.py", {"lr": "0.1"})
    assert run.get_details()["runDefinition"]["arguments"] == ["--lr", "0.1"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_was_killed_does_not_run_for_ever(workspace: Workspace, project: Path, number: signal.Signals) -> None:
    """Whoever looks finds out; until then it runs, and nobody says otherwise."""
    process = program(workspace, "child = run.child_run()\ntime.sleep(60)")
    assert process.stdout is not None
    run = Run.get(workspace, process.stdout.readline().strip())
    assert run.get_status() == "Running"
    process.send_signal(number)
    process.communicate(timeout=60)
    (listed,) = run.experiment.get_runs(status="Failed")
    status = listed.get_detailed_status()
    assert (listed.id, status["status"], status["reason"]) == (run.id, "Failed", "Lost")
    assert status["details"].startswith("the process that logged it is gone and did not say how it ended")
    assert {child.get_status() for child in run.get_children()} <= {"Failed"}


def test_another_host_knows_it_by_its_heartbeat(iris: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A doubt is shown, and never recorded: only its own host can see what became of it."""
    run = iris.start_logging(snapshot_directory=None)
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert run.get_status() == "Running"
    alive = Path(run.folder, "state", "alive")
    os.utime(alive, (time.time() - 600,) * 2)
    status = run.get_detailed_status()
    assert status["status"] == "NotResponding"
    assert status["details"] == f"{os.uname().nodename}, on which it runs, gave no sign for 10 min; look there"
    os.utime(alive)
    assert run.get_status() == "Running"
    run.complete()
    assert run.get_status() == "Completed"


def test_its_heart_beats(workspace: Workspace, project: Path, wait_until: Callable[..., None]) -> None:
    """For all runs of the process, from one thread."""
    code = f"""if True:
        import sys, threading
        from hpcest import Experiment, Workspace
        from hpcest.sdk import interactive
        interactive.BEAT_S = 0.05
        runs = [Experiment(Workspace({str(workspace.root)!r}), "iris").start_logging() for _ in range(3)]
        print(len([thread for thread in threading.enumerate() if "hpcest" in thread.name]), runs[2].id, flush=True)
        sys.stdin.readline()
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    threads, second = process.stdout.readline().split()
    alive = workspace.folder.run(second).state / "alive"
    assert threads == "1"
    os.utime(alive, (1.0, 1.0))
    try:
        wait_until(lambda: alive.stat().st_mtime > 2, "the heart to beat")
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_thousand_in_one_process(iris: Experiment) -> None:
    """Each gives its files back."""
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        with iris.start_logging(snapshot_directory=None) as run:
            run.log("n", number)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert len(list(iris.get_runs())) == 100


# ---------------------------------------------------------------------- deleted meanwhile
def test_a_run_that_is_deleted_while_it_is_used(iris: Experiment, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reading says so, and nothing makes its folder again."""
    from hpcest.lifecycle import trash

    run = iris.start_logging(snapshot_directory=None)
    run.complete()
    other, listing = Run.get(iris.workspace, run.id), iris.get_runs()
    trash.put(iris.workspace.context, iris.workspace.folder.run(run.id))
    for read in (other.get_metrics, other.get_status, other.get_tags, other.get_details, other.wait_for_completion, lambda: other.tag("a")):
        with pytest.raises(UnknownNameError, match=f"run '{run.id}' is not known") as error:
            read()
        assert error.value.hint == f"it is in the trash: hpcest delete --restore {run.id}"
    other.log("x", 1)
    assert "was not recorded: run" in capsys.readouterr().err
    (project / "x").write_text("x")
    of_files: list[Callable[[], object]] = [
        other.get_file_names, other.get_all_logs, other.download_files, lambda: other.download_file("outputs/x"), other.cancel,
        lambda: other.upload_file("x", "x"), lambda: other.upload_folder("x", "."), lambda: other.register_model("m", "outputs/x"),
    ]  # fmt: skip
    for do in of_files:
        with pytest.raises(UnknownNameError, match=f"run '{run.id}' is not known"):
            do()
    assert list(listing) == []
    assert not Path(run.folder).exists()


def test_a_listing_passes_over_what_is_deleted_meanwhile(workspace: Workspace, made_run: MakeRun) -> None:
    first, second, third = (made_run() for _ in range(3))
    listing = Experiment(workspace, "iris").get_runs()
    assert next(listing).id == third.id
    Path(second.folder).rename(workspace.folder.root / "gone")
    assert [run.id for run in listing] == [first.id]


def test_clean(iris: Experiment, made_run: MakeRun) -> None:
    run = made_run(files={"work/left/over": "x", "outputs/kept": "y"})
    gone = run.clean()
    assert [Path(path).name for path in gone] == ["over"]
    assert (run.get_file_names(), run.clean()) == (["outputs/kept"], [])
    going = iris.start_logging(snapshot_directory=None)
    with pytest.raises(UsageError, match="goes on in its working directory"):
        going.clean()
    going.complete()


def test_snapshots_of_files_and_folders(iris: Experiment, project: Path) -> None:
    run = iris.start_logging(snapshot_directory=None)
    digest = run.take_snapshot("train.py")
    assert run.get_snapshot_id() == digest
    (project / "more").mkdir()
    (project / "more/a.txt").write_text("a")
    again = run.take_snapshot("more")
    assert (again != digest, run.get_snapshot_id()) == (True, digest)
    assert os.listdir(run.restore_snapshot(again)) == ["a.txt"]
    assert os.listdir(run.restore_snapshot()) == ["train.py"]
    with pytest.raises(SnapshotError, match="there is no file or folder 'nowhere'"):
        run.take_snapshot("nowhere")
    run.complete()


def test_waiting_looks_less_and_less_often(iris: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure ML's variables say how often at most and at least."""
    monkeypatch.setenv("AZUREML_RUN_POLLING_INTERVAL_MIN", "0.3")
    run = iris.start_logging(snapshot_directory=None)
    with pytest.raises(UsageError, match="is this very process, which would wait for ever"):
        run.wait_for_completion()
    run.complete()
    began = time.monotonic()
    assert run.wait_for_completion()["status"] == "Completed"
    assert time.monotonic() - began < 5


def test_nobody_can_submit_it_again(workspace: Workspace, project: Path) -> None:
    process = program(workspace, "os.kill(os.getpid(), signal.SIGKILL)")
    run = Run.get(workspace, process.communicate(timeout=60)[0].split()[0])
    found = explain(look_at(workspace.context, workspace.folder.run(run.id)))
    assert (found["why"].partition(" is gone")[0], found["next"]) == ("the process that logged it", "")
    with pytest.raises(UsageError, match="was logged by a process of its own, not submitted") as error:
        spec_of_run(workspace.folder.run(run.id), {})
    assert error.value.hint == "start that program again"
