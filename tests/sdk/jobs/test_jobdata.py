"""Inputs and outputs of job files: what each type and mode becomes, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest import Workspace
from hpcest.errors import ConfigError
from hpcest.lifecycle.data import datasets, datastores
from hpcest.model.spec import DataInput, DataOutput, RunSpec
from hpcest.sdk.jobs.assets import WorkspaceAssets
from hpcest.sdk.jobs.file import load_job
from hpcest.sdk.model import Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a job file, with data."""
    place = tmp_path / "job"
    (place / "data").mkdir(parents=True)
    (place / "data" / "x.csv").write_text("1,2\n")
    (place / "table").mkdir()
    (place / "table" / "MLTable").write_text("paths: [{file: ./x.csv}]\n")
    return place


def loaded(folder: Path, text: str, workspace: Workspace | None = None, told: list[str] | None = None) -> RunSpec:
    (folder / "job.yml").write_text(f"command: x\n{text}\n")
    assets = WorkspaceAssets(workspace.context) if workspace else None
    return load_job(folder / "job.yml", assets=assets, warn=(told if told is not None else []).append)


def refused(folder: Path, text: str, workspace: Workspace | None = None) -> tuple[str, str]:
    with pytest.raises(ConfigError) as error:
        loaded(folder, text, workspace)
    return error.value.message.removeprefix(f"{folder}/job.yml:"), error.value.hint


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{path: data}", DataInput(("{folder}/data",))),
        ("{path: ./data/x.csv}", DataInput(("{folder}/data/x.csv",), type="uri_file")),
        ("{type: uri_folder, path: 'file:data'}", DataInput(("{folder}/data",))),
        ("{type: uri_file, path: 'file://{folder}/data/x.csv'}", DataInput(("{folder}/data/x.csv",), type="uri_file")),
        ("{type: mltable, path: table, mode: eval_mount}", DataInput(("{folder}/table",), type="mltable")),
        ("{type: mlflow_model, path: data}", DataInput(("{folder}/data",))),
        ("{type: custom_model, path: data/x.csv}", DataInput(("{folder}/data/x.csv",), type="uri_file")),
        ("{type: uri_file, path: /there/on/nodes}", DataInput(("/there/on/nodes",), type="uri_file")),
        ("{path: data, mode: ro_mount}", DataInput(("{folder}/data",))),
        ("{path: data, mode: rw_mount}", DataInput(("{folder}/data",), mode="direct")),
        ("{path: data, mode: direct}", DataInput(("{folder}/data",), mode="direct")),
        ("{path: data, mode: download}", DataInput(("{folder}/data",), mode="download")),
        ("{path: data, mode: eval_download}", DataInput(("{folder}/data",), mode="download")),
        ("{path: data, path_on_compute: /scratch/d}", DataInput(("{folder}/data",), target="/scratch/d")),
    ],
)
def test_files_and_folders(text: str, data: DataInput, folder: Path) -> None:
    spec = loaded(folder, f"inputs:\n  d: {text.replace('{folder}', str(folder))}")
    paths = tuple(path.replace("{folder}", str(folder)) for path in data.paths)
    assert spec.data == {"d": DataInput(paths, type=data.type, mode=data.mode, target=data.target)}
    assert spec.inputs == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a b", "a b"),
        ("1.10", "1.10"),
        ("{type: integer, default: 3}", "3"),
        ("{type: number, default: 0.5, min: 0, max: 1}", "0.5"),
        ("{type: boolean, default: false}", "false"),
        ("{type: string, default: a, enum: [a, b]}", "a"),
        ("{path: 'https://host/x.csv', mode: direct}", "https://host/x.csv"),
    ],
)
def test_literals_are_texts(text: str, value: str, folder: Path) -> None:
    spec = loaded(folder, f"inputs:\n  d: {text}")
    assert (spec.inputs, spec.data) == ({"d": value}, {})


def test_an_optional_input_without_a_value_is_not_there(folder: Path) -> None:
    spec = loaded(folder, "inputs:\n  a: {type: uri_file, optional: true}\n  b: {type: number, optional: true}")
    assert (spec.inputs, spec.data) == ({}, {})


def test_a_path_on_the_command_line_goes_before_the_files(folder: Path) -> None:
    (folder / "job.yml").write_text("command: x ${{inputs.d}}\ninputs: {d: {path: none, mode: download}}\n")
    spec = load_job(folder / "job.yml", given={"d": str(folder / "data")})
    assert spec.data == {"d": DataInput((str(folder / "data"),), mode="download")}


