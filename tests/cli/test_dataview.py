"""What a run reads and writes is shown: before it is submitted, and when it has ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]
MakeRun = Callable[..., Any]
JOB = """
command: python3 -c "import os; [open(os.environ['AZURE_ML_OUTPUT_' + name] + '/m', 'w').close() for name in ('model', 'best')]"
inputs:
  train: {type: uri_folder, path: 'azureml:digits:1', mode: download}
  test: {type: uri_file, path: {test}}
  rate: 0.1
outputs:
  model: {type: uri_folder, name: nets}
  best: {type: custom_model, name: best}
  plain: {type: uri_folder, path: {place}}
"""


def shown(out: str, word: str) -> list[str]:
    """The lines of one heading."""
    found = re.search(rf"^{word} +(.*(?:\n .*)*)", out, re.MULTILINE)
    return [line.strip() for line in found.group(1).splitlines()] if found else []


def test_inputs_and_outputs_of_a_run(hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path) -> None:
    """Where each is, how it is given, what it was, and what an output has become."""
    digits = tmp_path / "digits"
    digits.mkdir()
    for name in "ab":
        (digits / name).write_text("0" * 1500)
    assert hpcest("data", "register", "digits", digits).out == "digits:1\n"
    (tmp_path / "test.csv").write_text("x")
    text = JOB.replace("{test}", f"'{tmp_path}/test.csv'").replace("{place}", f"'{tmp_path}/{{run-id}}/x'")
    (workspace.root / "job.yaml").write_text(text.replace("{run-id}", "${{name}}"))

    plan = hpcest("submit", "job.yaml", "--dry-run")
    assert plan.code == 0, plan.err
    inputs = shown(plan.out, "inputs")
    assert sorted(re.sub("[0-9a-f]{12}$", "…", line) for line in inputs) == [
        "rate = 0.1",
        f"test = {tmp_path}/test.csv, mount, 1 file, 1 B, sha256:…",
        f"train = digits:1 ({digits}), download, 2 files, 3.0 kB, sha256:…",
    ]
    model, best, plain = shown(plan.out, "outputs")
    assert best == "best = outputs/best, mount, to be registered as the model best"
    assert model == "model = outputs/model, mount, to be registered as nets"
    assert re.fullmatch(rf"plain = {tmp_path}/.*/x, mount", plain)

    run = hpcest("submit", "job.yaml").out.strip()
    assert hpcest("wait", run).code == 0, hpcest("logs", run).out
    done = hpcest("show", run)
    assert shown(done.out, "inputs") == inputs
    model, best, plain = shown(done.out, "outputs")
    assert best.endswith("/best, mount, registered as the model best:1")
    place = workspace.run(run).outputs / "model"
    assert re.fullmatch(rf"model = {re.escape(str(place))}, mount, registered as nets:1, sha256:[0-9a-f]{{12}}", model)
    assert "hpcest.output" not in done.out
    known = hpcest("show", run, "--json").json
    train = known["inputs"]["train"]
    assert train.pop("digest").startswith("sha256:")
    assert train == {"dataset": "digits:1", "paths": [str(digits)], "mode": "download", "type": "uri_folder", "files": 2, "size": 3000}
    assert known["inputs"]["rate"] == {"value": "0.1"}
    assert (known["outputs"]["model"]["registered"], known["outputs"]["model"]["dataset"]) == ("nets:1", "nets")
    assert known["outputs"]["model"]["path"] == str(place)
    assert known["outputs"]["plain"]["registered"] == ""


def test_params_that_a_program_logged(hpcest: Hpcest, made_run: MakeRun) -> None:
    """Those of the command line stand in the command."""
    events = [{"e": "param", "k": "depth", "v": "3"}, {"e": "param", "k": "lr", "v": "9"}]
    folder = made_run(command={"script": "train.py", "arguments": ["--lr", "0.1"]}, events=events)
    done = hpcest("show", folder.id)
    assert shown(done.out, "params") == ["depth = 3"]
    assert hpcest("show", folder.id, "--json").json["params"] == {"depth": "3", "lr": "0.1"}


def test_a_damaged_record_is_shown_all_the_same(hpcest: Hpcest, made_run: MakeRun) -> None:
    data = {"a": {"paths": 7}, "b": "text", "c": {"paths": ["/x"], "unknown": 1}}
    folder = made_run(data=data, outputs=[1])
    done = hpcest("show", folder.id)
    assert done.code == 0
    assert shown(done.out, "outputs") == []
