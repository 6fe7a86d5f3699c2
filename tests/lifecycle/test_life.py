"""From a spec to a collected run, and all that a user does with it later, by the command and by the SDK."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest import Environment, Estimator, Experiment, Run, Workspace
from hpcest.errors import RunFailedError, UsageError
from hpcest.onnode.record import get_json

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
TRAIN = (
    "import sys\nfrom hpcest import Run\nrun = Run.get_context()\n"
    "for step in range(3): run.log('loss', 1 / (step + 1))\n"
    "open('outputs/model.txt', 'w').write('weights')\nprint('trained', *sys.argv[1:])\n"
)


def test_a_life(site: Site) -> None:
    """Submitted, waited for, listed, shown: what is recorded is what happened."""
    site.write(TRAIN)
    answer = site.cli("submit", "train.py", "-e", "trial", "--name", "first", "--tag", "a=b", "--", "--lr", "0.1").ok()
    run = site.run(answer.out.strip())
    assert site.wait(run).code == 0

    known = site.show(run)
    assert (known["status"], known["reason"], known["exit_code"], known["attempt"]) == ("Completed", "", 0, 0)
    assert known["created"] <= known["queued"] <= known["started"] <= known["ended"]
    assert known["metrics"] == {"loss": [1.0, 0.5, 1 / 3]}
    assert (known["display_name"], known["tags"]) == ("first", {"a": "b"})
    assert {"outputs/model.txt", "user_logs/std_log.txt", "system_logs/controller.log"} <= set(known["artifacts"])
    assert known["usage"]["elapsed_s"] > 0
    (row,) = site.runs()
    assert (row["id"], row["experiment"], row["status"], row["params"]) == (run.id, "trial", "Completed", {"lr": "0.1"})
    assert site.cli("logs", run.id).ok().out == "trained --lr 0.1\n"
    assert not run.work.exists()
    assert (run.controller_log).read_text() == ""


def test_the_same_from_python(site: Site, tmp_path: Path) -> None:
    """An estimator changed after it was submitted changes nothing of its run."""
    site.write(TRAIN)
    workspace = Workspace.from_config(site.source)
    estimator = Estimator(site.source, entry_script="train.py", script_params={"--lr": 0.1, "--fast": ""})
    run = Experiment(workspace, "trial").submit(estimator, tags={"a": "b"}, say=lambda line: None)
    estimator.script_params = {"--lr": 9}
    details = run.wait_for_completion()

    assert (details["status"], details["tags"]) == ("Completed", {"a": "b"})
    assert run.get_metrics() == {"loss": [1.0, 0.5, 1 / 3]}
    assert "trained --lr 0.1 --fast" in Path(details["logFiles"]["user_logs/std_log.txt"]).read_text()
    run.download_file("outputs/model.txt", tmp_path / "got.txt")
    assert (tmp_path / "got.txt").read_text() == "weights"
    assert Run.get(workspace, run.id[:6]).get_status() == "Completed"
    assert [one.id for one in Experiment(workspace, "trial").get_runs()] == [run.id]
    assert site.runs()[0]["id"] == run.id


def test_a_failure_from_python(site: Site) -> None:
    site.write("raise SystemExit(3)\n")
    run = Experiment(Workspace.from_config(site.source), "trial").submit(
        Estimator(site.source, entry_script="train.py"), say=lambda line: None
    )

    with pytest.raises(RunFailedError, match="exited with code 3"):
        run.wait_for_completion()
    assert run.get_details()["error"] == {"code": "UserError", "message": "the program exited with code 3"}


def test_a_dry_run_leaves_nothing(site: Site) -> None:
    site.write(TRAIN)
    plan = json.loads(site.cli("submit", "train.py", "--dry-run", "--json").ok().out)

    assert plan["plan"]["launch"]["argv"][1:] == ["train.py"]
    site.nothing_is_left()


SECRET = "s3cr3t-v4lue"


def holds(folder: Path, text: str) -> list[str]:
    """The files below ``folder`` that have ``text`` in them."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_secrets(site: Site) -> None:
    """They reach the program, are in no file afterwards, and a rerun asks for them."""
    program = (
        "import os, hashlib; print(*(hashlib.sha256(os.environ[name].encode()).hexdigest() for name in ('API_TOKEN', 'MY_PASSWORD')))\n"
    )
    site.write(program)
    job = site.write(f"script: train.py\nenvironment: {{kind: host, variables: {{MY_PASSWORD: {SECRET}, PLAIN: seen}}}}\n", "../job.yaml")
    job.write_text(job.read_text() + "code: source\nexperiment_name: trial\n")
    run = site.run(site.cli("submit", job, "--env-var", f"API_TOKEN={SECRET}").ok().out.strip())
    site.wait(run).ok()
    site.runs()
    job.unlink()

    first, second = run.rank_log(0).read_text().split()
    assert first == second
    assert holds(site.root, SECRET) == []
    assert holds(Path(os.environ["HPCEST_LOCAL_DIR"]), SECRET) == []
    assert "seen" in json.dumps(site.show(run)["spec"])
    refusal = site.cli("rerun", run.id, "--env-var", f"API_TOKEN={SECRET}").refusal
    assert "MY_PASSWORD" in refusal
    assert "--env-var" in refusal
    again = site.cli("rerun", run.id, "--env-var", f"API_TOKEN={SECRET}", "--env-var", f"MY_PASSWORD={SECRET}").ok()
    rerun = site.run(again.out.strip())
    site.wait(rerun).ok()
    assert rerun.rank_log(0).read_text().split() == [first, first]
    assert holds(site.root, SECRET) == []
    taken = site.run(site.cli("rerun", run.id, env={"API_TOKEN": SECRET, "MY_PASSWORD": SECRET}).ok().out.strip())
    site.wait(taken).ok()
    assert taken.rank_log(0).read_text().split() == [first, first]


