"""What stands for an input reaches the program as one piece of text, wherever in a shell line it stands."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from hpcest.errors import ConfigError
from hpcest.kit.process import run
from hpcest.sdk.jobs.text import Texts, Value

ODD = """/tmp/a b'c"$HOME/`x`\\d*"""
KNOWN = {
    "inputs.there": Value(None, "AZURE_ML_INPUT_there"),
    "inputs.odd": Value(ODD, "AZURE_ML_INPUT_there"),
    "inputs.plain": Value("/data/x.csv", "AZURE_ML_INPUT_plain"),
    "inputs.words": Value("--a 1 --b 2", raw=True),
    "inputs.quote": Value("it's", raw=True),
    "inputs.absent": Value(given=False),
}
SHOW = f"{sys.executable} -c 'import json,sys; print(json.dumps(sys.argv[1:]))' "


def wrong(piece: str, problem: str, hint: str) -> NoReturn:
    raise ConfigError(f"{piece} {problem}", hint=hint)


def printed(line: str) -> str:
    """What bash makes of a line, with the variable that a node would set."""
    filled = Texts(KNOWN).line(line, wrong)
    found = run([shutil.which("bash") or "bash", "-c", filled], env={**os.environ, "AZURE_ML_INPUT_there": ODD})
    return found.out


@pytest.mark.parametrize("name", ["there", "odd"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--d ${{inputs.X}} b", ["--d", ODD, "b"]),
        ("--d=${{ inputs.X }}/x.csv", [f"--d={ODD}/x.csv"]),
        ('"in ${{inputs.X}}x"', [f"in {ODD}x"]),
        ("'in ${{inputs.X}} $x'", [f"in {ODD} $x"]),
        ('\\" ${{inputs.X}}', ['"', ODD]),
        ('"\\"" \'"\' ${{inputs.X}}', ['"', '"', ODD]),
        ("a#b ${{inputs.X}}", ["a#b", ODD]),
        ("${{inputs.X}}${{inputs.plain}}", [f"{ODD}/data/x.csv"]),
        ("a \\\n  ${{inputs.X}}", ["a", ODD]),
    ],
)
def test_a_path_is_one_piece_of_text(name: str, line: str, words: list[str]) -> None:
    assert json.loads(printed(SHOW + line.replace("X", name))) == words


@pytest.mark.parametrize("name", ["there", "odd"])
def test_quotes_in_comments_and_here_documents_mean_nothing(name: str) -> None:
    text = f"# don't\ncat <<END\nhe's ${{{{inputs.{name}}}}}\nEND\n{SHOW} ${{{{inputs.{name}}}}}"
    shown, words = printed(text).splitlines()
    assert (shown, json.loads(words)) == (f"he's {ODD}", [ODD])


def test_a_path_in_a_here_document_that_is_in_quotes() -> None:
    assert printed("cat <<'END'\nit's ${{inputs.odd}}\nEND\n") == f"it's {ODD}\n"
    with pytest.raises(ConfigError, match="is only known on the node, and stands in a here-document"):
        Texts(KNOWN).line("cat <<'END'\n${{inputs.there}}\nEND\n", wrong)


def test_a_path_that_a_shell_leaves_alone_stands_in_the_line() -> None:
    assert Texts(KNOWN).line("""a ${{inputs.plain}} "${{inputs.plain}}" '${{inputs.plain}}'""", wrong) == (
        """a /data/x.csv "/data/x.csv" '/data/x.csv'"""
    )


def test_a_literal_stands_in_the_line_as_it_is_written() -> None:
    """So it may hold several words; its own quotes count for what comes after it."""
    assert json.loads(printed(SHOW + "${{inputs.words}}")) == ["--a", "1", "--b", "2"]
    assert json.loads(printed(SHOW + '"${{inputs.quote}}" ${{inputs.there}}')) == ["it's", ODD]


def test_optional_parts() -> None:
    line = "a $[[--x ${{inputs.absent}}]] $[[ --y ${{inputs.plain}} ]] $[[--z ${{inputs.plain}} ${{inputs.absent}}]]b"
    assert Texts(KNOWN).line(line, wrong) == "a  --y /data/x.csv b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("${{inputs.absent}}", "${{inputs.absent}} has no value"),
        ("${{inputs.non}}", "${{inputs.non}} is not known"),
        ("$[[ ${{inputs.non}} ]]", "${{inputs.non}} is not known"),
        ("${{parent.inputs.x}}", "${{parent.inputs.x}} is not known"),
        ("${{inputs.plain}", "${{ is never closed"),
        ("--x {inputs.plain}", "{inputs.plain} is no placeholder any more"),
        ("$[[ --x ${{inputs.plain}} ]", "$[[ is never closed"),
    ],
)
@pytest.mark.parametrize("method", ["line", "argument", "plain"])
def test_nothing_is_left_over(line: str, message: str, method: str) -> None:
    with pytest.raises(ConfigError) as error:
        getattr(Texts(KNOWN), method)(line, wrong)
    assert error.value.message == message


def test_arguments_of_a_script_and_values_of_variables() -> None:
    """No shell reads them; the node replaces a variable in an argument."""
    texts = Texts(KNOWN)
    assert texts.argument("--d=${{inputs.there}}/x", wrong) == "--d=${AZURE_ML_INPUT_there}/x"
    assert texts.argument("${{inputs.odd}}", wrong) == ODD
    assert texts.plain("${{inputs.odd}}:${{inputs.words}}", wrong) == f"{ODD}:--a 1 --b 2"
    assert texts.plain("${{inputs.there}}", wrong) is None


def test_the_library_of_a_program_is_not_touched(tmp_path: Path) -> None:
    """A text without placeholders stays as it is, whatever a shell would see in it."""
    line = "a 'b\" $[ 1 ] ${x} {{y}} $(z) << 'Q'"
    assert Texts({}).line(line, wrong) == line
