"""The hooks as plugin authors meet them: all in one file, typed, said when they are called, each with a test."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy
import pytest

import hpcest
from hpcest import contracts, hookspecs
from hpcest.model import plan
from hpcest.pluginmanager import GROUP, KINDS

TESTS = Path(__file__).parent
#: The hooks in the order in which they fire. What a hook is called and takes is a promise to plugin authors.
HOOKS = {
    "hpcest_register_frameworks": [],
    "hpcest_register_environments": [],
    "hpcest_register_backends": [],
    "hpcest_register_commands": ["cli"],
    "hpcest_run_types": [],
    "hpcest_travelling_modules": [],
    "hpcest_before_submit": ["run", "plan"],
    "hpcest_after_submit": ["run"],
    "hpcest_status_changed": ["run", "before", "after"],
    "hpcest_after_collect": ["run"],
}


def specification(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(hookspecs, name)
    return found


def functions() -> list[str]:
    """The functions of the file that are marked as hooks, from top to bottom."""
    tree = ast.parse(Path(hookspecs.__file__).read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and "_hookspec" in map(ast.unparse, node.decorator_list)]


def test_all_hooks_stand_in_one_file_in_the_order_in_which_they_fire() -> None:
    assert functions() == list(HOOKS)


def test_all_hooks_are_named_and_nothing_else() -> None:
    assert hookspecs.__all__ == sorted(HOOKS)


def test_pluggy_knows_the_same_hooks() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    assert sorted(name for name in vars(manager.hook) if not name.startswith("_")) == sorted(HOOKS)


@pytest.mark.parametrize(("name", "arguments"), HOOKS.items())
def test_a_hook_takes_what_was_promised(name: str, arguments: list[str]) -> None:
    assert list(inspect.signature(specification(name)).parameters) == arguments


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_typed_with_names_that_exist(name: str) -> None:
    types = typing.get_type_hints(specification(name), {**vars(hookspecs), **vars(contracts), **vars(plan)})
    assert set(types) == {*HOOKS[name], "return"}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_when_it_is_called_and_what_it_gets(name: str) -> None:
    text = inspect.getdoc(specification(name)) or ""
    assert re.match(r"Called (once, |once for |when )", text)
    assert re.findall(r"^:param (\w+):", text, re.MULTILINE) == HOOKS[name]


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_test_that_is_named_after_it(name: str) -> None:
    tests = {
        node.name
        for file in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert any(name in test for test in tests)


def test_each_kind_of_plugin_has_its_hook_and_its_contract() -> None:
    assert [hook for hook, _ in KINDS.values()] == [name for name in HOOKS if name.startswith("hpcest_register_") and not HOOKS[name]]
    for hook, contract in KINDS.values():
        classes = typing.get_type_hints(specification(hook), {**vars(hookspecs), **vars(contracts)})["return"]
        assert typing.get_args(typing.get_args(classes)[0]) == (getattr(contracts, contract),)


def test_the_marker_is_public_and_marks_for_this_project() -> None:
    assert hpcest.hookimpl is hookspecs.hookimpl
    assert (hookspecs.PROJECT, GROUP) == ("hpcest", "hpcest")

    def function() -> None:
        """Do nothing."""

    assert hasattr(hookspecs.hookimpl(function), "hpcest_impl")


def test_an_interface_number_is_there_for_plugins_to_name() -> None:
    assert isinstance(hookspecs.INTERFACE, int)
    assert hookspecs.INTERFACE >= 1


def test_a_whole_plugin_stands_in_the_contracts() -> None:
    """The example that plugin authors copy works as it is."""
    text = inspect.getdoc(contracts) or ""
    example = text[text.index("import hpcest") : text.index("Each class is made")]
    space: dict[str, Any] = {"__name__": "example"}
    exec(inspect.cleandoc(example), space)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)

    class Plugin:
        hpcest_register_frameworks = staticmethod(space["hpcest_register_frameworks"])

    manager.register(Plugin())
    manager.check_pending()
    (classes,) = manager.hook.hpcest_register_frameworks()
    assert [one.name for one in classes] == ["julia"]
    assert issubclass(classes[0], contracts.Framework)
    assert classes[0]()
