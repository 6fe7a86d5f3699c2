"""What is said of a run is true, whoever looks, whatever order its events come in, and only on evidence."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcest.errors import BackendError
from hpcest.lifecycle import watch
from hpcest.lifecycle.context import Context
from hpcest.model.folders import RunFolder
from hpcest.onnode import processes
from hpcest.onnode.ids import new_run_id
from hpcest.onnode.record import encode, get_json, put_json

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

Wait = Any
GATED = "import os, time\nprint('up', flush=True)\nwhile not os.path.exists({gate!r}): time.sleep(0.02)\n"
NOW = 1_700_000_000.0


def made(site: Site, *, events: dict[str, list[dict[str, Any]]] | None = None, launch: bool = False, **header: Any) -> RunFolder:
    """A run folder with just these events: file name → events."""
    folder = site.workspace.run(new_run_id())
    for part in (folder.events, folder.state, folder.outputs, folder.logs, folder.user_logs, folder.system_logs):
        part.mkdir(parents=True)
    spec = {"experiment": "trial", "command": {"script": "train.py"}}
    put_json(str(folder.header), {"schema": 1, "id": folder.id, "kind": "run", "created": NOW, "spec": spec, **header})
    if launch:
        put_json(str(folder.launch), {})
    for name, lines in (events or {}).items():
        (folder.events / name).write_bytes(b"".join(encode(line) for line in lines))
    return folder


def looked(site: Site, folder: RunFolder) -> tuple[str, str]:
    """Status and reason, seen twice: a conclusion stays."""
    seen = [watch.look_at(Context(site.workspace), folder) for _ in range(2)]
    assert (seen[0].status, seen[0].reason) == (seen[1].status, seen[1].reason)
    return str(seen[0].status), str(seen[0].reason)


def gone() -> dict[str, Any]:
    """The identity of a process of this machine that has ended."""
    return {**processes.identity(), "start": 1}


# ---------------------------------------------------------------------- nobody prepares it any more
@pytest.mark.parametrize("launch", [False, True])
def test_a_submitter_that_is_gone(site: Site, launch: bool) -> None:
    """Before and after it wrote the plan: the queue never had the run."""
    folder = made(
        site, submitter=gone(), launch=launch, events={"submit-a-1.jsonl": [{"t": NOW, "e": "status", "v": "Preparing", "by": "submit"}]}
    )

    assert looked(site, folder) == ("Failed", "LaunchFailed")
    assert site.show(folder)["status"] == "Failed"


def test_a_submitter_that_is_gone_before_it_said_anything(site: Site) -> None:
    assert looked(site, made(site, submitter=gone())) == ("Failed", "LaunchFailed")


def test_a_canceled_run_that_nobody_prepares_any_more(site: Site) -> None:
    folder = made(
        site, submitter=processes.identity(), events={"submit-a-1.jsonl": [{"t": NOW, "e": "status", "v": "Preparing", "by": "submit"}]}
    )
    assert str(watch.cancel(Context(site.workspace), folder).status) == "CancelRequested"
    put_json(str(folder.header), {**get_json(str(folder.header)), "submitter": gone()})

    assert looked(site, folder) == ("Canceled", "")


@pytest.mark.parametrize(
    "submitter",
    [{}, {"host": "elsewhere"}, {"pids": "pid:[1]"}, None],
    ids=["alive", "on another host", "in a container", "unknown"],
)
def test_a_submitter_that_may_be_there(site: Site, submitter: dict[str, Any] | None) -> None:
    """Unknown is never finished."""
    who = None if submitter is None else {**processes.identity(), **submitter}
    folder = made(site, submitter=who, events={"submit-a-1.jsonl": [{"t": NOW, "e": "status", "v": "Preparing", "by": "submit"}]})

    assert looked(site, folder) == ("Preparing", "")


def test_a_handed_over_run_needs_no_submitter(site: Site, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    site.configure("compute: {local: {slots: 1}}\n")
    first, second = site.submit(GATED.format(gate=str(gate))), site.submit("print('second')\n")

    assert site.runs()[0]["status"] == "Queued"
    assert site.show(second)["message"].startswith("waits for a free slot")
    gate.touch()
    site.wait(first, second).ok()


# ---------------------------------------------------------------------- events in any order, with any clock
def status(value: str, when: float, by: str, attempt: int = 0, **more: Any) -> dict[str, Any]:
    return {"t": when, "e": "status", "v": value, "by": by, "a": attempt, **more}


def test_clocks_that_disagree(site: Site) -> None:
    """The submitter's is an hour ahead, the node's an hour behind: the order of a life decides."""
    events = {
        "submit-a-1.jsonl": [status("Preparing", NOW + 3600, "submit"), status("Queued", NOW + 3601, "submit")],
        "user-b-1.jsonl": [status("CancelRequested", NOW + 9000, "user")],
        "controller.a0-c-1.jsonl": [status("Running", NOW - 3600, "controller"), status("Completed", NOW - 3599, "controller", rc=0)],
        "watch-a-2.jsonl": [status("Failed", NOW + 9999, "watch", r="Lost")],
    }
    assert looked(site, made(site, events=events)) == ("Completed", "")


@pytest.mark.parametrize("skew", [-7200.0, 0.0, 7200.0])
def test_a_later_attempt_is_the_one_that_counts(site: Site, skew: float) -> None:
    """A run that its scheduler requeued is not over, whatever was said of the first attempt."""
    events = {
        "controller.a0-c-1.jsonl": [status("Running", NOW, "controller"), status("Failed", NOW + 1, "controller", r="Preempted", rc=143)],
        "controller.a1-d-1.jsonl": [status("Running", NOW + skew, "controller", 1)],
    }
    folder = made(site, events=events)
    assert looked(site, folder) == ("Running", "")
    with open(folder.events / "controller.a1-d-1.jsonl", "ab") as stream:
        stream.write(encode(status("Completed", NOW + skew + 1, "controller", 1, rc=0)))

    assert looked(site, folder) == ("Completed", "")
    assert (site.show(folder)["attempt"], site.show(folder)["exit_code"]) == (1, 0)
    assert [(row["status"], row["attempt"]) for row in site.runs()] == [("Completed", 1)]


def test_any_order_of_files_and_times(site: Site) -> None:
    """All ways to date and to name five statements give one answer."""
    said = [
        ("Preparing", "submit"),
        ("Queued", "submit"),
        ("Running", "controller"),
        ("CancelRequested", "user"),
        ("Canceled", "controller"),
    ]
    found = set()
    for order in itertools.permutations(range(5)):
        times = {f"w{order[at]}-a-1.jsonl": [status(value, NOW + order[-at], by)] for at, (value, by) in enumerate(said)}
        folder = made(site, events=times)
        found.add(str(watch.look_at(Context(site.workspace), folder).status))
    assert found == {"Canceled"}


@pytest.mark.parametrize("moment", [-1.0, 0, 1e11, "soon", None, True, [1]])
def test_times_that_are_none(site: Site, moment: Any) -> None:
    """Neither the verdict nor a listing depends on them."""
    folder = made(
        site, events={"controller.a0-c-1.jsonl": [status("Running", moment, "controller"), status("Failed", moment, "controller", rc=3)]}
    )

    assert looked(site, folder) == ("Failed", "")
    assert site.show(folder)["exit_code"] == 3
    site.cli("runs").ok()
    site.cli("show", folder.id).ok()


# ---------------------------------------------------------------------- damage
@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", "\0\0\0\0"])
def test_a_damaged_file_harms_no_other_run(site: Site, damaged: str) -> None:
    """Header, claim, sentinel or plan: the run is shown with what is known, the listing goes on."""
    good = site.submit("print('good')\n")
    site.wait(good).ok()
    running = {
        "controller.a0-c-1.jsonl": [status("Running", NOW, "controller"), {"t": NOW, "e": "job", "backend": "local", "compute": "local"}]
    }
    broken = [made(site, events=running) for _ in range(4)]
    for folder, path in zip(broken, (broken[0].header, broken[1].claim(0), broken[2].sentinel(0), broken[3].launch), strict=True):
        assert folder.path in path.parents
        path.write_text(damaged)

    for words in (["runs"], ["runs", "--json"], ["show", good.id], *(["show", folder.id] for folder in broken), ["wait", good.id]):
        answer = site.cli(*words)
        assert "Traceback" not in answer.err, answer
        assert answer.code in (0, 1), answer
    assert good.id in site.cli("runs").ok().out


def test_a_verdict_that_can_not_be_written(site: Site, tmp_path: Path, wait_until: Wait) -> None:
    """It is true all the same, and told without noise."""
    run = site.submit(GATED.format(gate=str(tmp_path / "gate")))
    wait_until(lambda: run.rank_log(0).exists() and run.rank_log(0).read_text())
    claim = get_json(str(run.claim(0)))
    for folder in (run.events, run.state):
        folder.chmod(0o500)
    for pid in (claim["guardian"]["pid"], claim["pid"]):
        os.kill(pid, signal.SIGKILL)
    seen = [site.cli(*words, powerless=True) for words in (["show", run.id], ["wait", run.id], ["explain", run.id])]
    for folder in (run.events, run.state):
        folder.chmod(0o700)

    assert [answer.code for answer in seen] == [0, 1, 0]
    assert "Failed (Lost)" in seen[0].out
    assert seen[0].err == ""
    assert seen[1].err.count("\n") == 1
    assert (site.show(run)["status"], site.show(run)["reason"]) == ("Failed", "Lost")


def test_cancel_of_a_backend_that_is_gone_says_so(site: Site) -> None:
    folder = made(
        site, events={"submit-a-1.jsonl": [status("Queued", NOW, "submit"), {"t": NOW, "e": "job", "backend": "gone", "compute": "far"}]}
    )

    with pytest.raises(BackendError, match="'gone' is not installed"):
        watch.cancel(Context(site.workspace), folder)
    assert looked(site, folder) == ("Queued", "")
