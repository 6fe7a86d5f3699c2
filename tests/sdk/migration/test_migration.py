"""Imports of Azure ML become hpcest's, and nothing else changes."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from hpcest.errors import UsageError
from hpcest.sdk.migration import names as azurenames
from hpcest.sdk.migration.names import NAMES, REFUSED, WITHOUT, counterpart, instead, is_module, refusal
from hpcest.sdk.migration.notebooks import Notebook
from hpcest.sdk.migration.scripts import Piece, rewritten


def one(text: str) -> Piece:
    """A single text, rewritten."""
    (piece,) = rewritten([text])
    return piece


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from azureml.core import Run, Experiment  # both\n", "from hpcest import Run, Experiment  # both\n"),
        ("from azureml.core.run import Run; x = 1\n", "from hpcest import Run; x = 1\n"),
        ("if 1: from azureml.core import Run, VERSION\n", "if 1: from hpcest import Run, __version__ as VERSION\n"),
        ("from azureml.core import Workspace as W\n", "from hpcest import Workspace as W\n"),
        ("from azureml.core import (\n    Run,  # the run\n    Model as M,\n)\n",
         "from hpcest import (\n    Run,  # the run\n    Model as M,\n)\n"),
        ("try:\n\tfrom azureml.core import VERSION, \\\n\t  Run\nexcept E:\n\tpass\n",
         "try:\n\tfrom hpcest import __version__ as VERSION, Run\nexcept E:\n\tpass\n"),
        ("from azureml.exceptions import (AzureMLException,  # any\n  UserErrorException)\n",
         "# any\nfrom hpcest import HpcestError as AzureMLException\nfrom hpcest.errors import UsageError as UserErrorException\n"),
        ("import azureml.core\nprint(azureml.core.VERSION)\n", "import hpcest\nprint(hpcest.__version__)\n"),
        ("import os, azureml.core, azureml.data\n", "import os\nimport hpcest\n"),
        ("import azureml.core as aml\naml.Run.get_context().log('é', aml.VERSION)\n",
         "import hpcest as aml\naml.Run.get_context().log('é', aml.__version__)\n"),
        ("from azureml import core\nrun = core.Run.get_context()\n", "import hpcest as core\nrun = core.Run.get_context()\n"),
        ("'é'; import azureml.core; print('ü', azureml.core.run.Run)\n", "'é'; import hpcest; print('ü', hpcest.Run)\n"),
        ("import azureml.exceptions as e\ntry: f()\nexcept e.UserErrorException: pass\n",
         "import hpcest.errors\ntry: f()\nexcept hpcest.errors.UsageError: pass\n"),
        ("from azureml.train.dnn import PyTorch, Mpi\r\nx = 1\r\n", "from hpcest import PyTorch, Mpi\r\nx = 1\r\n"),
    ],
)  # fmt: skip
def test_imports_become_hpcests(before: str, after: str) -> None:
    """Comments, aliases, indentation and line ends stay; what is rewritten is not rewritten again."""
    assert one(before).text == after
    assert one(after).text == after


@pytest.mark.parametrize(
    "text",
    ["", "import os\n", "x = 'from azureml.core import Run'\n", "from .azureml import core\n", "import azure.storage.blob\n",
     "import azureml_x\n", "# import azureml.core\n", "azureml = 1\nazureml.core\n"],
)  # fmt: skip
def test_what_is_not_azure_mls_stays(text: str) -> None:
    assert one(text) == Piece(text)


def test_what_has_no_counterpart_stays_and_is_named() -> None:
    """Each with its line and what to do; the names beside it are rewritten, and the lines afterwards are right."""
    piece = one(
        "from azureml.core import Run, Webservice, Model, VERSION\n"
        "from azureml.train.hyperdrive import choice, uniform\n"
        "import azureml.pipeline.core\n"
        "from azureml.nowhere import thing\n"
        "from azureml.core import *\n"
        "import azureml.core\n"
        "azureml.core.Webservice.list(azureml.core.Run)\n"
    )
    assert piece.text == (
        "from azureml.core import Webservice\n"
        "from hpcest import Run, Model, __version__ as VERSION\n"
        "from azureml.train.hyperdrive import choice, uniform\n"
        "import azureml.pipeline.core\n"
        "from azureml.nowhere import thing\n"
        "from azureml.core import *\n"
        "import azureml.core\n"
        "import hpcest\n"
        "azureml.core.Webservice.list(hpcest.Run)\n"
    )
    named = [(left.line, piece.line_now(left.line), left.name) for left in piece.left]
    assert named == [
        (1, 1, "azureml.core.Webservice"),
        (2, 3, "azureml.train.hyperdrive.choice"),
        (2, 3, "azureml.train.hyperdrive.uniform"),
        (3, 4, "azureml.pipeline.core"),
        (4, 5, "azureml.nowhere.thing"),
        (5, 6, "azureml.core.*"),
        (7, 9, "azureml.core.Webservice"),
    ]
    assert all(left.why and not left.note for left in piece.left)
    assert "hpcest does not deploy models" in piece.left[0].why


def test_a_module_that_keeps_its_name_is_not_hidden() -> None:
    """Where something is left of a module, hpcest's names are written in full beside it, also where they were used before."""
    piece = one("import azureml.core as aml\nfrom azureml import core\naml.Run, aml.Webservice\ncore.Run\ncore.Webservice\n")
    assert piece.text == (
        "import azureml.core as aml\nimport hpcest\nfrom azureml import core\nimport hpcest\n"
        "hpcest.Run, aml.Webservice\nhpcest.Run\ncore.Webservice\n"
    )
    assert [left.line for left in piece.left] == [3, 5]


