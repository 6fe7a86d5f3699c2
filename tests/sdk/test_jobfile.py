"""Azure ML v2's command jobs run as they are written; what can't is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.errors import ConfigError, HpcestError
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, Requeue, Resources, RunSpec
from hpcest.sdk.choices import spec_of
from hpcest.sdk.jobfile import load_job

WHOLE = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json
type: command
command: >-
  python train.py
  --data ${{inputs.data}}
  --lr ${{ inputs.lr }} --flag ${{inputs.flag}}
  --out ${{outputs.model}}
code: src
environment:
  image: mcr.microsoft.com/azureml/openmpi
  conda_file: {name: x, dependencies: [python=3.10, {pip: [numpy==2.1]}]}
  pip: [scipy]
environment_variables: {LR: "${{inputs.lr}}", WHERE: "${{outputs.logs}}"}
inputs:
  data: {type: uri_folder, path: ./data, mode: ro_mount}
  lr: 0.10
  flag: true
  far: {path: https://host/x.csv}
  default: {type: integer, default: 3}
outputs:
  model: {type: uri_folder}
  logs:
compute: azureml:gpu-cluster
distribution: {type: PyTorch, process_count_per_instance: 4}
resources: {instance_count: 2, instance_type: Standard_NC6, cpus: 3, gpus: 4, memory: 64G, shm_size: 2g}
limits: {timeout: 7200}
services: {board: {type: tensor_board}}
experiment_name: iris
display_name: first try
description: what it is
tags: {team: us, number: 3}
properties: {p: q}
slurm: {partition: gpu, exclusive: true}
"""


def test_a_whole_job(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "job.yml").write_text(WHOLE)
    told: list[str] = []
    spec = load_job(tmp_path / "job.yml", warn=told.append)
    data = str(tmp_path / "data")
    assert spec == RunSpec(
        experiment="iris",
        command=Command(
            line=f"mkdir -p outputs/model outputs/logs\npython train.py --data {data} --lr 0.10 --flag true --out outputs/model"
        ),
        compute="gpu-cluster",
        display_name="first try",
        description="what it is",
        source=str(tmp_path / "src"),
        environment=EnvironmentSpec(
            name="x", pip=("scipy", "numpy==2.1"), conda=("python=3.10",), image="mcr.microsoft.com/azureml/openmpi"
        ),
        environment_variables={
            "AZURE_ML_OUTPUT_model": "outputs/model",
            "AZURE_ML_OUTPUT_logs": "outputs/logs",
            "LR": "0.10",
            "WHERE": "outputs/logs",
        },
        resources=Resources(nodes=2, procs_per_node=4, cpus=3, gpus=4, memory=64 * 1024, time=7200),
        distribution=Distribution("pytorch"),
        inputs={"data": data, "lr": "0.10", "flag": "true", "far": "https://host/x.csv", "default": "3"},
        tags={"team": "us", "number": "3"},
        properties={"p": "q"},
        options={"partition": "gpu", "exclusive": True},
    )
    file = tmp_path / "job.yml"
    assert told == [
        f"{file}:27: services has no effect off Azure",
        f"{file}:25: resources.instance_type has no effect off Azure",
        f"{file}:25: resources.shm_size has no effect off Azure",
    ]


