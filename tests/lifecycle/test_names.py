"""Names and places that people don't think of: whatever the file system takes works, in any locale."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lifecycle.conftest import Site  # only for its type: pytest finds the fixture

HELLO = "import sys\nprint(sys.argv[1:])\n"
NAMES = ["my script.py", 'o\'clock "5".py', "two\nlines.py", "-dash.py", "--.py", "naïve 😀.py", os.fsdecode(b"odd\xff.py"), "a;b&c|d*.py"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_scripts(site: Site, name: str) -> None:
    """They run, and are shown and listed."""
    site.write(HELLO, name)
    answer = site.cli("submit", "--experiment", "names", "--", name, "--lr", "$RANK", "two words")
    assert answer.code == 0, answer
    run = site.run(answer.out.strip())

    assert site.wait(run).code == 0
    assert run.rank_log(0).read_text() == "['--lr', '0', 'two words']\n"
    site.cli("show", run.id).ok()
    assert site.show(run)["spec"]["command"]["script"] == name
    assert [row["id"] for row in site.runs()] == [run.id]


@pytest.mark.parametrize("locale", [{"LANG": "C"}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}])
def test_locales(site: Site, locale: dict[str, str]) -> None:
    """Names that aren't ASCII survive, and nothing fails over one that can't be shown."""
    site.write(HELLO, "naïve.py")
    answer = site.cli(
        "submit", "naïve.py", "-e", "prüfung", "--name", "日本", "--tag", "größe=ß", "--", "ü", env={"LANG": None, "LC_ALL": None, **locale}
    )
    assert answer.code == 0, answer
    run = site.run(answer.out.strip())

    for words in (["wait", run.id], ["runs"], ["show", run.id], ["explain", run.id], ["logs", run.id], ["runs", "-e", "prüfung"]):
        shown = site.cli(*words, env={"LANG": None, "LC_ALL": None, **locale})
        assert (shown.code, "Traceback" in shown.err) == (0, False), shown
    assert run.rank_log(0).read_text(encoding="utf-8") == "['ü']\n"
    known = site.show(run)
    assert (known["spec"]["experiment"], known["display_name"], known["tags"]) == ("prüfung", "日本", {"größe": "ß"})


@pytest.mark.parametrize(
    "text",
    ["two words", 'o\'clock "5"', "naïve 😀", "-dash", "--json", "$HOME", "a=b=c", "two\nlines", "\x1b[31mred", os.fsdecode(b"odd\xff")],
)
def test_tags_and_run_names(site: Site, text: str) -> None:
    """Any text; what could drive a terminal is shown as an escape."""
    site.write(HELLO)
    answer = site.cli("submit", "train.py", f"--name={text}", "--tag", f"note={text}", "--tag", f"{text.partition('=')[0]}=x")
    assert answer.code == 0, answer
    run = site.run(answer.out.strip())
    site.wait(run).ok()

    for words in (["runs"], ["show", run.id]):
        shown = site.cli(*words).ok()
        assert "\x1b" not in shown.out
    assert site.show(run)["tags"]["note"] == text
    assert len(site.runs("--tag", f"note={text}")) == 1
    site.cli("tag", run.id, "--", f"{text} again=x").ok()


@pytest.mark.parametrize("name", ["a b", "o'clock", "two\nlines", "naïve", "-x", os.fsdecode(b"\xff"), "%d{x}$HOME"])
def test_workspaces(site: Site, tmp_path: Path, name: str) -> None:
    """In whatever directory, reached by -w, by the variable, or from inside."""
    root = tmp_path / name
    site.cli("init", "--", root).ok()
    site.write(HELLO)
    run = site.cli("-w", root, "submit", "train.py").ok().out.strip()

    assert site.cli("wait", run, env={"HPCEST_WORKSPACE": str(root)}, cwd=tmp_path).code == 0
    assert run in site.cli("runs", cwd=root).ok().out
    assert site.cli("logs", run, cwd=root).out == "[]\n"
