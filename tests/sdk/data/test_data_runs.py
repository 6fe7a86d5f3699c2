"""Real runs on this machine that read data and write it: what they are told, what is recorded, what becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, Run, Workspace
from hpcest.errors import SpecError, UnknownNameError
from hpcest.kit.codec import decode
from hpcest.lifecycle.submit import submit
from hpcest.model.spec import Command, DataInput, DataOutput, RunSpec, Upstream
from hpcest.sdk.choices import with_choices
from hpcest.sdk.data.configs import OutputFileDatasetConfig
from hpcest.sdk.data.dataset import Dataset
from hpcest.sdk.data.datastore import Datastore
from hpcest.sdk.data.tabular import DataType, PromoteHeadersBehavior

SHOW = "import os, sys; print(*[sorted(os.listdir(word)) if os.path.isdir(word) else word for word in sys.argv[1:]])\n"
#: Writes a file where its last argument says.
WRITE = (
    "import os, sys; print(sys.argv); open(os.path.join(sys.argv[-1], 'x.csv'), 'w').write('a,b\\n1,2\\n'); sys.exit(len(sys.argv) > 2)\n"
)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    folder = tmp_path / "mni st"
    folder.mkdir()
    for name in ("a.gz", "b.gz", "notes.txt"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1e9, 1e9))
    return folder


def ran(workspace: Workspace, code: str, status: str = "Completed", **keywords: Any) -> Run:
    """A run of ``code`` that has ended, with ``status``."""
    Path("train.py").write_text(code)
    run = Experiment(workspace, "data").submit(Estimator(".", entry_script="train.py", **keywords), say=lambda line: None)
    assert run.wait_for_completion(raise_on_error=False)["status"] == status, (printed(run), run.get_details())
    return run


def printed(run: Run) -> str:
    return Path(run.folder, "user_logs", "std_log.txt").read_text()


def recorded(run: Run) -> RunSpec:
    return decode(RunSpec, json.loads(Path(run.folder, "run.json").read_text())["spec"])


def test_data_reaches_a_program_by_its_arguments_and_the_record_knows_it(workspace: Workspace, mnist: Path) -> None:
    version = Dataset.File.from_files(mnist).register(workspace, "mnist")
    some = Dataset.File.from_files(f"{mnist}/*.gz").as_named_input("some").as_mount()
    run = ran(
        workspace,
        SHOW,
        script_params=["--x", some, version.as_named_input("whole").as_download(), "$some", "${AZUREML_DATAREFERENCE_whole}"],
        inputs=[Dataset.File.from_files(mnist / "a.gz").as_named_input("one").as_mount()],
    )
    assert printed(run) == "--x ['a.gz', 'b.gz'] ['a.gz', 'b.gz', 'notes.txt'] ['a.gz', 'b.gz'] ['a.gz', 'b.gz', 'notes.txt']\n"
    data = recorded(run).data
    assert {name: (one.dataset, one.version, one.files, one.mode) for name, one in data.items()} == {
        "some": ("", 0, 2, "mount"), "whole": ("mnist", 1, 3, "download"), "one": ("", 0, 1, "mount"),
    }  # fmt: skip
    assert data["whole"].digest == version.digest
    assert all(one.digest.startswith("sha256:") for one in data.values())
    assert data["one"].type == "uri_file"


def test_inputs_may_be_a_dict_of_data_and_paths(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    code = "import os; print([os.environ['AZURE_ML_INPUT_' + name] for name in 'abc'])\n"
    run = ran(workspace, code, inputs={"a": files, "b": files.as_named_input("other").as_mount(), "c": mnist})
    assert printed(run) == f"{[str(mnist)] * 3}\n"
    assert (sorted(recorded(run).data), recorded(run).inputs) == (["a", "b"], {"c": str(mnist)})


def test_a_name_that_means_something_to_programs_is_not_given_to_data(workspace: Workspace, mnist: Path) -> None:
    files = Dataset.File.from_files(mnist)
    names = ("PYTHONPATH", "HOME", "good", "set")
    code = f"import os; print(*[os.environ.get(name) for name in {(*names, 'AZURE_ML_INPUT_PYTHONPATH')}], sep='\\n')\n"
    inputs = dict.fromkeys(names, files)
    lines = printed(ran(workspace, code, inputs=inputs, environment_variables={"set": "mine"})).splitlines()
    assert lines[1:] == [os.environ.get("HOME"), str(mnist), "mine", str(mnist)]
    assert str(mnist) not in lines[0]


def test_outputs_are_registered_when_a_run_has_completed_and_only_then(workspace: Workspace) -> None:
    store = Datastore(workspace)
    there = OutputFileDatasetConfig("o", (store, "made/{run-id}")).register_on_complete("made", "what it made", {"k": "v"})
    failed = ran(workspace, WRITE, "Failed", script_params=["fail", there])
    assert Dataset.get_all(workspace) == {}
    run = ran(workspace, WRITE, script_params=[there])
    made = Dataset.get_by_name(workspace, "made")
    assert (made.to_path(), made.description, made.tags) == (["/x.csv"], "what it made", {"k": "v", "run_id": run.id, "output": "o"})
    assert run.get_properties()["hpcest.output.o"] == f"made:1 {made.digest}"
    (told,) = run.get_details()["outputDatasets"]
    assert (told["identifier"], told["outputDetails"]["path"]) == ({"savedId": "made:1"}, str(store.place(f"made/{run.id}")))
    assert sorted(os.listdir(store.place("made"))) == sorted([failed.id, run.id])
    ran(workspace, WRITE, script_params=[OutputFileDatasetConfig("own").register_on_complete("made")])
    assert Dataset.get_by_name(workspace, "made").version == 2


def test_an_output_is_uploaded_and_is_the_input_of_the_next_run(workspace: Workspace) -> None:
    store = Datastore(workspace)
    output = OutputFileDatasetConfig("o", (store, "step1")).as_upload()
    run = ran(workspace, WRITE, script_params=[output])
    assert run.get_file_names()[0] == "outputs/o/x.csv"
    following = ran(workspace, SHOW, script_params=[output.as_input("prev")])
    assert printed(following) == "['x.csv']\n"


def test_data_references_reach_a_program_in_azures_spelling(workspace: Workspace, mnist: Path) -> None:
    store = Datastore.register(workspace, "s", mnist.parent)
    reference = store.path(mnist.name, data_reference_name="ref").as_mount()
    run = ran(workspace, SHOW, script_params={"--data": str(reference), "--more": reference.path("a.gz", "one")}, inputs=[reference])
    assert printed(run) == f"--data ['a.gz', 'b.gz', 'notes.txt'] --more {mnist}/a.gz\n"


# ------------------------------------------------------------------ what is refused, with the file
def spec_with(data: DataInput | None = None, **more: Any) -> RunSpec:
    return RunSpec("data", Command(script="train.py"), source=".", data={"d": data} if data else {}, **more)


def refused(workspace: Workspace, spec: RunSpec) -> SpecError:
    with pytest.raises(SpecError) as error:
        submit(workspace.context, spec, lambda line: None)
    assert not any(workspace.folder.runs.iterdir())
    return error.value


def test_data_that_can_not_be_is_refused_before_anything_is_recorded(workspace: Workspace, mnist: Path) -> None:
    (mnist / "sub").mkdir()
    whole = (str(mnist),)
    for data, message in (
        (DataInput((f"{mnist}/nowhere",)), f"there is no file or folder '{mnist}/nowhere'"),
        (DataInput((f"{mnist}/*.png",)), f"nothing matches '{mnist}/*.png'"),
        (DataInput((f"{mnist}/sub",)), f"there is no file in {mnist}/sub"),
        (DataInput(("relative",)), "'relative' is not an absolute path"),
        (DataInput((f"{mnist}\0x",)), "is not an absolute path"),
        (DataInput(("https://x.org/a",)), "is on a network"),
        (DataInput(), "no path of data is given"),
        (DataInput(whole, mode="hdfs"), "the mode of input 'd' is 'hdfs'"),
        (DataInput(whole, type="x"), "the type of input 'd' is 'x'"),
        (DataInput(("azureml://datastores/workspaceblobstore/paths/../../x",)), "leads out of the datastore"),
        (DataInput(("azureml:mnist",)), "'azureml:mnist' is not an absolute path"),
    ):
        assert message in refused(workspace, spec_with(data)).message
    assert "two inputs are called 'd'" in refused(workspace, spec_with(DataInput(whole), inputs={"d": "x"})).message
    assert "'a-b' can't be the name of data" in refused(workspace, spec_with(outputs={"a-b": DataOutput()})).message
    assert "the mode of output 'o' is 'x'" in refused(workspace, spec_with(outputs={"o": DataOutput(mode="x")})).message
    assert "which is no folder" in refused(workspace, spec_with(outputs={"o": DataOutput(f"{mnist}/a.gz")})).message
    with pytest.raises(UnknownNameError, match="datastore 'x' is not known"):
        submit(workspace.context, spec_with(DataInput(("azureml://datastores/x/paths/y",))), lambda line: None)
    with pytest.raises(UnknownNameError, match="registered dataset 'mnist' is not known"):
        submit(workspace.context, spec_with(DataInput(dataset="mnist")), lambda line: None)


def test_a_dataset_that_has_lost_a_file_is_refused_and_one_that_changed_is_told(workspace: Workspace, mnist: Path) -> None:
    Dataset.File.from_files(mnist).register(workspace, "mnist")
    Dataset.File.from_files(f"{mnist}/*.gz").register(workspace, "some")
    (mnist / "c.gz").write_text("new")
    (mnist / "b.gz").write_text("changed")
    said: list[str] = []
    submit(workspace.context, spec_with(DataInput(dataset="mnist")), said.append, dry=True)
    assert [line for line in said if "warning" in line] == [
        f"warning: dataset mnist:1 is not what it was: {mnist}/b.gz changed",
        f"warning: dataset mnist:1 is not what it was: {mnist}/c.gz is new",
    ]
    said.clear()
    run = submit(workspace.context, spec_with(DataInput(dataset="some", version=1)), said.append, dry=True)
    assert [line for line in said if "warning" in line] == [f"warning: dataset some:1 is not what it was: {mnist}/b.gz changed"]
    assert run.spec.data["d"].files == 2  # a version has the files that it was made of
    (mnist / "a.gz").unlink()
    error = refused(workspace, spec_with(DataInput(dataset="some")))
    assert error.message == f"dataset some:1 has lost the file '{mnist}/a.gz'"
    assert "register the data anew" in error.hint


def test_a_rerun_is_told_what_has_changed_since(workspace: Workspace, mnist: Path) -> None:
    run = ran(workspace, SHOW, inputs=[Dataset.File.from_files(mnist).as_named_input("d")])
    (mnist / "a.gz").write_text("changed")
    said: list[str] = []
    passage = submit(workspace.context, recorded(run), said.append, dry=True)
    assert f"warning: input 'd' is not what it was: {mnist}/a.gz changed" in said
    assert passage.spec.data["d"].digest != recorded(run).data["d"].digest


def test_very_much_data_is_read_only_where_it_is_asked_for(workspace: Workspace, mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcest.lifecycle.data.ofrun.MOST_READ", 10)
    said: list[str] = []

    def digest(data: DataInput) -> str:
        return submit(workspace.context, spec_with(data), said.append, dry=True).spec.data["d"].digest

    assert digest(DataInput((str(mnist),))).startswith("stat:")
    assert f"0.0 GB of data in {mnist} are known by names, sizes and times alone; register it to have it read once" in said
    Dataset.File.from_files(mnist).register(workspace, "mnist")
    assert digest(DataInput(dataset="mnist")).startswith("sha256:")
    assert digest(DataInput((str(mnist),))).startswith("sha256:")  # it is known now
    (mnist / "a.gz").write_text("a" * 20)
    monkeypatch.setenv("HPCEST_DATA_DIGEST", "contents")
    assert digest(DataInput((str(mnist),))).startswith("sha256:")


def test_data_that_is_yet_to_be_made_waits_for_the_run_before(workspace: Workspace, project: Path) -> None:
    before = ran(workspace, "print(1)\n")
    spec = spec_with(DataInput((f"{project}/later",)), after=(Upstream(before.id),))
    made = submit(workspace.context, spec, lambda line: None, dry=True)
    assert (made.spec.data["d"].digest, made.spec.data["d"].files) == ("", 0)


def test_a_place_in_a_datastore_may_be_an_address(workspace: Workspace, mnist: Path) -> None:
    Datastore(workspace).upload(mnist, "m")
    for address in ("azureml://datastores/workspaceblobstore/paths/m", "azureml://subscriptions/1/datastores/workspaceblobstore/paths/m/"):
        made = submit(workspace.context, spec_with(DataInput((address,))), lambda line: None, dry=True)
        assert (made.spec.data["d"].paths, made.spec.data["d"].files) == ((str(Datastore(workspace).place("m")),), 3)


def test_a_registered_dataset_is_an_option_of_the_command_line(workspace: Workspace, mnist: Path) -> None:
    Dataset.File.from_files(mnist).register(workspace, "mnist")
    spec = with_choices(spec_with(), (), {"inputs": {"d": "azureml:mnist:1,download", "p": str(mnist)}})
    assert (spec.data["d"], spec.inputs) == (DataInput(dataset="mnist", version=1, mode="download"), {"p": str(mnist)})
    made = submit(workspace.context, spec, lambda line: None, dry=True)
    assert (made.spec.data["d"].mode, made.spec.data["d"].files) == ("download", 3)


# ------------------------------------------------------------------ tables
def test_a_table_is_a_recipe_that_the_record_keeps(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    options: dict[str, Any] = {"separator": ";", "set_column_types": {"a": DataType.to_float(), "b": int}, "validate": True}
    table = Dataset.Tabular.from_delimited_files(
        str(tmp_path / "t.csv"), **options, header=PromoteHeadersBehavior.ALL_FILES_HAVE_SAME_HEADERS
    )
    first, second = table.keep_columns("a").drop_columns(["b"]).skip(1).take(5).random_split(0.8, seed=7)
    recipe = {
        "format": "delimited",
        "options": {"separator": ";", "set_column_types": {"a": "float", "b": "integer"}},
        "steps": [["keep_columns", ["a"]], ["drop_columns", ["b"]], ["skip", 1], ["take", 5], ["sample", 0.8, 7, False]],
    }
    assert first.data_input().table == recipe
    assert second.data_input().table["steps"][-1] == ["sample", 0.8, 7, True]
    made = first.register(workspace, "table")
    assert type(Dataset.get_by_name(workspace, "table")) is type(table)
    run = ran(workspace, SHOW, script_params=[made.as_named_input("t")])
    assert (recorded(run).data["t"].table, printed(run)) == (recipe, f"{tmp_path}/t.csv\n")
    assert Dataset.Tabular.from_delimited_files(tmp_path / "t.csv", header=False).data_input().table["options"] == {"header": False}


def test_what_tables_can_not_do_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    path = str(tmp_path / "t.csv")
    for keywords, message in (
        ({"seperator": ";"}, "from_delimited_files has no keyword 'seperator'"),
        ({"partition_format": "x.csv"}, "names no column"),
        ({"partition_format": "{x}/{x}.csv"}, "has two columns .x."),
        ({"partition_format": "{x"}, "has a stray"),
        ({"set_column_types": {"a": complex}}, "the type of column 'a' is"),
    ):
        with pytest.raises(SpecError, match=message):
            Dataset.Tabular.from_delimited_files(path, **keywords)
    with pytest.raises(SpecError, match="there is no database"):
        Dataset.Tabular.from_sql_query("select")
    with pytest.raises(SpecError, match="time_before is not there"):
        Dataset.Tabular.from_delimited_files(path).time_before()
    with pytest.raises(SpecError, match="nothing matches"):
        Dataset.Tabular.from_parquet_files(f"{tmp_path}/*.parquet")


def test_without_pandas_a_table_says_what_it_takes(tmp_path: Path) -> None:
    """In a Python of its own, which has none."""
    (tmp_path / "t.csv").write_text("a\n1\n")
    code = f"from hpcest.onnode import table; table.read({{}}, [{str(tmp_path / 't.csv')!r}])"
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {root!r}); {code}"], capture_output=True, text=True, check=False
    )
    assert "takes pandas, which is not installed here: add pandas to the environment" in done.stderr
