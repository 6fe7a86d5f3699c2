"""What is true of a run, from the files in its folder and Slurm's word: never an end that isn't one, and a cause with a remedy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcest.backends.slurm import evidence as module
from hpcest.backends.slurm.polling import Wanted, jobs
from hpcest.contracts import Evidence
from hpcest.model.status import Reason, Status
from hpcest.onnode import processes
from tests.backends.slurm.scenes import JOB, NAME, NOW, SITE, Scene, ended, view
from tests.cluster.fixtures import Slurm


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "run id")


# ------------------------------------------------------------------ the run's own word


def test_a_final_sentinel_is_the_truth_whatever_slurm_says(scene: Scene) -> None:
    """The scheduler only adds a cause that the controller can't see."""
    scene.claim().sentinel(rc=3, reason="UserError", message="the program exited with code 3")
    for state in ("RUNNING", "COMPLETED", "PENDING", "BROODING"):
        found = scene.look(view(state))
        assert (found.status, found.reason, found.exit_code) == (Status.FAILED, Reason.USER_ERROR, 3)
        assert found.message == "the program exited with code 3"
    assert scene.look(ended("OUT_OF_MEMORY")).message == "the program exited with code 3 (Slurm says OUT_OF_MEMORY)"
    assert scene.look().status is Status.FAILED
    assert scene.look(problem="down").status is Status.FAILED


def test_proof_is_a_final_sentinel_of_the_newest_attempt(scene: Scene) -> None:
    assert module.proof(scene.folder) is None
    scene.claim().sentinel(status="Completed", rc=0)
    found = module.proof(scene.folder)
    assert found is not None
    assert (found.status, found.exit_code) == (Status.COMPLETED, 0)
    scene.claim(1)
    assert module.proof(scene.folder) is None, "the next attempt has begun"
    scene.sentinel(1, final=False)
    assert module.proof(scene.folder) is None
    scene.sentinel(1, requeue=True, status="Queued")
    assert module.proof(scene.folder) is None


def test_an_odd_sentinel_is_a_failure_with_its_own_words(scene: Scene) -> None:
    scene.sentinel(status="Exploded", reason="Heat", message="boom", rc="x")
    found = scene.look()
    assert (found.status, found.message, found.exit_code) == (Status.FAILED, "boom", None)


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("CANCELLED", Status.CANCELED, Reason.NONE),
        ("TIMEOUT", Status.FAILED, Reason.TIMED_OUT),
        ("NODE_FAIL", Status.FAILED, Reason.NODE_FAIL),
        ("PREEMPTED", Status.FAILED, Reason.PREEMPTED),
        ("OUT_OF_MEMORY", Status.FAILED, Reason.OUT_OF_MEMORY),
    ],
)
def test_an_attempt_that_was_ended_from_outside_ended_as_slurm_says(scene: Scene, state: str, status: Status, reason: Reason) -> None:
    scene.claim(ago=600).sentinel(ago=600, final=False, reason="Lost", message="ended from outside")
    found = scene.look(ended(state))
    assert (found.status, found.reason) == (status, reason)


def test_the_controllers_word_is_better_than_a_mere_failed(scene: Scene) -> None:
    """A job whose controller returned the program's code is FAILED or COMPLETED for Slurm, which says less."""
    scene.claim(ago=600).sentinel(ago=600, final=False, reason="Signaled", message="ended by SIGTERM", rc=143)
    for state in ("FAILED", "COMPLETED"):
        found = scene.look(ended(state, exit="143:0"))
        assert (found.status, found.reason, found.message) == (Status.FAILED, Reason.SIGNALED, "ended by SIGTERM")


def test_a_doubtful_success_needs_slurms_word(scene: Scene) -> None:
    scene.claim(ago=600).sentinel(ago=600, final=False, status="Completed", rc=0)
    assert scene.look(ended("COMPLETED", exit="0:0")).status is Status.COMPLETED
    assert scene.look(ended("FAILED", exit="1:0")).status is Status.FAILED


def test_a_run_that_waits_for_its_next_attempt_is_queued(scene: Scene) -> None:
    scene.claim().sentinel(requeue=True, status="Queued", message="stopped for a checkpoint")
    for found in (
        scene.look(view("RUNNING"), asked=60),
        scene.look(view("COMPLETING", restarts=1)),
        scene.look(view("PENDING", restarts=1)),
    ):
        assert (found.status, found.attempt) == (Status.QUEUED, 1), found


def test_a_requeue_is_no_end_though_slurm_shows_one_in_passing(scene: Scene) -> None:
    scene.claim().sentinel(requeue=True, status="Queued")
    assert scene.look(ended("FAILED", ago=5)).status is None
    assert scene.look(ended("CANCELLED", ago=100)).status is Status.CANCELED


