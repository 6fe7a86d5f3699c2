"""What a cluster offers is found out once a day, also from other versions of Slurm, and never stops a command."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from hpcest.backends.slurm import site as module
from hpcest.backends.slurm.site import Site, parse_mpi, site
from tests.backends.slurm.status_fakes import Fakes
from tests.cluster.fixtures import Slurm

CONFIG = """Configuration data as of 2026-03-01T10:00:00
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = far
JobRequeue              = 0
KillOnBadExit           = 1
KillWait                = 45 sec
MaxArraySize            = 501
MaxJobCount             = 123
MinJobAge               = 2 sec
MpiDefault              = pmix
PreemptMode             = SUSPEND,GANG
SLURM_VERSION           = 24.11.5-1

Cgroup Support Configuration:
ClusterName             = another section

Slurmctld(primary) at head is UP
"""


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    made = Fakes(tmp_path)
    made.says("scontrol", *CONFIG.splitlines())
    made.says("srun", "MPI plugin types are...", "\tpmix", "\tnone", "specific pmix plugin versions available: pmix_v4")
    made.says("sacct")
    return made


def kept(fakes: Fakes) -> Path:
    """The file with the answer that all processes share."""
    (path,) = (fakes.home / "local").glob("hpcest-*/slurm/site-*.json")
    return path


def pass_time(fakes: Fakes, seconds: float) -> None:
    """As if all that is known had been asked so much earlier."""
    data: dict[str, Any] = json.loads(kept(fakes).read_text())
    data["t"] -= seconds
    kept(fakes).write_text(json.dumps(data))
    for source, (found, when) in module._known.items():
        module._known[source] = found, when - seconds


def test_the_real_cluster_is_described(slurm: Slurm) -> None:
    found = site(os.environ)
    assert found.version >= (22, 5)
    assert {"pmix", "pmi2", "none"} <= set(found.mpi_types)
    assert (found.cluster, found.accounting, found.problem) == (slurm.name, True, "")
    told = slurm.run("scontrol", "show", "config")
    for name, value in (("MinJobAge", found.min_job_age), ("MaxArraySize", found.max_array_size), ("KillWait", found.kill_wait)):
        assert any(line.split()[:3] == [name, "=", str(value)] for line in told.splitlines()), name


def test_a_cluster_without_accounting_is_one(bare_slurm: Slurm) -> None:
    found = site(os.environ)
    assert (found.accounting, found.problem) == (False, "")


def test_another_version_is_understood(fakes: Fakes) -> None:
    assert site(fakes.environ) == Site(
        version=(24, 11, 5, 1),
        cluster="far",
        min_job_age=2,
        max_array_size=501,
        max_job_count=123,
        kill_wait=45,
        job_requeue=False,
        kill_on_bad_exit=True,
        mpi_default="pmix",
        mpi_types=("none", "pmix", "pmix_v4"),
        accounting=True,
        accounting_type="accounting_storage/slurmdbd",
        preempt_mode="SUSPEND,GANG",
    )


def test_it_is_asked_once_a_day(fakes: Fakes) -> None:
    first = site(fakes.environ)
    pass_time(fakes, 86000)
    assert site(fakes.environ) == first
    assert len(fakes.calls("scontrol")) == 1
    pass_time(fakes, 1000)
    site(fakes.environ)
    site(fakes.environ, fresh=True)
    assert len(fakes.calls("scontrol")) == 3


def test_another_configuration_is_another_cluster(fakes: Fakes) -> None:
    site(fakes.environ)
    site({**fakes.environ, "SLURM_CONF": "/elsewhere/slurm.conf"})
    assert len(fakes.calls("scontrol")) == 2


def test_a_process_reads_it_once_and_others_need_not_ask(fakes: Fakes) -> None:
    first = site(fakes.environ)
    path, aside = kept(fakes), fakes.home / "aside"
    path.rename(aside)
    assert site(fakes.environ) is first
    assert site({**fakes.environ, "SLURM_CONF": "/elsewhere/slurm.conf"}) is not first, "another cluster has not been asked"
    aside.rename(path)
    module._known.clear()  # as another process finds it
    assert site(fakes.environ) == first
    assert len(fakes.calls("scontrol")) == 2


def test_what_a_process_knows_is_replaced_when_it_asks_anew(fakes: Fakes) -> None:
    """By itself when the day is over, or for the doctor."""
    site(fakes.environ)
    fakes.says("scontrol", *CONFIG.replace("501", "502").splitlines())
    assert site(fakes.environ).max_array_size == 501
    assert site(fakes.environ, fresh=True).max_array_size == 502
    assert site(fakes.environ).max_array_size == 502


def test_a_dead_accounting_is_asked_for_again_soon(fakes: Fakes) -> None:
    fakes.fails("sacct", "Connection refused")
    assert not site(fakes.environ).accounting
    fakes.says("sacct")
    pass_time(fakes, 601)
    assert site(fakes.environ).accounting


def test_while_slurmctld_is_down_slurms_own_defaults_hold(fakes: Fakes) -> None:
    fakes.fails("scontrol", "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)")
    found = site(fakes.environ)
    assert "Unable to contact" in found.problem
    assert (found.max_array_size, found.min_job_age, found.kill_wait) == (1001, 300, 30)
    site(fakes.environ)
    assert len(fakes.calls("scontrol")) == 1, "an outage is not hammered"
    fakes.says("scontrol", *CONFIG.splitlines())
    pass_time(fakes, 31)
    assert site(fakes.environ).cluster == "far"


def test_what_was_known_yesterday_is_better_than_a_default(fakes: Fakes) -> None:
    site(fakes.environ)
    fakes.fails("scontrol", "down")
    pass_time(fakes, 90000)
    found = site(fakes.environ)
    assert (found.problem, found.max_array_size) == ("down", 501)
    pass_time(fakes, 31)
    assert site(fakes.environ).max_array_size == 501, "and stays so"


def test_a_slurmctld_that_hangs_delays_one_command(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    fakes.put("scontrol", "exec sleep 60")
    began = time.monotonic()
    assert all("no answer" in site(fakes.environ).problem for _ in range(20))
    assert time.monotonic() - began < 8


def test_no_slurm_at_all_is_said(tmp_path: Path) -> None:
    assert "scontrol" in site({"PATH": str(tmp_path), "HPCEST_LOCAL_DIR": str(tmp_path)}).problem


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"t": 9e9, "site": {"cluster": 3}}', "null"])
def test_a_damaged_answer_is_asked_for_again(fakes: Fakes, damage: str) -> None:
    site(fakes.environ)
    kept(fakes).write_text(damage)
    module._known.clear()  # as another process finds it
    assert site(fakes.environ).cluster == "far"
    assert len(fakes.calls("scontrol")) == 2


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("srun: MPI types are...\nsrun: pmix\nsrun: pmix_v3\nsrun: none\nsrun: pmi2\n", ("none", "pmi2", "pmix", "pmix_v3")),
        (
            "MPI plugin types are...\n\tnone\n\tpmix\nspecific pmix plugin versions available: pmix_v3,pmix_v5\n",
            ("none", "pmix", "pmix_v3", "pmix_v5"),
        ),
        ("srun: error: Unable to contact slurm controller\n", ()),
        ("", ()),
    ],
)
def test_mpi_types_are_read_in_each_layout(text: str, types: tuple[str, ...]) -> None:
    assert parse_mpi(text) == types
