"""scikit-learn in a Slurm job uses the cores that the job has, whether or not the cluster holds it to them."""

from __future__ import annotations

import pytest

from tests.frameworks.envs import used_by_runs
from tests.frameworks.sk_programs import CORES, used
from tests.slurm.conftest import ClusterSite


@pytest.mark.parametrize("kind", ["cluster", "bare_cluster"])
def test_one_core_of_a_node(kind: str, request: pytest.FixtureRequest) -> None:
    """A grid search with ``n_jobs=-1`` in a job with one core, where cgroups end what is too much and where nothing does."""
    site: ClusterSite = request.getfixturevalue(kind)
    run = site.send(CORES, "--framework", "sklearn", "--cpus", "1", "--mem", "1500M", *used_by_runs("sklearn"))
    assert site.ended(run)["status"] == "Completed", site.log(run)

    known = used(site.log(run))
    assert (known["cpu_count"], known["n_jobs"]) == (1, 1)
    assert list(known["threads"].values()) == [1]
