"""The README's command reference: what ``--help`` prints for every command. ``make docs`` writes it anew."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
from click.testing import CliRunner

from hpcest.cli.main import COMMANDS, cli

README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- cli -->\n", "<!-- /cli -->\n"
WIDTH = 100


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command and subcommand that hpcest itself has: ``()``, ``("init",)``, …"""
    yield ()
    root = click.Context(cli, info_name="hpcest")
    for name in COMMANDS:
        yield (name,)
        command = cli.get_command(root, name)
        if isinstance(command, click.Group):
            yield from ((name, below) for below in command.list_commands(root))


def help_of(words: tuple[str, ...]) -> str:
    """What ``hpcest WORDS --help`` prints, in a terminal of 100 columns and without anybody's plugins."""
    plugins = ",".join(point.name for point in entry_points(group="hpcest"))
    result = CliRunner(env={"HPCEST_DISABLE_PLUGINS": plugins}).invoke(cli, [*words, "--help"], prog_name="hpcest", terminal_width=WIDTH)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.splitlines())


def reference() -> str:
    """The whole reference in Markdown."""
    sections = (f"### {' '.join(['hpcest', *words])}\n\n```text\n{help_of(words)}\n```\n" for words in commands())
    return "\n" + "\n".join(sections) + "\n"


def recorded() -> str:
    """The reference that the README has."""
    text = README.read_text(encoding="utf-8")
    return text[text.index(START) + len(START) : text.index(END)]


def main() -> None:
    """Write the reference into the README."""
    text = README.read_text(encoding="utf-8")
    fresh = re.sub(f"(?s){START}.*{END}", lambda _: START + reference() + END, text)
    beside = README.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(fresh, encoding="utf-8")
    os.replace(beside, README)


if __name__ == "__main__":
    main()
