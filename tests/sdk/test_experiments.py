"""Experiments: tags, archiving, deleting; listings that are filtered, in parts, and by compute target."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hpcest import Estimator, Experiment, Run, Workspace
from hpcest.errors import HpcestError, SpecError, UnknownNameError, UsageError
from hpcest.history import query
from hpcest.lifecycle import trash
from hpcest.lifecycle.passage import Passage, record
from hpcest.sdk.azure import OffAzureWarning
from hpcest.sdk.compute import ComputeTarget
from hpcest.sdk.run import get_run

MakeRun = Callable[..., Run]
ODD = "a/b é%2F .."


@pytest.mark.parametrize("name", ["iris", ODD])
def test_tags_of_an_experiment(workspace: Workspace, name: str) -> None:
    experiment = Experiment(workspace, name)
    experiment.tag("kind", "try")
    experiment.tag("alone")
    experiment.set_tags({"n": 1, "gone": "x", "more": "x"})
    experiment.remove_tags("gone")
    experiment.remove_tags(["more", "never there"])
    experiment.refresh()
    assert Experiment(Workspace(workspace.root), name).tags == {"kind": "try", "alone": "", "n": "1"}
    assert Experiment.list(workspace, tags={"kind": "try"}) == Experiment.list(workspace, tags="n") == [experiment]
    assert Experiment.list(workspace, tags={"kind": "other"}) == []
    assert experiment.id == name


def test_archived_experiments_are_not_listed(workspace: Workspace, made_run: MakeRun) -> None:
    for name in ("iris", "mnist"):
        made_run(experiment=name)
    iris, mnist = Experiment(workspace, "iris"), Experiment(workspace, "mnist")
    iris.archive()
    assert datetime.now(timezone.utc) - (iris.archived_time or datetime.min.replace(tzinfo=timezone.utc)) < timedelta(minutes=1)
    assert mnist.archived_time is None
    assert (Experiment.list(workspace), [*workspace.experiments]) == ([mnist], ["mnist"])
    assert Experiment.list(workspace, view_type="ArchivedOnly") == [iris]
    assert Experiment.list(workspace, view_type="All") == [mnist, iris]
    assert Experiment.list(workspace, "iris", "All") == [iris]
    assert len(list(iris.get_runs())) == 1
    with pytest.raises(SpecError, match="can't be called 'other'"):
        iris.reactivate("other")
    iris.reactivate()
    assert (Experiment.list(workspace), iris.archived_time) == ([mnist, iris], None)
    with pytest.raises(SpecError, match="view_type can't be 'Active'") as error:
        Experiment.list(workspace, view_type="Active")
    assert error.value.hint == "allowed: ActiveOnly, ArchivedOnly, All"


def test_an_experiment_that_can_not_be_changed(workspace: Workspace) -> None:
    (workspace.folder.home / "experiments").write_text("in the way")
    with pytest.raises(HpcestError, match="experiment 'iris' can't be changed"):
        Experiment(workspace, "iris").tag("a")


def test_deleting_an_experiment_moves_its_runs_to_the_trash(workspace: Workspace, made_run: MakeRun) -> None:
    run, other = made_run(), made_run(experiment="mnist")
    with run.child_run("c"):
        pass
    Experiment(workspace, "iris").tag("kind", "x")
    Experiment.delete(workspace, "iris")
    assert [experiment.name for experiment in Experiment.list(workspace, view_type="All")] == ["mnist"]
    assert os.listdir(workspace.folder.runs) == [other.id]
    trash.restore(workspace.folder, run.id)
    (back,) = Experiment(workspace, "iris").get_runs()
    assert (back.id, len(list(back.get_children()))) == (run.id, 1)
    with pytest.raises(UnknownNameError, match="experiment 'irs' is not known") as error:
        Experiment.delete(workspace, "irs")
    assert error.value.hint == "did you mean 'iris'?"


def test_an_experiment_with_a_run_that_goes_on_is_not_deleted(workspace: Workspace, made_run: MakeRun) -> None:
    made_run()
    going = Experiment(workspace, "iris").start_logging(snapshot_directory=None)
    with pytest.raises(UsageError, match="has 1 runs that go on, such as"):
        Experiment.delete(workspace, "iris")
    assert len(os.listdir(workspace.folder.runs)) == 2
    going.complete()


def test_from_a_directory(workspace: Workspace, project: Path) -> None:
    workspace.write_config(project)
    found = Experiment.from_directory(project)
    assert (found.name, found.workspace.root) == ("pro ject", workspace.root)
    assert Experiment.from_directory(".") == found


# ---------------------------------------------------------------------- listings
def test_a_long_listing_is_whole_and_in_order(workspace: Workspace, made_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever parts it is read, and with runs of the very same time."""
    monkeypatch.setattr("time.time", lambda: 1.7e9)
    made = sorted((made_run().id for _ in range(45)), reverse=True)
    assert [run.id for run in Experiment(workspace, "iris").get_runs()] == made
    assert [row.id for row in query.each_run(workspace.folder)] == made


