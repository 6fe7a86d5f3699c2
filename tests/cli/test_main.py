"""The command itself: its table of commands, its start-up, and the one place where errors become messages and codes."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hpcest
from hpcest.cli import main
from hpcest.errors import HpcestError
from hpcest.kit.process import run
from hpcest.model.folders import WorkspaceFolder

CLI = Path(main.__file__).parent
HEAVY = {"submitit", "sqlite_utils", "spython", "rich", "yaml", "pluggy"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name."""
    for name, (place, _) in main.COMMANDS.items():
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", inner) for below, inner in command.commands.items())
        yield name, command


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_table_has_each_commands_own_short_help(name: str) -> None:
    command = dict(commands())[name]
    assert (command.name, command.short_help) == (name, main.COMMANDS[name][1])


@pytest.mark.parametrize(("name", "command"), [*commands()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_explains_itself(name: str, command: click.Command) -> None:
    """What it does, what each option means, and with --json every key; the metavar says what a value is."""
    assert command.help
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []
    if any("--json" in one.opts for one in options):
        assert "--json: a" in command.help
    assert not re.search(r"\b(colour|TODO)\b", command.help)


def test_everything_that_lists_or_shows_has_json() -> None:
    without = {name for name, command in commands() if not any("--json" in one.opts for one in command.params)}
    groups = {name for name, command in commands() if isinstance(command, click.Group)}
    files = {"artifacts get", "models download", "env lock", "env export", "env publish", "env pin"}
    assert without - groups == {"init", "logs", "exec", "script", "tag", "delete", "reindex", *files}


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["runs", "--help"], ["models", "list", "--help"], ["submit", "--help"]])
def test_a_start_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = """if True:
        import json, sys
        from hpcest.cli.main import main
        sys.argv = ["hpcest", *sys.argv[1:]]
        try:
            main()
        finally:
            json.dump(sorted(sys.modules), sys.stderr)
    """
    done = run([sys.executable, "-c", code, *words], cwd=tmp_path)
    assert done.code == 0
    assert not HEAVY & {name.partition(".")[0] for name in json.loads(done.err)}
    if words == ["--version"]:
        assert done.out == f"hpcest, version {hpcest.__version__}\n"
        assert not {"sqlite3", "hpcest.config", "hpcest.sdk.estimator"} & set(json.loads(done.err))


def test_there_is_one_boundary() -> None:
    """Elsewhere nothing makes click's exceptions but its own UsageError and BadParameter, and nothing catches ours."""
    for path in [*CLI.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if path.name == "main.py":
                continue
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                assert not any("Exception" in base or "Error" in base for base in bases), f"{path.name}: {node.name}"
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("click."):
                assert node.attr not in ("ClickException", "FileError", "Abort"), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.ExceptHandler) and node.type is not None:
                assert "HpcestError" not in ast.unparse(node.type), f"{path.name}:{node.lineno}"
    assert sum("ClickException" in inspect.getsource(import_module(f"hpcest.cli.{path.stem}")) for path in CLI.glob("*.py")) == 1


def test_nothing_but_output_prints() -> None:
    for path in CLI.glob("*.py"):
        text = path.read_text()
        assert path.name == "output.py" or not re.search(r"\bprint\(|click\.echo\(|click\.secho\(|sys\.stdout", text), path.name


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], click.testing.Result]:
    """``failing(error)``: what comes out of the command when a part of it raises ``error``."""

    def run(error: BaseException, *options: str) -> click.testing.Result:
        @click.command()
        def broken() -> None:
            raise error

        monkeypatch.setitem(main.cli.commands, "broken", broken)
        return CliRunner().invoke(main.cli, [*options, "broken"], prog_name="hpcest")

    return run


