"""YAML as people write it: every mistake has its line, and no value turns into another behind their back."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hpcest.errors import ConfigError
from hpcest.kit.yamlfile import MAX_BYTES, Document, WrittenFloat, decode_document, load, parse, plain

FILE = Path("job.yaml")


def read(text: str) -> Document:
    return parse(dedent(text), FILE)


def complaint(text: str) -> tuple[str, str]:
    """The message and the hint for a text that must be refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    return caught.value.message, caught.value.hint


def test_every_key_and_item_has_its_line() -> None:
    document = read("""\
        # a comment
        name: x

        compute:
          gpu: {slots: 2,
                queue: long}
        pip:
          - numpy
          -
            torch
        """)
    assert document.value == {"name": "x", "compute": {"gpu": {"slots": 2, "queue": "long"}}, "pip": ["numpy", "torch"]}
    assert dict(document.lines) == {
        "": 2,
        "name": 2,
        "compute": 4,
        "compute.gpu": 5,
        "compute.gpu.slots": 5,
        "compute.gpu.queue": 6,
        "pip": 7,
        "pip[0]": 8,
        "pip[1]": 10,
    }
    assert document.where("compute.gpu.queue") == "job.yaml:6"
    assert document.where("compute.gpu.nothing.here[3]") == "job.yaml:5"
    assert document.where("nothing") == "job.yaml:2"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "~"])
def test_an_empty_file_holds_nothing(text: str) -> None:
    assert parse(text, FILE).value is None


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("42", 42),
        ("-7", -7),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("-2.50", -2.5),
        ("true", True),
        ("on", True),
        ("Yes", True),
        ("no", False),
        ("OFF", False),
        ("null", None),
        ("~", None),
        ("2:00:00", "2:00:00"),
        ("1-00:00:00", "1-00:00:00"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("010", "010"),
        ("08", "08"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("0b1", "0b1"),
        ("+5", "+5"),
        ("-0", "-0"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("12345678901234567890", "12345678901234567890"),
        ("y", "y"),
        ("'no'", "no"),
        ('"1"', "1"),
        ("!!str 1", "1"),
        ("${{inputs.data}}", "${{inputs.data}}"),
    ],
)
def test_a_word_is_what_it_looks_like(written: str, value: Any) -> None:
    found = parse(f"key: {written}\n", FILE).value["key"]
    assert found == value
    assert type(found) is type(value) or isinstance(found, WrittenFloat)


@pytest.mark.parametrize("written", ["3.10", "1.50", "1234567e8", "1.", ".5", "-0.0"])
def test_a_number_with_a_fraction_prints_as_it_was_written(written: str) -> None:
    number = plain(written)
    assert isinstance(number, float)
    assert number == float(written)
    assert f"{number}" == str(number) == repr(number) == written
    assert f"{number:.2f}" == f"{float(written):.2f}"
    assert json.loads(json.dumps({"number": number})) == {"number": float(written)}
    assert str(pickle.loads(pickle.dumps(number))) == written


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_or_refused_with_its_line(text: str) -> None:
    refusal = None
    try:
        parse(text, FILE)
    except ConfigError as error:
        refusal = error
    assert refusal is None or (re.match(r"job\.yaml:[1-9][0-9]*: ", refusal.message) and refusal.hint)


_texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=12)


@given(st.recursive(_texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3), max_leaves=8))
def test_texts_in_quotes_come_back_as_they_were(value: Any) -> None:
    assert parse(yaml.safe_dump(value, default_style='"', allow_unicode=True), FILE).value == value


TAB = ("a tab is used as indentation, which YAML forbids", "indent with spaces")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a:\n\tb: 1\n", 2),
        ("a:\n  \tb: 1\n", 2),
        ("\ta: 1\n", 1),
        ("a: |\n\ttext\n", 2),
        ("a: text\n\tgoes on\n", 2),
        ("a:\n  - 1\n\t- 2\n", 3),
    ],
)
def test_a_tab_as_indentation_is_refused_in_words(text: str, line: int) -> None:
    assert complaint(text) == (f"job.yaml:{line}: {TAB[0]}", TAB[1])


