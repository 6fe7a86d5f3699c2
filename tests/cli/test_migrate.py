"""``hpcest migrate``: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from hpcest.cli.migrate import migrate

FINE = "from azureml.core import Run  # é\nrun = Run.get_context()\n"
LEFT = "import os\nfrom azureml.core import VERSION, Webservice\n"


class Said(NamedTuple):
    """What the command printed, and how it ended."""

    out: str
    err: str
    code: int

    @property
    def json(self) -> Any:
        """Its stdout."""
        return json.loads(self.out)


def hpcest(*words: object) -> Said:
    """Run ``hpcest migrate`` in this process."""
    result = CliRunner().invoke(migrate, [str(word) for word in words], prog_name="hpcest migrate")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.stdout, result.stderr, result.exit_code)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a file that has counterparts for all, and one that has not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fine.py").write_text(FINE)
    (tmp_path / "left.py").write_text(LEFT)
    return tmp_path


def test_nothing_is_written_unless_asked(folder: Path) -> None:
    assert hpcest("fine.py") == ("", "fine.py: 1 to rewrite (--diff shows, --write does it), 0 left\n", 0)
    assert (folder / "fine.py").read_text() == FINE


def test_what_is_left_is_named_by_line(folder: Path) -> None:
    """On stdout, with an exit code for scripts; after --write the line is that of the file as it is then."""
    said = hpcest("left.py")
    assert said.out.startswith("left.py:2: azureml.core.Webservice: hpcest does not deploy models")
    assert said.code == 1
    (folder / "left.py").write_text("from azureml.core import VERSION, \\\n  Run\n" + LEFT)
    assert hpcest("--write", "left.py").out.startswith("left.py:3: azureml.core.Webservice: ")
    assert (folder / "left.py").read_text().split("\n")[2] == "from azureml.core import Webservice"


def test_files_are_written_whole(folder: Path) -> None:
    """With their permissions, through links, and with their own line ends and encoding; a second time nothing is to be done."""
    script = folder / "script.py"
    script.write_bytes(b"#!/usr/bin/env python\r\n# -*- coding: latin-1 -*-\r\nfrom azureml.core import Run  # \xe9\r\n")
    script.chmod(0o751)
    (folder / "link.py").symlink_to(script)
    assert hpcest("link.py", "fine.py", "--write") == ("", "link.py: 1 rewritten, 0 left\nfine.py: 1 rewritten, 0 left\n", 0)
    assert script.read_bytes() == b"#!/usr/bin/env python\r\n# -*- coding: latin-1 -*-\r\nfrom hpcest import Run  # \xe9\r\n"
    assert (stat.S_IMODE(script.stat().st_mode), (folder / "link.py").is_symlink()) == (0o751, True)
    assert (folder / "fine.py").read_text() == FINE.replace("azureml.core", "hpcest")
    before = os.stat("fine.py").st_mtime_ns
    assert hpcest("fine.py", "--write") == ("", "", 0)
    assert os.stat("fine.py").st_mtime_ns == before
    assert sorted(path.name for path in folder.iterdir()) == ["fine.py", "left.py", "link.py", "script.py"]


def test_a_diff_can_be_applied(folder: Path) -> None:
    """By patch, also where a file has no newline at its end."""
    (folder / "end.py").write_text("x = 1\nimport azureml.core")
    said = hpcest("--diff", "end.py", "left.py")
    assert said.code == 1
    assert "Webservice" in said.err
    subprocess.run(["patch", "-p1"], input=said.out, text=True, check=True, capture_output=True)
    assert (folder / "end.py").read_text() == "x = 1\nimport hpcest"
    assert (folder / "left.py").read_text() == "import os\nfrom azureml.core import Webservice\nfrom hpcest import __version__ as VERSION\n"


def test_a_notebooks_lines_are_named(folder: Path) -> None:
    """By the line of the file, and the cell."""
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": ["x = 1\n", "from azureml.core import Run, Webservice"]}]
    text = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1)
    (folder / "a.ipynb").write_text(text)
    number = text[: text.index("from azureml")].count("\n") + 1
    assert hpcest("a.ipynb").out.startswith(f"a.ipynb:{number} (cell 1): azureml.core.Webservice: ")
    assert hpcest("a.ipynb", "--write").code == 1
    assert json.loads((folder / "a.ipynb").read_text())["cells"][0]["source"] == [
        "x = 1\n", "from azureml.core import Webservice\n", "from hpcest import Run",
    ]  # fmt: skip


def test_a_folder_stands_for_its_files(folder: Path) -> None:
    """Those in hidden ones are left alone; what is no notebook or no text is said, and the others are done."""
    for name in ("sub/a.py", ".git/b.py", "sub/.venv/c.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(FINE)
    (folder / "broken.ipynb").write_text("{")
    (folder / "broken.py").write_bytes(b"# \xff\n")
    said = hpcest(".", "--write")
    assert said.code == 1
    assert "broken.ipynb: it is no notebook" in said.err
    assert "broken.py: its text can't be read" in said.err
    assert "azureml" not in (folder / "sub/a.py").read_text()
    assert "azureml" in (folder / ".git/b.py").read_text() + (folder / "sub/.venv/c.py").read_text()


def test_a_file_that_is_named_twice_is_looked_at_once(folder: Path) -> None:
    (folder / "link.py").symlink_to("left.py")
    said = hpcest("left.py", ".", folder / "left.py", "link.py")
    assert said.out.count("Webservice") == 1
    assert said.out.startswith("left.py:2")
    assert said.err.count("left.py: ") == 1


def test_json() -> None:
    said = hpcest("--json", "fine.py", "left.py")
    fine, left = said.json
    assert (said.code, said.err) == (1, "")
    assert fine == {"file": "fine.py", "changes": 1, "written": False, "left": []}
    (one,) = left["left"]
    assert {**one, "why": ""} == {"line": 2, "cell": None, "name": "azureml.core.Webservice", "why": "", "note": False}


def test_notes_are_no_failure(folder: Path) -> None:
    (folder / "a.py").write_text("pip = ['azureml-defaults']\n")
    said = hpcest("a.py")
    assert (said.out.split(": leave")[0], said.err, said.code) == ("a.py:1: note: 'azureml-defaults'", "", 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.py"], "does not exist"),
        (["a.txt"], "neither a .py file nor a notebook"),
        (["--diff", "--json", "fine.py"], "exclude each other"),
    ],
)
def test_wrong_usage(folder: Path, words: list[str], said: str) -> None:
    (folder / "a.txt").touch()
    answer = hpcest(*words)
    assert said in answer.err
    assert answer.code == 2
