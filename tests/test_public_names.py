"""The public names: listed once, imported when they are used, and known to type checkers with their real types."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hpcest
from hpcest.onnode.run import Run as TravellingRun
from hpcest.sdk import loggable

HOUSE = Path(hpcest.__file__).parent
STUB = ast.parse((HOUSE / "__init__.pyi").read_text())
WHERE: dict[str, str] = vars(hpcest)["_WHERE"]


def test_the_lists_agree() -> None:
    """``__all__``, the table of modules, the stub's ``__all__`` and its imports, and ``dir``."""
    imported = {(alias.asname or alias.name): node.module for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == WHERE
    assert sorted(hpcest.__all__) == sorted([*WHERE, "__version__"]) == sorted(dir(hpcest))
    (listed,) = (node.value for node in STUB.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(listed) == hpcest.__all__
    assert (HOUSE / "py.typed").exists()


@pytest.mark.parametrize("name", WHERE)
def test_a_name_is_what_its_module_has(name: str) -> None:
    assert getattr(hpcest, name) is getattr(import_module(WHERE[name]), name)
    assert getattr(hpcest, name).__doc__


def test_nothing_is_imported_before_it_is_used() -> None:
    code = """if True:
        import json, sys
        import hpcest
        before = sorted(name for name in sys.modules if name.startswith("hpcest."))
        hpcest.Run
        json.dump([before, "hpcest.sdk.estimator" in sys.modules], sys.stdout)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], False]


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hpcest' has no attribute 'Estimater'"):
        getattr(hpcest, "Estimater")  # noqa: B009  # mypy would refuse the plain form
    with pytest.raises(ImportError):
        exec("from hpcest import Estimater")


def test_the_types_of_a_run_are_those_of_what_travels() -> None:
    """The stub has each public method of the tracking part, with its arguments and defaults; the rest is in sdk.run."""
    stub = ast.parse(Path(loggable.__file__).with_suffix(".pyi").read_text())
    (described,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    methods = {node.name: node for node in described.body if isinstance(node, ast.FunctionDef)}
    for name, node in methods.items():
        real = inspect.getattr_static(TravellingRun, name)
        if isinstance(real, property):
            assert [ast.unparse(decorator) for decorator in node.decorator_list] == ["property"]
            continue
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        function = real.__func__ if isinstance(real, classmethod) else real
        assert f"({ast.unparse(node.args)})" == str(inspect.signature(function)), name
    public = {name for name in vars(TravellingRun) if not name.startswith("_")} | {"__enter__", "__exit__"}
    in_full = {name for one in hpcest.Run.__mro__ if one.__module__.startswith("hpcest.sdk") for name in vars(one)}
    assert public - set(methods) - in_full == set()