@pytest.mark.parametrize(
    "text",
    [
        "import azureml.core\nprint(azureml.core.VERSION, azureml.core.runconfig.DEFAULT_CPU_IMAGE)\n",
        "import azureml.core as aml\nfrom azureml import core\naml.Run, aml.Webservice\ncore.Run\ncore.Webservice\n",
        "import azureml.core, azureml.exceptions\nazureml.core.Run, azureml.exceptions.Nothing\n",
        "import azureml.telemetry, azureml.mlflow\n",
    ],
)
def test_what_was_rewritten_stays_as_it_is(text: str) -> None:
    """Also where a module stays beside hpcest's names."""
    once = one(text)
    again = one(once.text)
    assert (again.text, again.changes) == (once.text, 0)
    assert [left.name for left in again.left] == [left.name for left in once.left]


def test_what_hpcests_classes_lack_is_named() -> None:
    """A method of a class is looked up, also through a module; what an object has is not known."""
    piece = one(
        "from azureml.core import Model, Run as R\nimport azureml.core\nModel.deploy()\nR.get_contex()\n"
        "azureml.core.Workspace.from_confg()\nR.get_context().nothing()\nModel.register\n"
    )
    assert [(left.line, left.name) for left in piece.left] == [(3, "Model.deploy"), (4, "Run.get_contex"), (5, "Workspace.from_confg")]
    assert piece.left[0].why.startswith("hpcest does not deploy models; ")
    assert piece.left[1].why == "hpcest's Run has no get_contex; did you mean 'get_context'?"


def test_a_name_that_means_something_else_too_is_not_judged() -> None:
    """Such as another library's Model."""
    assert not one("from azureml.core import Model\nfrom keras import Model\nModel.deploy\n").left
    assert not one("from azureml.core import Model\nclass Model: pass\nModel.deploy\n").left


def test_packages_are_a_note() -> None:
    piece = one("pip = ['azureml-defaults', 'azureml-sdk[x]>=1.2', 'numpy', 'azureml-mine']\n")
    assert [(left.name, left.note) for left in piece.left] == [("'azureml-defaults'", True), ("'azureml-sdk[x]>=1.2'", True)]


def test_what_is_no_python_is_named_where_it_matters() -> None:
    """Python 2 with imports of Azure ML's is; a shell's cell is not."""
    piece = one("from azureml.core import Run\nprint 'hello'\n")
    assert piece.text.startswith("from azureml.core")
    assert [(left.line, left.name) for left in piece.left] == [(2, "")]
    assert one("%%bash\nimport azureml.core\nif then fi\n") == Piece("%%bash\nimport azureml.core\nif then fi\n")
    assert one("print 'hello'\n") == Piece("print 'hello'\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "%matplotlib inline\n!pip install x\nfrom azureml.core import Run\n",
            "%matplotlib inline\n!pip install x\nfrom hpcest import Run\n",
        ),
        ("%%writefile $folder/train.py\n\nfrom azureml.core import Run\n", "%%writefile $folder/train.py\n\nfrom hpcest import Run\n"),
        ("files = !ls\nRun?\nfrom azureml.core import Run", "files = !ls\nRun?\nfrom hpcest import Run"),
        ("%%time\nfrom azureml.core import Run", "%%time\nfrom hpcest import Run"),
        ("%%writefile a.txt\nfrom azureml.core import Run", "%%writefile a.txt\nfrom azureml.core import Run"),
    ],
)
def test_magics_of_notebooks_stay(before: str, after: str) -> None:
    assert one(before).text == after