def test_registered_data_on_the_command_line_stays_data(folder: Path, workspace: Workspace) -> None:
    """For an input of the file, whatever it is there, and for one that the file has not."""
    made = datasets.register(workspace.folder, "mnist", DataInput((str(folder / "data"),)))
    (folder / "job.yml").write_text("command: x ${{inputs.a}} ${{inputs.b}} ${{inputs.c}}\ninputs: {a: {path: none}, b: literal}\n")
    given = dict.fromkeys(("a", "b", "c"), "azureml:mnist@latest")
    spec = load_job(folder / "job.yml", given=given, assets=WorkspaceAssets(workspace.context))
    assert spec.data == dict.fromkeys(("a", "b", "c"), made.as_input())
    assert (spec.inputs, spec.command.line) == ({}, " ".join(["x", *[str(folder / "data")] * 3]))


def test_data_may_be_named_without_more(folder: Path, workspace: Workspace) -> None:
    made = datasets.register(workspace.folder, "mnist", DataInput((str(folder / "data"),)))
    assert loaded(folder, "inputs: {d: 'azureml:mnist:1'}", workspace).data == {"d": made.as_input()}
    assert refused(folder, "inputs: {d: 'azureml:cifar:1'}", workspace)[0] == "2: 'azureml:cifar:1' is kept on Azure, and not here"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{path: datas}", "there is no file or folder '{folder}/datas'", "a path is relative to the job file"),
        ("{type: uri_fil, path: data}", "input 'd' can't be of the type 'uri_fil'", "known: uri_folder, uri_file, mltable"),
        ("{path: data, mode: upload}", "input 'd' can't have the mode 'upload'", "known: ro_mount"),
        ("{paht: data}", "key in inputs.d 'paht' is not known", "did you mean 'path'?"),
        ("{type: mltable, path: data}", "'{folder}/data' holds no file MLTable", "give its type"),
        ("{path: 'azureml:mnist:1'}", "'azureml:mnist:1' is kept on Azure, and not here", "name a file or folder that the nodes can read"),
        ("{type: mlflow_model, path: 'azureml:m@latest'}", "'azureml:m@latest' is kept on Azure, and not here", "name a file"),
        ("{path: 'azureml://datastores/s/paths/x'}", "there is no datastore 's' here", "give a folder that name"),
        (
            "{path: 'azureml://registries/azureml/data/x/versions/1'}",
            "'azureml://registries/azureml/data/x/versions/1' is kept on Azure",
            "copy it",
        ),
        ("{path: 'azureml://jobs/none/outputs/m'}", "job 'none' is not known", "known: none"),
        ("{path: 'https://host/x.csv'}", "'https://host/x.csv' is no path: hpcest fetches nothing from https://", "download it"),
        ("{path: 'wasbs://c@a.blob/x'}", "'wasbs://c@a.blob/x' is no path: hpcest fetches nothing from wasbs://", "download it"),
        ("{path: 'abfss://c@a/x'}", "'abfss://c@a/x' is no path: hpcest fetches nothing from abfss://", "download it"),
        ("{type: number}", "input 'd' has no value", "give it a default, or optional: true"),
        ("{type: integer, default: 1.5}", "input 'd' must be integer, not '1.5'", ""),
        ("{type: number, default: 3, max: 2}", "input 'd' must be from None to 2, not 3", ""),
        ("{type: string, default: c, enum: [a, b]}", "input 'd' must be one of a, b, not 'c'", ""),
    ],
)
def test_inputs_that_are_refused(text: str, message: str, hint: str, folder: Path) -> None:
    found, told = refused(folder, f"inputs:\n  d: {text}")
    assert found == f"3: {message.replace('{folder}', str(folder))}"
    assert told.startswith(hint)


def test_a_file_that_is_called_a_folder_is_taken_for_what_it_is(folder: Path) -> None:
    told: list[str] = []
    assert loaded(folder, "inputs:\n  d: {type: uri_folder, path: data/x.csv}", told=told).data["d"].type == "uri_file"
    assert told == [f"{folder}/job.yml:3: '{folder}/data/x.csv' is a file, so d is taken for a uri_file"]


@pytest.mark.parametrize("name", ["my-data", "1st"])
def test_data_has_a_name_that_a_variable_can_have(name: str, folder: Path) -> None:
    assert refused(folder, f"inputs:\n  {name}: {{path: data}}")[0] == f"3: {name!r} can't be the name of data"


