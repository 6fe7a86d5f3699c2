"""An environment that is built in a job: by an ordinary run, once, whose lines the user sees, and whose failure says where to look."""

from __future__ import annotations

import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hpcest.environments.apptainer.fetching import caches
from hpcest.kit.files import write_json
from hpcest.kit.lease import Holder
from hpcest.lifecycle.asked import Asked
from tests.cluster.fixtures import Apptainer
from tests.environments.conftest import MakeWheel, make_wheel
from tests.lifecycle.conftest import Site

__all__ = ["make_wheel"]

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
    """It may hold passwords, and is removed when all is built."""
    builder.cli("env", "build", "--pip", "six").ok()
    assert list((builder.workspace.environments / "asked").iterdir()) == []
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
    assert list((builder.workspace.environments / "asked").iterdir()) == []


def test_what_was_left_is_swept(builder: Site) -> None:
    """A folder whose process has gone, and that of a run that has ended; not one that a process is about to use."""
    left = [Asked.make(builder.workspace) for _ in range(4)]
    write_json(left[0].path / "maker.json", asdict(replace(Holder.me(), pid=child_that_ended())))
    left[1].belongs_to("removed0")
    write_json(left[2].path / "maker.json", asdict(replace(Holder.me(), host="login2", started=time.time() - 90_000)))
    builder.cli("env", "build", "--pip", "six").ok()

    assert [one.path.exists() for one in left] == [False, False, False, True]
    assert left[3].path.stat().st_mode & 0o077 == 0


def child_that_ended() -> int:
    """The id of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_paths_count_from_where_it_was_asked(builder: Site, make_wheel: MakeWheel) -> None:
    """A run has a directory of its own, in which there is nothing."""
    wheel = make_wheel(builder.source / "wheels", "alpha", "1.0")
    assert "squash: " in builder.cli("env", "build", "--pip", f"./wheels/{wheel.name}").ok().err


def test_here_means_here(builder: Site) -> None:
    """Whatever is configured."""
    assert "squash: " in builder.cli("env", "build", "--pip", "six", "--build-on", "here").ok().err
    assert builder.runs() == []


def test_where_downloads_go(tmp_path: Path) -> None:
    """A cache on the disk of the workspace is seen wherever that is; one elsewhere, or that can't be written, is replaced."""
    beside = {"UV_CACHE_DIR": str(tmp_path / "uv"), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    assert caches(beside, tmp_path) == beside
    assert caches({"HOME": str(tmp_path)}, tmp_path) == {
        "UV_CACHE_DIR": str(tmp_path / ".cache" / "uv"),
        "XDG_CACHE_HOME": str(tmp_path / ".cache"),
    }
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        found = caches({"UV_CACHE_DIR": elsewhere, "XDG_CACHE_HOME": "/proc/nowhere"}, tmp_path)
    assert found == {"UV_CACHE_DIR": str(tmp_path / "uv_cache_dir"), "XDG_CACHE_HOME": str(tmp_path / "xdg_cache_home")}
