"""Real runs on this machine, submitted from Python: what the program sees, and what comes back."""

from __future__ import annotations

import _thread
import io
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Estimator, Experiment, Run, Workspace
from hpcest.errors import RunFailedError, SpecError, UnknownNameError

WaitUntil = Callable[..., None]


def quiet(line: str) -> None:
    """Nobody reads the progress of a test."""


@pytest.fixture
def iris(workspace: Workspace) -> Experiment:
    return Experiment(workspace, "iris")


def submitted(experiment: Experiment, code: str, **keywords: Any) -> Run:
    """A run of a script that holds ``code``."""
    Path("train.py").write_text(code)
    return experiment.submit(Estimator(".", entry_script="train.py", **keywords), say=quiet)


def test_a_run_from_end_to_end(iris: Experiment, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Submit, wait, read back; nothing that is changed after submission reaches it."""
    code = """if True:
        import sys
        from hpcest import Run
        run = Run.get_context()
        for step, value in enumerate([0.5, 0.25]):
            run.log("loss", value, step=step)
        print("arguments", sys.argv[1:])
        open("outputs/model.txt", "w").write("weights")
    """
    (project / "train.py").write_text(code)
    estimator = Estimator(".", entry_script="train.py", script_params={"--lr": 0.1}, environment_variables={"A": "1"})
    run = iris.submit(estimator, tags={"kind": "test", "n": 1, "empty": None})
    assert "environment host: the first that takes the program as it is\n" in capsys.readouterr().err
    estimator.script_params["--lr"] = 99
    (project / "train.py").write_text("raise SystemExit('changed after submission')")
    details = run.wait_for_completion()
    assert (details["status"], "error" in details) == ("Completed", False)
    assert run.get_metrics() == {"loss": [0.5, 0.25]}
    assert run.get_file_names() == ["outputs/model.txt", "system_logs/controller.log", "user_logs/std_log.txt"]
    run.download_file("user_logs/std_log.txt")
    assert Path("std_log.txt").read_text() == "arguments ['--lr', '0.1']\n"
    assert run.get_tags() == {"kind": "test", "n": "1", "empty": ""}
    assert run.restore_snapshot() == f"snapshot_{run.get_snapshot_id()[:12]}"
    assert Path(run.restore_snapshot(path="again"), "train.py").read_text() == code
    assert [found.id for found in iris.get_runs(tags={"kind": "test"}, type="script")] == [run.id]
    model = run.register_model("iris", "outputs/model.txt")
    assert (model.run_id, model.path.read_text()) == (run.id, "weights")
    assert capsys.readouterr().out == ""


class Listening(io.StringIO):
    """A stdout that does something as soon as it is told a word."""

    def __init__(self, word: str, action: Callable[[], object]) -> None:
        super().__init__()
        self.word, self.action = word, action

    def write(self, text: str) -> int:
        if self.word in text:
            self.action()
        return super().write(text)


def test_the_log_is_shown_while_it_grows(iris: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program goes on only when its first line was seen here."""
    go_on = project / "go on"
    code = f"""if True:
        import os, sys, time
        print("first", flush=True)
        end = time.monotonic() + 30
        while not os.path.exists({str(go_on)!r}):
            time.sleep(0.02)
            if time.monotonic() > end:
                sys.exit("nobody saw it")
        print("last: \\u00e9", end="")
    """
    run = submitted(iris, code)
    shown = Listening("first", go_on.touch)
    monkeypatch.setattr(sys, "stdout", shown)
    assert run.wait_for_completion(show_output=True, wait_post_processing=True)["status"] == "Completed"
    assert shown.getvalue() == "first\nlast: é"


def test_a_log_that_stdout_can_not_spell_is_shown_all_the_same(iris: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = submitted(iris, "print('caf\\u00e9')")
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding="ascii"))
    run.wait_for_completion(show_output=True)
    assert bytes_out.getvalue() == b"caf?\n"


def test_failures_raise_unless_they_may_not(iris: Experiment, project: Path) -> None:
    run = submitted(iris, "raise SystemExit(3)")
    with pytest.raises(RunFailedError) as error:
        run.wait_for_completion()
    assert (error.value.run_id, error.value.status) == (run.id, "Failed")
    assert error.value.message == f"run {run.id} ended as Failed: the program exited with code 3"
    assert error.value.hint == f"see its log: hpcest logs {run.id}"
    details = run.wait_for_completion(raise_on_error=False)
    assert details["error"] == {"code": "UserError", "message": "the program exited with code 3"}
    assert run.get_detailed_status() == {
        "status": "Failed",
        "reason": "UserError",
        "details": "the program exited with code 3",
        "facts": {},
    }


def test_cancel(iris: Experiment, project: Path, wait_until: WaitUntil) -> None:
    run = submitted(iris, "import time; open('outputs/started', 'w'); time.sleep(60)")
    wait_until(lambda: "outputs/started" in run.get_file_names(), "the program to start")
    assert run.get_status() == "Running"
    run.cancel()
    with pytest.raises(RunFailedError, match="ended as Canceled: canceled on request"):
        run.wait_for_completion()
    run.cancel()
    assert run.get_status() == "Canceled"


