"""examples/azureml, a program for Azure ML's SDK v1 and a job file of v2: as they are, by the plugin, and with their imports changed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hpcest.kit.process import run as start
from tests.lifecycle.conftest import Site

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugins" / "hpcest-azureml"


def example(site: Site, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the example in the source directory; with the plugin installed as pip does it, or migrated."""
    shutil.copytree(ROOT / "examples" / "azureml", site.source, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if way == "migrate":
        site.cli("migrate", "--write", "submit_v1.py", "src").ok()
        return
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*installed(site.root.parent / "site"), str(ROOT)]))


def installed(site: Path) -> list[str]:
    """The plugin as pip installs it, its files where they are: what has to be on Python's path."""
    facts = site / "hpcest_azureml-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: hpcest-azureml\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[hpcest]\nazureml = hpcest_azureml.plugin\n")
    return [str(site), str(PLUGIN), str(PLUGIN / "hpcest_azureml" / "shim")]


def goes_through(site: Site, compute: str, nodes: int) -> None:
    """The program submits, waits, and registers a model; the metrics are those that the script prints without any run."""
    alone = start([sys.executable, "src/train.py", "--learning-rate", "0.4"], cwd=site.source, timeout=60)
    done = start([sys.executable, "submit_v1.py", "--compute", compute, "--nodes", str(nodes)], cwd=site.source, timeout=200)
    assert (alone.code, done.code) == (0, 0), (alone, done)

    (row,) = site.runs()
    known = site.show(site.run(row["id"]))
    processes = max(1, 2 * nodes)
    assert (row["status"], row["compute"], known["tags"]) == ("Completed", compute, {"from": "v1", "data": "two clouds"})
    assert f"[offline] accuracy = {known['metrics']['accuracy']}\n" in alone.out
    assert len(known["metrics"]["loss"]) == 30
    assert sorted(json.loads(site.cli("metrics", "--json", row["id"]).ok().out)[row["id"]]["folds"]["process"]) == [*range(processes)]
    assert (site.source / "weights.json").read_bytes() == (site.run(row["id"]).outputs / "model" / "weights.json").read_bytes()
    assert f"registered clouds version 1 of run {row['id']}\n" in done.out


def job_goes_through(site: Site, compute: str) -> None:
    """The job file, with its inputs; tracked in Azure ML's words or in ours."""
    site.cli("submit", "job.yml", "-c", compute, "-f").ok()
    row = site.runs()[0]
    assert (row["status"], row["display_name"], row["compute"]) == ("Completed", "two clouds, v2", compute)
    assert row["params"].items() >= {"learning-rate": "0.3", "epochs": "20"}.items()
    assert len(site.show(site.run(row["id"]))["metrics"]["loss"]) == 20


@pytest.mark.parametrize("way", ["plugin", "migrate"])
def test_the_example_here(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path / "work space")
    site.cli("init", site.root).ok()
    example(site, way, monkeypatch)
    goes_through(site, "local", 1)
    job_goes_through(site, "local")