def test_runs_of_a_compute_target(workspace: Workspace, made_run: MakeRun) -> None:
    workspace.folder.config.write_text("compute:\n  night: {backend: local}\n")
    workspace = Workspace(workspace.root)
    night = ComputeTarget(workspace, "night")
    first, _, third = made_run(compute="night"), made_run(), made_run(compute="night", experiment="other", status="Failed")
    assert [run.id for run in Run.list_by_compute(night)] == [third.id, first.id]
    assert [run.id for run in Run.list_by_compute(night, status="Failed")] == [third.id]
    assert [run.experiment.name for run in Run.list_by_compute(night)] == ["other", "iris"]
    assert list(night.get_active_runs()) == []
    going = made_run(compute="night", status="Running", kind="interactive")
    assert [run.id for run in night.get_active_runs()] == [going.id]


def test_types(workspace: Workspace, made_run: MakeRun) -> None:
    plain, torch = made_run(), made_run(framework="pytorch")
    iris = Experiment(workspace, "iris")
    assert [run.id for run in iris.get_runs(type="azureml.scriptrun")] == [torch.id, plain.id]
    assert [run.id for run in iris.get_runs(type="pytorch")] == [torch.id]
    with iris.start_logging(snapshot_directory=None) as own:
        pass
    assert [run.id for run in iris.get_runs(type="azureml.interactiverun")] == [own.id]


def test_filters_that_can_not_be_meant_are_refused(workspace: Workspace) -> None:
    """A list would be read as nothing."""
    listed: Any = ["kind", "test"]
    for name in ("tags", "properties"):
        with pytest.raises(SpecError, match=rf"^{name} must be a dict or a name, not \['kind', 'test'\]"):
            list(Experiment(workspace, "iris").get_runs(**{name: listed}))


def test_azures_keywords_of_submit(workspace: Workspace, project: Path) -> None:
    """Are told before anything is submitted; those that nobody knows are refused with the nearest."""
    iris, estimator = Experiment(workspace, "iris"), Estimator(".", compute_target="local", entry_script="none.py")
    with pytest.warns(OffAzureWarning) as caught, pytest.raises(SpecError, match=r"entry script 'none\.py'"):
        iris.submit(estimator, show_output=True)
    assert str(caught[0].message) == "Experiment.submit: no effect here: show_output (run.wait_for_completion(show_output=True))"
    assert caught[0].filename == __file__
    submit: Any = iris.submit
    with pytest.raises(SpecError, match=r"Experiment\.submit has no keyword 'tagss'") as error:
        submit(estimator, tagss={})
    assert error.value.hint == "did you mean 'tags'?"