# ------------------------------------------------------------------ waiting and running


@pytest.mark.parametrize("state", ["PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING", "RESV_DEL_HOLD"])
def test_what_waits_is_queued(scene: Scene, state: str) -> None:
    found = scene.look(view(state, reason="Priority", nodes=""))
    assert found.status is Status.QUEUED
    assert found.message


def test_what_waits_for_what_cannot_come_has_failed(scene: Scene) -> None:
    found = scene.look(view("PENDING", reason="DependencyNeverSatisfied", dependency="afterok:5(failed)"))
    assert (found.status, found.reason) == (Status.FAILED, Reason.UPSTREAM_FAILED)
    assert "afterok:5" in found.message
    assert found.facts["hopeless"] is True


def test_what_has_started_is_queued_until_its_controller_says_so(scene: Scene) -> None:
    assert scene.look(view("RUNNING", start=NOW - 20)).status is Status.QUEUED
    late = scene.look(view("RUNNING", start=NOW - 400))
    assert late.status is Status.NOT_RESPONDING
    assert "n1" in late.message


def test_what_beats_runs(scene: Scene) -> None:
    scene.claim(ago=20)
    for found in (scene.look(view("RUNNING")), scene.look(), scene.look(view("PENDING"), asked=60), scene.look(problem="down")):
        assert found.status is Status.RUNNING, found


def test_a_node_that_is_cut_off_is_named_while_the_run_goes_on(scene: Scene) -> None:
    """Of the newest attempt: what older ones left says nothing."""
    scene.claim(ago=20)
    for name, ago in {"pulse.0.n1": 10, "pulse.0.n2": 400, "pulse.0.n3": 20, "pulse.1.n4": 900}.items():
        (scene.folder.state / name).touch()
        os.utime(scene.folder.state / name, (NOW - ago, NOW - ago))
    found = scene.look(view("RUNNING"))
    assert found.status is Status.RUNNING
    assert found.message.startswith("n2 gave no sign for 6 min")
    assert "sinfo -N -n n2" in found.message


def test_a_silent_controller_is_a_doubt_with_the_nodes_name(scene: Scene) -> None:
    scene.claim(ago=400)
    found = scene.look(view("RUNNING"))
    assert found.status is Status.NOT_RESPONDING
    assert "n1" in found.message
    assert "6 min" in found.message
    assert scene.look(view("SUSPENDED")).status is Status.RUNNING, "a suspended controller can't beat"


def test_a_second_attempt_that_has_not_begun_is_queued(scene: Scene) -> None:
    """The first one's files are no sign of the second."""
    scene.claim(ago=300).sentinel(ago=300, final=False)
    found = scene.look(view("RUNNING", restarts=1, start=NOW - 10))
    assert (found.status, found.attempt) == (Status.QUEUED, 1)


def test_an_answer_from_before_this_attempt_says_nothing_of_it(scene: Scene) -> None:
    scene.sentinel(0, final=False, ago=300)
    scene.claim(1, ago=3)
    assert scene.look(ended("PREEMPTED", restarts=0), asked=200).status is Status.RUNNING
    assert scene.look(ended("NODE_FAIL", restarts=None), asked=200).status is Status.RUNNING, "nor where restarts are not told"
    scene.claim(1, ago=250)
    assert scene.look(ended("PREEMPTED", restarts=0), asked=1).status is None


def test_an_unknown_state_is_no_end(scene: Scene) -> None:
    found = scene.look(view("BROODING"))
    assert found.status is None
    assert "BROODING" in found.message


def test_suspended_says_so(scene: Scene) -> None:
    scene.claim()
    assert "suspended" in scene.look(view("SUSPENDED")).message


# ------------------------------------------------------------------ Slurm alone knows the end


def test_a_success_that_only_slurm_knows_is_waited_for_and_says_so(scene: Scene) -> None:
    """The sentinel may still be on its way over the network."""
    scene.claim(ago=70)
    assert scene.look(ended("COMPLETED", ago=50, exit="0:0")).status is Status.FINALIZING
    found = scene.look(ended("COMPLETED", ago=70, exit="0:0"))
    assert (found.status, found.exit_code) == (Status.COMPLETED, 0)
    assert "only Slurm" in found.message
    assert scene.look(ended("COMPLETED", exit="3:0")).status is Status.FAILED


def test_what_was_canceled_while_it_waited_is_canceled_at_once(scene: Scene) -> None:
    found = scene.look(view("CANCELLED", start=None, end=NOW - 1, nodes=""))
    assert found.status is Status.CANCELED


