"""Canceling at any stage of a run's life, and backends of strangers: refusing, failing, gone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
GATED = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists({gate!r}): time.sleep(0.02)\n"


def test_cancel_while_it_waits(site: Site, tmp_path: Path) -> None:
    """It never runs; a second cancel, or one of a run that has ended, changes nothing."""
    site.configure("compute: {local: {slots: 1}}\n")
    gate = tmp_path / "gate"
    first = site.submit(GATED.format(gate=str(gate)))
    second = site.submit(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for _ in range(2):
        assert f"{second.id}: Canceled" in site.cli("cancel", second.id).ok().err
    gate.touch()
    site.wait(first).ok()
    assert f"{first.id}: Completed" in site.cli("cancel", first.id).ok().err

    assert site.wait(second).code == 1
    assert [site.show(run)["status"] for run in (first, second)] == ["Completed", "Canceled"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_cancel_while_it_runs(site: Site, tmp_path: Path, times: int, wait_until: Wait) -> None:
    """The program may save its work, once; the run is canceled."""
    run = site.submit(
        "import signal, sys, time\n"
        "def save(*_):\n    open('outputs/saved', 'a').write('x'); time.sleep(0.5); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    wait_until(lambda: run.rank_log(0).exists() and run.rank_log(0).read_text())
    for _ in range(times):
        assert "CancelRequested" in site.cli("cancel", run.id).ok().err
    known = site.ended(run)

    assert (known["status"], known["reason"], known["message"]) == ("Canceled", "", "canceled on request")
    assert (run.outputs / "saved").read_text() == "x"
    assert site.wait(run).code == 1


def test_cancel_at_any_moment(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """Right after it is submitted, started, claimed: a run that is canceled ends as such, or had ended before."""
    for moment in range(8):
        run = site.submit("import time; time.sleep(60)\n")
        time.sleep(moment * 0.01)
        site.cli("cancel", run.id).ok()
        wait_until(lambda run=run: site.show(run)["status"] == "Canceled", seconds=15)


PLUGIN = """
import hpcest, os, time
from hpcest.contracts import Environment, Evidence, Lock
from hpcest.backends.local import Local
from hpcest.model.plan import Activation

class Slow(Environment):
    name = "slow"
    def prepare(self, spec, workspace, say):
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.02)
        return Lock("slow", "0" * 64)
    def activate(self, lock, workspace, spec):
        import sys
        return Activation(python=sys.executable)

class Mine(Local):
    name = "mine"
    def look(self, jobs):
        if os.environ.get("MINE") == "broken":
            raise RuntimeError("no answer from the queue")
        return super().look(jobs)

@hpcest.hookimpl
def hpcest_register_environments():
    return [Slow]

@hpcest.hookimpl
def hpcest_register_backends():
    return [Mine]

@hpcest.hookimpl
def hpcest_before_submit(run, plan):
    if os.environ.get("MINE") == "refuses":
        raise ValueError("not on a Friday")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed plugin with a backend of its own, as far as every process of this test can tell."""
    folder = tmp_path / "installed"
    (folder / "mine-1.dist-info").mkdir(parents=True)
    (folder / "mine_plugin.py").write_text(PLUGIN)
    (folder / "mine-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (folder / "mine-1.dist-info" / "entry_points.txt").write_text("[hpcest]\nmine = mine_plugin\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("GATE", str(tmp_path / "gate"))
    return folder


def test_cancel_while_it_is_prepared(site: Site, plugin: Path, tmp_path: Path, wait_until: Wait) -> None:
    """The submitter stops before it hands the run over."""
    script = site.write("print('never')\n")
    submitter = site.start("submit", script, "--env", "slow", stderr=-1)
    wait_until(lambda: len(site.runs()) == 1)
    (row,) = site.runs()
    assert row["status"] == "Preparing"
    assert "CancelRequested" in site.cli("cancel", row["id"]).ok().err
    (tmp_path / "gate").touch()
    _, err = submitter.communicate(timeout=30)

    assert submitter.returncode == 1
    assert b"was canceled" in err
    assert b"Traceback" not in err
    run = site.run(row["id"])
    assert site.ended(run)["status"] == "Canceled"
    assert not run.rank_log(0).exists()


def test_a_plugin_that_refuses(site: Site, plugin: Path) -> None:
    site.write("print('never')\n")
    refusal = site.cli("submit", "train.py", env={"MINE": "refuses"}).refusal

    assert "not on a Friday" in refusal
    assert [(row["status"], row["reason"]) for row in site.runs()] == [("Failed", "LaunchFailed")]


def test_a_backend_that_is_gone(site: Site, plugin: Path, tmp_path: Path) -> None:
    """Its runs are listed and shown with what was known last; a finished one is whole, an unfinished one is not judged."""
    site.configure("compute: {special: {backend: mine}}\n")
    done = site.submit("print('done')\n", "-c", "special")
    site.wait(done).ok()
    (tmp_path / "gate").unlink(missing_ok=True)
    going = site.submit(GATED.format(gate=str(tmp_path / "gate")), "-c", "special")
    site.show(going)
    without = {"PYTHONPATH": os.environ["PYTHONPATH"].replace(str(plugin), "/nowhere")}

    for configuration in ("compute: {special: {backend: mine}}\n", ""):
        site.configure(configuration)
        rows = json.loads(site.cli("runs", "--json", env=without).ok().out)
        assert {row["id"]: row["status"] for row in rows if row["id"] == done.id} == {done.id: "Completed"}
        assert {row["status"] for row in rows if row["id"] == going.id} <= {"Queued", "Running"}
        assert "'mine' is not installed" in site.cli("show", going.id, env=without).ok().out
        refusal = site.cli("cancel", going.id, env=without).refusal
        assert "can't be told to end" in refusal
    (tmp_path / "gate").touch()
    site.configure("compute: {special: {backend: mine}}\n")
    assert site.ended(going)["status"] == "Completed"


def test_a_backend_that_fails(site: Site, plugin: Path, tmp_path: Path) -> None:
    """A listing does not depend on it."""
    site.configure("compute: {special: {backend: mine, slots: 2}, local: {slots: 2}}\n")
    going = site.submit(GATED.format(gate=str(tmp_path / "gate")), "-c", "special")
    other = site.submit("print('other')\n")
    site.wait(other).ok()

    rows = json.loads(site.cli("runs", "--json", env={"MINE": "broken"}).ok().out)
    assert {row["id"] for row in rows} == {going.id, other.id}
    assert "no answer from the queue" in site.cli("show", going.id, env={"MINE": "broken"}).ok().out
    (tmp_path / "gate").touch()
    site.wait(going).ok()