class OursError(HpcestError):
    exit_code = 7


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (HpcestError("it is wrong"), "Error: it is wrong\n", 1),
        (OursError("it is wrong", hint="mend it"), "Error: it is wrong\nHint: mend it\n", 7),
        (HpcestError("bad \x1b[31mname\r\nsecond\tline"), "Error: bad \\x1b[31mname\\r\nsecond\\tline\n", 1),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            "Error: /root/x: Permission denied\nHint: --traceback shows where it came from\n",
            1,
        ),
        (OSError(28, "No space left on device"), "Error: No space left on device\nHint: --traceback shows where it came from\n", 1),
        (OSError("odd"), "Error: odd\nHint: --traceback shows where it came from\n", 1),
        (KeyboardInterrupt(), "interrupted\n", 130),
        (click.UsageError("no"), "Usage: hpcest broken [OPTIONS]\nTry 'hpcest broken --help' for help.\n\nError: no\n", 2),
    ],
)
def test_errors_become_messages_and_codes(error: BaseException, text: str, code: int, failing: Callable[..., click.testing.Result]) -> None:
    result = failing(error)
    assert (result.stdout, result.stderr, result.exit_code) == ("", text, code)


@pytest.mark.parametrize("error", [HpcestError("it is wrong"), PermissionError(13, "no", "/x")])
def test_traceback_shows_where_an_error_came_from(error: BaseException, failing: Callable[..., click.testing.Result]) -> None:
    assert failing(error, "--traceback").exception is error


def test_what_is_our_own_mistake_is_not_hidden(failing: Callable[..., click.testing.Result]) -> None:
    mistake = ZeroDivisionError("ours")
    assert failing(mistake).exception is mistake


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shwo"], "no command 'shwo'; did you mean 'show'?"),
        (["zzz"], "no command 'zzz'; see: hpcest --help"),
        (["models", "lst"], "no command 'lst'; did you mean 'list'?"),
        (["runs", "--experimnt", "x"], "--experiment"),
        (["submit", "hello.py", "--dryrun"], "--dry-run"),
        (["submit"], "Missing argument 'WHAT'."),
        (["show"], "Missing argument 'RUN'."),
        (["submit", "hello.py", "--nodes", "0"], "Invalid value for '-n' / '--nodes': 0 is not in the range x>=1."),
    ],
)
def test_misspelt_words_get_the_nearest(words: list[str], said: str, workspace: WorkspaceFolder) -> None:
    done = CliRunner().invoke(main.cli, words, prog_name="hpcest")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr.partition("Error: ")[2]


def test_no_workspace_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["runs"], ["submit", "x.py"], ["show", "@latest"], ["env", "list"], ["models", "list"], ["reindex"]):
        done = CliRunner().invoke(main.cli, words, prog_name="hpcest")
        where = f"{tmp_path} is not in a workspace, HPCEST_WORKSPACE is not set, and there is none in ~/hpcest"
        assert (done.exit_code, done.stderr) == (1, f"Error: {where}\nHint: make one: hpcest init\n")
    done = CliRunner().invoke(main.cli, ["-w", str(tmp_path), "runs"], prog_name="hpcest")
    assert (done.exit_code, done.stderr) == (1, f"Error: {tmp_path} is not a workspace\nHint: make it one: hpcest init {tmp_path}\n")


def test_a_workspace_is_chosen_with_w_or_by_a_file(workspace: WorkspaceFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpcest import Workspace

    (tmp_path / "project").mkdir()
    Workspace(workspace).write_config(tmp_path / "project")
    for where, options in ((tmp_path, ["-w", str(workspace.root)]), (tmp_path / "project", [])):
        monkeypatch.chdir(where)
        done = CliRunner().invoke(main.cli, [*options, "config", "path", "--json"], prog_name="hpcest")
        assert json.loads(done.stdout)[-1]["path"] == str(workspace.config)


def test_verbose_shows_the_programs_that_are_started(workspace: WorkspaceFolder) -> None:
    done = run([sys.executable, "-m", "hpcest", "-v", "submit", "hello.py", "--dry-run", "--env", "modules"], cwd=workspace.root)
    assert "hpcest.kit.process: run: " in done.err
