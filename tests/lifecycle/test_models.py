"""Models that a program registers in an environment without hpcest: they are in the registry, once, whatever went wrong meanwhile."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.lifecycle import collect
from hpcest.lifecycle.context import Context
from hpcest.lifecycle.watch import look_at

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

TRAIN = """
import os
from hpcest.onnode.run import Run  # what an environment without hpcest has
open("outputs/model.bin", "w").write("weights")
registry = os.path.join(os.environ["HPCEST_RUN_DIR"], "..", "..", "models")
"""
REGISTER = "print(Run.get_context().register_model('net', 'outputs/model.bin', tags={'a': 1}, model_framework='own'))\n"


def registered(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(site.cli("models", "list", "--json").ok().out)
    return found


def test_a_program_registers_its_model(site: Site) -> None:
    """There and then, and collecting the run makes no second one, nor brings a deleted one back."""
    known = site.ended(run := site.submit(TRAIN + REGISTER))
    assert (known["status"], known["models"]) == ("Completed", ["net:1"])
    assert site.cli("logs", run.id).ok().out == "Model(name='net', version=1)\n"
    (model,) = registered(site)
    assert (model["run_id"], model["tags"], model["framework"]) == (run.id, {"a": "1"}, "own")
    assert model["lineage"]["snapshot"] == known["spec"]["snapshot"] != ""


def test_what_could_not_be_registered_is_when_the_run_is_collected(site: Site) -> None:
    """So it is also where the program's machine has no workspace, or the program is killed in the middle."""
    busy = TRAIN + "os.rmdir(registry)\nopen(registry, 'w').close()\n" + REGISTER + "os.unlink(registry)\n"
    known = site.ended(run := site.submit(busy))
    assert (known["status"], known["models"]) == ("Completed", ["net:1"])
    assert "can't be registered" in (log := site.cli("logs", run.id).ok().out)
    assert "Model(name='net', version=0)" in log
    (model,) = registered(site)
    assert (model["run_id"], model["tags"], model["framework"]) == (run.id, {"a": "1"}, "own")


ODD = """
import json
from hpcest.onnode.run import Run
open("outputs/model.bin", "w").write("weights")
with open(os.environ["HPCEST_EVENTS"], "a") as events:
    for number, facts in enumerate([
        {"name": "net", "path": "../run.json"}, {"name": "../net", "path": "outputs", "tags": 5}, {"name": 5, "path": "outputs"},
        {"path": "outputs"}, {"name": "net", "path": 7}, {"name": "net", "path": "outputs", "datasets": 3}, [], None,
        {"name": "good", "path": "outputs", "tags": {"n": 1}, "file": "../..", "version": 9, "run_id": "other", "description": None},
    ]):
        events.write(json.dumps({"t": 1.0, "e": "model", "k": str(number), "v": facts}) + "\\n")
"""


def test_any_language_can_ask_and_odd_words_hurt_nobody(site: Site) -> None:
    """What is wrong is said, the rest registered; nothing leaves the run or the registry."""
    run = site.submit("import os\n" + ODD)
    said = site.wait(run)
    assert said.err.count("was not registered") == 6, said
    (model,) = registered(site)
    assert (model["id"], model["run_id"], model["tags"], model["description"]) == ("good:1", run.id, {"n": "1"}, "")


def test_what_has_gone_by_then_is_said(site: Site) -> None:
    gone = TRAIN + "os.rmdir(registry)\nopen(registry, 'w').close()\n" + REGISTER + "os.unlink(registry)\nos.unlink('outputs/model.bin')\n"
    run = site.submit(gone)
    said = site.wait(run)
    assert said.code == 0
    assert f"run {run.id}: the model 'net' was not registered: the run has no file 'outputs/model.bin'" in said.err
    assert registered(site) == []


def test_a_large_model_is_not_taken_for_one_that_nobody_copies(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying may take longer than anybody waits for who collects a run; others see that it goes on."""
    run = site.submit("pass\n")
    while not run.sentinel(0).exists():
        time.sleep(0.05)
    calls = []

    def slowly(*_: object) -> list[str]:
        calls.append(time.time())
        time.sleep(2.0)
        return []

    monkeypatch.setattr(collect, "PATIENCE_S", 0.6)
    monkeypatch.setattr("hpcest.lifecycle.models.register_models", slowly)

    def collected() -> None:
        context = Context(site.workspace)
        collect.collect(context, look_at(context, run))

    first = threading.Thread(target=collected)
    first.start()
    time.sleep(1.4)
    collected()
    first.join()
    assert len(calls) == 1
