"""What programs for Azure ML's SDK name, pass and use is there: the rows of the files beside this one, compared with hpcest."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import hpcest

HERE = Path(__file__).parent
REPOSITORY = Path(hpcest.__file__).parents[1]
PLUGINS = sorted(folder.parent for folder in (REPOSITORY / "plugins").glob("*/pyproject.toml"))
SHIM = next(path for folder in PLUGINS for path in folder.glob("*/shim"))

Row = Mapping[str, Any]
_UNPACKED = re.compile(r"(?:typing_extensions\.)?Unpack\[([\w.]+)\]")


def rows() -> list[Row]:
    """The rows of all files."""
    return [row for path in sorted(HERE.glob("*.yaml")) for row in yaml.safe_load(path.read_text(encoding="utf-8"))]


ROWS = rows()
THERE = [row for row in ROWS if "hpcest" in row]


@pytest.fixture(autouse=True)
def plugins_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of this repository, whether they are installed or not."""
    for folder in PLUGINS:
        monkeypatch.syspath_prepend(str(folder))


def found(name: str) -> Any:
    """What a row is about: ``X`` of hpcest, or ``module:X``."""
    module, _, called = name.rpartition(":")
    return getattr(importlib.import_module(module or "hpcest"), called)


def listed(signature: str | list[str]) -> inspect.Signature:
    """A signature as it is written in a row. ``...`` as a default is one that is not compared."""
    text = signature if isinstance(signature, str) else f"({', '.join(signature)})"
    scope: dict[str, Any] = {}
    exec(f"def listed{text}: ...", scope)  # the rows are our own
    return inspect.signature(scope["listed"])


def without_effect(function: Any, parameters: Mapping[str, inspect.Parameter]) -> set[str]:
    """The keywords that the TypedDict of ``**kwargs`` has."""
    last = next((one for one in parameters.values() if one.kind is one.VAR_KEYWORD), None)
    unpacked = _UNPACKED.fullmatch(str(last.annotation)) if last else None
    if not unpacked:
        return set()
    holder = getattr(function, "__init__", function) if isinstance(function, type) else getattr(function, "__func__", function)
    value: Any = None
    for scope in [vars(sys.modules[holder.__module__]), *(vars(sys.modules[base.__module__]) for base in getattr(function, "__mro__", ()))]:
        first, *others = unpacked[1].split(".")
        if first in scope:
            value = scope[first]
            for part in others:
                value = getattr(value, part)
            break
    assert value is not None, f"{unpacked[1]} can't be found at run time"
    return set(value.__annotations__)


def bound(function: Any, *, drop_first: bool) -> list[inspect.Parameter]:
    """A function's parameters, without ``self``."""
    parameters = list(inspect.signature(function).parameters.values())
    return parameters[1:] if drop_first else parameters


