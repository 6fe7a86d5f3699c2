"""What a program can do with its run."""

from __future__ import annotations

import io
import json
import math
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hpcest.onnode import run as module
from hpcest.onnode.events import read_run
from hpcest.onnode.record import put_json
from hpcest.onnode.run import Run, artifact_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "runs" / "abc12345"
    folder.mkdir(parents=True)
    put_json(str(folder / "run.json"), {"id": "abc12345", "spec": {"experiment": "iris", "tags": {"kind": "test"}}})
    return Run(folder)


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCEST_STRICT_LOGGING", raising=False)


class Tensor:
    """A number of another library: it has ``item()``, as NumPy's and PyTorch's have."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


@pytest.mark.parametrize("value", [0, 1, -1.5, 1e300, "text", "", True, 0.1 + 0.2, 123456789012345678])
def test_a_scalar_comes_back_as_it_was(run: Run, value: object) -> None:
    run.log("x", value)
    assert run.get_metrics() == {"x": value}


def test_numbers_of_other_libraries_are_taken_by_value(run: Run) -> None:
    run.log("x", Tensor(0.5))
    run.log_list("y", [Tensor(1), 2])
    assert run.get_metrics() == {"x": 0.5, "y": [1, 2]}


def test_nan_and_infinity(run: Run) -> None:
    for value in (math.nan, math.inf, -math.inf):
        run.log("x", value)
    nan, most, least = run.get_metrics()["x"]
    assert (math.isnan(nan), most, least) == (True, math.inf, -math.inf)


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), Tensor([1, 2]), 1j, b"x"])
def test_what_is_no_scalar_is_refused_with_a_reason(
    run: Run, value: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training goes on; stderr says it once, the record too. Who wants it otherwise says so."""
    for _ in range(3):
        run.log("x", value)
    run.log("x", 1)
    said = capsys.readouterr().err
    assert said.count("was not recorded") == 1
    assert said.startswith("hpcest: run abc12345: log('x') was not recorded: ")
    assert run.get_metrics() == {"x": 1}
    events = [json.loads(line) for line in next((Path(run.folder) / "events").iterdir()).read_text().splitlines()]
    assert [event["e"] for event in events] == ["trouble", "metric"]
    monkeypatch.setenv("HPCEST_STRICT_LOGGING", "1")
    with pytest.raises((TypeError, ValueError)):
        run.log("x", value)