def test_cells_know_each_others_names() -> None:
    """What is used in a later cell decides what is imported in an earlier one."""
    first, _, last = rewritten(["import azureml.core", "%cd ..", "azureml.exceptions.UserErrorException, azureml.core.Run"])
    assert (first.text, last.text) == ("import hpcest\nimport hpcest.errors", "hpcest.errors.UsageError, hpcest.Run")


def notebook(sources: list[Any], **layout: Any) -> str:
    """The text of a notebook with cells of code between others."""
    cells: list[dict[str, Any]] = [{"cell_type": "markdown", "metadata": {}, "source": ["from azureml.core import Run\n", "é \\u00e9"]}]
    for source in sources:
        cells.append({"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [{"data": 1.50e-3}], "source": source})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 2}, **layout) + "\n"


@pytest.mark.parametrize("layout", [{"indent": 1, "ensure_ascii": False}, {"indent": 4}, {"separators": (",", ":")}, {"indent": "\t"}])
def test_only_changed_lines_of_a_notebook_change(layout: dict[str, Any]) -> None:
    """Whatever its layout; as many lines as there are, and one text instead of a list too."""
    before = [
        ["from azureml.core import Run\n", "\n", "x = 'é'\n"],
        "import azureml.core\ny",
        ["from azureml.core import VERSION, Webservice\n"],
        [],
    ]
    after = [["from hpcest import Run\n", "\n", "x = 'é'\n"], "import hpcest\ny",
             ["from azureml.core import Webservice\n", "from hpcest import __version__ as VERSION\n"], []]  # fmt: skip
    text = notebook(before, **layout)
    read = Notebook(text)
    assert read.cells == ["".join(cell) for cell in before if cell]
    pieces = rewritten(read.cells)
    assert read.written([piece.text for piece in pieces]) == notebook(after, **layout)
    assert read.written(read.cells) == text


def test_a_line_of_a_cell_is_a_line_of_the_file() -> None:
    """So that an editor finds it."""
    text = notebook([["a\n", "b\n", "c"], ["d\n", "e"]], indent=1)
    read = Notebook(text)
    lines = text.split("\n")
    for cell, line, word in [(0, 1, '"a'), (0, 3, '"c'), (1, 1, '"d'), (1, 2, '"e')]:
        assert lines[read.line(cell, line) - 1].strip().startswith(word)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}', '{"cells": 1', "nothing"])
def test_what_is_no_notebook_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no notebook"):
        Notebook(text)


def test_notebooks_of_the_old_format_too() -> None:
    text = '{"worksheets": [{"cells": [{"cell_type": "code", "input": ["import azureml.core"], "language": "python"}]}], "nbformat": 3}'
    read = Notebook(text)
    assert read.written(["import hpcest"]) == text.replace("azureml.core", "hpcest")


@pytest.mark.parametrize("module", NAMES)
def test_each_counterpart_is_there(module: str) -> None:
    """Every name in the table leads to something, in hpcest or in a plugin of it."""
    for name, target in NAMES[module].items():
        where, called = counterpart(module, name)
        assert f"{where}:{called}" == target
        if not where.startswith("hpcest_"):
            assert hasattr(import_module(where), called), f"{module}.{name} should be {target}"


def test_the_table_is_of_one_piece() -> None:
    """What is refused has no counterpart, and both say what to do."""
    for module, names in WITHOUT.items():
        assert is_module(module)
        assert not set(names) & set(NAMES[module])
        assert all(instead(module, name) == names[name] for name in names)
    for module in REFUSED:
        assert refusal(module) == refusal(f"{module}.below") == instead(*module.rpartition(".")[::2]) == REFUSED[module]
        assert not is_module(module)
    assert refusal("azureml.core") == refusal("azureml") == ""


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("azureml.core", "Workspce", "did you mean 'Workspace'?"),
        ("azureml.core", "runconfg", "did you mean 'runconfig'?"),
        ("azureml.core", "RunDetails", "it is in azureml.widgets"),
        ("azureml.core", "Frobnicator", "docs/from-azureml.md says what there is"),
        ("azureml", "piplines", "docs/from-azureml.md says what there is"),
    ],
)
def test_the_nearest_name_is_offered(module: str, name: str, said: str) -> None:
    assert instead(module, name) == said


def test_the_table_runs_on_nodes() -> None:
    """A copy of it travels with the plugin's runs: no import but of the standard library, and no syntax newer than Python 3.8's."""
    tree = ast.parse(Path(azurenames.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "difflib"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