def test_a_tab_elsewhere_is_as_good_as_a_blank() -> None:
    assert parse("a:\t1\nb: |\n  if:\n  \tgo\nc: 'x\ty'\n", FILE).value == {"a": 1, "b": "if:\n\tgo\n", "c": "x\ty"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("a: 1\nb: 2\na: 3\n", "3: the key 'a' is here a second time; the first is on line 1", "keep one of them"),
        ("x:\n  a: 1\n  'a': 2\n", "3: the key 'a' is here a second time; the first is on line 2", "keep one of them"),
        ("a: 1\n---\nb: 2\n", "2: a second document starts here (---), but a file holds one", "remove it, or use two files"),
        ("1: x\n", "1: the key '1' is read as a number, but keys must be texts", "write it in quotes: '1'"),
        ("a: 1\nno: x\n", "2: the key 'no' is read as true or false, but keys must be texts", "write it in quotes: 'no'"),
        ("~: x\n", "1: the key '~' is read as nothing, but keys must be texts", "write it in quotes: '~'"),
        ("a: {{name}}\n", "1: a key must be a text, not a list, a mapping or an alias", "put a text that starts with {, [ or * in quotes"),
        ("a: !secret x\n", "1: the tag !secret is not supported", "remove it; put a text that starts with ! in quotes"),
        (
            "a: !!python/object:os.system x\n",
            "1: the tag !!python/object:os.system is not supported",
            "remove it; put a text that starts with ! in quotes",
        ),
        ("ok: 1\na: *b\n", "2: *b refers to an anchor that is not defined before it", "put a text that starts with * in quotes"),
        ("a: &a [*a]\n", "1: *a refers to an anchor that is not defined before it", "put a text that starts with * in quotes"),
        ("a: &a 1\nb: {<<: *a}\n", "2: << takes a mapping or a list of mappings", "name an anchor of a mapping: <<: *name"),
        ("a: \x00\n", "1: the character U+0000 is not allowed in YAML", "remove it"),
        ("a: 1\nb: \x1b[0m\n", "2: the character U+001B is not allowed in YAML", "remove it"),
    ],
)
def test_what_is_refused_and_how(text: str, message: str, hint: str) -> None:
    assert complaint(text) == (f"job.yaml:{message}", hint)


@pytest.mark.parametrize(
    ("text", "start", "shown", "hint"),
    [
        (
            "a: 1\nb: c: d\n",
            "2: not valid YAML at column 5: ",
            "'b: c: d'",
            "check the indentation, and put a value that contains ': ' in quotes",
        ),
        ("ignore:\n- *.pyc\n", "2: not valid YAML at column 4: ", "'- *.pyc'", "put a value that starts with * in quotes"),
        ("a: @latest\n", "1: not valid YAML at column 4: ", "'a: @latest'", "put a value that starts with @ in quotes"),
        (
            "a: 'open\nb: 2\n",
            "1: not valid YAML at column 4: ",
            '"a: \'open"',
            "check indentation, quotes and brackets here and on the line before",
        ),
        (
            "x: 1\na: [1\nb: 2\n",
            "3: not valid YAML at column 2: ",
            "'b: 2'",
            "check indentation, quotes and brackets here and on the line before",
        ),
        ("a: [1,\n\t@]\n", "2: not valid YAML at column 2: ", "'@]'", "put a value that starts with @ in quotes"),
        ("a: {\n", "1: not valid YAML: the file ends too early: ", "", "close what is open, or give the last key its value"),
    ],
)
def test_a_slip_of_syntax_has_line_column_and_text(text: str, start: str, shown: str, hint: str) -> None:
    message, given_hint = complaint(text)
    assert message.startswith(f"job.yaml:{start}")
    assert message.endswith(shown)
    assert given_hint == hint


def test_an_unfinished_list_says_where_it_starts() -> None:
    assert "in what starts on line 2: 'b: 2'" in complaint("x: 1\na: [1\nb: 2\n")[0]


@pytest.mark.parametrize("bracket", ["[", "{a: "])
def test_deep_nesting_is_refused_at_once(bracket: str) -> None:
    assert complaint(bracket * 100_000)[0] == "job.yaml:1: values are nested more than 50 deep"


