"""``hpcest migrate``"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hpcest.cli import output
from hpcest.cli.common import json_option
from hpcest.errors import UsageError

_SUFFIXES = (".py", ".ipynb")


@dataclass(frozen=True)
class _Looked:
    """A file that was looked through: its text before and after, how it is encoded, and what is left, by line."""

    path: Path
    before: str
    after: str
    encoding: str
    changes: int
    left: tuple[dict[str, Any], ...]

    @property
    def unsolved(self) -> int:
        """How many names are left, notes apart."""
        return sum(not one["note"] for one in self.left)


@click.command(short_help="Rewrite imports of Azure ML to hpcest's own.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--diff", is_flag=True, help="Print the changes as a unified diff; what is left goes to stderr.")
@click.option("--write", is_flag=True, help="Write the files. Without it nothing is changed.")
@json_option
def migrate(files: tuple[Path, ...], diff: bool, write: bool, as_json: bool) -> None:
    """Rewrite imports of Azure ML's SDKs in Python FILEs and notebooks to hpcest's own, and print what has no counterpart.

    A folder stands for all .py and .ipynb files in it. Comments, line breaks and whatever else is in a file stay as they are.
    Each line that is left is printed with what to do; after --write lines are those of the new file. The exit code is 1 if
    something is left.

    --json: a list of objects with file, changes, written, and left: objects with line, cell (of a notebook, from 1, else null),
    name, why, note (true for what is only worth knowing).
    """
    if diff and as_json:
        raise click.UsageError("--diff and --json exclude each other")
    found, unreadable = list[_Looked](), 0
    for path in _once(_paths(files)):
        try:
            found.append(_look(path, write=write))
        except UsageError as error:
            unreadable += 1
            output.say(f"{path}: {error.message}")
    for one in found:
        if write and one.before != one.after:
            _write(one)
        if not as_json:
            _print(one, diff=diff, write=write)
    if as_json:
        rows = [
            {"file": str(one.path), "changes": one.changes, "written": write and one.before != one.after, "left": one.left} for one in found
        ]
        output.print_json(rows)
    raise SystemExit(1 if unreadable or any(one.unsolved for one in found) else 0)


def _once(paths: Iterator[Path]) -> Iterator[Path]:
    """Each file once, as it was named first."""
    seen = set[Path]()
    for path in paths:
        real = path.resolve()
        if real not in seen:
            seen.add(real)
            yield path


def _paths(files: tuple[Path, ...]) -> Iterator[Path]:
    """The files, and those in folders, except in hidden ones."""
    for file in files:
        if not file.is_dir():
            if file.suffix not in _SUFFIXES:
                raise click.UsageError(f"{file} is neither a .py file nor a notebook (.ipynb)")
            yield file
            continue
        below = (path for suffix in _SUFFIXES for path in file.rglob(f"*{suffix}") if path.is_file())
        yield from sorted(path for path in below if not any(part.startswith(".") for part in path.relative_to(file).parts))


def _look(path: Path, *, write: bool) -> _Looked:
    """A file with its imports rewritten; if it is to be written, lines are the new one's. Raises UsageError for what can't be read."""
    from hpcest.sdk.migration.notebooks import Notebook
    from hpcest.sdk.migration.scripts import rewritten

    before, encoding = _read(path)
    notebook = Notebook(before) if path.suffix == ".ipynb" else None
    pieces = rewritten(notebook.cells if notebook else [before])
    after = notebook.written([piece.text for piece in pieces]) if notebook else pieces[0].text
    there = Notebook(after) if write and notebook else notebook
    left = list[dict[str, Any]]()
    for number, piece in enumerate(pieces):
        for one in piece.left:
            line = piece.line_now(one.line) if write else one.line
            place = {"line": there.line(number, line), "cell": number + 1} if there else {"line": line, "cell": None}
            left.append({**place, "name": one.name, "why": one.why, "note": one.note})
    return _Looked(path, before, after, encoding, sum(piece.changes for piece in pieces), tuple(left))


def _read(path: Path) -> tuple[str, str]:
    """The text of a file, its line ends as they are, and its encoding."""
    import tokenize

    try:
        with open(path, "rb") as stream:
            encoding = "utf-8" if path.suffix == ".ipynb" else tokenize.detect_encoding(stream.readline)[0]
        return path.read_bytes().decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"its text can't be read: {error}") from None


def _write(one: _Looked) -> None:
    """Put the new text in the place of the old, whole, with its permissions; a link leads to it as before."""
    import shutil

    from hpcest.kit.files import written_beside

    target = one.path.resolve()
    with written_beside(target) as beside:
        beside.write_bytes(one.after.encode(one.encoding))
        shutil.copymode(target, beside)


def _print(one: _Looked, *, diff: bool, write: bool) -> None:
    if diff and one.before != one.after:
        before, after = (text.splitlines(keepends=True) for text in (one.before, one.after))
        for line in difflib.unified_diff(before, after, f"a/{one.path}", f"b/{one.path}"):
            output.write(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    for left in one.left:
        place = f"{one.path}:{left['line']}" + (f" (cell {left['cell']})" if left["cell"] else "")
        text = ": ".join(filter(None, (place, "note" if left["note"] else "", left["name"], left["why"])))
        (output.say if diff else output.write_name)(text)
    if one.changes or one.unsolved:
        done = "rewritten" if write else "to rewrite (--diff shows, --write does it)"
        output.say(f"{one.path}: {one.changes} {done}, {one.unsolved} left")
