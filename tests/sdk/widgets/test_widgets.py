"""What ``RunDetails`` shows: in a real notebook kernel, and as text."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcest import Workspace
from hpcest.onnode.record import EventWriter
from hpcest.sdk.widgets import views
from hpcest.sdk.widgets.details import RunDetails
from hpcest.testing import python_with
from tests.sdk.conftest import MakeRun

#: Runs the cells that it gets in a kernel, and prints what each has left: a list of outputs.
NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient
made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in json.load(sys.stdin)])
NotebookClient(made, timeout=100, kernel_name="python3").execute()
json.dump([cell.outputs for cell in made.cells], sys.stdout)
"""


def notebook(*cells: str) -> list[list[dict[str, Any]]]:
    """The outputs of each cell."""
    # What hpcest itself needs goes in as well: the kernel imports it from here.
    needed = ("click", "pluggy", "pyyaml", "rich", "pathspec", "platformdirs", "filelock", "packaging", "sqlite-utils")
    python = python_with("notebook", ("ipykernel", "nbclient", "nbformat", *needed))
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})"
    done = subprocess.run(
        [python, "-c", NOTEBOOK], input=json.dumps([here, *cells]), capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return found[1:]


def test_a_notebook_shows_the_run_and_keeps_it_up_to_date(workspace: Workspace, made_run: MakeRun) -> None:
    """Also while another cell runs; nothing of the run is taken for HTML."""
    run = made_run(kind="interactive", status="Running", display_name="<b>mine</b>")
    shown, waited = notebook(
        f"""
from hpcest.sdk.workspace import Workspace
from hpcest.sdk.run import Run
from hpcest.sdk.widgets.details import RunDetails
run = Run.get(Workspace({str(workspace.root)!r}), {run.id!r})
details = RunDetails(run)
details.show()
""",
        """
for step in range(3):
    run.log("loss", 1 / (step + 1), step=step)
run.complete()
details._thread.join(60)
""",
    )
    assert waited == []
    (output,) = shown
    page = output["data"]["text/html"]
    assert output["output_type"] == "display_data"
    assert ">Completed</span>" in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert "loss: <b>0.333333</b>" in page
    assert page.count("<polyline") == 1
    assert "<script" not in page


def test_who_waited_for_the_end_sees_it(workspace: Workspace) -> None:
    """A notebook that is run from its first cell to its last is saved right after the wait, long before the next look."""
    Path("train.py").write_text("import time\ntime.sleep(4)\n")
    (outputs,) = notebook(
        f"""
from hpcest import Experiment, RunDetails, ScriptRunConfig, Workspace
from hpcest.sdk.widgets import details
details._MOST_S = details._FIRST_S = 60.0
run = Experiment(Workspace({str(workspace.root)!r}), "nb").submit(ScriptRunConfig({str(Path.cwd())!r}, "train.py"))
RunDetails(run).show()
_ = run.wait_for_completion()
"""
    )
    (page,) = [output["data"]["text/html"] for output in outputs if output["output_type"] == "display_data"]
    assert ">Completed</span>" in page


def test_columns_have_curves_and_images_are_seen(made_run: MakeRun) -> None:
    rows = [{"e": "row", "k": "acc", "v": {"epoch": step, "top1": step / 10, "note": "é"}} for step in range(5)]
    images = [{"e": "image", "k": name, "v": f"images/{name}"} for name in ("curve.png", "huge.png", "table.csv", "gone.png")]
    files = {"artifacts/images/curve.png": "small", "artifacts/images/huge.png": "x" * (2 << 20), "artifacts/images/table.csv": "1,2"}
    facts = RunDetails(made_run(events=[*rows, *images], files=files)).get_widget_data()
    assert (facts["metrics"]["acc.top1"], facts["series"]["acc.top1"][-1]) == (0.4, (4.0, 0.4))
    assert (facts["metrics"]["acc.note"], "acc.note" in facts["series"]) == ("é", False)
    assert facts["images"] == {"curve.png": "data:image/png;base64,c21hbGw="}
    page = views.as_html(facts)
    assert page.count("<img") == 1
    assert page.count("<polyline") == 2
    assert "huge.png: <b>images/huge.png</b>" in page


def test_a_run_as_the_value_of_a_cell(made_run: MakeRun) -> None:
    run = made_run(display_name="<b>mine</b>", status="Failed")
    card = run._repr_html_() or ""
    assert ">Failed</span>" in card
    assert "&lt;b&gt;mine&lt;/b&gt;" in card
    assert run.id in card
    shutil.rmtree(run.folder)
    assert run._repr_html_() is None


def test_a_run_that_has_ended_is_shown_once(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run(kind="interactive", status="Failed")
    ((output,),) = notebook(f"""
from hpcest.sdk.workspace import Workspace
from hpcest.sdk.run import Run
from hpcest.sdk.widgets.details import RunDetails
details = RunDetails(Run.get(Workspace({str(workspace.root)!r}), {run.id!r}))
details.show()
assert details._thread is None
""")
    assert ">Failed</span>" in output["data"]["text/html"]


def test_elsewhere_it_is_text(made_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    child = made_run(display_name="inner")
    events = [{"e": "metric", "k": "loss", "v": 0.25}, {"e": "child", "id": child.id}, {"e": "param", "k": "lr", "v": "0.1"}]
    run = made_run(display_name="mine", events=events, files={"user_logs/std_log.txt": "one\n\x1b[31mtwo\x1b[0m\x07\n"}, tags={"a": "b"})
    RunDetails(run).show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{run.id} mine"
    assert lines[1].split() == ["status", "Completed"]
    shown = [" ".join(line.split()) for line in lines]
    assert {"metric loss = 0.25", "params lr=0.1", "tags a=b", "experiment iris", f"child {child.id} Completed"} <= set(shown)
    assert shown[-2:] == ["| one", "| two"]


def test_what_is_shown_is_there_as_data(made_run: MakeRun) -> None:
    points: list[dict[str, Any]] = [{"e": "metric", "k": "loss", "v": 1000 - step, "s": step} for step in range(1000)]
    odd = [{"e": "metric", "k": "odd", "v": value} for value in (math.nan, math.inf, "text", True)]
    facts = RunDetails(made_run(events=[*points, *odd])).get_widget_data()
    assert (facts["status"], facts["ended"], facts["metrics"]["loss"]) == ("Completed", True, 1)
    assert len(facts["series"]["loss"]) <= 201
    assert (facts["series"]["loss"][0], facts["series"]["loss"][-1]) == ((0.0, 1000.0), (999.0, 1.0))
    assert "odd" not in facts["series"]
    json.dumps(facts)


@pytest.mark.parametrize("value", [[(0.0, 1.0), (0.0, 1.0)], [(0.0, -1e308), (1.0, 1e308)], [(0.0, 5.0), (1.0, 5.0)]])
def test_any_curve_can_be_drawn(value: list[tuple[float, float]]) -> None:
    assert "nan" not in views._curve(value)
    assert views._curve(value).count("<polyline") == 1


def test_many_metrics_and_hostile_names(made_run: MakeRun) -> None:
    events = [{"e": "metric", "k": f"<script>{number}", "v": "</pre><img>"} for number in range(1000)]
    run = made_run(events=events, files={"user_logs/std_log.txt": "</pre><script>alert(1)</script>"})
    page = views.as_html(RunDetails(run).get_widget_data())
    assert "<script" not in page
    assert "<img" not in page
    assert len(page) < 20_000


def test_a_run_that_is_deleted_ends_the_updates(made_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    class Handle:
        """Where a notebook would show it."""

        shown: list[Any]

        def __init__(self) -> None:
            self.shown = []

        def update(self, page: Any) -> None:
            self.shown.append(page)

    monkeypatch.setitem(sys.modules, "IPython.display", type(sys)("IPython.display"))
    sys.modules["IPython.display"].HTML = str  # type: ignore[attr-defined]
    monkeypatch.setattr("hpcest.sdk.widgets.details._FIRST_S", 0.01)
    monkeypatch.setattr("hpcest.sdk.widgets.details._MOST_S", 0.01)
    run = made_run(kind="interactive", status="Running")
    EventWriter(run.folder, "program").event("status", v="Running", by="program")
    details, handle = RunDetails(run), Handle()
    shutil.rmtree(run.folder)
    details._refresh(handle)
    assert "no longer followed" in handle.shown[-1]