def test_a_reason_says_what_to_use_instead(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    class Several:
        def item(self) -> float:
            raise ValueError("can only convert an array of size 1 to a Python scalar")

    run.log("y", Several())
    run.log("x", [1, 2])
    said = capsys.readouterr().err
    assert "metric 'y': can only convert an array of size 1 to a Python scalar; use log_list for several values" in said
    assert "metric 'x': list is neither a number nor a text; use log_list, log_row or log_table" in said


@pytest.mark.parametrize("name", ["", "  ", None, [1], b"x"])
def test_a_metric_has_a_name(run: Run, name: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run.log(name, 1)
    run.log_list(name, [1])
    run.log_row(name, x=1)
    assert capsys.readouterr().err.count("the name of a metric must be a text that is not empty") == 3
    assert run.get_metrics() == {}


def test_a_number_is_a_name(run: Run) -> None:
    numbered: Any = run
    numbered.log(3, 1)
    numbered.log(3, 2)
    assert run.get_metrics() == {"3": [1, 2]}


def test_a_step_that_is_none_does_not_stop_a_training(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log("x", 1, step=object())
    run.log("x", 2, step=Tensor(3))
    assert [point[1:] for point in read_run(run.folder)[1].series("x")] == [(3, 2)]
    assert "was not recorded" in capsys.readouterr().err


class Eager:
    """As TensorFlow's tensors are: without ``item``, with an ``__index__`` that only whole numbers can do."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __index__(self) -> int:
        if isinstance(self.value, int):
            return self.value
        raise TypeError("only integer tensors can be converted to an index")

    def __float__(self) -> float:
        return float(self.value)


def test_a_number_beyond_all_digits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log("x", 10**400)
    run.log("x", 10**5000)
    assert run.get_metrics() == {"x": 10**400}
    assert "was not recorded" in capsys.readouterr().err


def test_a_fraction_is_never_rounded(run: Run) -> None:
    run.log_list("x", [Eager(0.5), Eager(7), Fraction(1, 4), Decimal("0.125")])
    assert run.get_metrics() == {"x": [0.5, 7, 0.25, 0.125]}


def test_a_broken_device_does_not_stop_a_training(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def item(self) -> float:
            raise RuntimeError("CUDA error: device-side assert triggered")

    run.log("x", Broken())
    run.log_table("t", {"a": [1, Broken()]})
    assert capsys.readouterr().err.count("CUDA error") == 2


def test_lists_and_tables_of_all_kinds(run: Run) -> None:
    class Frame(dict[str, Any]):
        """As a data frame is: columns that can be iterated over."""

    run.log_list("one", "text")
    run.log_list("generator", (x for x in [1, 2]))
    run.log_table("frame", Frame(a=(1, 2), b="x"))
    run.log_table("large", {f"c{n}": range(1000) for n in range(100)})
    metrics = run.get_metrics()
    assert (metrics["one"], metrics["generator"], metrics["frame"]) == (["text"], [1, 2], {"a": [1, 2], "b": ["x"]})
    assert (len(metrics["large"]), metrics["large"]["c99"][-1]) == (100, 999)


@pytest.mark.parametrize(
    "name", ["läss", 'quo"te', "new\nline", "100%", "{x}", "\\", "\ud800", "日本", "trailing ", "a/b", "a.b", "..", "🚀"]
)
def test_odd_names(run: Run, name: str) -> None:
    run.log(name, 1.5, step=2)
    run.log(name, 2)
    assert run.get_metrics() == {name: [1.5, 2]}


def test_the_shapes_of_azure_ml(run: Run) -> None:
    """One value is a scalar, several are a list; rows and tables are dicts of columns."""
    run.log("series", 1)
    run.log("series", 2)
    run.log_list("list", (n * n for n in range(3)))
    run.log_row("rows", x=1, y="a")
    run.log_row("rows", x=2, y="b")
    run.log_row("one row", x=1)
    run.log_table("table", {"a": [1, 2], "b": [3, 4]})
    assert run.get_metrics() == {
        "series": [1, 2],
        "list": [0, 1, 4],
        "rows": {"x": [1, 2], "y": ["a", "b"]},
        "one row": {"x": 1},
        "table": {"a": [1, 2], "b": [3, 4]},
    }
    assert run.get_metrics("series") == {"series": [1, 2]}
    assert run.get_metrics("nothing") == {}


def test_steps_are_kept(run: Run) -> None:
    run.log("loss", 0.5, step=10)
    assert [point[1:] for point in read_run(run.folder)[1].series("loss")] == [(10, 0.5)]


def test_images(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"jpg")

    class Figure:
        def savefig(self, path: str) -> None:
            Path(path).write_bytes(b"png")

    run.log_image("photo", path=str(tmp_path / "picture.jpg"))
    run.log_image("a plot/../x", plot=Figure())
    names = run.get_file_names()
    assert [Path(name).suffix for name in names] == [".png", ".jpg"]
    assert all(name.startswith("images/") for name in names)
    assert set(run.get_metrics()) == {"photo", "a plot/../x"}
    run.log_image("both", path="x", plot=Figure())
    run.log_image("gone", path="gone.png")
    run.log_image("none", plot=3)
    said = capsys.readouterr().err
    for reason in (
        "takes either path= or plot=",
        "there is no file 'gone.png'",
        "int is no plot: give a matplotlib figure, pyplot, or a path",
    ):
        assert reason in said
    assert len(run.get_file_names()) == 2


def test_tags_and_properties(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Tags change, properties are written once."""
    run.tag("a", "1")
    run.tag("a", "2")
    run.tag("b")
    run.set_tags({"c": 3})
    run.remove_tags(["b", "kind"])
    run.add_properties({"p": "first", "n": 1})
    run.add_properties({"p": "first", "n": "1"})
    assert capsys.readouterr().err == ""
    run.add_properties({"p": "second"})
    assert "the property 'p' is 'first' and stays so: a property is written once" in capsys.readouterr().err
    assert run.get_tags() == {"a": "2", "c": "3"}
    assert run.get_properties() == {"p": "first", "n": "1"}


def test_names(run: Run) -> None:
    run.display_name = "a name"
    run.description = "what it is"
    assert (Run(run.folder).display_name, Run(run.folder).description) == ("a name", "what it is")
    assert (run.id, run.experiment.name) == ("abc12345", "iris")


def test_uploads(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "b.txt").write_text("b")
    run.upload_file("outputs/a.bin", io.BytesIO(b"stream"))
    run.upload_folder("data", str(tmp_path / "folder"))
    run.upload_files(["x/1", "x/2"], [str(tmp_path / "folder/below/b.txt")] * 2)
    assert run.get_file_names() == ["data/below/b.txt", "outputs/a.bin", "x/1", "x/2"]
    assert Path(artifact_path(run.folder, "outputs/a.bin")).read_bytes() == b"stream"
    with pytest.raises(FileNotFoundError, match="there is no file 'nowhere'"):
        run.upload_file("a", "nowhere")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "outputs/../../x", "", ".", "a\\..\\..\\b"])
def test_artifacts_stay_in_their_folder(run: Run, name: str) -> None:
    with pytest.raises(ValueError, match="must be a relative path without"):
        run.upload_file(name, io.BytesIO(b""))


def test_a_full_disk_does_not_stop_an_upload(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program goes on; the record says what is missing."""
    (Path(run.folder) / "outputs").write_text("in the way of the folder")
    run.upload_file("outputs/a", io.BytesIO(b"x"))
    assert "run abc12345:" in capsys.readouterr().err


def test_children(run: Run) -> None:
    """They are runs of their own below this one, and know their parent."""
    with run.child_run("first") as first:
        first.log("x", 1)
    with pytest.raises(RuntimeError, match="broken"), run.child_run("second") as second:
        raise RuntimeError("broken")
    with pytest.raises(SystemExit), run.child_run("third") as third:
        raise SystemExit(0)
    several = run.create_children(tag_key="fold", tag_values=["1", "2"])

    assert [read_run(child.folder)[0].status for child in (first, second, third)] == ["Completed", "Failed", "Completed"]
    assert "broken" in read_run(second.folder)[0].message
    assert (first.parent.id, first.display_name, first.experiment.name) == (run.id, "first", "iris")
    assert [child.get_tags() for child in several] == [{"fold": "1"}, {"fold": "2"}]
    assert len(read_run(run.folder)[0].children) == 5
    with pytest.raises(ValueError, match="there is a run"):
        run.child_run(run_id=first.id)


def test_the_context_is_one_object(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCEST_RUN_DIR", run.folder)
    monkeypatch.setattr(module, "_CONTEXTS", {})
    assert Run.get_context() is Run.get_context()
    assert Run.get_context().id == run.id


def test_a_submitted_run_is_not_ended_by_its_program(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """complete() and fail() are the controller's words there."""
    monkeypatch.setenv("HPCEST_RUN_DIR", run.folder)
    run.complete()
    assert read_run(run.folder)[0].status == "NotStarted"


def test_events_are_lines_that_any_language_can_write(run: Run) -> None:
    """The format of HPCEST_EVENTS: a JSON object a line."""
    events = Path(run.folder) / "events"
    events.mkdir()
    (events / "other-rank0.a0.jsonl").write_text(json.dumps({"t": 1.0, "e": "metric", "k": "from bash", "v": 3}) + "\n")
    assert run.get_metrics() == {"from bash": 3}


def test_children_are_found_and_filtered(run: Run) -> None:
    first, second = run.create_children(tag_key="fold", tag_values=["1", "2"])
    below = second.child_run("below")
    below.log("x", 1)
    for child in (below, second, first):
        child.complete()
    assert [child.id for child in run.get_children()] == [first.id, second.id]
    assert [child.id for child in run.get_children(recursive=True)] == [first.id, second.id, below.id]
    assert [child.id for child in run.get_children(tags={"fold": "2"}, status="Completed")] == [second.id]
    assert list(run.get_children(status="Failed")) == list(run.get_children(properties="p")) == []
    assert run.get_metrics(recursive=True) == {run.id: {}, first.id: {}, second.id: {}, below.id: {"x": 1}}


@pytest.mark.parametrize("wrong", ["../x", "a/b", "", ".", "..", "a b", "x" * 201, "\0"])
def test_the_id_of_a_child_stays_a_name(run: Run, wrong: str) -> None:
    with pytest.raises(ValueError, match="child_run: a run id has"):
        run.child_run(run_id=wrong)
    assert run.child_run(run_id="exp_1695-a.2").id == "exp_1695-a.2"


def test_a_thousand_children_leave_no_files_open(run: Run) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for child in run.create_children(100):
        child.log("x", 1)
        child.complete()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_program_cancels_its_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its controller is asked to end it; a child just is Canceled."""
    (Path(run.folder) / "state").mkdir()
    child = run.child_run()
    child.cancel()
    child.complete()
    assert child.get_status() == "Canceled"
    monkeypatch.setenv("HPCEST_RUN_DIR", run.folder)
    run.cancel()
    assert os.listdir(Path(run.folder) / "state") == ["cancel"]
    assert run.get_status() == "NotStarted"


def test_inputs_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "abc12345"
    folder.mkdir(parents=True)
    put_json(str(folder / "run.json"), {"id": "abc12345", "spec": {"experiment": "iris", "inputs": {"mnist": "/data"}}})
    run = Run(folder)
    assert run.input_datasets["mnist"] == "/data"
    monkeypatch.setenv("HPCEST_RUN_DIR", run.folder)
    monkeypatch.setenv("AZURE_ML_INPUT_mnist", "/scratch/mnist")
    assert run.input_datasets["mnist"] == "/scratch/mnist"
    with pytest.raises(KeyError, match="mnist"):
        run.input_datasets["minst"]


def test_several_uploads(run: Run, tmp_path: Path) -> None:
    """Azure's arguments in Azure's order; what is no file among them stops nothing that is in order."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("nowhere")
    assert run.upload_files(["outputs/a"], [str(tmp_path / "a")], True) == {"outputs/a": artifact_path(run.folder, "outputs/a")}
    run.upload_folder("all", str(tmp_path))
    assert "all/a" in run.get_file_names()
    assert "all/b" not in run.get_file_names()
    with pytest.raises(ValueError, match="1 names for 2 paths"):
        run.upload_files(["a"], ["a", "b"])


def test_what_only_the_whole_package_can_do_says_so(run: Run) -> None:
    asked: Any = run
    with pytest.raises(AttributeError, match=r"Run.submit_child is not available here: only the tracking part .* install hpcest"):
        asked.submit_child()
    with pytest.raises(AttributeError, match="'Run' object has no attribute 'lgo'"):
        asked.lgo("x", 1)
