"""Which environment a run gets: what its spec says, else its compute target, else the configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcest.kit.files import read_json
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.submit import submit
from hpcest.lifecycle.workspace import create_workspace
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec


@pytest.fixture
def project(tmp_path: Path) -> Path:
    create_workspace(tmp_path)
    (tmp_path / "train.py").write_text("")
    return tmp_path


def planned(project: Path, config: str, environment: EnvironmentSpec) -> tuple[list[str], str]:
    """What is said, and the interpreter of the plan, of a dry run under ``config``."""
    (project / ".hpcest" / "config.yaml").write_text(config)
    said: list[str] = []
    spec = RunSpec("e", Command("train.py"), source=str(project), environment=environment)
    passage = submit(Context(create_workspace(project)), spec, said.append, dry=True)
    assert passage.plan is not None
    return said, passage.plan.launch["argv"][0]


def test_the_target_says_what_the_run_leaves_open(project: Path) -> None:
    config = "environment: {kind: venv}\ncompute: {local: {environment: host}}\n"
    assert planned(project, config, EnvironmentSpec())[0][0] == "environment host: asked for"


def test_the_configured_interpreter(project: Path) -> None:
    """It is used where the run names none."""
    other = project / "python"
    other.symlink_to(sys.executable)
    config = f"environment: {{kind: host, interpreter: {other}}}\n"
    assert planned(project, config, EnvironmentSpec())[1] == str(other)
    assert planned(project, config, EnvironmentSpec(interpreter=sys.executable))[1] == sys.executable


def test_nothing_is_recorded_by_a_dry_run(project: Path) -> None:
    planned(project, "", EnvironmentSpec())
    assert list((project / ".hpcest" / "runs").iterdir()) == []
    assert read_json(project / ".hpcest" / "workspace.json")["schema"] == 1