def test_secrets_of_a_run_that_never_starts(site: Site, tmp_path: Path) -> None:
    """Canceled in the queue: nothing is left of them either."""
    site.configure("compute: {local: {slots: 1}}\n")
    gate = tmp_path / "gate"
    first = site.submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n")
    second = site.submit("print('never')\n", "--env-var", f"API_TOKEN={SECRET}")
    assert holds(second.state, SECRET) != []
    site.cli("cancel", second.id).ok()
    gate.touch()
    site.wait(first).ok()
    site.runs()

    assert site.show(second)["status"] == "Canceled"
    assert holds(second.path, SECRET) == []
    assert holds(Path(os.environ["HPCEST_LOCAL_DIR"]), SECRET) == []


def test_a_tokenizer_is_no_secret(site: Site) -> None:
    """``TOKENIZERS_PARALLELISM=false`` is in many scripts; it must not stop a rerun."""
    run = site.submit("import os; print(os.environ['TOKENIZERS_PARALLELISM'])\n", "--env-var", "TOKENIZERS_PARALLELISM=false")
    site.wait(run).ok()

    assert site.show(run)["spec"]["environment_variables"] == {"TOKENIZERS_PARALLELISM": "false"}
    site.cli("rerun", run.id).ok()


def test_a_rerun_of_changed_source(site: Site) -> None:
    """It has the old snapshot, arguments and resources, and says whose rerun it is."""
    run = site.submit("import sys; print('old', *sys.argv[1:])\n", "--time", "5m", "--", "--lr", "1")
    site.wait(run).ok()
    site.write("print('new')\n")
    (site.source / "train.py").rename(site.source / "moved.py")
    again = site.run(site.cli("rerun", run.id, "--set", "display_name=again").ok().out.strip())
    site.wait(again).ok()

    assert again.rank_log(0).read_text() == "old --lr 1\n"
    known = site.show(again)
    assert (known["display_name"], known["spec"]["resources"]) == ("again", {"time": 300})
    assert known["properties"] == {"hpcest.rerun_of": run.id}
    assert known["spec"]["snapshot"] == site.show(run)["spec"]["snapshot"]


def test_trash(site: Site) -> None:
    """Deleted runs are not listed; they come back whole, or go for good."""
    run, other = site.submit("print('one')\n"), site.submit("print('two')\n")
    site.wait(run, other).ok()
    site.cli("delete", run.id).ok()
    assert [row["id"] for row in site.runs()] == [other.id]
    assert run.id in site.cli("show", run.id).refusal
    site.cli("delete", "--restore", run.id).ok()
    assert {row["id"] for row in site.runs()} == {run.id, other.id}
    assert site.cli("logs", run.id).ok().out == "one\n"
    assert site.cli("delete", "--purge", run.id).code == 1  # asked, and nobody answered
    site.cli("delete", "--purge", "--yes", run.id).ok()
    assert [row["id"] for row in site.runs()] == [other.id]
    assert run.id in site.cli("delete", "--restore", run.id).refusal
    assert not run.path.exists()


