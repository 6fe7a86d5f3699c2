"""Entry points of real distributions, found once and remembered until something is installed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from hpcest.kit.entrypoints import EntryPoint, entry_points
from hpcest.kit.process import run

HOUSE = Path(__file__).parents[2]
ONE = EntryPoint("one", "package.one:plugin", "Dist-One", "1.0")


def install(folder: Path, name: str, version: str, points: str) -> None:
    """What pip leaves of a distribution. The folder gets old, as installed ones are."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(points)
    age(folder)


def age(folder: Path, seconds: float = 3600) -> None:
    then = time.time() - seconds
    os.utime(folder, (then, then))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path / "site", "Dist-One", "1.0", "[other]\nx = y\n\n[group]\none = package.one:plugin\n")
    return tmp_path / "site"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "new" / "cache.json"


def remembered(cache: Path) -> dict[str, object]:
    folders: dict[str, object] = json.loads(cache.read_text())["folders"]
    return folders


def test_only_the_group_is_found(folder: Path, tmp_path: Path) -> None:
    assert entry_points("group", None, [str(tmp_path / "none"), str(folder), str(tmp_path)]) == [ONE]
    assert entry_points("other", None, [str(folder)]) == [EntryPoint("x", "y", "Dist-One", "1.0")]
    assert entry_points("nothing", None, [str(folder)]) == []
    assert (ONE.key, ONE.origin) == ("Dist-One:one", "Dist-One 1.0")


def test_what_was_found_is_remembered_until_the_folder_changes(folder: Path, cache: Path) -> None:
    assert entry_points("group", cache, [str(folder)]) == [ONE]
    (folder / "Dist_One-1.0.dist-info" / "entry_points.txt").write_text("")  # does not change the folder itself
    assert entry_points("group", cache, [str(folder)]) == [ONE]
    age(folder, 1800)
    assert entry_points("group", cache, [str(folder)]) == []


def test_an_installation_is_noticed(folder: Path, cache: Path) -> None:
    entry_points("group", cache, [str(folder)])
    age(folder, 1800)
    install(folder, "two", "2.0", "[group]\ntwo = two\n")
    age(folder, 1700)
    assert entry_points("group", cache, [str(folder)]) == [ONE, EntryPoint("two", "two", "two", "2.0")]


def test_a_folder_that_has_just_changed_is_not_remembered(folder: Path, cache: Path) -> None:
    """Something more may be installed before the clock of its file system moves on."""
    age(folder, 0)
    assert entry_points("group", cache, [str(folder)]) == [ONE]
    assert not cache.exists() or str(folder) not in remembered(cache)


def test_each_folder_is_remembered_by_itself(folder: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    install(other, "two", "2.0", "[group]\ntwo = two\n")
    entry_points("group", cache, [str(folder)])
    assert [point.name for point in entry_points("group", cache, [str(other)])] == ["two"]
    assert set(remembered(cache)) == {str(folder), str(other)}


def test_the_first_of_two_distributions_with_one_name_counts(folder: Path, cache: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    install(newer, "dist.one", "2.0", "[group]\none = newer\nmore = newer\n")
    assert entry_points("group", cache, [str(folder), str(newer)]) == [ONE]
    points = entry_points("group", cache, [str(newer), str(folder)])
    assert [(point.name, point.value, point.version) for point in points] == [("more", "newer", "2.0"), ("one", "newer", "2.0")]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "\0", '{"schema": 99, "group": "group", "folders": {}}', '{"schema": 1, "group": "group"}',
        '{"schema": 1, "group": "group", "folders": {"FOLDER": [1, 2]}}', '{"schema": 1, "group": "group", "folders": {"FOLDER": null}}',
        '{"schema": 1, "group": "group", "folders": {"FOLDER": [[1, 2], [["a", "b"]]]}}',
        '{"schema": 1, "group": "group", "folders": [1]}', '{"schema": 1, "group": "other", "folders": {"FOLDER": [[1, 2], []]}}',
    ],
)  # fmt: skip
def test_a_damaged_cache_is_made_again(folder: Path, cache: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text.replace("FOLDER", str(folder)))
    assert entry_points("group", cache, [str(folder)]) == [ONE]
    assert set(remembered(cache)) == {str(folder)}


def test_a_cache_that_can_not_be_written_is_no_error(folder: Path, cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert entry_points("group", cache, [str(folder)]) == [ONE]


def test_nothing_is_written_where_nothing_is_new(folder: Path, cache: Path) -> None:
    entry_points("group", cache, [str(folder)])
    before = cache.stat()
    entry_points("group", cache, [str(folder)])
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    entry_points("group", cache, [str(folder), str(cache.parent)])  # it has just changed, and is not remembered
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_cache_does_not_grow_for_ever(cache: Path, tmp_path: Path) -> None:
    for number in range(210):
        (tmp_path / f"d{number}").mkdir()
        age(tmp_path / f"d{number}")
    entry_points("group", cache, [str(tmp_path / f"d{number}") for number in range(199)])
    entry_points("group", cache, [str(tmp_path / f"d{number}") for number in range(195, 210)])
    assert set(remembered(cache)) == {str(tmp_path / f"d{number}") for number in range(195, 210)}


def test_the_metadata_library_is_only_imported_to_look(folder: Path, cache: Path, tmp_path: Path) -> None:
    """It takes longer to import than everything else that a listing does."""
    code = """if True:
        import sys
        from pathlib import Path
        from hpcest.kit.entrypoints import entry_points
        print(len(entry_points("group", Path(sys.argv[1]), sys.argv[2:])), "importlib.metadata" in sys.modules)
    """
    (tmp_path / "scripts").mkdir()
    command: list[str | Path] = [sys.executable, "-S", "-c", code, cache, folder, tmp_path / "scripts"]
    for expected in "1 True\n", "1 False\n":
        done = run(command, env={"PYTHONPATH": str(HOUSE)})
        assert (done.err, done.out) == ("", expected)


def test_loading_imports_what_is_named() -> None:
    assert EntryPoint("n", "os.path:join", "d", "1").load() is os.path.join
    assert EntryPoint("n", "os.path", "d", "1").load() is os.path
    assert EntryPoint("n", "pathlib : Path.home [extra]", "d", "1").load() == Path.home
    with pytest.raises(ModuleNotFoundError):
        EntryPoint("n", "no_such_module_at_all", "d", "1").load()
    with pytest.raises(AttributeError):
        EntryPoint("n", "os:nothing", "d", "1").load()