def test_the_least_job(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: train.py\narguments: [--lr, 0.1]\nenvironment: host\n")
    assert load_job(tmp_path / "job.yaml", default_compute="night") == RunSpec(
        experiment=tmp_path.name,
        command=Command("train.py", ("--lr", "0.1")),
        compute="night",
        source=str(tmp_path),
        environment=EnvironmentSpec(kind="host"),
    )


@pytest.mark.parametrize(("text", "requeue"), [("SIGUSR2@90", Requeue(2, "USR2", 90)), ("usr2", Requeue(2, "USR2")), ("", Requeue(2))])
def test_a_signal_before_the_time_limit(text: str, requeue: Requeue, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"script: a.py\nmax_requeues: 2\nsignal: '{text}'\n")
    assert load_job(tmp_path / "job.yaml").requeue == requeue


def test_files_beside_the_job(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("alpha\n")
    (tmp_path / "env.yml").write_text("dependencies: [numpy, {pip: [beta]}]\n")
    (tmp_path / "job.yaml").write_text(
        "script: a.py\nenvironment: {kind: venv, python: 3.10, pip_file: requirements.txt, conda_file: env.yml}\n"
    )
    assert load_job(tmp_path / "job.yaml").environment == EnvironmentSpec(
        kind="venv", interpreter="3.10", pip=("alpha", "beta"), conda=("numpy",)
    )


def test_an_output_with_a_path_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "command: run ${{outputs.a}} ${{outputs.b}}\noutputs: {a: {path: my results}, b: {path: azureml://datastores/x}}\n"
    )
    assert (
        load_job(tmp_path / "job.yaml").command.line == f"mkdir -p '{tmp_path}/my results' outputs/b\nrun {tmp_path}/my results outputs/b"
    )


def test_workers_of_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "script: a.py\nresources: {instance_count: 2}\ndistribution: {type: tensorflow, worker_count: 4, parameter_server_count: 0}\n"
    )
    spec = load_job(tmp_path / "job.yaml")
    assert (spec.resources, spec.distribution) == (Resources(nodes=2, procs_per_node=2), Distribution("tensorflow"))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("comand: x", ":1: key 'comand' is not known", "did you mean 'command'?"),
        ("script: a.py\nresources: {cpu: 2}", ":2: key in resources 'cpu' is not known", "did you mean 'cpus'?"),
        ("script: a.py\ntype: sweep", ":2: a job of type 'sweep' can't be run", "only command jobs can: type: command"),
        ("display_name: x", ":1: the job has neither 'command' nor 'script'", "it needs one of them"),
        ("command: x\nscript: a.py", ":2: the job has both 'command' and 'script'", "it needs one of them"),
        ("command: x\narguments: [1]", ":2: arguments go with a script", "write them into the command"),
        ("command: x ${{inputs.y}}\ninputs: {z: 1}", ":1: ${{inputs.y}} is not known", "known: inputs.z"),
        ("command: x ${{outputs.y}}", ":1: ${{outputs.y}} is not known", "known: none"),
        ("script: a.py\narguments: [1, '${{search_space.z}}']", ":2: ${{search_space.z}} is not known", "known: none"),
        ("script: a.py\nenvironment_variables:\n  A: ${{x}}", ":3: ${{x}} is not known", "known: none"),
        ("script: a.py\ninputs:\n  d: {path: data}", ":3: there is no file or folder '{folder}/data'", "a path is relative"),
        ("script: a.py\ninputs:\n  d: {type: uri_file}", ":3: input 'd' has no path", ""),
        ("script: a.py\ninputs:\n  d:", ":3: input 'd' must be a value, or a mapping with 'path', not None", ""),
        ("script: a.py\ninputs:\n  d: {path: 'azureml:x:1'}", ":3: 'azureml:x:1' is kept on Azure", "name a file or folder"),
        ("script: a.py\noutputs:\n  ../x: {}", ":3: '../x' can't be the name of an output", "use letters, digits and _"),
        (
            "script: a.py\nenvironment: azureml:sklearn@latest",
            ":2: 'azureml:sklearn@latest' is kept on Azure",
            "describe it: environment: {pip_file: requirements.txt}, or {image: …}",
        ),
        ("script: a.py\nlimits:\n  timeout: soon", ":3: time 'soon' can't be read", "write it as 2:00:00"),
        ("script: a.py\nsignal: USR1@soon", ":2: signal 'USR1@soon' can't be read", "write it as USR1, or USR1@120: 120 seconds"),
        ("script: a.py\nsignal: USR9", ":2: signal 'USR9' can't be read: there is no signal 'USR9'", "write it as USR1, or USR1@120"),
        ("script: a.py\nresources:\n  gpus: 1\n  memory: lots", ":4: memory 'lots' can't be read", "write it as 4G"),
        (
            "script: a.py\nresources: {instance_count: 2}\ndistribution: {type: tensorflow, worker_count: 3}",
            ":3: 3 workers can't be spread evenly over 2 nodes",
            "",
        ),
        ("- a", ":1: the value must be a mapping", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, message: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_job(tmp_path / "job.yaml")
    assert error.value.message.startswith(f"{tmp_path / 'job.yaml'}{message.replace('{folder}', str(tmp_path))}")
    assert error.value.hint.startswith(hint)


@pytest.mark.parametrize("text", ["script: a.py\nenvironment: {pip_file: none.txt}", "script: a.py\nenvironment: {conda_file: none.yml}"])
def test_files_that_are_not_there(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(HpcestError, match=r"none\.(txt|yml).*can't be read"):
        load_job(tmp_path / "job.yaml")


def test_inputs_of_the_command_line_go_before_the_files(tmp_path: Path) -> None:
    """They reach ``${{inputs.x}}`` too."""
    (tmp_path / "job.yaml").write_text("command: echo ${{inputs.x}} ${{inputs.y}}\ninputs: {x: 1, y: 2}\n")
    spec = spec_of(tmp_path / "job.yaml", "local", inputs={"x": "9"})
    assert (spec.command.line, spec.inputs) == ("echo 9 2", {"x": "9", "y": "2"})


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