# ---------------------------------------------------------------------- what is registered
def test_registered_data_by_its_name(folder: Path, workspace: Workspace) -> None:
    made = datasets.register(workspace.folder, "mnist", DataInput((str(folder / "data"),)))
    for text in ("azureml:mnist:1", "azureml:mnist@latest", "azureml:mnist"):
        spec = loaded(folder, f"inputs:\n  d: {{type: uri_folder, path: '{text}', mode: download}}", workspace)
        assert spec.data == {"d": made.as_input(mode="download")}
    message, hint = refused(folder, "inputs:\n  d: {path: 'azureml:mnist:7'}", workspace)
    assert message == "3: 'azureml:mnist:7' is kept on Azure, and not here"
    assert hint.endswith("register a dataset of that name here (known here: 1, latest)")


def test_a_registered_model_by_its_name(folder: Path, workspace: Workspace) -> None:
    model = Model.register(workspace, folder / "data", "iris")
    for text in ("azureml:iris:1", "azureml:iris@latest"):
        spec = loaded(folder, f"inputs:\n  m: {{type: mlflow_model, path: '{text}'}}", workspace)
        assert spec.data == {"m": DataInput((str(model.path),))}


def test_a_place_in_a_datastore(folder: Path, workspace: Workspace) -> None:
    datastores.register(workspace.context, "store", folder)
    for prefix in ("azureml://", "azureml://subscriptions/s/resourcegroups/r/workspaces/w/"):
        spec = loaded(folder, f"inputs:\n  d: {{path: '{prefix}datastores/store/paths/data/'}}", workspace)
        assert spec.data == {"d": DataInput((str(folder / "data"),))}
    out = loaded(folder, "outputs:\n  o: {path: 'azureml://datastores/store/paths/out/${{name}}/${{output_name}}'}", workspace)
    assert out.outputs == {"o": DataOutput(str(folder / "out/{run-id}/{output-name}"))}
    message, _ = refused(folder, "inputs:\n  d: {path: 'azureml://datastores/store/paths/../../x'}", workspace)
    assert message == "3: '../../x' leads out of the datastore 'store'"


# ---------------------------------------------------------------------- outputs
@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("", DataOutput()),
        ("{type: uri_file}", DataOutput(type="uri_file")),
        ("{type: mlflow_model}", DataOutput()),
        ("{mode: rw_mount}", DataOutput()),
        ("{mode: upload, path: out}", DataOutput("{folder}/out", mode="upload")),
        ("{path: 'file:///far/out', name: mine, description: d}", DataOutput("/far/out", dataset="mine", description="d")),
    ],
)
def test_outputs(text: str, output: DataOutput, folder: Path) -> None:
    spec = loaded(folder, f"outputs:\n  o: {text}")
    expected = DataOutput(output.path.replace("{folder}", str(folder)), output.type, output.mode, dataset=output.dataset,
                          description=output.description)  # fmt: skip
    assert spec.outputs == {"o": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{mode: download}", "output 'o' can't have the mode 'download'"),
        ("{type: string}", "output 'o' can't be of the type 'string'"),
        ("{path: 'https://host/x'}", "output 'o' can't be written to 'https://host/x'"),
        ("{path: 'x/${{default_datastore}}'}", "the path of output 'o' has a placeholder that is not known: 'x/${{default_datastore}}'"),
        ("3", "output 'o' must be a mapping, not 3"),
        ("{typ: x}", "key in outputs.o 'typ' is not known"),
    ],
)
def test_outputs_that_are_refused(text: str, message: str, folder: Path) -> None:
    assert refused(folder, f"outputs:\n  o: {text}")[0] == f"3: {message}"


@pytest.mark.parametrize("kind", ["mlflow_model", "custom_model", "triton_model"])
def test_a_model_among_the_outputs_becomes_a_version_of_it(kind: str, folder: Path) -> None:
    told: list[str] = []
    text = f"outputs:\n  o: {{type: {kind}, name: iris, version: 3, description: d, tags: {{a: b}}}}"
    assert loaded(folder, text, told=told).outputs == {"o": DataOutput(model="iris", description="d", tags={"a": "b"})}
    assert told == [f"{folder}/job.yml:3: outputs.o.version has no effect: hpcest counts the versions of 'iris'"]


def test_the_value_of_a_variable_that_only_the_node_knows(folder: Path) -> None:
    """The shell on the node sets it; a script has no shell."""
    spec = loaded(folder, "environment_variables:\n  W: 'to $HOME/${{outputs.o}}'\noutputs: {o: }")
    assert spec.command.line == 'export W="to \\$HOME/${AZURE_ML_OUTPUT_o}"\nx'
    (folder / "job.yml").write_text("script: a.py\nenvironment_variables:\n  W: ${{outputs.o}}\noutputs: {o: }\n")
    with pytest.raises(ConfigError, match=r"job.yml:3: its value is only known on the node"):
        load_job(folder / "job.yml")
