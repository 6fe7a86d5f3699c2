"""The kind ``existing``: an environment that is there is found by path or name, listed, and used as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcest.environments.existing import Existing
from hpcest.errors import SpecError
from hpcest.model.folders import WorkspaceFolder
from hpcest.model.spec import EnvironmentSpec
from tests.environments.channel import demo_packages, write_channel
from tests.environments.conftest import RUN


def made(folder: Path) -> Path:
    """A virtual environment with one package that was put there by hand."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "thing-1.5.dist-info").mkdir()
    (site / "thing.py").write_text("word = 'of its own'\n")
    return folder


def prepared(workspace: WorkspaceFolder, prefix: str) -> tuple[list[str], str, dict[str, str]]:
    """What was said, the lock's text, and the variables of a run."""
    said: list[str] = []
    lock = Existing().prepare(EnvironmentSpec("existing", prefix=prefix), workspace, said.append)
    return said, lock.text, Existing().activate(lock, workspace, RUN).variables


def test_a_virtual_environment(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    folder = made(tmp_path / "my env")
    said, text, variables = prepared(workspace, str(folder))

    assert said[0].endswith(f"{folder}, as it is (cpython {sys.version.split()[0]})")
    assert (text, variables) == ("thing==1.5\n", {"VIRTUAL_ENV": str(folder)})


def test_its_program_runs(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    folder = made(tmp_path / "env")
    lock = Existing().prepare(EnvironmentSpec("existing", prefix=str(folder)), workspace, print)
    activation = Existing().activate(lock, workspace, RUN)
    out = subprocess.run([activation.python, "-c", "import thing; print(thing.word)"], capture_output=True, text=True, check=True).stdout
    assert (out, activation.path) == ("of its own\n", (str(folder / "bin"),))


def test_what_is_installed_is_part_of_its_key(workspace: WorkspaceFolder, tmp_path: Path) -> None:
    folder = made(tmp_path / "env")
    spec = EnvironmentSpec("existing", prefix=str(folder))
    before, again = (Existing().prepare(spec, workspace, print).key for _ in range(2))
    next(folder.glob("lib/python*/site-packages")).joinpath("other-2.0.dist-info").mkdir()

    assert before == again != Existing().prepare(spec, workspace, print).key


@pytest.fixture
def conda_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conda environment called ``study`` in a folder that CONDA_ENVS_PATH names, with a variable of its own."""
    from hpcest.environments.conda.channels import channels_of
    from hpcest.environments.conda.linking import link
    from hpcest.environments.conda.solving import CondaRequest, solve

    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    channels = channels_of([write_channel(tmp_path / "channel", demo_packages(python))])
    folder = tmp_path / "envs" / "study"
    packages = solve(CondaRequest(channels, (f"python {python}.*", "hp-lib")), tmp_path / "cache", print)
    link(packages, folder, target_prefix=str(folder), cache=tmp_path / "cache", say=print)
    for name in ("python", f"python{python}"):  # the machine's own may lie elsewhere
        (folder / "bin" / name).unlink()
        (folder / "bin" / name).symlink_to(os.path.realpath(sys.executable))
    (folder / "conda-meta" / "state").write_text(json.dumps({"env_vars": {"DATA_HOME": "/data"}}))
    monkeypatch.setenv("CONDA_ENVS_PATH", str(folder.parent))
    return folder


def test_a_conda_environment_by_name(workspace: WorkspaceFolder, conda_environment: Path) -> None:
    _, text, variables = prepared(workspace, "study")
    assert "hp-lib=2.0=" in text
    assert variables == {"CONDA_PREFIX": str(conda_environment), "DATA_HOME": "/data"}


@pytest.mark.parametrize(
    ("prefix", "message", "hint"),
    [
        ("", "names none", "write prefix: PATH"),
        ("/nowhere/env", "there is no environment in /nowhere/env: it has no bin/python", "the directory that holds bin/python"),
        ("studie", "there is no conda environment 'studie'", "did you mean 'study'?"),
        ("zzz", "there is no conda environment 'zzz'", "there are study; or give a path"),
    ],
)
@pytest.mark.usefixtures("conda_environment")
def test_what_is_not_there(workspace: WorkspaceFolder, prefix: str, message: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        prepared(workspace, prefix)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
