"""docs/azureml-names.md speaks of names that there are."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from pathlib import Path

from hpcest.sdk.migration.names import NAMES, counterpart, refusal

PAGE = (Path(__file__).parents[2] / "docs" / "azureml-names.md").read_text(encoding="utf-8")
#: How a row begins that says that something isn't here, or not as such.
NOT_HERE = ("refused", "not here", "no effect", "the plugins", "a configured target")
#: Values and parts of examples, a namespace of Dataset, and a keyword that an estimator takes in place of another.
OTHERS = {"True", "workspace", "estimator", "model", "with", "Tabular", "custom_docker_base_image"}


@functools.cache
def known() -> set[str]:
    """Every name of Azure ML's modules that is here, what the classes among them have, and the arguments that all of it takes."""
    found = {part for module in NAMES for part in module.split(".")}
    for module, names in NAMES.items():
        for name in names:
            where, called = counterpart(module, name)
            found.add(name)
            if where.partition(".")[0] == "hpcest":
                found |= inside(getattr(importlib.import_module(where), called))
    return found


def inside(thing: object) -> set[str]:
    """What a class has, and the arguments of it and of its methods; those of a function."""
    if not inspect.isclass(thing):
        return arguments(thing)
    found = {name for name in dir(thing) if not name.startswith("_")}
    found |= {name for one in thing.__mro__ for name in inspect.get_annotations(one)}
    return found.union(arguments(thing), *(arguments(getattr(thing, name, None)) for name in found))


def arguments(thing: object) -> set[str]:
    """The names of what can be passed to it; none for what can't be called."""
    try:
        return set(inspect.signature(thing).parameters) if callable(thing) else set()
    except ValueError:  # some that are written in C
        return set()


def test_every_name_that_is_said_to_be_there_is() -> None:
    """What stands in the first column, apart from rows that say that it is not."""
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE, re.MULTILINE)
    said = " ".join(text for names, here in rows if not here.startswith(NOT_HERE) for text in re.findall(r"`([^`]+)`", names))
    words = {word for word in re.findall(r"[A-Za-z]\w+", re.sub(r'"[^"]*"', "", said)) if not word.endswith("_")}
    assert len(words) > 200
    assert {word for word in words if len(word) > 3} - known() - OTHERS == set()


def test_every_module_that_is_said_to_be_refused_is() -> None:
    modules = re.findall(r"`(azureml\.[\w.]+)`", PAGE.partition("## What is refused")[2].partition("Logins")[0])
    assert len(modules) > 4
    assert [module for module in modules if not refusal(module)] == []