def test_a_type_with_a_class_of_its_own(workspace: Workspace, made_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plugin adds: runs of its framework are opened as its class, wherever they are asked for."""
    monkeypatch.setattr("hpcest.sdk.run._PROVIDERS", {})

    class Sweep(Run):
        """Such a class."""

    Run.add_type_provider("sweep", Sweep)
    made_run()
    sweep = made_run(framework="sweep")
    iris = Experiment(workspace, "iris")
    assert [type(run) for run in iris.get_runs()] == [Sweep, Run]
    assert type(Run.get(workspace, sweep.id)) is type(get_run(iris, sweep.id)) is type(workspace.get_run(sweep.id)) is Sweep


def test_numbers_count_the_runs_of_an_experiment(workspace: Workspace, made_run: MakeRun) -> None:
    first, other, second = made_run(), made_run(experiment="mnist"), made_run()
    assert (first.number, other.number, second.number) == (1, 1, 2)


def test_get_run(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run()
    iris = Experiment(workspace, "iris")
    assert get_run(iris, run.id, rehydrate=True, clean_up=False).id == run.id
    with pytest.raises(UnknownNameError):
        get_run(Experiment(workspace, "mnist"), run.id)


# ---------------------------------------------------------------------- children that are submitted
def test_a_child_can_be_submitted(workspace: Workspace, project: Path) -> None:
    """It is a run as any other, below the one that submitted it, and not in the plain listing."""
    iris = Experiment(workspace, "iris")
    with iris.start_logging(snapshot_directory=None) as run:
        child = run.submit_child(Estimator(".", entry_script="train.py"), tags={"fold": "1"}, say=lambda line: None)
        child.wait_for_completion()
    assert child.parent is not None
    assert (child.parent.id, child.get_status(), child.get_tags()) == (run.id, "Completed", {"fold": "1"})
    assert [one.id for one in run.get_children()] == [one.id for one in run.get_children(type="script")] == [child.id]
    assert [one.id for one in iris.get_runs()] == [run.id]
    assert {one.id for one in iris.get_runs(include_children=True)} == {run.id, child.id}


def test_a_program_submits_children(workspace: Workspace, project: Path) -> None:
    """From inside a run, in an interpreter that has hpcest."""
    (project / "child.py").write_text("from hpcest import Run\nRun.get_context().log('x', 2)\n")
    (project / "train.py").write_text(
        "from hpcest import Estimator, Run\nrun = Run.get_context()\n"
        "child = run.submit_child(Estimator('.', entry_script='child.py'), say=lambda line: None)\n"
        "open('outputs/child', 'w').write(child.id)\n"
    )
    run = Experiment(workspace, "iris").submit(Estimator(".", entry_script="train.py"), say=lambda line: None)
    run.wait_for_completion()
    (child,) = run.get_children()
    child.wait_for_completion()
    assert Path(run.folder, "outputs/child").read_text() == child.id
    assert run.get_metrics(recursive=True) == {run.id: {}, child.id: {"x": 2}}


def test_a_thousand_tags(workspace: Workspace, made_run: MakeRun) -> None:
    run = made_run()
    run.set_tags({f"tag {number}": number for number in range(1000)})
    assert len(run.get_tags()) == 1000
    (found,) = run.experiment.get_runs(tags={"tag 999": "999"})
    assert found.id == run.id
    run.remove_tags([f"tag {number}" for number in range(999)])
    assert run.get_tags() == {"tag 999": "999"}


def test_details_have_all_of_azures_keys(workspace: Workspace, project: Path) -> None:
    spec = Estimator(".", entry_script="train.py", script_params={"--lr": 0.1}, environment_variables={"A": "1"}).to_spec("iris", workspace)
    passage = Passage.of(workspace.context, spec, lambda line: None)
    record(passage)
    run = Run.get(workspace, passage.folder.id)
    definition = run.get_details()["runDefinition"]
    assert (definition["script"], definition["arguments"], definition["target"]) == ("train.py", ["--lr", "0.1"], "local")
    assert (definition["communicator"], definition["nodeCount"], definition["environmentVariables"]) == ("None", 1, {"A": "1"})
    assert run.get_details()["properties"]["_azureml.ComputeTargetType"] == "local"
    run.cancel()


def test_submitted_children_go_to_the_trash_with_their_parent(workspace: Workspace, made_run: MakeRun) -> None:
    """Nobody would find them in a listing otherwise; while one goes on, nothing is moved."""
    parent = made_run()
    child = made_run(parent=parent.id)
    going = Experiment(workspace, "iris").start_logging(snapshot_directory=None)
    for one in (child, going):
        parent._writer.event("child", id=one.id)
    header = workspace.folder.run(going.id).header
    header.write_text(header.read_text().replace('"experiment": "iris"', f'"experiment": "iris", "parent": "{parent.id}"'))
    with pytest.raises(UsageError, match=f"run {going.id} is Running"):
        trash.put(workspace.context, workspace.folder.run(parent.id))
    assert len(os.listdir(workspace.folder.runs)) == 3
    going.complete()
    trash.put(workspace.context, workspace.folder.run(parent.id))
    assert os.listdir(workspace.folder.runs) == []
    trash.restore(workspace.folder, parent.id)
    assert len(list(Run.get(workspace, parent.id).get_children())) == 2


def test_runs_are_found_by_the_commit_that_they_were_submitted_from(workspace: Workspace, project: Path) -> None:
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    iris = Experiment(workspace, "iris")
    run = iris.submit(Estimator(".", entry_script="train.py"), say=lambda line: None)
    run.wait_for_completion()
    for name in ("azureml.git.commit", "mlflow.source.git.commit"):
        assert [found.id for found in iris.get_runs(properties={name: commit})] == [run.id]
    assert run.get_details()["properties"]["azureml.git.dirty"] == "False"
