"""Azure ML v2's command jobs run as they are written; what can't is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.errors import ConfigError
from hpcest.model.spec import Command, DataInput, DataOutput, Distribution, EnvironmentSpec, Requeue, Resources, RunSpec
from hpcest.sdk.choices import spec_of
from hpcest.sdk.jobs.file import load_job

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
  far: {path: https://host/x.csv, mode: direct}
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
    (tmp_path / "src").mkdir()
    (tmp_path / "job.yml").write_text(WHOLE)
    told: list[str] = []
    spec = load_job(tmp_path / "job.yml", warn=told.append)
    data = str(tmp_path / "data")
    assert spec == RunSpec(
        experiment="iris",
        command=Command(
            line=f"""export WHERE="${{AZURE_ML_OUTPUT_logs}}"\n"""
            f"""python train.py --data {data} --lr 0.10 --flag true --out "$AZURE_ML_OUTPUT_model\""""
        ),
        compute="gpu-cluster",
        display_name="first try",
        description="what it is",
        source=str(tmp_path / "src"),
        environment=EnvironmentSpec(
            name="x", pip=("scipy", "numpy==2.1"), conda=("python=3.10",), image="mcr.microsoft.com/azureml/openmpi"
        ),
        environment_variables={"LR": "0.10"},
        resources=Resources(nodes=2, procs_per_node=4, cpus=3, gpus=4, memory=64 * 1024, time=7200),
        distribution=Distribution("pytorch"),
        inputs={"lr": "0.10", "flag": "true", "far": "https://host/x.csv", "default": "3"},
        data={"data": DataInput((data,))},
        outputs={"model": DataOutput(), "logs": DataOutput()},
        tags={"team": "us", "number": "3"},
        properties={"p": "q"},
        options={"partition": "gpu", "exclusive": True},
    )
    file = tmp_path / "job.yml"
    assert told == [
        f"{file}:27: services has no effect off Azure: hpcest opens no services: reach the node by ssh -L, or see 'hpcest logs -f' "
        "and the logs folder",
        f"{file}:25: resources.instance_type has no effect off Azure: ask for cpus, gpus and memory in resources",
        f"{file}:25: resources.shm_size has no effect off Azure: a program here uses the machine's own /dev/shm",
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
    """A path that no shell would take apart stands in the line, any other is what a variable says."""
    (tmp_path / "job.yaml").write_text(
        "command: run ${{outputs.a}} ${{outputs.b}} ${{outputs.c}}\n"
        "outputs: {a: {path: my results}, b: {path: azureml://datastores/x/paths/y}, c: {path: found, mode: upload}}\n"
    )
    told: list[str] = []
    spec = load_job(tmp_path / "job.yaml", warn=told.append)
    assert spec.command.line == 'run "$AZURE_ML_OUTPUT_a" "$AZURE_ML_OUTPUT_b" "$AZURE_ML_OUTPUT_c"'
    assert spec.outputs == {
        "a": DataOutput(str(tmp_path / "my results")),
        "b": DataOutput(),
        "c": DataOutput(str(tmp_path / "found"), mode="upload"),
    }
    assert told == [f"{tmp_path}/job.yaml:2: there is no datastore 'x' here; output 'b' stays with the run, in outputs/b"]


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
        ("script: a.py\ntype: sweep", ":2: a job of type 'sweep' can't be run", "submit its trial as a job of its own"),
        ("display_name: x", ":1: the job has neither 'command' nor 'script'", "it needs one of them"),
        ("command: x\nscript: a.py", ":2: the job has both 'command' and 'script'", "it needs one of them"),
        ("command: x\narguments: [1]", ":2: arguments go with a script", "write them into the command"),
        ("command: x ${{inputs.y}}\ninputs: {z: 1}", ":1: ${{inputs.y}} is not known", "known: inputs.z"),
        ("command: x ${{outputs.y}}", ":1: ${{outputs.y}} is not known", "known: none"),
        ("script: a.py\narguments: [1, '${{search_space.z}}']", ":2: ${{search_space.z}} is not known", "only a sweep has a search space"),
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
        ("type: pipeline\njobs: {}", ":1: a job of type 'pipeline' can't be run", "make a job file of each of its steps"),
        ("$schema: https://x/sweepJob.schema.json\ntrial: {}", ":1: a job of type 'sweep' can't be run", "submit its trial"),
        ("trial: {command: x}", ":1: a job of type 'sweep' can't be run", "submit its trial"),
        ("$schema: https://x/data.schema.json\ntype: uri_file\npath: x", ":1: a job of type 'data' can't be run", "it describes data"),
        ("$schema: x/commandComponent.schema.json\ntype: command", ":1: a job of type 'component' can't be run", "make it a job file"),
        ("type: odd", ":1: a job of type 'odd' can't be run", "only command jobs can"),
        ("command: |\n  a\n  b ${{inputs.x}}\n  c", ":3: ${{inputs.x}} is not known", "known: none"),
        ("command: echo ${{inputs.x}\ninputs: {x: 1}", ":1: ${{ is never closed", "write ${{ … }}"),
        ("command: echo $[[--x ${{inputs.x}}]\ninputs: {x: 1}", ":1: $[[ is never closed", "write $[[ … ]]"),
        ("script: a.py\nname: a/b", ":2: a job can't be called 'a/b'", "use up to 255 letters"),
        ("script: a.py\ncode: git+https://host/x.git", ":2: code can't be fetched from git", "clone it"),
        ("script: a.py\ncode: https://github.com/a/b", ":2: code can't be fetched from git", "clone it"),
        ("script: a.py\ncode: https://host/x.zip", ":2: code can't be fetched from 'https://host/x.zip'", "download it"),
        ("script: a.py\ncode: azureml:mine:1", ":2: the code 'azureml:mine:1' is kept on Azure", "give the folder"),
        ("script: a.py\ncode: srcs", ":2: there is no folder '{folder}/srcs'", "a path is relative to the job file"),
        ("script: a.py\ndistribution:\n  type: ray", ":3: Ray is started by a framework that knows it", "name one, such as"),
        ("script: a.py\ndistribution:\n  type: mpi\n  port: 1", ":4: port goes with the distribution ray, not mpi", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, message: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_job(tmp_path / "job.yaml")
    assert error.value.message.startswith(f"{tmp_path / 'job.yaml'}{message.replace('{folder}', str(tmp_path))}")
    assert error.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("identity: {type: user_identity}", "identity has no effect off Azure"),
        ("queue_settings: {job_tier: Spot}", "queue_settings has no effect off Azure"),
        ("parent_job_name: x", "parent_job_name has no effect off Azure"),
        ("resources: {docker_args: --ipc=host}", "resources.docker_args has no effect off Azure"),
        ("status: Completed", "status is what Azure says of a job"),
    ],
)
def test_what_only_azure_has_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"script: a.py\n{text}\n")
    lines: list[str] = []
    load_job(tmp_path / "job.yaml", warn=lines.append)
    assert [line.startswith(f"{tmp_path}/job.yaml:2: {told}") for line in lines] == [True]