def test_aliases_share_values_but_not_without_end() -> None:
    assert read("""\
        base: &base {a: 1, b: 2}
        one: *base
        two: {<<: *base, b: 3}
        three: {<<: [*base, {a: 5, c: 6}]}
        """).value == {"base": {"a": 1, "b": 2}, "one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3}, "three": {"a": 1, "b": 2, "c": 6}}
    assert parse("a: &a {x: 1}\n'<<': *a\n", FILE).value == {"a": {"x": 1}, "<<": {"x": 1}}
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert complaint(bomb)[0] == "job.yaml:6: the file holds more than 100000 values"


def test_a_file_is_read_with_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a b.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: \xc3\xa9t\xc3\xa9\r\n")
    assert load(file).value == {"name": "été"}
    assert load(file).where("name") == f"{file}:1"


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"a: 1\nname: \xe9t\xe9\n")
    with pytest.raises(ConfigError, match=re.escape(f"{file}:2: not UTF-8 text (byte 0xe9)")):
        load(file)


def test_what_is_no_readable_file_is_refused_by_its_name(tmp_path: Path) -> None:
    loop, large = tmp_path / "loop.yaml", tmp_path / "large.yaml"
    loop.symlink_to(loop)
    large.write_text("#" * (MAX_BYTES + 1))
    for path, reason in {
        tmp_path / "none.yaml": "can't be read: no such file or directory",
        tmp_path: "this is a directory, not a YAML file",
        loop: "can't be read: too many levels of symbolic links",
        large: "larger than 1 MB, so hardly a file of settings",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert caught.value.message == f"{path}: {reason}"
        assert caught.value.hint
    large.write_text("#" * MAX_BYTES)
    assert load(large).value is None


@dataclass(frozen=True)
class Limits:
    time: str = ""
    tries: int = 1
    version: str = ""


@dataclass(frozen=True)
class Job:
    name: str
    limits: Limits = field(default_factory=Limits)
    pip: tuple[str, ...] = ()
    ratio: float = 1.0


def test_a_document_becomes_a_dataclass() -> None:
    document = read("""\
        name: 42
        limits: {time: 2:00:00, version: 3.10}
        pip: [numpy, 1.0]
        ratio: 2
        """)
    assert decode_document(Job, document) == Job("42", Limits("2:00:00", 1, "3.10"), ("numpy", "1.0"), 2.0)
    assert decode_document(Limits, document, "limits") == Limits("2:00:00", 1, "3.10")


def test_a_part_that_is_not_there_is_empty() -> None:
    document = read("name: x\nlimits:\nall: [{time: 1}]\n")
    assert decode_document(Limits, document, "limits") == decode_document(Limits, document, "none") == Limits()
    assert decode_document(Limits, document, "all[0]") == Limits("1")
    assert decode_document(Limits, document, "all[7]") == Limits()
    assert decode_document(Limits, parse("", FILE)) == Limits()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("name: x\nlimts: {}\n", "2: key 'limts' is not known", "did you mean 'limits'?"),
        ("name: x\nlimits:\n  tme: 1\n", "3: key in limits 'tme' is not known", "did you mean 'time'?"),
        ("name: x\nlimits:\n  tries: many\n", "3: limits.tries must be a whole number, not 'many'", ""),
        ("name: x\npip:\n- a\n- [b]\n", "4: pip[1] must be a text, not ['b']", ""),
        ("name: x\nratio: 1.50.1\n", "2: ratio must be a number, not '1.50.1'", ""),
        ("pip: []\n", "1: Job needs the key 'name'", ""),
        ("ratio: 1\nname: no\n", "2: name must be a text, not False", "YAML reads no as false; put it in quotes if the text is meant"),
        ("name: On\n", "1: name must be a text, not True", "YAML reads On as true; put it in quotes if the text is meant"),
    ],
)
def test_a_wrong_value_has_its_line_and_the_nearest_name(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_document(Job, parse(text, FILE))
    assert (caught.value.message, caught.value.hint) == (f"job.yaml:{message}", hint)


def test_a_file_that_holds_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"job\.yaml:1: the value must be a mapping with some of the keys name, limits"):
        decode_document(Job, parse("name:x", FILE))
