"""Azure's own keywords are taken with a warning, where the user's line is, and type checkers know all of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from hpcest import Environment, Estimator, ScriptRunConfig
from hpcest.sdk import azure
from hpcest.sdk.azure import OffAzureWarning


def test_type_checkers_know_what_is_taken() -> None:
    """Each table has its TypedDict."""
    assert set(azure.WorkspaceKeywords.__annotations__) == set(azure.WORKSPACE)
    assert set(azure.SubmitKeywords.__annotations__) == set(azure.SUBMIT)
    assert set(azure.ESTIMATOR) < set(azure.EstimatorKeywords.__annotations__)


def test_a_warning_stands_where_the_users_line_is(project: Path) -> None:
    """However deep below it is found out."""

    def program() -> None:
        Environment("x").docker.gpu_support = False
        Environment("x").docker.shm_size = "4g"
        Environment("x").docker.arguments.append("--ipc=host")
        Environment("x").spark.precache_packages = True
        Estimator(".", vm_size="D2").run_config.amlcompute.vm_size = "D2"

    with pytest.warns(OffAzureWarning) as caught:
        program()
    assert {one.filename for one in caught} == {__file__}
    assert [str(one.message).partition(" (")[0] for one in caught] == [
        "DockerSection: no effect here: shm_size",
        "DockerSection: no effect here: arguments --ipc=host",
        "Environment: no effect here: spark.precache_packages",
        "Estimator: no effect here: vm_size",
        "estimator.run_config: no effect here: amlcompute.vm_size",
    ]


@pytest.mark.parametrize("name", azure.PRIVATE)
def test_what_only_azures_own_programs_pass_is_taken_in_silence(name: str, project: Path) -> None:
    """By an estimator and a ScriptRunConfig."""
    keywords: dict[str, Any] = {name: True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Estimator(".", **keywords)
        ScriptRunConfig(".", "train.py", **keywords)