def test_purging_what_a_program_closed(site: Site) -> None:
    """Directories that it made unwritable or unreadable go too."""
    run = site.submit(
        "import os\nfor n, mode in enumerate((0o500, 0o300, 0)):\n    os.makedirs(f'outputs/{n}/a/b'); os.chmod(f'outputs/{n}/a', mode)\n"
    )
    site.wait(run).ok()
    answer = site.cli("delete", "--purge", "--yes", run.id, powerless=True)

    assert answer.code == 0, answer
    assert os.listdir(site.workspace.trash) == []


def test_a_run_that_goes_on_is_not_deleted(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = site.submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n")

    assert f"hpcest cancel {run.id}" in site.cli("delete", run.id).refusal
    gate.touch()
    site.wait(run).ok()


def test_children_are_deleted_with_their_parent(site: Site) -> None:
    """And come back with it."""
    run = site.submit(
        "from hpcest import Run\nwith_child = Run.get_context().child_run('inner'); with_child.log('x', 1); with_child.complete()\n"
    )
    site.wait(run).ok()
    assert len(site.runs("--children")) == 2
    site.cli("delete", run.id).ok()
    assert site.runs("--children") == []
    site.cli("delete", "--restore", run.id).ok()
    assert len(site.runs("--children")) == 2
    site.cli("delete", "--purge", "--yes", run.id).ok()
    assert site.runs("--children") == []
    assert [name for name in os.listdir(site.workspace.runs) if not name.startswith(".")] == []
    assert os.listdir(site.workspace.trash) == []


@pytest.mark.parametrize("reference", ["{id}", "@latest"])
def test_resuming(site: Site, reference: str) -> None:
    """A run finds the outputs of the one that it resumes from, whatever stands for that one in options and job files."""
    first = site.submit("open('outputs/checkpoint', 'w').write('step 7')\n")
    site.wait(first).ok()
    reader = "import os; print(open(os.environ['HPCEST_RESUME_FROM'] + '/checkpoint').read())\n"
    second = site.submit(reader, "--set", f"resume_from='{reference.format(id=first.id)}'")
    site.wait(second).ok()
    assert second.rank_log(0).read_text() == "step 7\n"

    site.write(f"script: train.py\nenvironment: host\nresume_from: '{reference.format(id=first.id)}'\n", "job.yaml")
    assert site.cli("submit", "job.yaml", "--resume-from", first.id[:6], "--dry-run").ok()
    if reference != "@latest":
        assert site.cli("submit", "job.yaml", "--follow").ok().out == "step 7\n"


def test_waiting_has_a_limit(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run = site.submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)\n")
    answer = site.cli("wait", "--timeout", "0.3", run.id)

    assert answer.code == 1
    assert run.id in answer.err
    assert "0.3 s" in answer.err
    gate.touch()
    site.wait(run).ok()


def test_waiting_for_several(site: Site) -> None:
    """The code of the first that did not complete."""
    runs = [site.submit(f"raise SystemExit({code})\n") for code in (0, 3, 4)]

    assert site.wait(*runs).code == 3
    said = json.loads(site.cli("wait", "--json", runs[0].id, runs[2].id).out)
    assert [(one["id"], one["status"], one["exit_code"]) for one in said] == [(runs[0].id, "Completed", 0), (runs[2].id, "Failed", 4)]


def test_an_environment_of_the_sdk(site: Site) -> None:
    """A kind that can't give what is asked for is refused before anything is recorded."""
    site.write(TRAIN)
    estimator = Estimator(
        site.source, entry_script="train.py", environment_definition=Environment("mine", kind="host", pip_packages=["alpha"])
    )

    with pytest.raises(UsageError, match="environment kind 'host' can't give pip packages"):
        Experiment(Workspace.from_config(site.source), "trial").submit(estimator, say=lambda line: None)
    site.nothing_is_left()


def test_an_environment_that_can_not_be_built(site: Site) -> None:
    """The run failed, with a reason; the log of the building is kept with it."""
    site.write("print('never')\n")
    answer = site.cli("submit", "train.py", "--pip=--no-index", "--pip", "no-such-package==1.0")
    assert answer.code == 1
    assert "no-such-package" in answer.refusal
    (row,) = site.runs()
    run = site.run(row["id"])

    assert (row["status"], row["reason"]) == ("Failed", "BuildFailed")
    assert "no-such-package" in run.build_log.read_text()
    assert "system_logs/environment.log" in site.cli("explain", run.id).ok().out
    assert not run.rank_log(0).exists()


def test_the_record_names_its_submitter(site: Site) -> None:
    """So that a run that nobody prepares any more can be told."""
    run = site.submit("print('hello')\n")
    site.wait(run).ok()
    submitter = get_json(str(run.header))["submitter"]

    assert submitter["host"] == os.uname().nodename
    assert submitter["pid"] > 0
