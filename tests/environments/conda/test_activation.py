"""What activation scripts set, found out once, with real shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcest.environments.conda.activation import variables_of
from hpcest.errors import EnvironmentBuildError


def prefix_with(folder: Path, scripts: dict[str, str], declared: dict[str, str] | None = None) -> Path:
    for kind, files in (("activate.d", scripts), ("env_vars.d", declared or {})):
        (folder / "etc" / "conda" / kind).mkdir(parents=True)
        for name, text in files.items():
            (folder / "etc" / "conda" / kind / name).write_text(text)
    return folder


def test_scripts_run_in_order_and_what_they_set_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROJ_LIB", "/of/the/submitter")
    prefix = prefix_with(
        tmp_path / "my env",
        {
            "a.sh": 'export PROJ_LIB="$CONDA_PREFIX/share/proj" FIRST=1\nHIDDEN=2\necho noise\n',
            "b.sh": 'export SECOND="$FIRST and\nmore = \'quoted\'"\nexport PATH="$CONDA_PREFIX/more:$PATH"\ncd /\nset -- x y\n',
            "c.fish": "set -x WRONG 1\n",
        },
    )
    assert variables_of(prefix, str(prefix)) == {"PROJ_LIB": f"{prefix}/share/proj", "FIRST": "1", "SECOND": "1 and\nmore = 'quoted'"}


def test_bash_is_used_where_there_is_one(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path, {"a.sh": 'words=(a b); [[ x == x ]] && export LAST="${words[1]}"\n'})
    assert variables_of(prefix, str(prefix)) == {"LAST": "b"}


def test_declared_variables_win_and_need_no_shell(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path, {}, {"a.json": '{"A": "1", "B": "1", "C": "1"}', "b.json": '{"B": "2"}'})
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta" / "state").write_text('{"version": 1, "env_vars": {"C": "***unset***", "D": "4"}}')
    assert variables_of(prefix, "/opt/env", ["/nonexistent"]) == {"A": "1", "B": "2", "D": "4"}


def test_nothing_is_found_in_an_empty_prefix(tmp_path: Path) -> None:
    assert variables_of(tmp_path, str(tmp_path)) == {}


def test_the_command_starts_the_shell(tmp_path: Path) -> None:
    """As ``apptainer exec`` does; ``prefix`` is the path inside."""
    prefix = prefix_with(tmp_path / "env", {"a.sh": 'export LEVEL="$OUTER"\n'})
    assert variables_of(prefix, str(prefix), ["env", "-i", "PATH=/usr/bin:/bin", "OUTER=7"]) == {"LEVEL": "7"}


@pytest.mark.parametrize("script", ["exit 3\n", "exec false\n"])
def test_a_script_that_ends_the_shell_is_an_error(tmp_path: Path, script: str) -> None:
    prefix = prefix_with(tmp_path, {"bad.sh": f"echo oh no >&2\n{script}"})
    with pytest.raises(EnvironmentBuildError, match=r"\(bad\.sh\) failed: oh no"):
        variables_of(prefix, str(prefix))


def test_a_script_that_hangs_is_ended(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path, {"slow.sh": "sleep 60\n"})
    with pytest.raises(EnvironmentBuildError, match=r"slow\.sh.*no answer in 0\.3 s"):
        variables_of(prefix, str(prefix), timeout=0.3)


def test_a_damaged_declaration_is_named(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path, {}, {"a.json": "{"})
    with pytest.raises(EnvironmentBuildError, match=r"a\.json"):
        variables_of(prefix, str(prefix))
