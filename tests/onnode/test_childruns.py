"""Runs below a run: made several at a time, and found again by what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.onnode.record import put_json
from hpcest.onnode.run import Run


def test_children_of_what_can_not_be_counted(run: Run) -> None:
    """Values may come from anywhere; a number is one, and a value needs its tag's name."""
    children = run.create_children(tag_key="fold", tag_values=(fold for fold in "ab"))
    assert [child.tags for child in children] == [{"fold": "a"}, {"fold": "b"}]
    for wrong in ({"count": -1}, {"count": "2"}, {"tag_values": ["a"]}, {"tag_key": "fold"}, {"count": 1, "tag_key": "fold"}):
        with pytest.raises(ValueError, match="create_children"):
            run.create_children(**wrong)
    assert len(list(run.get_children())) == 2


def test_children_are_found_by_azures_names_of_types(run: Run) -> None:
    run.child_run("logged")
    submitted = Path(run.folder).parent / "sub00000"
    submitted.mkdir()
    put_json(str(submitted / "run.json"), {"id": "sub00000", "kind": "run", "created": 1.0, "spec": {"framework": "pytorch"}})
    run._writer.event("child", id="sub00000")
    by_type = {
        kind: [child.id for child in run.get_children(type=kind)]
        for kind in ("azureml.scriptrun", "azureml.interactiverun", "pytorch", "x")
    }
    assert by_type == {"azureml.scriptrun": ["sub00000"], "azureml.interactiverun": [], "pytorch": ["sub00000"], "x": []}
    assert list(run.get_metrics(recursive=True, run_type="azureml.scriptrun")) == [run.id, "sub00000"]
