"""The framework ``tensorflow``: who is chief, worker and server, and real trainings by several processes of this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from hpcest import TensorFlow as Estimator
from hpcest.errors import SpecError, UnknownNameError
from hpcest.frameworks.tensorflow import TensorFlow, TensorFlowOptions
from hpcest.lifecycle.presets import preset, versions
from hpcest.model.folders import RunFolder
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Distribution, Resources, RunSpec
from hpcest.onnode import processes
from tests.frameworks.envs import used_by_runs
from tests.frameworks.tf_programs import KERAS_MODEL, PARAMETER_SERVERS, QUIET
from tests.lifecycle.conftest import Site

EXAMPLE = Path(__file__).parents[2] / "examples" / "tensorflow"


def spec_of(processes: int, kind: str = "tensorflow") -> RunSpec:
    distribution = Distribution(kind) if kind else None
    return RunSpec("e", Command("train.py"), resources=Resources(procs_per_node=processes), distribution=distribution)


def program(processes: int, kind: str = "tensorflow", **options: Any) -> Program:
    return TensorFlow(TensorFlowOptions(**options)).program(spec_of(processes, kind), Activation("/env/bin/python"))


class TestRoles:
    """Which rank is what."""

    @pytest.mark.parametrize(
        ("processes", "options", "roles", "servers"),
        [
            (2, {}, {"worker": 2}, ()),
            (4, {"parameter_servers": 1}, {"chief": 1, "worker": 2, "ps": 1}, ("worker", "ps")),
            (4, {"parameter_servers": 1, "workers": 1}, {"chief": 1, "worker": 1, "ps": 1}, ("worker", "ps")),
            (4, {"parameter_servers": 1, "chief": False}, {"worker": 3, "ps": 1}, ("ps",)),
        ],
    )
    def test_in_the_order_chief_workers_servers(
        self, processes: int, options: dict[str, Any], roles: dict[str, int], servers: tuple[str, ...]
    ) -> None:
        made = program(processes, **options)

        assert (made.roles, list(made.roles), made.servers, made.meets) == (roles, list(roles), servers, True)

    def test_one_process_is_alone(self) -> None:
        """It has no TF_CONFIG, with which TensorFlow would start a server."""
        made = program(1, "")

        assert (made.roles, made.meets) == ({}, False)
        assert made.rank_variables["OMP_NUM_THREADS"] == "$HPCEST_CPUS"

    def test_several_processes_meet_without_being_told_to(self) -> None:
        assert program(2, "").roles == {"worker": 2}

    def test_mpi_finds_its_ranks_by_itself(self) -> None:
        made = program(2, "mpi")

        assert (made.roles, made.meets) == ({}, False)

    @pytest.mark.parametrize(
        ("processes", "options", "words"),
        [
            (2, {"parameter_servers": 1}, "2 processes .* are too few for 1 chief \\+ 1 ps and a worker"),
            (3, {"parameter_servers": 1, "workers": 2}, "3 processes .* are too few for 1 chief \\+ 2 worker \\+ 1 ps"),
            (2, {"workers": 3}, "2 processes .* are too few for 3 worker"),
            (2, {"workers": -1}, "too few"),
            (2, {"chief": True}, "a chief coordinates parameter servers, and there are none"),
        ],
    )
    def test_what_can_not_be(self, processes: int, options: dict[str, Any], words: str) -> None:
        with pytest.raises(SpecError, match=words) as caught:
            TensorFlow(TensorFlowOptions(**options)).check(spec_of(processes))
        assert caught.value.hint

    def test_a_distribution_of_others(self) -> None:
        with pytest.raises(SpecError, match="can't do the distribution 'pytorch'"):
            TensorFlow().check(spec_of(2, "pytorch"))


class TestVersions:
    """What is installed."""

    def test_keras_2_comes_with_the_package_for_gpus(self) -> None:
        """In the version of TensorFlow, from the one on that has Keras 3; on CPUs the small package is taken."""
        for version in versions(TensorFlow):
            legacy = [] if version == "2.15" else [f"tf-keras=={version}.*"]
            assert [line for line in preset(TensorFlow, version, gpu=True).pip if "keras" in line] == legacy
            assert preset(TensorFlow, version, gpu=False).pip[0] == f"tensorflow-cpu=={version}.*"

    def test_an_unknown_one_lists_the_known(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'1\.15'") as caught:
            preset(TensorFlow, "1.15", gpu=False)
        assert caught.value.hint.startswith(f"known: {', '.join(Estimator.get_supported_versions())}")


class TestCheckpoints:
    """Which file of an old run's outputs is its newest checkpoint."""

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            ((), None),
            (("ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-2.index"), "ckpt-2"),
            (("ckpt-2.index", "model.keras"), "ckpt-2"),  # the model was saved when the training had ended
            (("a/epoch.1.weights.h5", "a/epoch.2.keras"), "a/epoch.2.keras"),
            (("model/saved_model.pb", "model/variables/variables.index"), "model"),
            (("model/variables/variables.index", "model/saved_model.pb", "best.keras"), "best.keras"),
            (("empty.keras", "history.csv"), None),
        ],
    )
    def test_the_newest(self, tmp_path: Path, names: tuple[str, ...], found: str | None) -> None:
        for age, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("" if name.startswith("empty") else "x")
            os.utime(path, (age, age))

        assert TensorFlow().checkpoint(tmp_path) == (tmp_path / found if found else None)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A workspace on a path with spaces."""
    made = Site(tmp_path / "work space")
    made.cli("init", made.root).ok()
    return made


def submit(site: Site, *options: str | Path) -> RunFolder:
    given = (*used_by_runs("tensorflow"), *QUIET, "--framework", "tensorflow", "--cpus", "1")
    return site.run(site.cli("submit", options[0], *given, *options[1:]).ok().out.strip())


def ended(site: Site, run: RunFolder, seconds: float = 150.0) -> dict[str, Any]:
    """What is shown of a run when it has ended. TensorFlow alone takes five seconds of a core to start."""
    end = time.monotonic() + seconds
    while not (known := site.show(run))["ended"]:
        assert time.monotonic() < end, (known, log(run))
        site.cli("wait", "--timeout", "20", run.id)
    return known


def log(run: RunFolder) -> dict[str, str]:
    """What each rank printed."""
    return {path.stem: path.read_text() for path in run.path.glob("user_logs/*.txt")}


def losses(site: Site, run: RunFolder) -> list[float]:
    """The loss of each epoch that a run logged."""
    known = json.loads(site.cli("metrics", "--json", run.id).ok().out)[run.id]["loss"]
    return known if isinstance(known, list) else [known]


def test_the_example_trains_on_two_workers_and_goes_on_where_it_ended(site: Site) -> None:
    """Two processes mirror each other; the run that resumes has the first one's checkpoint, and only trains what is left."""
    shutil.copytree(EXAMPLE, site.source / "example")
    first = submit(site, site.source / "example")
    known = ended(site, first)
    assert known["status"] == "Completed", (known, log(first))
    assert "on 2 workers" in log(first)["std_log_0"]
    second = submit(site, site.source / "example", "--resume-from", first.id, "--", "--epochs", "5")
    known = ended(site, second)

    assert known["status"] == "Completed", (known, log(second))
    assert "goes on after epoch 4\nepoch 5: " in log(second)["std_log_0"]
    before, after = losses(site, first), losses(site, second)
    assert (len(before), len(after)) == (4, 1)
    assert after[0] < before[-1] < before[0] / 4
    assert sorted(path.name for path in second.outputs.glob("*.index")) == ["ckpt-5.index"]


