"""A run seen from the login side: what is known of it, what can be added to it, and what its children are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, Run, Workspace
from hpcest.errors import HpcestError, SnapshotError, SpecError, UnknownNameError, UsageError
from hpcest.history import ingest, query
from hpcest.history.query import RunRow
from hpcest.lifecycle.passage import Passage, record
from hpcest.onnode.record import EventWriter

MakeRun = Callable[..., Run]


def row_of(workspace: Workspace, run: Run) -> RunRow:
    ingest.refresh(workspace.folder)
    row = query.get_run(workspace.folder, run.id)
    assert row is not None
    return row


# ---------------------------------------------------------------------- which run
def test_opening_by_id_prefix_and_place(workspace: Workspace, made_run: MakeRun) -> None:
    first, second, third = made_run(), made_run(experiment="mnist"), made_run()
    iris = Experiment(workspace, "iris")
    for reference, run in {first.id: first, second.id[:6]: second, "@latest": third, "@2": second, "@latest:mnist": second}.items():
        found = Run.get(workspace, reference)
        assert (found.id, found.experiment, found.workspace.root) == (run.id, run.experiment, workspace.root)
    assert Run(iris, first.id).id == first.id
    assert repr(first) == f"Run(id={first.id!r}, experiment='iris')"
    with pytest.raises(UnknownNameError, match=f"run of experiment 'iris' '{second.id}' is not known") as error:
        Run(iris, second.id)
    assert error.value.hint == "it belongs to 'mnist'; Run.get(workspace, id) finds the runs of all experiments"


@pytest.mark.parametrize("reference", ["../runs", "..", "", "a/b", "/", "\0\0\0", "@0", "@latest:none"])
def test_what_is_no_run_is_refused(reference: str, workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run()
    for wrong in (reference, f"../runs/{run.id}"):
        with pytest.raises((UnknownNameError, UsageError)):
            Run.get(workspace, wrong)
        with pytest.raises((UnknownNameError, UsageError)):
            Run(run.experiment, wrong)


def test_experiments_are_a_workspace_and_a_name(workspace: Workspace) -> None:
    swapped: Any = Experiment
    with pytest.raises(SpecError, match="Experiment takes a workspace and a name, not 'iris'") as error:
        swapped("iris", workspace)
    assert error.value.hint == "Experiment(workspace, 'name')"
    for name in ("", " ", "a\nb", "x" * 256):
        with pytest.raises(SpecError, match="can't be used"):
            Experiment(workspace, name)
    assert repr(Experiment(workspace, " iris ")) == "Experiment(name='iris', workspace='lab')"
    assert Experiment(workspace, "iris") == Experiment(Workspace(workspace.root), "iris") != Experiment(workspace, "mnist")
    assert list(Experiment(workspace, "none").get_runs()) == []


def test_filters(workspace: Workspace, made_run: MakeRun) -> None:
    plain = made_run(tags={"kind": "a"})
    failed = made_run(status="Failed", tags={"kind": "b", "x": ""}, properties={"p": "1"}, framework="pytorch")
    late = made_run()
    late.set_tags({"kind": "a", "odd": None})
    late.add_properties({"p": "2"})
    made_run(experiment="other", tags={"kind": "a"})
    child = late.child_run("fold")
    child.complete()
    iris = Experiment(workspace, "iris")

    def ids(*given: Any, **named: Any) -> list[str]:
        found = [run.id for run in iris.get_runs(*given, **named)]
        assert [run.id for run in Run.list(iris, *given, **named)] == found
        return found

    assert ids() == [late.id, failed.id, plain.id]
    assert ids(tags={"kind": "a"}) == [late.id, plain.id]
    assert ids(tags="kind") == [late.id, failed.id, plain.id]
    assert ids(tags={"kind": "b", "x": None}) == ids(tags="x") == [failed.id]
    assert ids(tags="odd") == [late.id]
    assert ids(properties={"p": "1"}) == ids(type="pytorch") == ids("pytorch") == ids(status="failed") == [failed.id]
    assert ids(properties="p") == [late.id, failed.id]
    assert ids(tags={"kind": "c"}) == []
    assert ids(include_children=True) == [child.id, late.id, failed.id, plain.id]
    with pytest.raises(UsageError, match="'Fialed' is no status"):
        ids(status="Fialed")


# ---------------------------------------------------------------------- what is known
def test_details(workspace: Workspace, made_run: MakeRun) -> None:
    events = [{"e": "status", "v": "Queued", "by": "submit"}, {"e": "status", "v": "Running", "by": "controller"}]
    run = made_run(events=events, tags={"a": "1"}, files={"user_logs/std_log.txt": "x"}, compute="night")
    details = run.get_details()
    assert list(details) == [
        "runId", "target", "status", "startTimeUtc", "endTimeUtc", "properties", "tags", "inputDatasets", "outputDatasets",
        "runDefinition", "logFiles", "submittedBy",
    ]  # fmt: skip
    assert (details["runId"], details["target"], details["status"], details["submittedBy"]) == (run.id, "night", "Completed", "me")
    assert details["startTimeUtc"] < details["endTimeUtc"]
    assert details["endTimeUtc"].endswith("+00:00")
    assert details["runDefinition"]["command"] == {"script": "train.py"}
    assert run.get_portal_url() == Path(run.folder).as_uri()
    failed = made_run(
        events=[{"e": "status", "v": "Failed", "by": "controller", "r": "UserError", "m": "exited with code 3"}], status="Failed"
    )
    assert failed.get_details()["error"]["code"] in ("UserError", "")
    assert failed.get_detailed_status()["status"] == failed.status == failed.get_status() == "Failed"


def test_the_status_before_a_backend_has_it(workspace: Workspace, project: Path) -> None:
    spec = Estimator(".", entry_script="train.py").to_spec("iris", workspace)
    passage = Passage.of(workspace.context, spec, lambda line: None)
    record(passage)
    run = Run.get(workspace, passage.folder.id)
    assert run.get_status() == "Preparing"
    assert (run.get_details()["startTimeUtc"], run.get_metrics(), run.get_file_names()) == (None, {}, [])
    run.cancel()
    assert run.get_status() == "CancelRequested"  # whoever submits it sees that before the backend gets it


def test_metrics_in_azures_shapes(made_run: MakeRun) -> None:
    run = made_run(
        events=[
            {"e": "metric", "k": "acc", "v": 0.5},
            {"e": "metric", "k": "loss", "v": 2},
            {"e": "metric", "k": "loss", "v": 1},
            {"e": "row", "k": "table", "v": {"a": 1, "b": "x"}},
        ]
    )
    child = run.child_run("c")
    child.log("acc", 1)
    child.complete()
    assert run.get_metrics() == {"acc": 0.5, "loss": [2, 1], "table": {"a": 1, "b": "x"}}
    assert run.get_metrics("loss") == {"loss": [2, 1]}
    assert run.get_metrics("none") == {}
    assert run.get_metrics("acc", recursive=True) == {run.id: {"acc": 0.5}, child.id: {"acc": 1}}
    assert run.get_metrics(recursive=True, run_type="script", populate=True) == {run.id: run.get_metrics()}


def test_environment_and_snapshot_of_a_run(made_run: MakeRun) -> None:
    run = made_run(environment={"kind": "venv", "pip": ["numpy"]}, snapshot="abc")
    assert (run.get_environment().kind, run.get_environment().pip_packages, run.get_snapshot_id()) == ("venv", ["numpy"], "abc")
    with pytest.raises(SnapshotError, match="snapshot 'abc' is not in the workspace"):
        run.restore_snapshot()
    with pytest.raises(SnapshotError):
        run.restore_snapshot("../../../etc/passwd")
    child = run.child_run()
    with pytest.raises(SpecError, match=f"run {child.id} has no snapshot: it was made by a program"):
        child.restore_snapshot()
    child.complete()


# ---------------------------------------------------------------------- what is added later
def test_what_is_said_after_the_end_reaches_the_history(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run(tags={"old": "1", "gone": "1"}, display_name="first")
    assert (row_of(workspace, run).display_name, run.name) == ("first", "first")
    run.tag("new", "2")
    run.remove_tags("gone")
    run.add_properties({"p": "1"})
    run.add_properties({"p": "2"})
    run.display_name = "second"
    run.description = "why"
    run.log("acc", 0.9)
    row = row_of(workspace, run)
    assert (row.tags, row.properties, row.metrics) == ({"old": "1", "new": "2"}, {"p": "1"}, {"acc": 0.9})
    assert (row.display_name, row.description) == ("second", "why")
    assert (run.tags, run.properties, run.name) == (row.tags, row.properties, "second")
    assert [found.id for found in run.experiment.get_runs(tags={"new": "2"})] == [run.id]
    ingest.reindex(workspace.folder)
    assert row_of(workspace, run) == row


def test_an_edit_that_can_not_be_kept_raises(made_run: MakeRun, capfd: pytest.CaptureFixture[str]) -> None:
    run = made_run()
    before = run.get_tags()
    Path(run.folder, "events").rename(Path(run.folder, "was"))
    Path(run.folder, "events").write_text("a file, so that nobody can write below it, root neither")
    for action in (lambda: run.tag("a"), lambda: run.remove_tags("a"), lambda: run.add_properties({"a": "1"})):
        with pytest.raises(HpcestError, match=f"run {run.id} can't be changed"):
            action()
    with pytest.raises(HpcestError):
        run.display_name = "x"
    Path(run.folder, "events").unlink()
    Path(run.folder, "was").rename(Path(run.folder, "events"))
    assert (run.get_tags(), capfd.readouterr().err.count("can't record in")) == (before, 1)


def test_a_submitted_run_does_not_end_by_being_told_so(workspace: Workspace, project: Path) -> None:
    """Its program has the word, also where somebody opens it with ``with``."""
    spec = Estimator(".", entry_script="train.py").to_spec("iris", workspace)
    passage = Passage.of(workspace.context, spec, lambda line: None)
    record(passage)
    run = Run.get(workspace, passage.folder.id)
    with run:
        run.log("acc", 1)
    run.complete()
    run.fail("no")
    assert run.get_status() == "Preparing"
    run.cancel()


# ---------------------------------------------------------------------- children
def test_children_in_the_order_in_which_they_were_made(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run()
    folds = run.create_children(tag_key="fold", tag_values=["1", "2", "3", "4", "5", "6"])
    grand = folds[1].child_run("grand")
    for child in (grand, *folds[:-1]):
        child.complete()
    with pytest.raises(RuntimeError, match="oh no"), folds[-1]:
        raise RuntimeError("oh no")
    assert [child.id for child in run.get_children()] == [child.id for child in folds]
    assert [child.id for child in run.get_children(recursive=True)][1:3] == [folds[1].id, grand.id]
    assert [child.id for child in run.get_children(tags={"fold": "3"})] == [folds[2].id]
    assert [child.id for child in run.get_children(tags="fold", status="Failed")] == [folds[-1].id]
    assert [child.id for child in run.get_children(type="script")] == []
    assert [child.id for child in run.get_children(recursive=True, tags={"fold": None}, type="")] == [child.id for child in folds]
    assert folds[-1].get_detailed_status()["details"] == "RuntimeError: oh no"
    assert grand.parent is not None
    assert grand.parent.parent is not None
    assert (grand.parent.id, grand.parent.parent.id, run.parent) == (folds[1].id, run.id, None)
    assert (grand.experiment, grand.name) == (run.experiment, "grand")
    with pytest.raises(ValueError, match="either count= or"):
        run.create_children()
    assert len(run.create_children(2)) == 2
    with pytest.raises(ValueError, match="there is a run"):
        run.child_run(run_id=grand.id)


def test_children_that_are_gone_or_made_up_are_left_out(workspace: Workspace, made_run: MakeRun) -> None:
    run, other = made_run(), made_run()
    kept, deleted = run.create_children(2)
    writer = EventWriter(run.folder, "other")
    for made_up in (f"../runs/{other.id}", "..", "nobody", ""):
        writer.event("child", id=made_up)
    writer.close()
    (workspace.folder.trash).mkdir()
    Path(deleted.folder).rename(workspace.folder.trash / deleted.id)
    assert [child.id for child in run.get_children()] == [kept.id]
    Path(run.folder).rename(workspace.folder.trash / run.id)
    assert kept.parent is None


def test_a_child_whose_program_was_killed_ends_with_its_parent(workspace: Workspace, made_run: MakeRun) -> None:
    parent = made_run(status="Failed")
    code = f"""if True:
        import os, signal
        from hpcest import Run, Workspace
        run = Run.get(Workspace({str(workspace.root)!r}), {parent.id!r})
        child = run.child_run("interrupted")
        child.log("x", 1)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", code], check=False)
    (child,) = parent.get_children()
    assert (child.get_status(), child.get_metrics(), child.name) == ("Failed", {"x": 1}, "interrupted")
    assert child.get_detailed_status()["details"] == "ended with its parent"
