"""Many runs submitted together on this machine: each is an ordinary run, and the record says once what became of it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.errors import SpecError
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.together import indexed, submit_together
from hpcest.lifecycle.watch import look_at
from hpcest.model.folders import RunFolder
from hpcest.model.spec import Command, Resources, RunSpec

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
PRINT_INDEX = "import os\nprint(os.environ['HPCEST_ARRAY_INDEX'], os.environ.get('API_TOKEN'))\n"
#: An environment that can't be built, and a listener that stops the run with an index, or cancels it.
PLUGIN = """
import hpcest, os
from hpcest.contracts import Environment
from hpcest.errors import EnvironmentBuildError

class Broken(Environment):
    name = "broken"
    def prepare(self, spec, workspace, say):
        raise EnvironmentBuildError("no compiler today")
    def activate(self, *given):
        raise AssertionError("there is nothing to activate")

@hpcest.hookimpl
def hpcest_register_environments():
    return [Broken]

@hpcest.hookimpl
def hpcest_before_submit(run, plan):
    how, _, index = os.environ.get("STOP", "").partition(":")
    if plan.launch["variables"]["HPCEST_ARRAY_INDEX"] == index:
        if how == "refuse":
            raise ValueError("not on a Friday")
        run.cancel.touch()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``PLUGIN``, installed as far as every process of this test can tell."""
    folder = tmp_path / "installed"
    (folder / "stopper-1.dist-info").mkdir(parents=True)
    (folder / "stopper.py").write_text(PLUGIN)
    (folder / "stopper-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stopper\nVersion: 1\n")
    (folder / "stopper-1.dist-info" / "entry_points.txt").write_text("[hpcest]\nstopper = stopper\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))


def ends(run: RunFolder) -> list[tuple[str, str, str]]:
    """Each end that the record tells: status, reason, message."""
    lines = [json.loads(line) for path in run.events.iterdir() for line in path.read_text().splitlines()]
    told = [line for line in lines if line["e"] == "status" and line["v"] in ("Completed", "Failed", "Canceled")]
    return [(line["v"], line.get("r", ""), line.get("m", "")) for line in told]


def ends_by_index(site: Site) -> dict[str, list[tuple[str, str, str]]]:
    """The same of all runs, by their index in the array."""
    shown = {row["id"]: site.show(site.run(row["id"])) for row in site.runs()}
    return {one["spec"]["environment_variables"]["HPCEST_ARRAY_INDEX"]: ends(site.run(run_id)) for run_id, one in shown.items()}


# ------------------------------------------------------------------ which runs


@pytest.mark.parametrize(
    ("text", "indexes", "at_once"),
    [
        ("0-3", [0, 1, 2, 3], None),
        ("7", [7], None),
        ("1,3,5-20:5", [1, 3, 5, 10, 15, 20], None),
        ("4, 2-3", [4, 2, 3], None),
        ("2-4,3", [2, 3, 4], None),
        ("0-99%10", [*range(100)], 10),
        ("5-5", [5], None),
    ],
)
def test_indexes_are_read_as_sbatch_reads_them(text: str, indexes: list[int], at_once: int | None) -> None:
    """In the order in which they are written, each once."""
    spec = RunSpec("e", Command("train.py"), environment_variables={"A": "1"}, tags={"t": "u"})
    specs, found = indexed(spec, text)
    assert [one.environment_variables for one in specs] == [{"A": "1", "HPCEST_ARRAY_INDEX": str(index)} for index in indexes]
    assert {(one.experiment, one.command, *one.tags) for one in specs} == {("e", Command("train.py"), "t")}
    assert found == at_once


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1,,2", "0-9%", "0-9%0", "0-9%x", "0-9:", "1 2", "9-0", "0-9:0", "%3"])
def test_what_is_no_array_is_refused(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        indexed(RunSpec("e", Command("train.py")), text)
    assert repr(text) in caught.value.message
    assert caught.value.hint == "write it as sbatch does: 0-9, 1,3,5-20:5 or 0-99%10"


# ------------------------------------------------------------------ that run


def test_each_is_an_ordinary_run(site: Site) -> None:
    """With its own index, log, manifest and secrets; what they share is there once."""
    site.write(PRINT_INDEX)
    done = site.cli("submit", "train.py", "--array", "3,5-9:2", "--env-var", "API_TOKEN=hush").ok()
    runs = [site.run(line) for line in done.out.split()]
    site.wait(*runs).ok()

    assert [run.rank_log(0).read_text() for run in runs] == [f"{index} hush\n" for index in (3, 5, 7, 9)]
    assert [ends(run) for run in runs] == [[("Completed", "", "")]] * 4
    launches = [json.loads(run.launch.read_text()) for run in runs]
    assert [(launch["run"], launch["folder"]) for launch in launches] == [(run.id, str(run.path)) for run in runs]
    assert [stat.S_IMODE(run.launch.stat().st_mode) for run in runs] == [0o600] * 4
    assert [file for run in runs for file in run.path.rglob("*") if file.is_file() and b"API_TOKEN=hush" in file.read_bytes()] == []
    assert len(list(site.workspace.manifests.iterdir())) == 1
    assert done.err.count("snapshot ") == 1
    assert {row["id"] for row in site.runs()} == {run.id for run in runs}


def test_runs_of_different_shapes_may_go_together(site: Site, wait_until: Wait) -> None:
    """Each has what its own spec asks for, in the order in which they were given."""
    (site.source / "one.py").write_text("print('one')\n")
    (site.source / "two.py").write_text("import os\nprint('two', os.environ['WORLD_SIZE'])\n")
    one = RunSpec("e", Command("one.py"), source=str(site.source))
    two = RunSpec("e", Command("two.py"), source=str(site.source), resources=Resources(procs_per_node=2))
    context = Context(site.workspace)
    passages = submit_together(context, [one, two, one], lambda line: None, at_once=1)
    wait_until(lambda: all(look_at(context, passage.folder).finished for passage in passages))

    logs = [passage.folder.rank_log(0, ranks=passage.spec.ranks).read_text() for passage in passages]
    assert logs == ["one\n", "two 2\n", "one\n"]
    assert [passage.job["id"] for passage in passages] == [passage.folder.id for passage in passages]
    assert len({passage.folder.id for passage in passages}) == 3


def test_nothing_is_recorded_where_one_of_them_is_refused_before(site: Site) -> None:
    (site.source / "one.py").write_text("")
    specs = [RunSpec("e", Command(name), source=str(site.source)) for name in ("one.py", "none.py")]
    for refused, message in ((specs, "none.py"), ([], "nothing to submit")):
        with pytest.raises(SpecError, match=message):
            submit_together(Context(site.workspace), refused, lambda line: None)
    site.nothing_is_left()


# ------------------------------------------------------------------ that fail


def test_an_environment_that_can_not_be_built(site: Site, plugin: None) -> None:
    """One run has failed to build it, which nothing later in its record denies; the others were not submitted."""
    site.write(PRINT_INDEX)
    refusal = site.cli("submit", "train.py", "--array", "0-2", "--env", "broken").refusal

    assert "no compiler today" in refusal
    other = [("Failed", "LaunchFailed", "not submitted: no compiler today")]
    assert ends_by_index(site) == {"0": [("Failed", "BuildFailed", "no compiler today")], "1": other, "2": other}


@pytest.mark.parametrize(
    ("how", "end", "why"),
    [
        ("refuse", ("Failed", "LaunchFailed", "a plugin refused the run: not on a Friday"), "a plugin refused the run: not on a Friday"),
        ("cancel", ("Canceled", "", "canceled while it was prepared"), "run {id} was canceled while it was prepared"),
    ],
)
def test_one_that_may_not_be_handed_over(site: Site, plugin: None, how: str, end: tuple[str, str, str], why: str) -> None:
    """None of them is; the record of each says once why."""
    site.write(PRINT_INDEX)
    assert site.cli("submit", "train.py", "--array", "0-2", env={"STOP": f"{how}:1"}).refusal
    found = ends_by_index(site)

    (stopped,) = [row["id"] for row in site.runs() if ends(site.run(row["id"])) == [end]]
    other = [("Failed", "LaunchFailed", f"not submitted: {why.format(id=stopped)}")]
    assert found == {"0": other, "1": [end], "2": other}
    assert list(site.workspace.runs.glob("*/user_logs/*")) == []
