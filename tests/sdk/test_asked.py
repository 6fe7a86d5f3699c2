"""What people name as an environment on a command line becomes the spec that it describes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.errors import HpcestError, UsageError
from hpcest.model.spec import Command, EnvironmentSpec, RunSpec
from hpcest.sdk.asked import environment_named
from hpcest.sdk.choices import with_choices

FILES = {
    "conda.yml": "name: lab\nchannels: [c]\ndependencies: [numpy, {pip: [a]}]\n",
    "kind.yaml": "kind: venv\npip: [a]\npip_file: r.txt\n",
    "job.yaml": "script: train.py\nenvironment: {pip: [b]}\n",
    "r.txt": "# ours\nr>=1  # why\n",
    "base.def": "Bootstrap: docker\nFrom: debian:12\n",
    "folder/environment.yml": "dependencies: [scipy]\n",
    "job folder/hpcest.yaml": "script: train.py\nenvironment: venv\n",
}


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("what", "spec"),
    [
        ("conda.yml", EnvironmentSpec(name="lab", channels=("c",), conda=("numpy",), pip=("a",))),
        ("kind.yaml", EnvironmentSpec("venv", pip=("a", "r>=1"))),
        ("job.yaml", EnvironmentSpec(pip=("b",))),
        ("r.txt", EnvironmentSpec(pip=("r>=1",))),
        ("./folder", EnvironmentSpec(conda=("scipy",))),
        ("job folder/", EnvironmentSpec("venv")),
        ("venv", EnvironmentSpec("venv")),
    ],
)
def test_each_kind_of_file_and_word(what: str, spec: EnvironmentSpec) -> None:
    assert environment_named(what) == spec


def test_a_recipe_is_an_image(tmp_path: Path) -> None:
    assert environment_named("base.def") == EnvironmentSpec(image=str(tmp_path / "base.def"))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("conda.yaml", "there is no environment file 'conda.yaml'"),
        ("gone/x", "there is no environment file 'gone/x'"),
        ("./empty", "the folder 'empty' describes no environment"),
        ("wrong.yml", "wrong.yml:1: key 'pyp' is not known"),
    ],
)
def test_what_describes_none_is_refused(what: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text("pyp: [a]\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HpcestError) as error:
        environment_named(what)
    assert isinstance(error.value, UsageError)
    assert said in error.value.message
    assert error.value.hint


def test_options_are_added_to_what_a_job_asks_for() -> None:
    """A file is added to it, a registered environment takes its place, channels of the command line go first."""
    asked = EnvironmentSpec("apptainer", "lab", pip=("a",), channels=("mine",), image="debian:12")
    job = RunSpec("x", Command("a.py"), environment=asked)
    options = {"env": "conda.yml", "pip": ("p",), "conda": ("q",), "channel": ("first", "mine"), "image": None}
    assert with_choices(job, (), options).environment == EnvironmentSpec(
        "apptainer", "lab", pip=("a", "p"), conda=("numpy", "q"), channels=("first", "mine", "c"), image="debian:12"
    )
    kept = EnvironmentSpec(name="kept", pip=("k",))
    assert with_choices(job, (), {"env": "kept:2"}, lambda word: kept).environment == kept
    assert with_choices(job, (), {"env": "venv", "image": "ubuntu"}).environment.image == "ubuntu"
    assert with_choices(job, (), {"env": "venv"}).environment.pip == ("a",)
