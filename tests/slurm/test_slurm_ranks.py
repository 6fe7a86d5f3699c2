"""Ranks on several nodes get what they are promised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.slurm.conftest import ClusterSite


def test_the_doctor_looks_at_ranks(cluster: ClusterSite) -> None:
    """Two on each of two nodes: they reach rank 0 and each other, and have the cores that they asked for."""
    found = json.loads(cluster.cli("doctor", "--distributed", "--env", "host", "--json").ok().out)

    assert (found["ok"], found["problems"]) == (True, [])
    ranks = found["ranks"]
    assert [one["problems"] for one in ranks] == [[], [], [], []]
    assert [one["variables"]["NODE_RANK"] for one in ranks] == ["0", "0", "1", "1"]
    assert ranks[0]["host"] == ranks[1]["host"] == ranks[0]["variables"]["MASTER_ADDR"] != ranks[2]["host"] == ranks[3]["host"]
    assert {one["variables"]["HPCEST_CPUS"] for one in ranks} == {"1"}
    places = [place.split(":") for place in ranks[0]["variables"]["HPCEST_PEERS"].split(",")]
    assert [host for host, _ in places] == [one["host"] for one in ranks]
    assert places[0][1] != places[1][1]
