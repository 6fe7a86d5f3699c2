"""examples/azureml on a real cluster: a program for Azure ML's SDK v1 on two nodes, and a job file of v2."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.cluster.fixtures import Slurm
from tests.sdk.test_azureml_example import ROOT, example, goes_through, installed, job_goes_through
from tests.slurm.conftest import ClusterSite
from tests.test_docs_examples import Shell, blocks, chapter


@pytest.mark.parametrize("way", ["plugin", "migrate"])
def test_the_example_on_a_cluster(cluster: ClusterSite, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    example(cluster, way, monkeypatch)
    goes_through(cluster, "cpu", 2)
    job_goes_through(cluster, "cpu")


def test_the_first_lines_on_a_cluster(slurm: Slurm, tmp_path: Path) -> None:
    """Every command of that chapter of docs/from-azureml.md, beside those that install, prints what stands there."""
    shell = Shell(tmp_path)
    shell.env["PYTHONPATH"] = os.pathsep.join([*installed(tmp_path / "plugin"), shell.env["PYTHONPATH"]])
    shutil.copytree(ROOT / "examples", tmp_path / "hpcest" / "examples")
    page = "docs/from-azureml.md"
    told = [body for body in blocks(page, "console") if body in chapter(page, "From the first line, on a cluster") and "pip" not in body]
    assert len(told) == 4
    script = re.sub(r"^(?!\$ |compute:|  cpu-cluster:|END).*\n", "", "".join(told), flags=re.MULTILINE).replace("$ ", "")
    said = shell(script).out

    assert "\nregistered clouds version 1 of run " in said
    for body in told:
        for line in body.splitlines():
            if line.startswith(("[", "loss", "NAME", "local *", "ID", "ok ", "command", "status")):
                assert plain(line.removesuffix("...")) in plain(said), line


def plain(text: str) -> str:
    """Without what differs from run to run: numbers, times and blanks."""
    return re.sub(r"[\d.:T-]+|\s+", " ", re.sub(r"\[[\d., ]+\]", "", text))
