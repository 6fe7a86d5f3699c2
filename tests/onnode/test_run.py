"""What a program can do with its run."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
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


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), Tensor([1, 2])])
def test_what_is_no_scalar_is_refused_at_once(run: Run, value: object) -> None:
    with pytest.raises(TypeError, match=r"metric 'x': .* is neither a number nor a text; use log_list"):
        run.log("x", value)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_metric_has_a_name(run: Run, name: Any) -> None:
    with pytest.raises(TypeError, match="the name of a metric"):
        run.log(name, 1)


@pytest.mark.parametrize("name", ["läss", 'quo"te', "new\nline", "100%", "{x}", "\\", "\ud800", "日本"])
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


def test_images(run: Run, tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="either path= or plot="):
        run.log_image("both", path="x", plot=Figure())
    with pytest.raises(FileNotFoundError, match=r"there is no file 'gone\.png'"):
        run.log_image("gone", path="gone.png")


def test_tags_and_properties(run: Run) -> None:
    """Tags change, properties are written once."""
    run.tag("a", "1")
    run.tag("a", "2")
    run.tag("b")
    run.set_tags({"c": 3})
    run.remove_tags(["b", "kind"])
    run.add_properties({"p": "first"})
    run.add_properties({"p": "second"})
    assert run.get_tags() == {"a": "2", "c": "3"}
    assert run.get_properties() == {"p": "first"}


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


@pytest.mark.parametrize("python", ["own", "isolated"])
def test_offline_it_works_and_says_so(tmp_path: Path, python: str) -> None:
    """Outside any run, with nothing but the tracking part of the package."""
    program = (
        "from hpcest import Run\nrun = Run.get_context()\n"
        "run.log('loss', 0.5, step=1); run.log_row('r', x=1); run.tag('a', 'b'); run.log_list('l', [1, 2])\n"
        "with run.child_run('c') as child: child.log('y', 2)\n"
        "run.upload_file('outputs/x', 'nowhere'); run.flush(); run.complete()\n"
        "assert run.get_metrics() == {'loss': 0.5, 'r': {'x': 1}, 'l': [1, 2]}, run.get_metrics()\n"
        "assert run.get_tags() == {'a': 'b'} and run.id == 'offline'\n"
        "try: Run.get_context(allow_offline=False)\nexcept RuntimeError as error: print(error)\n"
    )
    if python == "isolated":
        (tmp_path / "hpcest").mkdir()
        (tmp_path / "hpcest" / "__init__.py").write_bytes((ROOT / "hpcest/__init__.py").read_bytes())
        (tmp_path / "hpcest" / "onnode").symlink_to(ROOT / "hpcest/onnode")
    where = tmp_path if python == "isolated" else ROOT
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(where)}
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "[offline] loss = 0.5 (step 1)" in done.stdout
    assert "not inside a run" in done.stdout + done.stderr
    assert list(tmp_path.glob("outputs")) == []


def test_events_are_lines_that_any_language_can_write(run: Run) -> None:
    """The format of HPCEST_EVENTS: a JSON object a line."""
    events = Path(run.folder) / "events"
    events.mkdir()
    (events / "other-rank0.a0.jsonl").write_text(json.dumps({"t": 1.0, "e": "metric", "k": "from bash", "v": 3}) + "\n")
    assert run.get_metrics() == {"from bash": 3}
