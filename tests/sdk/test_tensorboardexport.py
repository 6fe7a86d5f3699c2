"""Event files of what runs have logged, read back by TensorBoard."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import hpcest
from hpcest import Workspace, export_to_tensorboard
from hpcest.errors import HpcestError, SpecError
from hpcest.testing import python_with
from tests.sdk.conftest import MakeRun

#: Logs a run, exports it twice, the second time over the first, and prints what it said and what TensorBoard reads.
EXPORT = """
import json, logging, pathlib, sys
sys.path.insert(0, sys.argv[1])
from hpcest import Experiment, HpcestError, Workspace, export_to_tensorboard
run = Experiment(Workspace(sys.argv[2]), "iris").start_logging(snapshot_directory=None)
for step in (10, 20):
    run.log("loss", step / 16, step=step)
run.log("early", 1, step=-3)
run.log("huge", -1e300)
run.log("said", "text")
run.log_list("list", [1, "x", 3])
run.log_row("row", x=1, kind="a")
run.log_row("row", x=2, kind="b")
child = run.child_run("c")
child.log("é/1", float("nan"))
run.complete()

def read():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    found = {}
    for folder in pathlib.Path("events").iterdir():
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        found[folder.name] = {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return found

logger = logging.getLogger("mine")
logger.addHandler(logging.StreamHandler(sys.stderr))
logger.setLevel("INFO")
export_to_tensorboard(run, "events", logger=logger)
first = read()
export_to_tensorboard([run], "events", recursive=False)
pathlib.Path("taken").write_text("a file")
try:
    export_to_tensorboard(run, "taken")
except HpcestError as error:
    refused = error.message
print(json.dumps([run.id, child.id, first, read(), refused]))
"""


def test_all_numbers_of_a_run_and_those_below_it(workspace: Workspace, project: Path) -> None:
    """A text is none; what no float of 32 bits can be is infinite."""
    # What hpcest itself needs goes in as well: it is imported from here.
    needed = ("click", "pluggy", "pyyaml", "rich", "pathspec", "platformdirs", "filelock", "packaging", "sqlite-utils")
    python = python_with("tensorboard-and-hpcest", ("tensorboard", *needed))
    argv = [str(python), "-c", EXPORT, str(Path(hpcest.__file__).parents[1]), str(workspace.root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run, child, found, again, refused = json.loads(done.stdout)
    assert found[run] == {
        "loss": [[10, 0.625], [20, 1.25]], "early": [[-3, 1.0]], "huge": [[0, -math.inf]], "list": [[0, 1.0], [2, 3.0]],
        "row/x": [[0, 1.0], [1, 2.0]],
    }  # fmt: skip
    ((place, unknown),) = found[child]["é/1"]
    assert (place, math.isnan(unknown)) == (0, True)
    assert f"run {run}: 8 values in events/{run}" in done.stderr
    assert again[run] == found[run]
    assert refused.endswith("can't be written: Not a directory")


def test_what_is_no_run(project: Path) -> None:
    wrong: list[object] = [[], "run"]
    for given in wrong:
        with pytest.raises(SpecError, match="is no run"):
            export_to_tensorboard(given, "events")  # type: ignore[arg-type]  # that is the point


def test_where_it_is_not_installed_the_next_step_is_named(made_run: MakeRun, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(HpcestError, match="TensorBoard is not installed here") as caught:
        export_to_tensorboard(made_run(), "events")
    assert caught.value.hint == "pip install tensorboard"
