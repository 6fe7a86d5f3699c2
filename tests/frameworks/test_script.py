"""The built-in framework: the right interpreter for each script, and clear words for what can't be started."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcest.errors import SpecError
from hpcest.frameworks.script import Script, hpcest_register_frameworks
from hpcest.kit.process import run
from hpcest.model.plan import Activation, Program
from hpcest.model.spec import Command, Distribution, Resources, RunSpec

INSIDE = Activation("/env/bin/python", prefix=("apptainer", "exec", "image.sif"), variables={"A": "1"})
SCRIPT = Command("train.py")


def spec_of(command: Command = SCRIPT, **fields: Any) -> RunSpec:
    return RunSpec("experiment", command, **fields)


def argv(command: Command, activation: Activation = INSIDE) -> tuple[str, ...]:
    return Script().program(spec_of(command), activation).argv


def complaint(spec: RunSpec) -> tuple[str, str]:
    """The message and the hint for a spec that must be refused."""
    with pytest.raises(SpecError) as caught:
        Script().check(spec)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("train.py", ("/env/bin/python", "train.py")),
        ("src/a b.py", ("/env/bin/python", "src/a b.py")),
        ("./train.py", ("/env/bin/python", "./train.py")),
        ("run.sh", ("bash", "run.sh")),
        ("run.bash", ("bash", "run.bash")),
        ("model.R", ("Rscript", "model.R")),
        ("model.r", ("Rscript", "model.r")),
        ("model.jl", ("julia", "model.jl")),
        ("solver", ("./solver",)),
        ("bin/solver", ("./bin/solver",)),
        ("solver.x", ("./solver.x",)),
        ("v1.2/solver", ("./v1.2/solver",)),
        (".hidden", ("./.hidden",)),
        ("-c.py", ("/env/bin/python", "./-c.py")),
        ("-c.sh", ("bash", "./-c.sh")),
    ],
)
def test_a_script_is_started_by_its_suffix(script: str, expected: tuple[str, ...]) -> None:
    assert argv(Command(script)) == expected
    assert argv(Command(script, ("--lr", "0.1", "", "$RANK"))) == (*expected, "--lr", "0.1", "", "$RANK")
    Script().check(spec_of(Command(script)))


def test_the_program_is_one_process_per_rank_that_prints_at_once() -> None:
    assert Script().program(spec_of(), INSIDE) == Program(("/env/bin/python", "train.py"), {"PYTHONUNBUFFERED": "1"}, "process")


def test_a_script_really_runs_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "a b.py").write_text("import sys; print(sys.argv)")
    (tmp_path / "a b.sh").write_text('printf "%s|" "$0" "$@"')
    (tmp_path / "a b").write_text('#!/bin/sh\nprintf "%s|" "$0" "$@"')
    (tmp_path / "a b").chmod(0o755)
    here = Activation(sys.executable)
    arguments = ("", "x y", "$HOME", "'")
    assert run(argv(Command("a b.py", arguments), here), cwd=tmp_path).out == f"{['a b.py', *arguments]}\n"
    assert run(argv(Command("a b.sh", arguments), here), cwd=tmp_path).out == "a b.sh||x y|$HOME|'|"
    assert run(argv(Command("a b", arguments), here), cwd=tmp_path).out == "./a b||x y|$HOME|'|"


LINES = [
    ("echo one && echo two", "one\ntwo\n", 0),
    ("for i in 1 2; do\n  echo $i\ndone", "1\n2\n", 0),
    ('echo "it\'s $NAME" | tr a-z A-Z; exit 3', "IT'S ME\n", 3),
    ("kill -TERM $$", "", -15),
]


@pytest.mark.parametrize(("line", "out", "code"), LINES)
@pytest.mark.parametrize("programs", [("bash", "tr"), ("tr",)], ids=["with bash", "with nothing but sh"])
def test_a_command_line_runs_with_bash_and_where_there_is_none_with_sh(
    tmp_path: Path, line: str, out: str, code: int, programs: tuple[str, ...]
) -> None:
    for name in programs:
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = run(argv(Command(line=line)), env={"PATH": str(tmp_path), "NAME": "me"})
    assert (done.out, done.code) == (out, code)


def test_a_command_line_may_use_what_only_bash_can() -> None:
    done = run(argv(Command(line="a=(x 'y z'); [[ ${a[1]} == y* ]] && echo ${#a[@]} ${BASH_VERSION:+bash}")))
    assert (done.out, done.err) == ("2 bash\n", "")


def test_the_shell_is_replaced_so_that_signals_reach_what_it_runs(tmp_path: Path) -> None:
    done = run(argv(Command(line=f"exec {sys.executable} -c 'import os; print(os.getppid())'")))
    assert done.out == f"{os.getpid()}\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip))
def test_any_command_line_arrives_as_it_was_written(line: str) -> None:
    command = Command(line=line)
    Script().check(spec_of(command))
    assert argv(command)[-1] == line


@pytest.mark.parametrize("kind", [None, "mpi", "pytorch", "tensorflow"])
def test_all_kinds_of_distribution_will_do(kind: str | None) -> None:
    Script().check(spec_of(distribution=Distribution(kind) if kind else None))


def test_an_unknown_distribution_is_refused() -> None:
    assert complaint(spec_of(distribution=Distribution("horovod"))) == (
        "the framework 'script' can't do the distribution 'horovod'",
        "allowed: mpi, pytorch, tensorflow",
    )


NEEDED = "a run needs an entry script or a command line, "
GIVE_ONE = "give one: script='train.py', or command='python train.py'"


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        (Command(), NEEDED + "here is neither", GIVE_ONE),
        (Command(line="  \n"), NEEDED + "here is neither", GIVE_ONE),
        (Command("a.py", line="python a.py"), NEEDED + "not both a script ('a.py') and a command line", GIVE_ONE),
        (Command("a.py", line=" "), NEEDED + "not both a script ('a.py') and a command line", GIVE_ONE),
        (Command(line="x", arguments=("y",)), "a command line takes no arguments beside it", "write them into the line"),
        (Command("a.py", ("--lr", 0.1)), "argument 2 must be a text, not 0.1", "write it as '0.1'"),  # type: ignore[arg-type]
        (Command(Path("a.py")), "script and command line must be texts, not PosixPath('a.py')", ""),  # type: ignore[arg-type]
        (Command(line=["a", "b"]), "script and command line must be texts, not ['a', 'b']", ""),  # type: ignore[arg-type]
        (Command("a.py", ("a\0b",)), "a command can't contain NUL characters", "pass such data in a file"),
        (Command(line="a\0b"), "a command can't contain NUL characters", "pass such data in a file"),
        (Command("/home/me/a.py"), "entry script '/home/me/a.py' must be a path relative to the source directory", "such as 'a.py'"),
        (Command("../a.py"), "entry script '../a.py' must be a file inside the source directory", "name a higher source directory"),
        (
            Command("a/../../b.py"),
            "entry script 'a/../../b.py' must be a file inside the source directory",
            "name a higher source directory",
        ),
        (Command("."), "entry script '.' must be a file inside the source directory", "name a higher source directory"),
        (Command("src/"), "entry script 'src/' must be a file inside the source directory", "name a higher source directory"),
        (Command("a.ipynb"), "entry script 'a.ipynb' is a notebook, which is not a program", "jupyter nbconvert --to script a.ipynb"),
    ],
)
def test_a_command_that_can_not_be_started_is_refused(command: Command, message: str, hint: str) -> None:
    assert complaint(spec_of(command)) == (message, hint)


@pytest.mark.parametrize("script", ["solver", "solver.pl"])
def test_a_file_that_is_no_program_is_refused_while_the_source_is_there(tmp_path: Path, script: str) -> None:
    file = tmp_path / script
    file.write_text("#!/bin/sh\n")
    spec = spec_of(Command(script), source=str(tmp_path))
    message, hint = complaint(spec)
    known = ".py, .sh, .bash, .R, .r, .jl"
    assert message == f"entry script {script!r} is not executable, and its suffix names no interpreter (known: {known})"
    assert hint.startswith(f"make it a program: chmod +x {script} ")
    file.chmod(0o755)
    Script().check(spec)
    file.unlink()
    Script().check(spec)  # whether it is there at all is asked elsewhere
    Script().check(replace(spec, source=str(tmp_path / "gone")))


@pytest.mark.parametrize(
    ("field", "amount", "lowest"),
    [
        ("nodes", 0, 1),
        ("nodes", None, 1),
        ("nodes", True, 1),
        ("nodes", 1.0, 1),
        ("nodes", "2", 1),
        ("procs_per_node", -1, 1),
        ("cpus", 0, 1),
        ("gpus", -1, 0),
        ("memory", 0, 1),
        ("time", 0, 1),
        ("time", "2:00:00", 1),
    ],
)
def test_an_amount_that_can_not_be_given_is_refused(field: str, amount: Any, lowest: int) -> None:
    spec = spec_of(resources=Resources(**{field: amount}))
    assert complaint(spec)[0] == f"{field} must be a whole number from {lowest} up, not {amount!r}"


def test_amounts_that_can_be_given_are_taken() -> None:
    Script().check(spec_of(resources=Resources(4, 8, cpus=1, gpus=0, memory=1, time=1)))


def test_it_is_registered() -> None:
    assert list(hpcest_register_frameworks()) == [Script]
    assert Script.name == "script"


def test_a_rerun_does_not_look_at_the_source_of_today(tmp_path: Path) -> None:
    """Its own source, with its own permissions, is in the snapshot."""
    (tmp_path / "train").write_text("#!/bin/sh\n")
    spec = RunSpec("e", Command("train"), source=str(tmp_path))
    with pytest.raises(SpecError, match="is not executable"):
        Script().check(spec)
    Script().check(replace(spec, snapshot="abc"))
