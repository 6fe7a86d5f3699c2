"""``environment:`` of job files: images, builds, conda files and names, each with its line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.errors import ConfigError, HpcestError
from hpcest.model.spec import EnvironmentSpec
from hpcest.sdk.jobs.file import environment_of_job, load_job


def test_an_environment_that_is_built(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text("FROM debian:12\nCOPY a /a\n")
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment: {build: {path: docker}}\n")
    assert load_job(tmp_path / "job.yaml").environment == EnvironmentSpec(image=str(tmp_path / "docker" / "Dockerfile"))


def test_a_dockerfile_elsewhere_must_not_copy_files(tmp_path: Path) -> None:
    """Files are copied from the Dockerfile's own folder here."""
    (tmp_path / "docker" / "deep").mkdir(parents=True)
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment:\n  build: {path: docker, dockerfile_path: deep/Dockerfile}\n")
    (tmp_path / "docker" / "deep" / "Dockerfile").write_text("FROM debian:12\nRUN true\n")
    assert load_job(tmp_path / "job.yaml").environment.image == str(tmp_path / "docker" / "deep" / "Dockerfile")
    (tmp_path / "docker" / "deep" / "Dockerfile").write_text("FROM debian:12\nCOPY a /a\n")
    with pytest.raises(ConfigError, match=r"job.yaml:3: .* copies files"):
        load_job(tmp_path / "job.yaml")


@pytest.mark.parametrize("text", ["file:lab/env.yml", "lab/env.yml", "./lab/env.yml"])
def test_an_environment_in_a_file_of_its_own(text: str, tmp_path: Path) -> None:
    """What it names is relative to that file."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "conda.yml").write_text("dependencies: [numpy]\n")
    (tmp_path / "lab" / "env.yml").write_text("$schema: https://x/environment.schema.json\nimage: debian:12\nconda_file: conda.yml\n")
    (tmp_path / "job.yaml").write_text(f"script: a.py\nenvironment: {text}\n")
    assert load_job(tmp_path / "job.yaml").environment == EnvironmentSpec(image="debian:12", conda=("numpy",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("environment: {build: {path: none}}", "there is no Dockerfile '{folder}/none/Dockerfile'"),
        ("environment: {build: {path: 'https://host/x'}}", "a build can't fetch 'https://host/x'"),
        ("environment: {image: x, build: {path: .}}", "build and image exclude each other"),
        ("environment: file:none.yml", "there is no file '{folder}/none.yml'"),
        (
            "environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
            "'azureml://registries/azureml/environments/sklearn-1.5/labels/latest' is kept on Azure",
        ),
        ("environment: AzureML-sklearn-1.0-cpu@latest", "'AzureML-sklearn-1.0-cpu@latest' is kept on Azure"),
    ],
)
def test_environments_that_are_not_there(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"script: a.py\n{text}\n")
    with pytest.raises(ConfigError) as error:
        load_job(tmp_path / "job.yaml")
    assert error.value.message == f"{tmp_path}/job.yaml:2: {message.replace('{folder}', str(tmp_path))}"


def test_an_environment_that_is_replaced_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment: azureml:far:1\n")
    told: list[str] = []
    assert load_job(tmp_path / "job.yaml", other_environment=True, warn=told.append).environment == EnvironmentSpec()
    assert told == [f"{tmp_path}/job.yaml:2: 'azureml:far:1' is kept on Azure; the other environment takes its place"]


def test_the_environment_alone_needs_no_data(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment: host\ninputs: {d: {path: none}}\n")
    assert environment_of_job(tmp_path / "job.yaml") == EnvironmentSpec(kind="host")


def test_an_environment_of_a_registry_may_be_registered_here(tmp_path: Path) -> None:
    made = EnvironmentSpec(name="sklearn-1.5", pip=("scikit-learn",))
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest\n")
    assert load_job(tmp_path / "job.yaml", named={"sklearn-1.5": made}.__getitem__).environment == made


@pytest.mark.parametrize("text", ["script: a.py\nenvironment: {pip_file: none.txt}", "script: a.py\nenvironment: {conda_file: none.yml}"])
def test_files_that_are_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(HpcestError, match=r"none\.(txt|yml).*can't be read"):
        load_job(tmp_path / "job.yaml")


def test_every_field_of_an_environment(tmp_path: Path) -> None:
    """What a file says once, and what its conda file says, come together in one spec; an image beside the job file is found."""
    (tmp_path / "base.def").write_text("Bootstrap: docker\n")
    (tmp_path / "job.yaml").write_text(
        "script: a.py\nenvironment:\n  kind: apptainer\n  name: lab\n  image: base.def\n  interpreter: 3.10\n  layout: single\n"
        "  channels: [mine]\n  system: [apt-get install -y gcc]\n  steps: [make]\n  modules: [gcc/12]\n  prefix: /opt/x\n"
        "  variables: {A: mine}\n  conda_file: {name: other, channels: [theirs], dependencies: [numpy], variables: {A: theirs, B: '1'}}\n"
    )
    assert load_job(tmp_path / "job.yaml").environment == EnvironmentSpec(
        "apptainer", "lab", "3.10", (), ("numpy",), ("mine", "theirs"), str(tmp_path / "base.def"), ("apt-get install -y gcc",),
        ("make",), "/opt/x", ("gcc/12",), "single", {"A": "mine", "B": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("sklearn", "sklearn"),
        ("sklearn:2", "sklearn:2"),
        ("azureml:sklearn:2", "sklearn:2"),
        ("azureml:sklearn@latest", "sklearn"),
        ("{name: sklearn}", "sklearn"),
        ("{name: sklearn, version: 2}", "sklearn:2"),
    ],
)
def test_an_environment_by_its_name(text: str, asked: str, tmp_path: Path) -> None:
    def named(word: str) -> EnvironmentSpec:
        assert word == asked
        return EnvironmentSpec(name="sklearn", pip=("scikit-learn",))

    (tmp_path / "job.yaml").write_text(f"script: a.py\nenvironment: {text}\n")
    assert load_job(tmp_path / "job.yaml", named=named).environment == EnvironmentSpec(name="sklearn", pip=("scikit-learn",))


def test_an_environment_that_is_not_registered_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: a.py\nenvironment: lab:3\n")
    with pytest.raises(ConfigError, match=r"job.yaml:2: registered environment 'lab:3' is not known"):
        load_job(tmp_path / "job.yaml")
