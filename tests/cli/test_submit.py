"""``hpcest submit``: what is named and what is chosen becomes a plan that can be printed, or a run that goes on alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcest.model.folders import WorkspaceFolder

Hpcest = Callable[..., Any]
WaitUntil = Callable[..., None]


def spec_of(hpcest: Hpcest, *words: object) -> dict[str, Any]:
    """The spec that a dry run prints, without what depends on the file system."""
    done = hpcest("submit", "--dry-run", "--json", *words)
    assert done.code == 0, done.err
    spec: dict[str, Any] = done.json["spec"]
    del spec["snapshot"]
    return spec


def test_every_option_reaches_the_spec(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    (workspace.root / "data").mkdir()
    workspace.config.write_text("compute:\n  night: {backend: local, queue: night}\n")
    spec = spec_of(
        hpcest, "hello.py", "-c", "night", "-e", "iris", "--name", "a b", "-n", 2, "-p", 3, "--cpus", 4, "--gpus", 1, "--mem", "1.5G",
        "--time", "90", "--framework", "script", "--distribution", "mpi", "--env", "host", "--input", "data=data", "--input", "n=3",
        "--env-var", "A=1=2", "--env-var", "MY_TOKEN=secret", "--tag", "kind=x", "--set", "description=why", "--set", "tags.number=010",
        "--", "--lr", "0.1", "-x", "",
    )  # fmt: skip
    assert spec == {
        "experiment": "iris",
        "command": {"script": "hello.py", "arguments": ["--lr", "0.1", "-x", ""]},
        "compute": "night",
        "display_name": "a b",
        "description": "why",
        "source": str(workspace.root),
        "environment": {"kind": "host"},
        "environment_variables": {"A": "1=2", "MY_TOKEN": "***"},
        "resources": {"nodes": 2, "procs_per_node": 3, "cpus": 4, "gpus": 1, "memory": 1536, "time": 5400},
        "distribution": {},
        "inputs": {"data": str(workspace.root / "data"), "n": "3"},
        "tags": {"kind": "x", "number": "010"},
    }


def test_packages_and_files_of_them(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    """An environment that can't be given here is refused before anything is made."""
    (workspace.root / "env.yml").write_text("dependencies: [numpy, {pip: [scipy]}]\n")
    done = hpcest("submit", "hello.py", "--env", "env.yml", "--pip", "a", "--conda", "b", "--image", "c", "--dry-run")
    assert done.code == 2
    assert done.error.startswith("no environment here can give conda packages, an image, pip packages: host does not take")
    done = hpcest("submit", "hello.py", "--env", "host", "--pip", "a", "--dry-run")
    assert (done.code, done.error.splitlines()[0]) == (2, "environment kind 'host' can't give pip packages")


