"""From plain values to frozen dataclasses and back, with errors that say which field."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcest.errors import SpecError, UnknownNameError
from hpcest.kit.codec import decode, encode
from hpcest.model.spec import Command, Distribution, EnvironmentSpec, GitFacts, Resources, RunSpec


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    number: int
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    ratio: float = 1.0
    on: bool = False
    count: int | None = None
    colour: Colour = Colour.RED
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    inners: dict[str, Inner] = field(default_factory=dict)
    anything: Any = None


FULL = Outer("n", 0.5, True, 3, Colour.BLUE, Inner(1, ("a", "b")), (Inner(2), Inner(3)), {"k": 1}, {"i": Inner(4)}, {"x": [1, None]})
FULL_JSON = {
    "name": "n",
    "ratio": 0.5,
    "on": True,
    "count": 3,
    "colour": "blue",
    "inner": {"number": 1, "texts": ["a", "b"]},
    "many": [{"number": 2}, {"number": 3}],
    "table": {"k": 1},
    "inners": {"i": {"number": 4}},
    "anything": {"x": [1, None]},
}


def test_every_kind_of_field_becomes_json_and_comes_back() -> None:
    assert encode(FULL) == FULL_JSON
    assert json.loads(json.dumps(encode(FULL))) == FULL_JSON
    assert decode(Outer, FULL_JSON) == FULL


def test_defaults_are_left_out_and_filled_in() -> None:
    assert encode(Outer("n")) == {"name": "n"}
    assert decode(Outer, {"name": "n"}) == Outer("n")
    assert encode(Outer("n", inner=Inner(0))) == {"name": "n", "inner": {"number": 0}}


def test_decoded_defaults_are_not_shared() -> None:
    assert decode(Outer, {"name": "a"}).table is not decode(Outer, {"name": "b"}).table


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        ({"name": 42}, Outer("42")),
        ({"name": 3.5}, Outer("3.5")),
        ({"name": "n", "ratio": 2}, Outer("n", 2.0)),
        ({"name": "n", "count": None, "inner": None}, Outer("n")),
        ({"name": "n", "inner": Inner(1)}, Outer("n", inner=Inner(1))),
        ({"name": "n", "many": (Inner(1), {"number": 2})}, Outer("n", many=(Inner(1), Inner(2)))),
        ({"name": "n", "table": {1: 2}}, Outer("n", table={"1": 2})),
    ],
)
def test_what_is_meant_is_taken(data: Any, changed: Outer) -> None:
    decoded = decode(Outer, data)
    assert decoded == changed
    assert type(decoded.ratio) is float


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (
            1,
            "",
            f"the value must be a mapping with some of the keys {', '.join(FULL_JSON)}, not 1",
        ),
        ({}, "", "Outer needs the key 'name'"),
        ({"name": None}, "name", "name must be a text, not None"),
        ({"name": True}, "name", "name must be a text, not True"),
        ({"name": ["n"]}, "name", "name must be a text, not ['n']"),
        ({"name": "n", "ratio": "1"}, "ratio", "ratio must be a number, not '1'"),
        ({"name": "n", "ratio": True}, "ratio", "ratio must be a number, not True"),
        ({"name": "n", "on": 1}, "on", "on must be true or false, not 1"),
        ({"name": "n", "on": "yes"}, "on", "on must be true or false, not 'yes'"),
        ({"name": "n", "count": "1"}, "count", "count must be a whole number, not '1'"),
        ({"name": "n", "count": 1.5}, "count", "count must be a whole number, not 1.5"),
        ({"name": "n", "count": False}, "count", "count must be a whole number, not False"),
        ({"name": "n", "colour": "green"}, "colour", "colour must be one of red, blue, not 'green'"),
        ({"name": "n", "colour": []}, "colour", "colour must be one of red, blue, not []"),
        ({"name": "n", "inner": 1}, "inner", "inner must be a mapping with some of the keys number, texts, not 1"),
        ({"name": "n", "inner": {}}, "inner", "inner needs the key 'number'"),
        ({"name": "n", "inner": {"number": 1, "texts": "abc"}}, "inner.texts", "inner.texts must be a list, not 'abc'"),
        ({"name": "n", "inner": {"number": 1, "texts": {"a": 1}}}, "inner.texts", "inner.texts must be a list, not {'a': 1}"),
        ({"name": "n", "inner": {"number": 1, "texts": ["a", None]}}, "inner.texts[1]", "inner.texts[1] must be a text, not None"),
        ({"name": "n", "many": [{"number": 1}, {"number": "x"}]}, "many[1].number", "many[1].number must be a whole number, not 'x'"),
        ({"name": "n", "table": [1]}, "table", "table must be a mapping, not [1]"),
        ({"name": "n", "table": {"a.b": "x"}}, "table.a.b", "table.a.b must be a whole number, not 'x'"),
        ({"name": "n", "inners": {"i": {"number": None}}}, "inners.i.number", "inners.i.number must be a whole number, not None"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(data: Any, path: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        decode(Outer, data)
    assert (caught.value.message, getattr(caught.value, "path", None)) == (message, path)


@pytest.mark.parametrize(
    ("data", "path", "message", "hint"),
    [
        ({"nam": 1}, "nam", "key 'nam' is not known", "did you mean 'name'?"),
        ({"name": "n", "many": [{"numbr": 1}]}, "many[0].numbr", "key in many[0] 'numbr' is not known", "did you mean 'number'?"),
        ({"name": "n", "inner": {"zzz": 1}}, "inner.zzz", "key in inner 'zzz' is not known", "known: number, texts"),
        ({7: 1}, "7", "key '7' is not known", "known: anything, colour, count, inner, inners, many, name, on, ratio, table"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(data: Any, path: str, message: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        decode(Outer, data)
    assert (caught.value.message, caught.value.hint, getattr(caught.value, "path", None)) == (message, hint, path)


def test_the_path_so_far_stands_before_the_field() -> None:
    with pytest.raises(SpecError, match=r"compute\.gpu\.number must be a whole number") as caught:
        decode(Inner, {"number": "x"}, where="compute.gpu")
    assert getattr(caught.value, "path", None) == "compute.gpu.number"
    with pytest.raises(SpecError, match=r"compute\.gpu needs the key 'number'"):
        decode(Inner, {}, where="compute.gpu")


_text = st.text(max_size=8)
_texts = st.lists(_text, max_size=3).map(tuple)
_tables = st.dictionaries(_text, _text, max_size=3)
_amount = st.none() | st.integers(0, 10**9)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda one: st.lists(one, max_size=2) | st.dictionaries(_text, one, max_size=2),
    max_leaves=4,
)
SPECS = st.builds(
    RunSpec,
    experiment=_text,
    command=st.builds(Command, script=_text, arguments=_texts, line=_text),
    git=st.none() | st.builds(GitFacts, commit=_text, dirty=st.booleans()),
    environment=st.builds(EnvironmentSpec, kind=_text, pip=_texts, conda=_texts, variables=_tables),
    resources=st.builds(Resources, nodes=st.integers(1, 99), cpus=_amount, memory=_amount, time=_amount),
    distribution=st.none() | st.builds(Distribution, kind=_text, backend=_text),
    inputs=_tables,
    tags=_tables,
    options=st.dictionaries(_text, _json, max_size=2),
)


@given(SPECS)
def test_any_run_spec_survives_its_json(spec: RunSpec) -> None:
    assert decode(RunSpec, json.loads(json.dumps(encode(spec)))) == spec
