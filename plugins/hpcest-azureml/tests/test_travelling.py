"""Training scripts of Azure ML run as they are, in an environment that knows nothing of hpcest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hpcest_azureml.plugin import hpcest_travelling_modules

from hpcest.lifecycle.runtime import travelling_runtime
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.testing import Bench

TRAIN = """\
import argparse
import os

from azureml.core import Dataset, Run, Workspace
from azureml.core.model import Model
from azureml.core.run import _OfflineRun
from azureml.exceptions import UserErrorException

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float)
run = Run.get_context()
run.log("alpha", parser.parse_args().alpha)
for step in range(3):
    run.log("loss", 1 / (step + 1))
run.log_list("fibonacci", (n for n in [0, 1, 1, 2]))
run.log_row("row", x=1, y=2.5)
os.makedirs("outputs", exist_ok=True)
open("outputs/model.pkl", "w").close()
assert type(run) is not _OfflineRun
print(run.id, run.experiment.name)
"""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without settings and caches of the user's."""
    home = tmp_path_factory.mktemp("user")
    for name in [*os.environ]:
        if name.startswith(("HPCEST_", "XDG_")):
            monkeypatch.delenv(name)
    for name, value in {"HOME": "", "HPCEST_SITE_CONFIG": "none.yaml", "HPCEST_CACHE_DIR": "cache", "HPCEST_LOCAL_DIR": "local"}.items():
        monkeypatch.setenv(name, str(home / value))
    (home / "local").mkdir(mode=0o700)
    return home


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A workspace in which the plugin is known."""
    return Bench(tmp_path, ["hpcest_azureml.plugin"])


def test_an_unmodified_script_is_tracked(bench: Bench) -> None:
    """Metrics and outputs are the run's."""
    bench.write({"train.py": TRAIN})
    spec = RunSpec("diabetes", Command("train.py", ("--alpha", "0.5")), environment=EnvironmentSpec("host"))
    ended = bench.run(spec, 60)
    assert ended.status == "Completed", ended
    assert ended.metrics == {"alpha": 0.5, "loss": [1, 0.5, 1 / 3], "fibonacci": [0, 1, 1, 2], "row": {"x": 1, "y": 2.5}}
    assert ended.output == f"{ended.folder.id} diabetes\n"
    assert (ended.folder.outputs / "model.pkl").exists()
    assert bench.said == [line for line in bench.said if "azureml" not in line]


def in_a_run(bench: Bench, code: str) -> subprocess.CompletedProcess[str]:
    """A program in a run, in a Python without any packages: what travels is all that it has."""
    runtime = travelling_runtime(bench.workspace, hpcest_travelling_modules())
    folder = bench.workspace.run("r0")
    folder.events.mkdir(parents=True, exist_ok=True)
    folder.header.write_text(json.dumps({"schema": 1, "id": "r0", "spec": {"experiment": "e"}}))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(runtime), "HPCEST_RUN_DIR": str(folder.path)}
    return subprocess.run(
        [sys.executable, "-S", "-c", code], env=env, cwd=folder.path, capture_output=True, text=True, timeout=60, check=False
    )


def test_an_environment_without_hpcest_has_tracking(bench: Bench) -> None:
    """The table travels with the names; what is only imported does no harm, and what is used says what it takes."""
    done = in_a_run(bench, TRAIN.replace("parser.parse_args().alpha", "0.5"))
    assert (done.stdout, done.stderr) == ("r0 e\n", "")
    assert "alpha" in "".join(path.read_text() for path in bench.workspace.run("r0").events.iterdir())


def test_a_script_imports_it_fast(bench: Bench) -> None:
    """Less than 100 ms more than Python's own start, in the script's own words; the fastest of several tries."""
    code = "import time; began = time.perf_counter()\nfrom azureml.core import Run; Run.get_context()\nprint(time.perf_counter() - began)"
    assert min(float(in_a_run(bench, code).stdout) for _ in range(5)) < 0.1


def test_what_needs_hpcest_says_so_when_it_is_used(bench: Bench) -> None:
    """Not when it is imported."""
    code = "from azureml.core import Workspace\ntry: Workspace.from_config()\nexcept ImportError as error: print(error)"
    done = in_a_run(bench, code)
    assert done.stdout == (
        "azureml.core.Workspace is not available here: only tracking (Run) travels with a run; "
        "to use it add hpcest to the pip packages\n"
    )  # fmt: skip


def test_exceptions_can_be_caught_without_hpcest(bench: Bench) -> None:
    """They are exceptions, though nothing raises them."""
    done = in_a_run(
        bench, "from azureml.exceptions import WebserviceException\ntry: 1 / 0\nexcept (WebserviceException, ZeroDivisionError): print(1)"
    )
    assert done.stdout == "1\n"


def test_what_hpcest_has_not_is_an_error_at_once(bench: Bench) -> None:
    """In a run as where it was submitted."""
    done = in_a_run(bench, "from azureml.train.hyperdrive import choice")
    assert "hpcest has no module 'azureml.train.hyperdrive': hpcest has no sweeps yet" in done.stderr