@pytest.mark.parametrize(
    ("text", "processes", "kind"),
    [
        ("{type: mpi, process_count_per_instance: 3}", (2, 3), "mpi"),
        ("{type: PyTorch}", (2, 1), "pytorch"),
        ("{type: pytorch, process_count_per_instance: 4}", (2, 4), "pytorch"),
        ("{type: TensorFlow, worker_count: 2}", (2, 1), "tensorflow"),
    ],
)
def test_processes_are_counted_for_each_node(text: str, processes: tuple[int, int], kind: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"command: x\nresources: {{instance_count: 2}}\ndistribution: {text}\n")
    spec = load_job(tmp_path / "job.yaml")
    assert (spec.resources.nodes, spec.resources.procs_per_node) == processes
    assert spec.distribution == Distribution(kind)


def test_ray_belongs_to_a_framework_that_knows_it(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: a.py\nframework: rllib\ndistribution: {type: ray, port: 7}\n")
    told: list[str] = []
    assert load_job(tmp_path / "job.yaml", warn=told.append).distribution == Distribution("ray")
    assert told == [f"{tmp_path}/job.yaml:3: distribution.port has no effect: see framework_options"]


@pytest.mark.parametrize(
    ("text", "compute"),
    [("azureml:gpu", "gpu"), ("gpu", "gpu"), ("serverless", "night"), ("azureml:/subscriptions/s/computes/gpu", "gpu")],
)
def test_the_compute_target_of_a_job(text: str, compute: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(f"script: a.py\ncompute: {text}\n")
    assert load_job(tmp_path / "job.yaml", default_compute="night").compute == compute


def test_a_name_is_kept_as_a_property(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("script: a.py\nname: first-try\n")
    spec = load_job(tmp_path / "job.yaml")
    assert (spec.display_name, spec.properties) == ("first-try", {"hpcest.job_name": "first-try"})


def test_code_that_is_a_file_brings_its_folder(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").touch()
    (tmp_path / "job.yaml").write_text("command: x\ncode: src/a.py\n")
    told: list[str] = []
    assert load_job(tmp_path / "job.yaml", warn=told.append).source == str(tmp_path / "src")
    assert told == [f"{tmp_path}/job.yaml:2: '{tmp_path}/src/a.py' is a file: the folder that it is in is frozen with the run"]


def test_a_job_file_as_early_versions_of_azure_ml_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "x.csv").touch()
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    (tmp_path / "job.yaml").write_text(
        "command: x ${{inputs.a}}\ncode: {local_path: src}\ncompute: {target: 'azureml:gpu', instance_count: 2}\n"
        "environment: {docker: {build: {dockerfile: 'file:Dockerfile'}}}\ninputs:\n  a: {data: {local_path: ./src}, mode: mount}\n"
        "  b: {file: src/x.csv}\n  c: {folder: src, mode: download}\n  d: {data: {path: src}}\n"
    )
    spec = load_job(tmp_path / "job.yaml")
    folder = str(tmp_path / "src")
    assert (spec.source, spec.compute, spec.resources.nodes, spec.command.line) == (folder, "gpu", 2, f"x {folder}")
    assert spec.environment == EnvironmentSpec(image=str(tmp_path / "Dockerfile"))
    assert spec.data == {
        "a": DataInput((folder,)),
        "b": DataInput((f"{folder}/x.csv",), type="uri_file"),
        "c": DataInput((folder,), mode="download"),
        "d": DataInput((folder,)),
    }


def test_inputs_of_the_command_line_go_before_the_files(tmp_path: Path) -> None:
    """They reach ``${{inputs.x}}`` too."""
    (tmp_path / "job.yaml").write_text("command: echo ${{inputs.x}} ${{inputs.y}}\ninputs: {x: 1, y: 2}\n")
    spec = spec_of(tmp_path / "job.yaml", "local", inputs={"x": "9"})
    assert (spec.command.line, spec.inputs) == ("echo 9 2", {"x": "9", "y": "2"})
