"""A model that a program registers on the other machine is in the registry here, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site

TRAIN = """
from hpcest import Run
open("outputs/model.bin", "w").write("weights")
print(Run.get_context().register_model("net", "outputs/model.bin", tags={"a": "b"}))
"""


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "sent"])
def test_a_model_comes_here(site: Site, shared: bool) -> None:
    site.configure(shared=shared)
    run = site.submit(TRAIN, "-f")
    (model,) = json.loads(site.hpcest("models", "list", "--json"))
    assert (model["id"], model["run_id"], model["tags"]) == ("net:1", run, {"a": "b"})
    with open(model["path"]) as stream:
        assert stream.read() == "weights"
