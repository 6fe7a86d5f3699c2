"""Confusion matrices and the like: kept as files in Azure ML's format; images of all kinds; a training never stops for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Experiment, Run, Workspace

KINDS = ("confusion_matrix", "accuracy_table", "residuals", "predictions")


class Array:
    """As NumPy's arrays are."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


@pytest.fixture
def run(workspace: Workspace, project: Path) -> Run:
    return Experiment(workspace, "iris").start_logging(snapshot_directory=None)


def payload(kind: str) -> dict[str, Any]:
    return {"schema_type": kind, "schema_version": "v1", "data": {"class_labels": ["0", "1"], "matrix": Array([[1, 2], [3, Array(4)]])}}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_kept_as_a_file(run: Run, kind: str, tmp_path: Path) -> None:
    """From a dict, from its text, and from a file."""
    log: Callable[..., None] = getattr(run, f"log_{kind}")
    plain = json.loads(json.dumps(payload(kind), default=lambda array: array.tolist()))
    (tmp_path / "given.json").write_text(json.dumps(plain))
    log("a", payload(kind), description="what it is")
    log("b/c", json.dumps(plain))
    log("d", tmp_path / "given.json")
    log("e", str(tmp_path / "given.json"))
    names = run.get_metrics()
    assert sorted(names.values()) == run.get_file_names()
    assert [name.split("/")[0] for name in names.values()] == [kind] * 4
    for name in names.values():
        run.download_file(name, tmp_path / "back.json")
        assert json.loads((tmp_path / "back.json").read_text()) == plain
    run.log("x", f"{kind}/gone.json")
    assert run.get_metrics(populate=True) == {**dict.fromkeys(("a", "b/c", "d", "e"), plain), "x": f"{kind}/gone.json"}
    assert run.get_metrics("a", recursive=True, populate=True) == {run.id: {"a": plain}}
    run.complete()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            {"schema_type": "residuals", "schema_version": "v1", "data": {}},
            "the payload's schema_type is 'residuals', not 'confusion_matrix'",
        ),
        ({"data": {}}, "a payload has schema_type, schema_version and data, and this is a dict with data"),
        ([1], "and this is list"),
        ("{", "Expecting property name"),
        ("nowhere.json", "'nowhere.json' is neither JSON nor the path of a file"),
        ({"schema_type": "confusion_matrix", "schema_version": "v1", "data": object()}, "object is neither a number nor a text"),
    ],
)
def test_what_is_no_payload_is_refused_with_a_reason(run: Run, value: Any, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    run.log_confusion_matrix("m", value)
    said = capsys.readouterr().err
    assert "log_confusion_matrix('m') was not recorded: " in said
    assert reason in said
    assert (run.get_metrics(), run.get_file_names()) == ({}, [])
    run.complete()


def test_images_of_all_kinds(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Figure:
        def savefig(self, path: str) -> None:
            Path(path).write_bytes(b"figure")

    class Axes:
        figure = Figure()

    class Picture:
        def save(self, path: str) -> None:
            Path(path).write_bytes(b"picture")

    figure: Any = Figure()
    (tmp_path / "a.jpg").write_bytes(b"jpg")
    run.log_image("path", tmp_path / "a.jpg")
    run.log_image("figure", plot=figure)
    run.log_image("meant as a plot", figure)
    run.log_image("axes", plot=Axes())
    run.log_image("pillow", plot=Picture())
    run.log_image("🚀/..", plot=figure)
    metrics = run.get_metrics()
    contents = {name: Path(run.folder, "artifacts", artifact).read_bytes() for name, artifact in metrics.items()}
    assert contents == {
        "path": b"jpg",
        "figure": b"figure",
        "meant as a plot": b"figure",
        "axes": b"figure",
        "pillow": b"picture",
        "🚀/..": b"figure",
    }
    assert all(name.isascii() for name in metrics.values())
    assert capsys.readouterr().err == ""
    run.complete()


def test_a_disk_that_refuses_does_not_stop_a_training(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where wrong values do."""
    monkeypatch.setenv("HPCEST_STRICT_LOGGING", "1")
    Path(run.folder, "artifacts").write_text("in the way")
    run.log_residuals("r", payload("residuals"))
    assert "log_residuals('r') was not recorded" in capsys.readouterr().err
    with pytest.raises(ValueError, match="schema_type is 'predictions'"):
        run.log_residuals("r", payload("predictions"))
    run.complete()
