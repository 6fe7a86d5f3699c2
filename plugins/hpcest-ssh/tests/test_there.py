"""What is sent to the other machine must work with any Python that it may have, and with nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import hpcest_ssh

THERE = sorted(Path(hpcest_ssh.__file__).parent.joinpath("there").glob("*.py"))


@pytest.mark.parametrize("path", THERE, ids=lambda path: path.name)
def test_what_runs_there_is_python_3_8_and_imports_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert all(name.partition(".")[0] in sys.stdlib_module_names or name == "hpcest_ssh.there" for name in names), names


def test_the_house_is_used_by_its_public_names_alone() -> None:
    allowed = ("hpcest.contracts", "hpcest.errors", "hpcest.kit.units", "hpcest.model.", "hpcest_ssh")
    for path in Path(hpcest_ssh.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hpcest"):
                assert str(node.module).startswith(allowed), f"{path.name} imports {node.module}"