def test_a_model_of_keras_is_trained_further(site: Site) -> None:
    """The optimizer goes on counting: it is the very state in which the first run ended."""
    site.write(KERAS_MODEL)
    first = submit(site, "train.py")
    assert ended(site, first)["status"] == "Completed", log(first)
    second = submit(site, "train.py", "--resume-from", first.id)
    assert ended(site, second)["status"] == "Completed", log(second)

    assert log(first)["std_log"].endswith(" steps 8\n")
    assert log(second)["std_log"].endswith("model.keras steps 16\n")


def test_parameter_servers_and_a_chief_that_fails(site: Site) -> None:
    """The variables lie on the server, both workers serve; all end soon after the chief, whose exit code is the run's."""
    site.write(PARAMETER_SERVERS)
    run = submit(site, "train.py", "-p", "4", "-O", "parameter_servers=1", "--", "5", "0")
    known = ended(site, run)

    said = log(run)
    assert (known["status"], known["reason"], known["exit_code"]) == ("Failed", "UserError", 5), (known, said)
    assert known["message"].startswith("rank 0 exited with code 5")
    assert "on job:ps [1.0, 2.0, 3.0, 4.0]\n" in said["std_log_0"]
    assert ["serves as worker 0\n" in said["std_log_1"], "serves as worker 1\n" in said["std_log_2"]] == [True, True]
    assert "serves as ps 0\n" in said["std_log_3"]
    assert seconds_after_the_chief(known, run) < 8
    assert not processes.members(run.id)


def seconds_after_the_chief(known: dict[str, Any], run: RunFolder) -> float:
    """The seconds from the last line of the chief to the end of the run."""
    last = log(run)["std_log_0"].splitlines()[-1].split()
    assert last[0] == "chief"
    return float(known["ended"]) - float(last[1])
