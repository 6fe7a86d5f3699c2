"""The templates for sbatch work as they are: each is submitted to a real cluster and leaves a recorded run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixtures import Slurm
from tests.conftest import WaitUntil

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "slurm_templates"
PROGRAM = "import os\nprint('rank', os.environ['RANK'], 'of', os.environ['WORLD_SIZE'])\n"
#: Template → number of ranks of each of its runs, in the order of their names.
RANKS = {"serial": [1], "array": [1, 1, 1, 1], "mpi": [4], "gpu": [1], "exec": [1, 2]}
ENDED = {"Completed", "Failed", "Canceled"}


def shell(folder: Path) -> dict[str, str]:
    """The environment of somebody who has installed hpcest."""
    programs = folder / "bin"
    programs.mkdir()
    for name, words in {"hpcest": "-m hpcest ", "python3": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def submitted(folder: Path, template: str, monkeypatch: pytest.MonkeyPatch, slurm: Slurm) -> Path:
    """Submit a template, unchanged, in a folder with a program of its own; the folder becomes a workspace."""
    for name, value in shell(folder).items():
        monkeypatch.setenv(name, value)
    job = folder / "job"
    job.mkdir()
    for name in ("train.py", "prepare.py"):
        (job / name).write_text(PROGRAM)
    monkeypatch.chdir(job)
    slurm.run("hpcest", "init", ".")
    assert slurm.run("sbatch", "--parsable", str(TEMPLATES / f"{template}.sbatch")).strip().isdigit()
    return job


def runs(slurm: Slurm) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(slurm.run("hpcest", "runs", "--json"))
    return sorted(found, key=lambda one: str(one["display_name"]))


def test_every_template_is_tried() -> None:
    """A template that nobody submits is a promise that nobody keeps; and the page names them all."""
    names = {path.stem for path in TEMPLATES.glob("*.sbatch")}
    assert names == set(RANKS)
    page = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"[{name}.sbatch]({name}.sbatch)" not in page] == []


@pytest.mark.parametrize("template", RANKS)
def test_a_template_is_plain(template: str) -> None:
    """Nothing but options and 'hpcest exec': no logic that somebody would have to understand first."""
    first, *rest = (TEMPLATES / f"{template}.sbatch").read_text().splitlines()
    assert first == "#!/bin/bash"
    assert [line for line in rest if line and not line.startswith(("#SBATCH --", "exec hpcest exec ", "hpcest exec "))] == []


@pytest.mark.parametrize("template", RANKS)
def test_a_template_leaves_a_completed_run_with_all_its_ranks(
    template: str, slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    job = submitted(tmp_path, template, monkeypatch, slurm)

    def ended() -> bool:
        found = runs(slurm)
        return len(found) == len(RANKS[template]) and all(one["status"] in ENDED for one in found)

    wait_until(ended, f"the runs of {template}.sbatch", 90.0)
    for one, ranks in zip(runs(slurm), RANKS[template], strict=True):
        said = "".join(path.read_text() for path in job.glob("slurm-*.out"))
        assert one["status"] == "Completed", said
        log = slurm.run("hpcest", "logs", one["id"])
        assert sorted(line.split("rank ")[1] for line in log.splitlines()) == [f"{rank} of {ranks}" for rank in range(ranks)]
