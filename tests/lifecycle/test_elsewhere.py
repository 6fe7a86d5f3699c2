"""An environment that is built in a job: by an ordinary run, once, whose lines the user sees, and whose failure says where to look."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.fixtures import Apptainer
from tests.lifecycle.conftest import Site

PRINT = "import sys; print(sys.prefix)\n"


@pytest.fixture
def builder(site: Site, apptainer: Apptainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A workspace whose environments are built on the compute target ``local``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    site.configure(f"environment: {{kind: apptainer, image: '{apptainer.debian}', build_on: local}}\n")
    return site


def test_a_run_builds_what_another_needs(builder: Site) -> None:
    """The first submission waits for it; the second finds it."""
    builder.write(PRINT, "train.py")
    said = builder.cli("submit", "train.py", "--pip", "six", "-f")
    again = builder.cli("submit", "train.py", "--pip", "six", "-f")
    runs = builder.runs()

    assert said.ok().out == again.ok().out == "/opt/hpcest/env\n"
    assert "squash: " in said.err
    assert "squash: " not in again.err
    assert [run["status"] for run in runs] == ["Completed"] * 3
    assert [run["experiment"] for run in runs].count("environments") == 1


def test_what_is_asked_for_is_not_frozen_with_the_run(builder: Site) -> None:
    """It may hold passwords; only its owner can read it."""
    builder.cli("env", "build", "--pip", "six").ok()
    (asked,) = (builder.workspace.environments / "asked").glob("*.json")
    assert asked.stat().st_mode & 0o077 == 0
    assert "six" not in "".join(path.read_text() for path in builder.workspace.objects.rglob("*") if path.is_file())


def test_a_build_that_fails_there(builder: Site) -> None:
    """The step's own words come, and the run that has them is named."""
    builder.write("environment: {pip: [six], steps: ['echo it is broken >&2; exit 3']}\nscript: train.py\n", "job.yaml")
    said = builder.cli("env", "build", "job.yaml")
    (run,) = builder.runs()

    assert said.code == 1
    assert "it is broken" in said.err
    assert "the environment could not be built on local" in said.err
    assert f"Hint: see: hpcest logs {run['id']}" in said.err
    assert run["status"] == "Failed"


def test_here_means_here(builder: Site) -> None:
    """Whatever is configured."""
    assert "squash: " in builder.cli("env", "build", "--pip", "six", "--build-on", "here").ok().err
    assert builder.runs() == []