def test_what_can_be_named(hpcest: Hpcest, workspace: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script below the current directory is submitted with all of it, another with its own folder; a job file, a folder."""
    other, below = tmp_path / "other", workspace.root / "sub/deep"
    for folder in (other, below):
        folder.mkdir(parents=True)
        (folder / "job.py").write_text("print()\n")
        (folder / "hpcest.yaml").write_text("script: job.py\nexperiment_name: from the file\ntags: {a: '1', b: '2'}\narguments: [--x]\n")
    host = {"environment": {"kind": "host"}}
    here = {**host, "command": {"script": "sub/deep/job.py"}, "source": str(workspace.root), "experiment": workspace.root.name}
    assert spec_of(hpcest, below / "job.py") == spec_of(hpcest, "sub/deep/job.py") == here
    away = {**host, "command": {"script": "job.py"}, "source": str(other), "experiment": "other"}
    assert spec_of(hpcest, other / "job.py") == spec_of(hpcest, "../other/job.py") == away
    assert spec_of(hpcest, "sub/deep/job.py", "--source", "sub") == {
        **host, "command": {"script": "deep/job.py"}, "source": str(workspace.root / "sub"), "experiment": "sub",
    }  # fmt: skip
    arguments = {"script": "job.py", "arguments": ["--x"]}
    job = {**host, "experiment": "from the file", "command": arguments, "source": str(other), "tags": {"a": "1", "b": "2"}}
    assert spec_of(hpcest, other) == spec_of(hpcest, "../other/hpcest.yaml") == job
    assert spec_of(hpcest, other, "--tag", "b=3", "--tag", "c=", "-e", "mine", "--", "--y") == {
        **job, "experiment": "mine", "command": {"script": "job.py", "arguments": ["--x", "--y"]}, "tags": {"a": "1", "b": "3", "c": ""},
    }  # fmt: skip
    monkeypatch.chdir(below)
    assert spec_of(hpcest, "../../hello.py")["source"] == str(workspace.root)


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["helo.py"], "there is no file or folder 'helo.py'\nHint: did you mean 'hello.py'?", 2),
        (["none/x.py"], "there is no file or folder 'none/x.py'\nHint: a path is relative to the current directory", 2),
        (["empty"], "the folder 'empty' has no hpcest.yaml\nHint: name a script: hpcest submit empty/train.py", 2),
        (["hello.py", "--source", "empty"], "is not in the source directory 'empty'", 2),
        (["hello.py", "-c", "gpu"], "compute target 'gpu' is not known\nHint: known: local; or define it: compute: {gpu: {", 2),
        (["hello.py", "--framework", "scirpt"], "framework 'scirpt' is not known\nHint: did you mean 'script'?", 2),
        (["hello.py", "--env", "hsot"], "environment 'hsot' is not known\nHint: did you mean 'host'?", 2),
        (["hello.py", "--env", "req.txt"], "there is no environment file 'req.txt'", 2),
        (["hello.py", "--mem", "lots"], "memory 'lots' can't be read", 2),
        (["hello.py", "--time", "soon"], "time 'soon' can't be read", 2),
        (["hello.py", "--set", "resources.node=2"], "key in resources 'node' is not known\nHint: did you mean 'nodes'?", 2),
        (["hello.py", "--set", "resources.nodes=two"], "resources.nodes must be a whole number, not 'two'", 2),
        (["hello.py", "--set", "command.script.x=1"], "--set command.script.x: 'script' has no fields", 2),
        (["hello.py", "--set", "tags=[a"], "--set tags:1: ", 2),
        (["hello.py", "--set", "x"], "Invalid value for --set: 'x' is not NAME=VALUE", 2),
        (["hello.py", "--tag", "=x"], "Invalid value for --tag: '=x' is not NAME=VALUE", 2),
        (["hello.py", "--input", "x"], "Invalid value for --input: 'x' is not NAME=VALUE", 2),
        (["hello.py", "--env-var", "x"], "Invalid value for --env-var: 'x' is not NAME=VALUE", 2),
        (["job.yaml", "--", "x"], "arguments after -- go with a script; this job has a command line", 2),
        (["bad.yaml"], "bad.yaml:1: key 'comand' is not known\nHint: did you mean 'command'?", 2),
        (["hello.py", "-e", "a\nb"], "the experiment name 'a\\nb' can't be used", 2),
        (["hello.py", "--distribution", "mpy"], "the framework 'script' can't do the distribution 'mpy'", 2),
    ],
)
def test_what_can_not_be_submitted_leaves_no_run(
    words: list[str], said: str, code: int, hpcest: Hpcest, workspace: WorkspaceFolder
) -> None:
    (workspace.root / "empty").mkdir()
    (workspace.root / "job.yaml").write_text("command: echo\n")
    (workspace.root / "bad.yaml").write_text("comand: echo\n")
    done = hpcest("submit", *words)
    assert (done.out, done.code) == ("", code)
    assert said in done.error
    assert os.listdir(workspace.runs) == []


def test_the_host_takes_the_place_of_a_job_files_environment(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    """A published file asks for an image that nobody has here; its variables stay."""
    asked = "{image: 'docker://python:3.11', conda_file: {dependencies: [numpy]}, interpreter: '3', variables: {A: '1'}}"
    (workspace.root / "job.yaml").write_text(f"script: hello.py\nenvironment: {asked}\n")
    spec = hpcest("submit", "job.yaml", "--env", "host", "--dry-run", "--json").json["spec"]
    assert spec["environment"] == {"kind": "host", "interpreter": "3", "variables": {"A": "1"}}
    done = hpcest("submit", "job.yaml", "--env", "venv", "--dry-run")
    assert "environment kind 'venv' can't give conda packages" in done.error


def test_a_dry_run_records_nothing(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    (workspace.root / "job.yaml").write_text("script: hello.py\nservices: {}\nenvironment_variables: {API_KEY: hunter2, A: '1'}\n")
    done = hpcest("submit", "job.yaml", "--dry-run", "-n", 2, "--set", "command.arguments=['a b', $RANK]")
    names = [line[:12].strip() for line in done.out.splitlines()]
    assert [name for name in names if name] == [
        "experiment", "compute", "environment", "program", "ranks", "source", "snapshot", "variables", "options",
    ]  # fmt: skip
    shown = dict(re.findall(r"^(\w+) +(.*)$", done.out, re.MULTILINE))
    assert (shown["compute"], shown["ranks"]) == ("local (local)", "2 nodes with 1 process each, started per process")
    assert shown["program"].endswith(" hello.py 'a b' '$RANK'")
    assert "\n             API_KEY=***\n" in done.out
    assert "hunter2" not in done.out + done.err
    assert "warning: job.yaml:2: services has no effect off Azure: hpcest opens no services" in done.err
    done = hpcest("submit", "job.yaml", "--dry-run", "--json")
    assert set(done.json) == {"spec", "plan"}
    assert set(done.json["plan"]) == {"run_id", "compute", "backend", "launch", "options", "environment"}
    assert done.json["spec"]["environment_variables"] == {"API_KEY": "***", "A": "1"}
    assert "hunter2" not in done.out
    assert os.listdir(workspace.runs) == []
    assert hpcest("runs", "--json").json == []


def test_detached_by_default(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    """Stdout is the id alone, so that a shell can keep it."""
    done = hpcest("submit", "hello.py")
    assert (done.code, len(done.out)) == (0, 9)
    run_id = done.out.strip()
    assert done.err.endswith(f"see it: hpcest logs -f {run_id}\n")
    followed = hpcest("logs", "-f", run_id)
    assert (followed.out, followed.code) == ("hello\n", 0)
    done = hpcest("submit", "hello.py", "--json")
    assert done.json == {"id": done.json["id"], "folder": str(workspace.run(done.json["id"]).path), "experiment": workspace.root.name}
    assert hpcest("wait", done.json["id"]).code == 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_following_returns_the_runs_code(code: str, expected: int, hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    (workspace.root / "it.py").write_text(f"print('said', flush=True)\n{code}\n")
    done = hpcest("submit", "it.py", "-f")
    assert (done.code, done.out) == (expected, "said\n")
    run_id = re.search(r"^run (\w+)$", done.err, re.MULTILINE)
    assert run_id is not None
    assert (hpcest("wait", run_id[1]).code, hpcest("logs", "-f", run_id[1]).code) == (expected, expected)
    (status,) = (row["status"] for row in hpcest("runs", "--json").json)
    assert f"\n{run_id[1]}: {status}" in done.err


def test_following_with_json_prints_one_document_at_the_end(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    done = hpcest("submit", "hello.py", "-f", "--json")
    assert (done.code, done.json["status"], done.json["artifacts"]) == (
        0,
        "Completed",
        ["system_logs/controller.log", "user_logs/std_log.txt"],
    )
    assert "\nhello\n" in done.err
    assert set(done.json) == set(hpcest("show", done.json["id"], "--json").json)


def test_several_ranks_are_told_apart(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    (workspace.root / "it.py").write_text("import os; print('rank', os.environ['RANK'], flush=True)\n")
    done = hpcest("submit", "it.py", "-p", 2, "-f")
    assert sorted(done.out.splitlines()) == ["[0] rank 0", "[1] rank 1"]
    assert hpcest("logs", "@latest").out == "[0] rank 0\n[1] rank 1\n"
    assert hpcest("logs", "@latest", "--rank", 1).out == "rank 1\n"
    wrong = hpcest("logs", "@latest", "--rank", 7)
    assert (wrong.code, wrong.out) == (2, "")
    assert "has no log of rank 7; it has 0, 1" in wrong.err


def test_ctrl_c_detaches(hpcest: Hpcest, workspace: WorkspaceFolder, wait_until: WaitUntil) -> None:
    """The run goes on, and the way back is said."""
    go_on = workspace.root / "go on"
    (workspace.root / "it.py").write_text(
        f"import os, time\nprint('on', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.02)\n"
    )
    command = [sys.executable, "-m", "hpcest", "submit", "it.py", "-f"]
    with subprocess.Popen(command, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    (row,) = hpcest("runs", "--json").json
    assert process.returncode == 130
    assert err.endswith(f"detached; the run goes on. Come back with: hpcest logs -f {row['id']}; end it with: hpcest cancel {row['id']}\n")
    assert row["status"] == "Running"
    go_on.touch()
    assert hpcest("wait", row["id"]).code == 0


def test_rerun(hpcest: Hpcest, workspace: WorkspaceFolder) -> None:
    """As it was, whatever the source is now; the new ids are on stdout."""
    done = hpcest("submit", "hello.py", "-f", "--env-var", "API_TOKEN=secret", "--tag", "a=1", "--", "--lr", "1")
    first = hpcest("runs", "--json").json[0]["id"]
    (workspace.root / "hello.py").write_text("print('changed')\n")
    refused = hpcest("rerun", first)
    assert (refused.code, refused.out, refused.error.partition("\n")[0]) == (
        2, "", "the value of API_TOKEN was not recorded, because it is a secret",
    )  # fmt: skip
    again = hpcest("rerun", first, "--env-var", "API_TOKEN=x", "--set", "resources.time=60", "-f")
    assert (again.code, again.out) == (0, "hello\n")
    second = re.findall(r"^run (\w+)$", again.err, re.MULTILINE)[0]
    known = hpcest("show", second, "--json").json
    assert (known["properties"], known["tags"]) == ({"hpcest.rerun_of": first}, {"a": "1"})
    assert known["spec"]["command"]["arguments"] == ["--lr", "1"]
    assert known["spec"]["resources"] == {"time": 60}
    both = hpcest("rerun", second, second, "--env-var", "API_TOKEN=x", "--json")
    assert [one["rerun_of"] for one in both.json] == [second, second]
    assert hpcest("wait", *[one["id"] for one in both.json]).code == 0
    unknown = hpcest("rerun", second, "zzzz", "--env-var", "API_TOKEN=x")
    assert (unknown.code, unknown.out) == (2, "")
    assert len(hpcest("runs", "--json").json) == 4
    assert "secret" not in json.dumps(known)
    assert "secret" not in done.out