def test_interrupting_a_wait_leaves_the_run_alone(iris: Experiment, project: Path) -> None:
    run = submitted(iris, f"import os, time\nwhile not os.path.exists({str(project / 'go on')!r}): time.sleep(0.02)")

    main = threading.get_ident()

    def interrupt() -> None:
        """As soon as the main thread follows the log."""
        while not any(frame.name == "follow" for frame in traceback.extract_stack(sys._current_frames()[main])):
            time.sleep(0.02)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run.wait_for_completion(show_output=True)
    thread.join()
    assert run.get_status() in ("Queued", "Running")
    (project / "go on").touch()
    assert run.wait_for_completion()["status"] == "Completed"


WITHIN = """
import json, os, sys
import hpcest
from hpcest import Run
run = Run.get_context()
assert Run.get_context() is run
said = {"id": run.id, "experiment": run.experiment.name, "kind": type(run).__module__, "parent": str(run.parent)}
try:
    from hpcest import Estimator, Experiment, Model, Workspace
    said["workspace"] = str(run.experiment.workspace.root)
    said["same"] = Workspace.from_config().root == run.experiment.workspace.root
    said["status"] = run.get_status()
    said["model"] = Model.get_model_path("known") if os.environ.get("MODEL") else ""
except ImportError as error:
    said["missing"] = str(error)
with run.child_run("first") as child:
    child.log("x", 1)
    said["child's parent"] = child.parent.id
    said["child's kind"] = type(child).__module__
try:
    with run.child_run("second"):
        raise RuntimeError("on purpose")
except RuntimeError:
    pass
run.create_children(tag_key="fold", tag_values=["1", "2"])
run.tag("said", "yes")
run.display_name = "named inside"
run.log("acc", 0.5)
run.complete()
json.dump(said, open("outputs/said.json", "w"))
"""


def said_by(run: Run) -> dict[str, str]:
    run.wait_for_completion()
    found: dict[str, str] = json.loads(Path(run.folder, "outputs/said.json").read_text())
    return found


def check_children(run: Run) -> None:
    assert [(child.name, child.get_status(), child.get_metrics()) for child in run.get_children()] == [
        ("first", "Completed", {"x": 1}),
        ("second", "Failed", {}),
        ("", "Completed", {}),
        ("", "Completed", {}),
    ]
    assert [child.get_tags() for child in run.get_children(tags="fold")] == [{"fold": "1"}, {"fold": "2"}]
    details = [child.get_detailed_status()["details"] for child in run.get_children()]
    assert details == ["", "RuntimeError: on purpose", "ended with its parent", "ended with its parent"]
    assert (run.get_metrics(), run.get_tags(), run.display_name) == ({"acc": 0.5}, {"said": "yes"}, "named inside")


def test_in_the_program_where_hpcest_is_installed(iris: Experiment, workspace: Workspace, project: Path) -> None:
    """The same classes as here: the run knows its workspace, and everything else can be imported."""
    from hpcest import Model

    path = Model.register(workspace, "train.py", "known").path
    run = submitted(iris, WITHIN, environment_variables={"MODEL": 1})
    assert said_by(run) == {
        "id": run.id,
        "experiment": "iris",
        "kind": "hpcest.sdk.run",
        "parent": "None",
        "workspace": str(workspace.root),
        "same": True,
        "status": "Running",
        "model": str(path),
        "child's parent": run.id,
        "child's kind": "hpcest.sdk.run",
    }
    check_children(run)


def test_in_a_virtual_environment_without_hpcest(iris: Experiment, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tracking part travels with the run; what does not is named when it is asked for."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_")) or name in ("VIRTUAL_ENV", "PYTHONPATH"):
            monkeypatch.delenv(name)
    run = submitted(iris, WITHIN, environment_definition=Environment("bare", kind="venv"))
    assert said_by(run) == {
        "id": run.id,
        "experiment": "iris",
        "kind": "hpcest.onnode.run",
        "parent": "None",
        "missing": "hpcest.Estimator is not available here: only the tracking part of hpcest travels with a run; "
        "install hpcest in this environment to use the rest",
        "child's parent": run.id,
        "child's kind": "hpcest.onnode.run",
    }
    check_children(run)
    assert (run.get_environment().kind, run.get_environment().name) == ("venv", "bare")


def test_resuming_from_another_run(iris: Experiment, project: Path) -> None:
    first = submitted(iris, "open('outputs/checkpoint', 'w').write('41')")
    first.wait_for_completion()
    code = "import os; print(open(os.environ['HPCEST_RESUME_FROM'] + '/checkpoint').read(), os.environ['AZURE_ML_INPUT_data'])"
    second = submitted(iris, code, resume_from=first, inputs={"data": "train.py"})
    second.wait_for_completion()
    assert Path(second.folder, "user_logs/std_log.txt").read_text() == f"41 {project / 'train.py'}\n"


def test_a_submission_that_can_not_work_leaves_no_run(iris: Experiment, project: Path) -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"entry_script": "tain.py"}, SpecError, "entry script 'tain.py' is not in"),
        ({"entry_script": "train.py", "compute_target": "gpu"}, UnknownNameError, "compute target 'gpu' is not known"),
        ({"entry_script": "../train.py"}, SpecError, "must be a file inside the source directory"),
    ]
    for keywords, error, message in wrong:
        with pytest.raises(error, match=message):
            iris.submit(Estimator(".", **keywords), say=quiet)
    tags: Any = ["a"]
    with pytest.raises(SpecError, match=r"tags must be a dict, not \['a'\]"):
        iris.submit(Estimator(".", entry_script="train.py"), tags)
    assert list(iris.get_runs()) == []
    assert os.listdir(iris.workspace.folder.runs) == []