def problems(function: Any, parameters: list[inspect.Parameter], wanted: inspect.Signature, differs: Mapping[str, str]) -> Iterator[str]:
    """What of a listed signature a function does not take; and what is said to differ, and does not."""
    mine = {one.name: one for one in parameters}
    by_place = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    ignored = without_effect(function, mine)
    theirs = [one for one in wanted.parameters.values() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    names, moved = {one.name for one in theirs}, False
    for place, one in enumerate(theirs):
        own = mine.get(one.name)
        if own is None and one.name not in ignored:
            if "*" in differs and place < len(by_place) and by_place[place] not in names:
                names.add(by_place[place])  # called otherwise
                moved = True
                continue
            yield f"has no parameter {one.name!r}"
            continue
        misplaced = one.kind is one.POSITIONAL_OR_KEYWORD and by_place[place : place + 1] != [one.name]
        default = own is not None and one.default not in (inspect.Parameter.empty, ...) and own.default != one.default
        moved = moved or misplaced
        if one.name in differs:
            if not misplaced and not default:
                yield f"{one.name!r} does not differ"
        elif misplaced and "*" not in differs:
            yield f"{one.name!r} is not parameter {place}, but {by_place}"
        elif default:
            assert own is not None
            yield f"{one.name!r} is {own.default!r} by default, not {one.default!r}"
    if "*" in differs and not moved:
        yield "no parameter is elsewhere, so '*' does not differ"
    for name, own in mine.items():
        if own.default is own.empty and own.kind in (own.POSITIONAL_OR_KEYWORD, own.KEYWORD_ONLY) and name not in names:
            yield f"needs {name!r}, which Azure ML does not know"


def below(differs: Mapping[str, str], member: str) -> dict[str, str]:
    """What of ``differs`` is about a member's parameters."""
    return {key.partition(".")[2]: why for key, why in differs.items() if key.startswith(f"{member}.")}


def of_member(owner: Any, name: str, wanted: str, differs: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a member of a class."""
    if wanted == "attribute":
        annotated = any(name in inspect.get_annotations(one) for one in owner.__mro__)
        if not annotated and inspect.getattr_static(owner, name, None) is None:
            yield "is not there"
        return
    raw = inspect.getattr_static(owner, name, None)
    if raw is None:
        yield "is not there"
    elif wanted == "property":
        if not isinstance(raw, property) and name not in differs:
            yield f"is no property, but {raw!r}"
    elif not callable(getattr(owner, name)):
        yield f"is no method, but {raw!r}"
    else:
        function = getattr(owner, name)
        plain = not isinstance(raw, (staticmethod, classmethod))
        yield from problems(function, bound(function, drop_first=plain), listed(wanted), below(differs, name))


@pytest.mark.parametrize("row", THERE, ids=lambda row: str(row["hpcest"]))
def test_it_is_as_it_is_listed(row: Row) -> None:
    """Each parameter in its place with its default, each member of its kind."""
    thing, differs, members = found(row["hpcest"]), row.get("differs", {}), row.get("members", {})
    wrong: list[str] = []
    if "signature" in row:
        wanted = listed(row["signature"])
        wrong += problems(thing, bound(thing, drop_first=False), wanted, {key: why for key, why in differs.items() if "." not in key})
    for name, kind in members.items():
        wrong += [f"{name} {problem}" for problem in of_member(thing, name, kind, differs)]
    unknown = {key.partition(".")[0] for key in differs} - {
        *members,
        *(listed(row["signature"]).parameters if "signature" in row else ()),
        "*",
    }
    assert wrong == []
    assert unknown == set()
    assert all((str(why).endswith(".") and " " in str(why)) or str(why) == "Kept." for why in differs.values())


def asked(code: str) -> Any:
    """What a program says as JSON, in a Python of its own that finds the plugins."""
    there = [str(SHIM), *map(str, PLUGINS), str(REPOSITORY)]
    env = {name: value for name, value in os.environ.items() if name != "HPCEST_RUN_DIR"} | {"PYTHONPATH": os.pathsep.join(there)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_azure_mls_names_are_the_very_objects() -> None:
    """All of them, as ``from MODULE import NAME`` gets them from the plugin."""
    pairs = [(azures, row["hpcest"]) for row in THERE for azures in row.get("azureml", [])]
    code = f"""
import importlib, json
wrong = []
for azures, ours in {pairs!r}:
    module, _, name = azures.rpartition(".")
    where, _, called = ours.rpartition(":")
    try:
        scope = {{}}
        exec("from %s import %s as found" % (module, name), scope)
        if scope["found"] is not getattr(importlib.import_module(where or "hpcest"), called):
            wrong.append([azures, repr(scope["found"])])
    except (ImportError, AttributeError) as error:
        wrong.append([azures, str(error)])
print(json.dumps(wrong))
"""
    assert len(pairs) > 40
    assert asked(code) == []


def test_what_hpcest_has_not_is_refused_with_what_to_do_instead() -> None:
    """By the plugin, in the sentence that the row has a part of."""
    pairs = [(name, row["refused"]) for row in ROWS if "refused" in row for name in row["azureml"]]
    code = f"""
import json
wrong = []
for azures, sentence in {pairs!r}:
    module, _, name = azures.rpartition(".")
    try:
        exec("from %s import %s" % (module, name), {{}})
        wrong.append([azures, "is there"])
    except ImportError as error:
        if sentence not in str(error):
            wrong.append([azures, str(error)])
print(json.dumps(wrong))
"""
    assert len(pairs) > 10
    assert asked(code) == []


def test_a_row_that_is_not_so_is_found() -> None:
    """The comparison itself: another place, another default, a parameter or member that is not there, a difference that is none."""

    class Mine:
        known: int

        def __init__(self, name: str, size: int = 2, *, own: str) -> None: ...

        @property
        def shown(self) -> int:
            return 0

        def run(self, config: object, tags: object = None) -> None: ...

    def said(signature: str, **differs: str) -> list[str]:
        return list(problems(Mine, bound(Mine, drop_first=False), listed(signature), differs))

    assert said("(name, size=2, *, own)") == []
    assert said("(name, size=3, *, own)") == ["'size' is 2 by default, not 3"]
    assert said("(name, size=3, *, own)", size="On purpose.") == []
    assert said("(name, size=2, *, own)", size="On purpose.") == ["'size' does not differ"]
    assert said("(size=2, name=..., *, own)") == [
        "'size' is not parameter 0, but ['name', 'size']",
        "'name' is not parameter 1, but ['name', 'size']",
    ]
    assert said("(name, size=2, own=...)", **{"*": "By name."}) == []
    assert said("(called, size=2, *, own)", **{"*": "By place."}) == []
    assert said("(called, size=2, *, own)") == ["has no parameter 'called'", "needs 'name', which Azure ML does not know"]
    assert said("(name, size=2)") == ["needs 'own', which Azure ML does not know"]
    assert said("(name, size=2, colour=None, *, own)") == ["has no parameter 'colour'"]
    kinds = {"known": "attribute", "shown": "property", "run": "(config, tags=None, **kwargs)"}
    assert [text for name, kind in kinds.items() for text in of_member(Mine, name, kind, {})] == []
    assert list(of_member(Mine, "gone", "attribute", {})) == list(of_member(Mine, "gone", "()", {})) == ["is not there"]
    assert list(of_member(Mine, "run", "(config, tags=1)", {})) == ["'tags' is None by default, not 1"]
    assert list(of_member(Mine, "run", "(config, tags=1)", {"run.tags": "On purpose."})) == []