@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_what_slurm_may_requeue_is_not_over_before_it_can_not(scene: Scene, state: str) -> None:
    """After KillWait and an interval, or when the queue has forgotten it and the accounting has not."""
    scene.claim(ago=60)
    assert scene.look(ended(state, ago=20)).status is None
    assert scene.look(ended(state, ago=50)).status is Status.FAILED
    assert scene.look(ended(state, ago=30, source="sacct", restarts=0)).status is Status.FAILED


@pytest.mark.parametrize(
    ("exit_", "reason", "words"),
    [
        ("0:53", Reason.LAUNCH_FAILED, "log file"),
        ("0:9", Reason.SIGNALED, "--mem"),
        ("0:15", Reason.SIGNALED, "SIGTERM"),
        ("0:12", Reason.SIGNALED, "SIGUSR2"),
        ("0:125", Reason.OUT_OF_MEMORY, "--mem"),
        ("137:0", Reason.SIGNALED, "SIGKILL"),
        ("3:0", Reason.USER_ERROR, "code 3"),
        ("", Reason.LAUNCH_FAILED, "without an exit code"),
    ],
)
def test_a_failure_without_a_record_is_explained_by_its_exit(scene: Scene, exit_: str, reason: Reason, words: str) -> None:
    found = scene.look(ended("FAILED", exit=exit_))
    assert (found.status, found.reason) == (Status.FAILED, reason)
    assert words in found.message
    assert "n1" in found.message


def test_a_batch_script_that_was_killed_was_launched(scene: Scene) -> None:
    """Slurm's reason says otherwise."""
    assert scene.look(ended("FAILED", exit="0:9", reason="JobLaunchFailure")).reason is Reason.SIGNALED
    assert scene.look(ended("FAILED", exit="0:0", reason="JobLaunchFailure")).reason is Reason.LAUNCH_FAILED


# ------------------------------------------------------------------ Slurm knows nothing


def test_what_is_missing_everywhere_is_lost_only_after_a_while(scene: Scene) -> None:
    scene.claim(ago=250)
    assert scene.look().status is None
    scene.claim(ago=350)
    found = scene.look()
    assert (found.status, found.reason) == (Status.FAILED, Reason.LOST)
    assert "rerun" in found.message


def test_a_job_of_just_now_may_be_missing(scene: Scene) -> None:
    assert scene.look(job={**JOB, "submitted": NOW - 3}).status is None
    assert scene.look(job={**JOB, "submitted": NOW - 3}, asked=10).status is Status.QUEUED


def test_minutes_without_a_query_conclude_nothing(scene: Scene) -> None:
    """The last answer is from when the run still lived."""
    scene.claim(ago=1000)
    assert scene.look(asked=900).status is None


def test_a_query_that_failed_is_no_information(scene: Scene) -> None:
    scene.claim(ago=5000)
    found = scene.look(asked=240, problem="Unable to contact slurm controller")
    assert found.status is None
    assert found.message == "Slurm can't be asked since 4 min: Unable to contact slurm controller"
    assert scene.look(asked=-1, problem="down").status is None


def test_an_accounting_that_is_down_may_come_back_and_know(scene: Scene) -> None:
    scene.claim(ago=1000)
    assert scene.look(unaccounted="Connection refused").status is None
    scene.claim(ago=4000)
    assert scene.look(unaccounted="Connection refused", job={**JOB, "submitted": NOW - 5000}).reason is Reason.LOST


def test_a_recycled_id_is_somebody_elses_job(scene: Scene) -> None:
    """Its COMPLETED is not ours."""
    found = scene.look(ended("COMPLETED", name="other.xyz", exit="0:0"), job={**JOB, "submitted": NOW - 100})
    assert found.status is None
    assert scene.look(ended("COMPLETED", name="other.xyz", exit="0:0")).reason is Reason.LOST


def test_an_attempt_ended_from_outside_whose_job_is_gone_keeps_its_own_reason(scene: Scene) -> None:
    scene.claim(ago=900).sentinel(ago=900, final=False, reason="NodeFail", message="a node failed")
    found = scene.look()
    assert (found.status, found.reason, found.message) == (Status.FAILED, Reason.NODE_FAIL, "a node failed")


# ------------------------------------------------------------------ jobs that were never recorded


def test_a_job_that_was_never_recorded_is_found_by_its_name(scene: Scene) -> None:
    scene.plan()
    found = scene.look(view("PENDING", reason="Priority"), job={})
    assert found.status is Status.QUEUED
    assert found.facts["job"] == {"id": "7", "name": NAME, "submitted": NOW - 1000}


