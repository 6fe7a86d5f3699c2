"""The house rules: who may import whom, how large a file may grow, what may run on a node, what start-up may cost."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hpcest.kit.process import run

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "hpcest"
FLOORS = (  # a room may import from the floors below its own, never from a neighbour on the same floor
    {"errors", "onnode"},
    {"model", "kit"},
    {"contracts", "config"},
    {"hookspecs"},
    {"frameworks", "environments", "backends", "history", "pluginmanager"},
    {"lifecycle"},
    {"sdk"},
    {"cli", "testing"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: A library and the only rooms, or files, that may import it.
HOMES = {
    "click": {"cli"},
    "optuna": {"sdk"},
    "pluggy": {"hookspecs.py", "pluginmanager.py"},
    "pytest": {"testing"},
    "rattler": {"environments"},
    "rich": {"cli"},
    "spython": {"environments"},
    "sqlite3": {"history"},
    "sqlite_utils": {"history"},
    "submitit": {"backends"},
    "subprocess": {"kit/process.py", "onnode"},
}
#: What no start of the command may import. Each takes longer than a listing does.
HEAVY = {"pytest", "submitit", "sqlite_utils", "spython", "rich", "yaml", "pluggy", "rattler", "optuna"}
NEWER_THAN_3_8 = {"graphlib", "tomllib", "zoneinfo"}
NEWER_METHODS = {"removeprefix", "removesuffix", "is_relative_to", "with_stem", "bit_count"}

FILES = sorted(path for path in HOUSE.rglob("*.py") if "__pycache__" not in path.parts)
NODE_FILES = sorted((HOUSE / "onnode").rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[str]:
    """Every dotted name that the file imports, inside functions and TYPE_CHECKING blocks too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: write absolute imports"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downstairs(path: Path) -> None:
    mine = room_of(path)
    if mine == "__init__":
        assert {name for name in imports(path) if name.startswith("hpcest.")} <= {"hpcest.onnode.run.Run"}, "name what is public by a text"
        return
    for name in imports(path):
        if not name.startswith("hpcest.") or name == "hpcest.__version__":
            continue
        theirs = name.split(".")[1]
        assert theirs in FLOOR, f"{name_of(path)} imports {name}: import it from its own module"
        assert theirs == mine or FLOOR[theirs] < FLOOR[mine], f"{name_of(path)} is in {mine}, which must not import {name}"


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    for name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or name_of(path) in homes or room_of(path) in homes, f"only {sorted(homes)} may import {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_shell_is_started_behind_the_back_of_kit_process(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("system", "popen"), f"{name_of(path)}:{node.lineno}: use kit.process"
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant), f"{name_of(path)}:{node.value.lineno}: no shell"
            assert not node.value.value, f"{name_of(path)}:{node.value.lineno}: no shell"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{name_of(path)}:{node.lineno}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} opens with a sentence on what it is for"


@pytest.mark.parametrize("path", [*NODE_FILES, HOUSE / "__init__.py"], ids=name_of)
def test_nodes_need_only_an_old_python(path: Path) -> None:
    """What travels with a run is the standard library only, and parses and runs under Python 3.8."""
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    for name in imports(path):
        top = name.split(".")[0]
        if top == "hpcest":
            assert (name + ".").startswith("hpcest.onnode."), f"{name_of(path)} imports {name}, which does not travel"
        else:
            assert top in sys.stdlib_module_names, f"{name_of(path)} imports {name}, which is not in the standard library"
            assert top not in NEWER_THAN_3_8, f"{name_of(path)} imports {name}, which Python 3.8 has not"
    newer = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)} & NEWER_METHODS
    assert not newer, f"{name_of(path)} calls {sorted(newer)}, which Python 3.8 has not"


def test_every_file_can_be_imported_alone() -> None:
    """Each in an interpreter of its own, forked before anything is imported, with warnings as errors."""
    code = """if True:
        import json, os, sys, tempfile, traceback
        culprits = {}
        for module in sys.argv[1:]:
            with tempfile.TemporaryFile() as said:
                child = os.fork()
                if not child:
                    os.dup2(said.fileno(), 2)
                    try:
                        __import__(module)
                        os._exit(0)
                    except BaseException:
                        traceback.print_exc()
                        sys.stderr.flush()
                        os._exit(1)
                if os.waitpid(child, 0)[1]:
                    said.seek(0)
                    culprits[module] = said.read().decode().splitlines()[-1:]
        print(json.dumps(culprits))
    """
    done = run([sys.executable, "-W", "error", "-c", code, *map(module_of, FILES)], cwd=ROOT, timeout=300)
    assert done.err == ""
    assert json.loads(done.out.splitlines()[-1]) == {}


@pytest.mark.parametrize("module", ["hpcest", "hpcest.cli.main", "hpcest.config", "hpcest.pluginmanager", "hpcest.onnode.run"])
def test_a_start_imports_nothing_heavy(module: str) -> None:
    path = HOUSE.parent.joinpath(*module.split("."))
    assert path.with_suffix(".py").exists() or path.is_dir(), f"{module} is gone: name what took its place"
    done = run([sys.executable, "-c", f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"], cwd=ROOT)
    assert done.err == ""
    assert not HEAVY & set(json.loads(done.out))