def test_so_is_a_task_of_an_array(scene: Scene) -> None:
    tasks = [view("RUNNING", id="7_1", start=NOW - 1), view("PENDING", id="7_11"), view("PENDING", id="7_2")]
    found = scene.look(*tasks, job={"name": NAME, "task": 1})
    assert found.facts["job"]["id"] == "7_1"


def test_a_claim_names_its_job(scene: Scene) -> None:
    scene.plan().claim(job="7_3")
    found = scene.look(view("RUNNING", id="7_3"), job={})
    assert found.status is Status.RUNNING
    assert found.facts["job"]["id"] == "7_3"


def test_without_a_plan_it_was_never_handed_over(scene: Scene) -> None:
    """The plan is written before sbatch is called."""
    assert scene.look(job={}).status is Status.NOT_STARTED


def test_a_plan_of_just_now_may_be_at_sbatch(scene: Scene) -> None:
    scene.plan(ago=100)
    assert scene.look(job={}).status is None
    scene.plan(ago=400)
    assert scene.look(job={}).status is Status.NOT_STARTED
    assert scene.look(job={}, problem="down").status is None


# ------------------------------------------------------------------ runs inside a job that isn't ours


def test_the_end_of_a_surrounding_job_is_the_end_of_the_run_without_a_verdict(scene: Scene) -> None:
    job = {**JOB, "attached": True}
    scene.claim(ago=500)
    assert scene.look(view("RUNNING"), job=job).status is Status.NOT_RESPONDING
    found = scene.look(ended("COMPLETED", exit="0:0"), job=job)
    assert (found.status, found.reason) == (Status.FAILED, Reason.LOST)
    assert scene.look(ended("COMPLETED", ago=10, exit="0:0"), job=job).status is None
    scene.claim(ago=5)
    assert scene.look(view("RUNNING"), job=job).status is Status.RUNNING


def test_an_attached_controller_that_is_gone_from_this_host_is_lost_at_once(scene: Scene) -> None:
    me = processes.identity()
    scene.claim(**me)
    assert scene.look(view("RUNNING"), job={**JOB, "attached": True}).status is Status.RUNNING
    scene.claim(**{**me, "start": -1})
    assert scene.look(view("RUNNING"), job={**JOB, "attached": True}).reason is Reason.LOST


# ------------------------------------------------------------------ on a real Slurm


def test_real_jobs_have_their_causes(slurm: Slurm, scene: Scene, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    """Held, waiting in vain, canceled, failed, without a log directory, and out of memory."""

    def submit(label: str, command: str, *options: str) -> str:
        return slurm.run("sbatch", "--parsable", "-J", f"{label}.{scene.folder.path.parent.name}", *options, "--wrap", command).strip()

    quiet = ("-o", "/dev/null")
    eat = "/usr/bin/python3 -c 'bytearray(900 << 20)'"
    ids = {
        "held": submit("held", "true", *quiet, "--hold"),
        "failed": submit("failed", "exit 3", *quiet),
        "nolog": submit("nolog", "true", "-o", f"{tmp_path}/not there/log"),
        "memory": submit("memory", eat, *quiet, "--mem=60"),
        "canceled": submit("canceled", "true", *quiet, "--hold"),
    }
    ids["vain"] = submit("vain", "true", *quiet, "-d", f"afterok:{ids['failed']}", "--kill-on-invalid-dep=no")
    slurm.run("scancel", ids["canceled"])
    wanted = {label: Wanted(job, f"{label}.{scene.folder.path.parent.name}", time.time()) for label, job in ids.items()}
    expected = {
        "held": (Status.QUEUED, Reason.NONE),
        "failed": (Status.FAILED, Reason.USER_ERROR),
        "nolog": (Status.FAILED, Reason.LAUNCH_FAILED),
        "memory": (Status.FAILED, Reason.OUT_OF_MEMORY),
        "canceled": (Status.CANCELED, Reason.NONE),
        "vain": (Status.FAILED, Reason.UPSTREAM_FAILED),
    }

    def look(label: str) -> Evidence:
        one = wanted[label]
        answer = jobs(os.environ, list(wanted.values()), floor=0.0, newest=time.time())
        # Long after, so that nothing is waited for any more.
        return module.evidence(scene.folder, one._asdict(), answer, SITE, time.time() + 100)

    try:
        for label, (status, reason) in expected.items():
            wait_until(lambda label=label, status=status: look(label).status is status, f"{label}: {look(label)}", 120)
            assert look(label).reason is reason, look(label)
        assert "scontrol release" in look("held").message
    finally:
        slurm.run("scancel", *ids.values())
